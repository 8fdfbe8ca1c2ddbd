//! A job is recorded, the power is cut after every call, what is left is inspected, and the job is run again.

use super::cuts::{PowerCut, Promise, Start, by_weight, cuts, named, starts};
use super::disk::{Disk, Loss, State};
use super::inspect::{LedgerContents, Reference, check_results, ensure, files, inspect};
use super::{Op, record};
use handloom::storage::Ledger;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use tempfile::TempDir;
use test_support::{
    DEADLINE, TestRng, digests, manifest_states, npz_files, print_note, process, scratch_in_memory,
};

/// The output folder, below the disk's root.
pub(super) const OUT: &str = "out";
/// Most faults printed.
const REPORTED_MAX: usize = 5;

/// A job that is cut, and what its results depend on.
pub(crate) struct PowerCutTest {
    name: &'static str,
    folder: TempDir,
    pub(crate) dataset: PathBuf,
    /// The disk before the job starts.
    before: State,
    /// Arguments of the run that is cut.
    args: Vec<&'static str>,
    /// Arguments of the run after the cut.
    pub(crate) again: Vec<&'static str>,
    /// Clips whose records must survive every cut.
    pub(crate) kept: Vec<&'static str>,
    /// Arguments of the previous job, if a cut may leave that job intact instead.
    pub(crate) earlier: Option<Vec<&'static str>>,
    /// Results of the previous job.
    previous: PathBuf,
}

/// How much of a sweep is run. All states are inspected in any case.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    /// States from which the job is run again.
    pub(crate) reruns: usize,
    /// Resumed jobs that are cut a second time.
    pub(crate) second_cuts: usize,
    /// Moments at which the record is compared with the real folder.
    pub(crate) record_checks: usize,
}

