//! The states that a power cut may leave during a job, and what the job had reported by then.

use super::Op;
use super::disk::{Disk, Loss, State};
use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use test_support::TestRng;

/// What the job reported up to some moment. All of it must survive a power cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promise {
    /// Clips reported as recorded.
    pub(crate) recorded: BTreeSet<String>,
    /// Clips that count as recorded once the job reports that it resumes.
    pub(crate) known: BTreeSet<String>,
    /// The job was reported as done.
    pub(crate) is_done: bool,
}

/// A disk state that a power cut may leave.
pub(crate) struct PowerCut {
    pub(crate) state: State,
    /// The latest moment at which a cut leaves this state; most is promised then.
    pub(crate) moment: String,
    /// Whether some cut that leaves this state loses all unsynced content.
    pub(crate) is_heavy: bool,
    pub(crate) promise: Promise,
}

/// A disk on which the program is started again.
pub(crate) struct Start {
    pub(crate) disk: Disk,
    pub(crate) moment: String,
    pub(crate) promise: Promise,
}

impl Promise {
    pub(crate) fn receive(&mut self, op: &Op) {
        if let Op::Print { text } = op {
            self.recorded.extend(named(text, "clip recorded"));
            if text.contains("\"event\":\"resume\"") {
                self.recorded.extend(self.known.iter().cloned());
            }
            self.is_done |= text.contains("\"event\":\"done\"");
        }
    }
}

/// Returns the distinct states that power cuts leave after each of `ops` and in the middle of each write, and how
/// many states were built to find them.
pub(crate) fn cuts(
    after: &str,
    mut disk: Disk,
    mut promise: Promise,
    ops: &[Op],
    losses: &[Loss],
) -> (Vec<PowerCut>, usize) {
    let (mut cuts, mut known, mut built) = (Vec::<PowerCut>::new(), HashMap::new(), 0);
    let mut add = |disk: &Disk, promise: &Promise, moment: &dyn Fn() -> String| {
        for loss in losses {
            let state = disk.after(*loss, &mut TestRng::new(built));
            built += 1;
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            let moment = format!("{after}{} (lost: {loss:?})", moment());
            let is_heavy = matches!(loss, Loss::All | Loss::Data);
            match known.entry(hasher.finish()) {
                Entry::Vacant(entry) => {
                    entry.insert(cuts.len());
                    cuts.push(PowerCut {
                        state,
                        moment,
                        is_heavy,
                        promise: promise.clone(),
                    });
                }
                Entry::Occupied(entry) => {
                    let cut = &mut cuts[*entry.get()];
                    cut.promise = promise.clone();
                    cut.moment = moment;
                    cut.is_heavy |= is_heavy;
                }
            }
        }
    };
    for (n, op) in ops.iter().enumerate() {
        if let Op::Write { fd, at, bytes } = op
            && bytes.len() > 1
        {
            let mut torn = disk.clone();
            torn.apply(&Op::Write {
                fd: *fd,
                at: *at,
                bytes: bytes[..bytes.len() / 2].to_vec(),
            });
            add(&torn, &promise, &|| {
                format!("in the middle of op {n}, {}", op.brief())
            });
        }
        disk.apply(op);
        promise.receive(op);
        if op.changes() || matches!(op, Op::Print { .. }) {
            add(&disk, &promise, &|| format!("after op {n}, {}", op.brief()));
        }
    }
    let built = usize::try_from(built).unwrap();
    (cuts, built)
}

/// Returns `count` disks, alternately after a kill (unsynced changes stay pending) and after a power cut.
pub(crate) fn starts(
    mut disk: Disk,
    mut promise: Promise,
    ops: &[Op],
    cuts: &[PowerCut],
    count: usize,
    rng: &mut TestRng,
) -> Vec<Start> {
    let mut killed = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        disk.apply(op);
        promise.receive(op);
        if op.changes() {
            let mut disk = disk.clone();
            disk.close_all();
            let start = Start {
                disk,
                moment: format!("killed after op {n}, {}", op.brief()),
                promise: promise.clone(),
            };
            killed.push((!is_error_prone(ops, n), rng.below(1 << 30), start));
        }
    }
    killed.sort_by_key(|(is_ordinary, chance, _)| (*is_ordinary, *chance));
    let mut chosen = Vec::new();
    for (_, _, start) in killed {
        let cut = &cuts[rng.below(cuts.len())];
        chosen.push(start);
        chosen.push(Start {
            disk: Disk::new(&cut.state),
            moment: cut.moment.clone(),
            promise: cut.promise.clone(),
        });
    }
    chosen.truncate(count);
    chosen
}

/// Whether a kill after op `n` hits a case that programs often get wrong: between a change of names and its sync, or
/// between a record and its sync.
fn is_error_prone(ops: &[Op], n: usize) -> bool {
    let is_promised = |op: &Op| matches!(op, Op::Print { text } if text.contains("clip recorded"));
    match (&ops[n], &ops[n + 1..]) {
        (Op::MakeFolder { .. } | Op::Remove { .. }, _) => true,
        (_, [Op::Sync { .. }, next, ..]) => is_promised(next),
        _ => false,
    }
}

/// All cuts in random order; those that lose all unsynced content come first.
pub(crate) fn by_weight<'a>(cuts: &'a [PowerCut], rng: &mut TestRng) -> Vec<&'a PowerCut> {
    let mut order: Vec<(bool, usize, &PowerCut)> = cuts
        .iter()
        .map(|cut| (!cut.is_heavy, rng.below(1 << 30), cut))
        .collect();
    order.sort_by_key(|(is_light, chance, _)| (*is_light, *chance));
    order.into_iter().map(|(_, _, cut)| cut).collect()
}

/// The ids of the clips in those lines of `log` that contain `what`.
pub(crate) fn named(log: &str, what: &str) -> Vec<String> {
    let lines = log.lines().filter(|l| l.contains(what));
    lines
        .filter_map(|l| l.split(' ').find_map(|w| w.strip_prefix("video_id=")))
        .map(str::to_owned)
        .collect()
}
