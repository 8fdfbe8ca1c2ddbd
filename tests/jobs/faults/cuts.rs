//! Where a job is cut, and what had been promised by then.

use super::Op;
use super::disk::{Disk, Loss, State};
use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use test_support::Dice;

/// What was promised up to some moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promise {
    /// Clips that were said to be recorded.
    pub(crate) recorded: BTreeSet<String>,
    /// Clips that are among those when the job says that it goes on.
    pub(crate) known: BTreeSet<String>,
    /// The job was said to be done.
    pub(crate) is_done: bool,
}

/// A state that a cut may leave.
pub(crate) struct Cut {
    pub(crate) state: State,
    /// The latest moment that leaves it, which is when most is promised.
    pub(crate) moment: String,
    /// Whether all unsynced content was lost at some moment that leaves it.
    pub(crate) is_heavy: bool,
    pub(crate) promise: Promise,
}

/// A disk on which the program goes on.
pub(crate) struct Start {
    pub(crate) disk: Disk,
    pub(crate) moment: String,
    pub(crate) promise: Promise,
}

impl Promise {
    pub(crate) fn hear(&mut self, op: &Op) {
        if let Op::Say { text } = op {
            self.recorded.extend(named(text, "clip recorded"));
            if text.contains("\"event\":\"resume\"") {
                self.recorded.extend(self.known.iter().cloned());
            }
            self.is_done |= text.contains("\"event\":\"done\"");
        }
    }
}

/// The distinct states that cuts during `ops` leave, after each and in the middle of each write, and how many were
/// built for them.
pub(crate) fn cuts(
    after: &str,
    mut disk: Disk,
    mut promise: Promise,
    ops: &[Op],
    losses: &[Loss],
) -> (Vec<Cut>, usize) {
    let (mut cuts, mut known, mut built) = (Vec::<Cut>::new(), HashMap::new(), 0);
    let mut add = |disk: &Disk, promise: &Promise, moment: &dyn Fn() -> String| {
        for loss in losses {
            let state = disk.after(*loss, &mut Dice::new(built));
            built += 1;
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            let moment = format!("{after}{} (lost: {loss:?})", moment());
            let is_heavy = matches!(loss, Loss::All | Loss::Data);
            match known.entry(hasher.finish()) {
                Entry::Vacant(entry) => {
                    entry.insert(cuts.len());
                    cuts.push(Cut {
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
        promise.hear(op);
        if op.changes() || matches!(op, Op::Say { .. }) {
            add(&disk, &promise, &|| format!("after op {n}, {}", op.brief()));
        }
    }
    let built = usize::try_from(built).unwrap();
    (cuts, built)
}

/// `count` disks, by turns after a kill, when what was not synced is still unsynced, and after a cut.
pub(crate) fn starts(
    mut disk: Disk,
    mut promise: Promise,
    ops: &[Op],
    cuts: &[Cut],
    count: usize,
    dice: &mut Dice,
) -> Vec<Start> {
    let mut killed = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        disk.apply(op);
        promise.hear(op);
        if op.changes() {
            let mut disk = disk.clone();
            disk.let_go();
            let start = Start {
                disk,
                moment: format!("killed after op {n}, {}", op.brief()),
                promise: promise.clone(),
            };
            killed.push((!is_telling(ops, n), dice.below(1 << 30), start));
        }
    }
    killed.sort_by_key(|(is_dull, chance, _)| (*is_dull, *chance));
    let mut chosen = Vec::new();
    for (_, _, start) in killed {
        let cut = &cuts[dice.below(cuts.len())];
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

/// Whether a kill after op `n` is one that a program easily forgets: between a change of names and its sync, or between
/// a record and its sync.
fn is_telling(ops: &[Op], n: usize) -> bool {
    let is_promised = |op: &Op| matches!(op, Op::Say { text } if text.contains("clip recorded"));
    match (&ops[n], &ops[n + 1..]) {
        (Op::MakeFolder { .. } | Op::Remove { .. }, _) => true,
        (_, [Op::Sync { .. }, next, ..]) => is_promised(next),
        _ => false,
    }
}

/// All of them, those first that lose most, each kind in an order by chance.
pub(crate) fn by_weight<'a>(cuts: &'a [Cut], dice: &mut Dice) -> Vec<&'a Cut> {
    let mut order: Vec<(bool, usize, &Cut)> = cuts
        .iter()
        .map(|cut| (!cut.is_heavy, dice.below(1 << 30), cut))
        .collect();
    order.sort_by_key(|(is_light, chance, _)| (*is_light, *chance));
    order.into_iter().map(|(_, _, cut)| cut).collect()
}

/// The clips that `log` says were `what`.
pub(crate) fn named(log: &str, what: &str) -> Vec<String> {
    let lines = log.lines().filter(|l| l.contains(what));
    lines
        .filter_map(|l| l.split(' ').find_map(|w| w.strip_prefix("video_id=")))
        .map(str::to_owned)
        .collect()
}