impl PowerCutTest {
    /// A job with `args` over the clips that `make` puts into a dataset folder, on an empty disk.
    pub(crate) fn new(name: &'static str, args: &[&'static str], make: impl FnOnce(&Path)) -> Self {
        let folder = scratch_in_memory();
        let dataset = folder.path().join("dataset");
        make(&dataset);
        let previous = folder.path().join("was");
        fs::create_dir_all(previous.join("batches")).unwrap();
        Self {
            name,
            folder,
            dataset,
            before: State::default(),
            args: args.to_vec(),
            again: args.to_vec(),
            kept: Vec::new(),
            earlier: None,
            previous,
        }
    }

    /// Starts the job on a disk with the results of a job with `args` over the dataset as it is now.
    pub(crate) fn after(mut self, args: &[&'static str]) -> Self {
        let root = self.folder.path().join("before");
        process(&self.dataset, &root.join(OUT), args).ends(0);
        self.before = State::read(&root);
        State::read(&root.join(OUT)).write(&self.previous);
        self
    }

    /// Cuts the power after every call. Sweeps run one at a time: each uses all cores.
    pub(crate) fn sweep(&self, share: Share) {
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = std::env::var("HANDLOOM_SWEEP").is_ok_and(|v| v == "full");
        let wanted = self.wanted();
        let root = self.folder.path().join("disk");
        let ops = self.recorded(&root, None);
        let moments = ops.iter().filter(|op| op.changes()).count();
        let mut rng = TestRng::new(7);

        let stops: Vec<usize> = if is_full {
            (1..=ops.len()).collect()
        } else {
            (0..share.record_checks)
                .map(|_| 1 + rng.below(ops.len()))
                .collect()
        };
        let mut wrong = each(&stops, |stop, place| {
            self.recorded(place, Some(*stop));
            Ok(())
        });

        let first = Disk::new(&self.before);
        let promise = Promise {
            recorded: self.kept.iter().map(|id| (*id).to_owned()).collect(),
            ..Promise::default()
        };
        let (cuts, built) = cuts("", first.clone(), promise.clone(), &ops, &Loss::EVERY);
        wrong.extend(each(&cuts, |cut, place| {
            inspect(&wanted, cut, place).map(|_| ())
        }));

        let order = by_weight(&cuts, &mut rng);
        let reruns = if is_full { cuts.len() } else { share.reruns };
        let chosen: Vec<&PowerCut> = order.into_iter().take(reruns).collect();
        wrong.extend(each(&chosen, |cut, place| self.rerun(&wanted, cut, place)));

        let seconds = if is_full {
            2 * moments
        } else {
            share.second_cuts
        };
        let starts = starts(first, promise, &ops, &cuts, seconds, &mut rng);
        let inspected = AtomicUsize::new(0);
        wrong.extend(each(&starts, |start, place| {
            let again = self.cut_again(&wanted, start, place)?;
            inspected.fetch_add(again, Ordering::Relaxed);
            Ok(())
        }));

        print_note(&format!(
            "power cut, {}: {} calls recorded ({moments} change the disk), {built} states built, {} distinct, all \
             inspected; the job resumed from {}; {} resumed jobs cut again, {} states inspected",
            self.name,
            ops.len(),
            cuts.len(),
            chosen.len(),
            starts.len(),
            inspected.into_inner(),
        ));
        assert!(
            chosen.len() > share.reruns / 2,
            "too few states to resume from"
        );
        assert!(
            wrong.is_empty(),
            "{}: {} faults, such as\n{}",
            self.name,
            wrong.len(),
            wrong[..wrong.len().min(REPORTED_MAX)].join("\n")
        );
    }

    fn wanted(&self) -> Reference {
        let out = self.folder.path().join("wanted");
        process(&self.dataset, &out, &self.again).ends(0);
        let ledger = Ledger::open(&out).unwrap();
        Reference {
            settings: ledger.job().unwrap().unwrap().settings,
            npz: npz_files(&out),
            previous: npz_files(&self.previous),
            kept: self.kept.len(),
            digests: digests(&out),
            manifest_states: manifest_states(&out),
            files: files(&out),
            out,
        }
    }

    fn command(&self, out: &Path, args: &[&str]) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec!["process".into(), (&self.dataset).into()];
        command.extend(["--out".into(), out.into()]);
        command.extend(args.iter().map(Into::into));
        command.extend(test_support::quick_flags());
        command
    }

    /// Records the job, to its end or for `stop` entries, and checks that the record reproduces the folder.
    fn recorded(&self, root: &Path, stop: Option<usize>) -> Vec<Op> {
        self.before.write(root);
        let run = record(root, self.command(&root.join(OUT), &self.args), stop);
        // This run may end one call earlier than the first.
        let is_stopped = stop.is_some_and(|stop| run.ops.len() == stop);
        let code = if is_stopped { 137 } else { 0 };
        assert_eq!(run.code, Some(code), "{}", run.stderr);
        let mut disk = Disk::new(&self.before);
        run.ops.iter().for_each(|op| disk.apply(op));
        let describe = disk.after(Loss::Nothing, &mut TestRng::new(0));
        let real = State::read(root);
        assert!(
            describe == real,
            "the record and the folder differ after {stop:?}"
        );
        run.ops
    }

    /// Runs the job again on what a cut left.
    fn rerun(&self, wanted: &Reference, cut: &PowerCut, place: &Path) -> Result<(), String> {
        let known = inspect(wanted, cut, place)?;
        cut.state.write(place);
        let out = place.join(OUT);
        let (code, begun, log) = self.run_program(&out, &self.again);
        if let (Some(73), Some(earlier), false) = (code, &self.earlier, known.is_wanted) {
            // The cut came before the job began: the previous job is intact and has nothing left to do.
            let (code, begun, log) = self.run_program(&out, earlier);
            ensure(code == Some(0) && begun.is_empty(), || {
                format!("the earlier job: {log}")
            })?;
            return ensure(digests(&out) == digests(&self.previous), || {
                "the earlier job's files differ".to_owned()
            });
        }
        ensure(code == Some(0), || format!("exit code {code:?}: {log}"))?;
        self.check_begun(&known, &begun)?;
        check_results(wanted, &out)
    }

    /// Runs the program; returns its exit code, the clips that it began and its log.
    fn run_program(&self, out: &Path, args: &[&str]) -> (Option<i32>, Vec<String>, String) {
        let output = assert_cmd::Command::new(test_support::binary())
            .args(self.command(out, args))
            .env("HANDLOOM_LOG", "debug")
            .env_remove("HANDLOOM_MODELS")
            .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
            .timeout(DEADLINE)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), named(&log, "clip begun"), log)
    }

    /// Checks that no clip is read twice; a retry may read unreadable clips again.
    fn check_begun(&self, known: &LedgerContents, begun: &[String]) -> Result<(), String> {
        let is_retry = self.again.contains(&"--retry-failed");
        for id in begun {
            let state = known.clips.get(id);
            let may = state.is_none() || (is_retry && state.is_some_and(|s| s == "unreadable"));
            ensure(may, || format!("clip {id} was recorded and is read again"))?;
        }
        let once: BTreeSet<&String> = begun.iter().collect();
        ensure(once.len() == begun.len(), || {
            "a clip was read twice in one run".to_owned()
        })
    }

    /// Records a run on a disk that an earlier fault left, and cuts the power after every call again. Returns the
    /// number of inspected states.
    fn cut_again(&self, wanted: &Reference, start: &Start, place: &Path) -> Result<usize, String> {
        let root = place.join("disk");
        let mut left = PowerCut {
            state: start.disk.after(Loss::Nothing, &mut TestRng::new(0)),
            moment: start.moment.clone(),
            is_heavy: false,
            promise: start.promise.clone(),
        };
        let within = |e: String| format!("then {e}");
        let known = inspect(wanted, &left, &place.join("cut")).map_err(within)?;
        if known.is_wanted {
            let accepted = known.clips.into_iter().filter(|(_, s)| s == "accepted");
            left.promise.known = accepted.map(|(id, _)| id).collect();
        }
        left.state.write(&root);
        let run = record(&root, self.command(&root.join(OUT), &self.again), None);
        let is_earlier = run.code == Some(73) && self.earlier.is_some();
        ensure(run.code == Some(0) || is_earlier, || {
            within(run.stderr.clone())
        })?;
        let losses = [Loss::All, Loss::Some];
        let (cuts, _) = cuts("then ", start.disk.clone(), left.promise, &run.ops, &losses);
        for cut in &cuts {
            let describe = |e| format!("{}: {e}", cut.moment);
            inspect(wanted, cut, &place.join("cut")).map_err(describe)?;
        }
        if !is_earlier {
            check_results(wanted, &root.join(OUT)).map_err(within)?;
        }
        Ok(cuts.len())
    }
}

/// Runs `work` on each item, on all cores, each thread in a folder of its own; returns the failures.
fn each<T: Sync + Describe>(
    items: &[T],
    work: impl Fn(&T, &Path) -> Result<(), String> + Sync,
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let folder = scratch_in_memory();
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(item, &folder.path().join("disk")) {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{}: {error}", item.describe()));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// A name for messages.
trait Describe {
    fn describe(&self) -> String;
}

impl Describe for usize {
    fn describe(&self) -> String {
        format!("stopped after {self}")
    }
}

impl Describe for PowerCut {
    fn describe(&self) -> String {
        self.moment.clone()
    }
}

impl Describe for &PowerCut {
    fn describe(&self) -> String {
        (*self).describe()
    }
}

impl Describe for Start {
    fn describe(&self) -> String {
        self.moment.clone()
    }
}
