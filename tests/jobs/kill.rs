//! A job is killed at random instants and started again each time. All bytes and states equal those of an
//! uninterrupted job, and no clip is read after its record was committed.
//!
//! `HANDLOOM_SWEEP=full` kills at 320 instants, otherwise as often as fits into a share of the test time.

use handloom::digest::sha256_hex;
use handloom::storage::Ledger;
use handloom::storage::batches::is_intact;
use handloom::video::encode::Codec;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_support::{
    TestRng, digests, manifest_states, npz_files, print_note, render_clip, scratch,
};

/// Planned clips, half of them of each gloss. The fifth clip of each gloss is too short, the ninth is broken.
const CLIPS: usize = 24;
/// The log line of the last clip's record.
const LAST: &str = "clip recorded position=23 ";
const PLAIN: [&str; 8] = [
    "--min-videos-per-gloss",
    "1",
    "--min-frames",
    "3",
    "--workers",
    "2",
    "--batch-size",
    "4",
];
/// Some clips of each gloss exceed this limit.
const LIMIT: [&str; 2] = ["--max-samples-per-gloss", "7"];
/// Keeps frames: parts for clips and a file for each batch.
const KEEP: [&str; 1] = ["--keep-frames"];
/// Kills of the full sweep.
const KILLS_FULL: usize = 320;
/// Kills of the share: fewer if `TIME_BUDGET` ends first, but at least `KILLS_MIN`, one of them between two clips.
const KILLS_QUICK: usize = 30;
const KILLS_MIN: usize = 10;
/// Kills of a job whose clips are all committed; it then runs to its end.
const CLOSING_KILLS_MAX: usize = 3;
const TIME_BUDGET: Duration = Duration::from_secs(20);
/// A run that takes longer hangs.
const HUNG: Duration = Duration::from_mins(2);

/// An uninterrupted job.
struct Reference {
    settings: Vec<&'static str>,
    npz: BTreeMap<String, Vec<u8>>,
    digests: BTreeMap<String, String>,
    manifest_states: Vec<String>,
    /// Times from the start of the program to its first clip, from there to the last record, and from there to the
    /// end.
    times: [Duration; 3],
}

/// The event after which the time to the kill starts.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Start,
    /// The run begins its first clip and then records this number of clips.
    Recorded(usize),
    /// The run recorded the last clip.
    Last,
}

/// A job in progress.
struct Job<'a> {
    wanted: &'a Reference,
    dataset: &'a Path,
    out: PathBuf,
    log: PathBuf,
    /// States of the committed clips, by position.
    committed: BTreeMap<usize, String>,
    /// Kills since all clips are committed.
    closing: usize,
}

/// Number of kills in each phase of a run.
#[derive(Default)]
struct Phases {
    starting: usize,
    reading: usize,
    /// All clips are committed: the run starts, seals the last batch or closes.
    closing: usize,
}

/// A child process that is killed when the test ends.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn make_dataset(dataset: &Path) {
    let half = CLIPS / 2;
    let ids: Vec<String> = (0..CLIPS).map(|n| n.to_string()).collect();
    let instances: Vec<(&str, i64)> = ids.iter().map(|id| (&**id, 1)).collect();
    test_support::write_metadata(
        dataset,
        &test_support::metadata(&[("hello", &instances[..half]), ("book", &instances[half..])]),
    );
    for (n, id) in ids.iter().enumerate() {
        let path = dataset.join(format!("videos/{id}.mp4"));
        let frames = if n % half == 4 { 2 } else { 8 };
        if n % half == 8 {
            fs::write(path, "not a video").unwrap();
        } else {
            render_clip(&path, n as u64, frames, (320, 240), Codec::H264);
        }
    }
}

fn start(dataset: &Path, out: &Path, settings: &[&str], log: &Path) -> Child {
    Command::new(test_support::binary())
        .arg("process")
        .arg(dataset)
        .arg("--out")
        .arg(out)
        .args(settings)
        .args(test_support::quick_flags())
        .env("HANDLOOM_LOG", "debug")
        .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
        .stdout(Stdio::null())
        .stderr(fs::File::create(log).unwrap())
        .spawn()
        .unwrap()
}

impl Reference {
    fn make(dataset: &Path, out: &Path, more: &[&'static str]) -> Self {
        let settings = [&PLAIN[..], more].concat();
        let log = out.with_extension("log");
        let began = Instant::now();
        let mut child = Guard(start(dataset, out, &settings, &log));
        let mut seen = Vec::new();
        let ended = loop {
            let ended = child.0.try_wait().unwrap();
            let text = fs::read_to_string(&log).unwrap();
            let marks = ["clip begun", LAST];
            let is_next = marks
                .get(seen.len())
                .is_some_and(|mark| text.contains(mark));
            match ended {
                Some(ended) if !is_next => break ended,
                _ if is_next => seen.push(began.elapsed()),
                _ => sleep(Duration::from_millis(2)),
            }
        };
        assert!(ended.success(), "{}", fs::read_to_string(&log).unwrap());
        seen.push(began.elapsed());
        let from = [&[Duration::ZERO], &seen[..2]].concat();
        Self {
            npz: npz_files(out),
            digests: digests(out),
            manifest_states: manifest_states(out),
            times: std::array::from_fn(|n| seen[n].saturating_sub(from[n])),
            settings,
        }
    }
}

impl Job<'_> {
    /// When to kill the next run: at a random instant of one of its phases, now and then after the phase has ended.
    fn instant(&self, rng: &mut TestRng) -> (Mark, Duration) {
        let left = CLIPS - self.committed.len();
        let [start_up, reading, close] = self.wanted.times;
        let (mark, part) = match rng.below(8) {
            // On a slow machine no such kill comes after the end.
            _ if left == 0 && self.closing == CLOSING_KILLS_MAX => return (Mark::Start, HUNG),
            _ if left == 0 => (Mark::Start, start_up + close),
            0 => (Mark::Last, close),
            1 | 2 => (Mark::Start, start_up),
            _ => {
                let recorded = rng.below(left);
                (
                    Mark::Recorded(recorded),
                    reading / u32::try_from(CLIPS).unwrap(),
                )
            }
        };
        let late = u32::try_from(rng.below(1300)).unwrap();
        (mark, part * late / 1000)
    }

    /// Runs the job and kills it `time` after `mark`; returns its exit status if it ended earlier.
    fn run(&self, mark: Mark, time: Duration) -> Option<ExitStatus> {
        let mut child = Guard(start(
            self.dataset,
            &self.out,
            &self.wanted.settings,
            &self.log,
        ));
        let mut began = Instant::now();
        let has_come = |log: &str| match mark {
            Mark::Start => true,
            Mark::Recorded(count) => {
                log.contains("clip begun") && log.matches("clip recorded").count() >= count
            }
            Mark::Last => log.contains(LAST),
        };
        let mut is_awaited = mark != Mark::Start;
        loop {
            let ended = child.0.try_wait().unwrap();
            if is_awaited && has_come(&fs::read_to_string(&self.log).unwrap()) {
                (is_awaited, began) = (false, Instant::now());
            }
            let limit = if is_awaited { HUNG } else { time };
            let left = limit.saturating_sub(began.elapsed());
            if ended.is_some() || left.is_zero() {
                return ended;
            }
            let nap = if is_awaited { 1 } else { 10 };
            sleep(left.min(Duration::from_millis(nap)));
        }
    }

    /// Checks the log of the last run against what was committed before, then updates what is committed.
    fn check(&mut self, place: &Path, phases: &mut Phases) {
        let log = fs::read_to_string(&self.log).unwrap();
        let mut recorded = Vec::new();
        for line in log.lines() {
            let position = line
                .split(' ')
                .find_map(|w| w.strip_prefix("position=")?.parse().ok());
            let Some(position) = position else { continue };
            if line.contains("clip begun") {
                let before = self.committed.get(&position);
                assert!(before.is_none(), "clip {position} was read again: {log}");
            } else if line.contains("clip recorded") {
                recorded.push(position);
            }
        }
        // A kill leaves complete files intact.
        if self.out.join("batches").is_dir() {
            for (name, bytes) in npz_files(&self.out) {
                assert!(self.wanted.npz[&name] == bytes, "{name} differs");
            }
        }
        let now = self.committed_now(place);
        for position in recorded.iter().chain(self.committed.keys()) {
            assert!(
                now.contains_key(position),
                "the record of {position} is lost"
            );
        }
        match () {
            () if log.contains("clip begun") && now.len() < CLIPS => phases.reading += 1,
            () if now.len() < CLIPS => phases.starting += 1,
            () => {
                phases.closing += 1;
                self.closing += 1;
            }
        }
        self.committed = now;
    }

    /// The committed clips in a copy of the ledger; the original stays as the kill left it.
    fn committed_now(&self, place: &Path) -> BTreeMap<usize, String> {
        let names = [
            "ledger.sqlite",
            "ledger.sqlite-wal",
            "ledger.sqlite-journal",
        ];
        for name in names {
            let (from, to) = (self.out.join(name), place.join(name));
            if to.exists() {
                fs::remove_file(&to).unwrap();
            }
            if from.exists() {
                fs::copy(from, to).unwrap();
            }
        }
        let ledger = Ledger::open(place).unwrap();
        for (batch, file) in ledger.sealed().unwrap() {
            assert!(is_intact(&self.out, batch, &file.sha256), "batch {batch}");
            if let Some(sha256) = &file.frames_sha256 {
                let frames = fs::read(self.out.join(format!("frames/{batch:05}.npz"))).unwrap();
                assert_eq!(sha256_hex(&frames), *sha256, "frames of batch {batch}");
            }
        }
        let clips = ledger.clips().unwrap().into_iter();
        clips
            .map(|(position, clip)| (position, clip.state))
            .collect()
    }

    /// Compares the finished job with the reference, and checks that no partial file is left.
    fn compare(&self) {
        assert_eq!(digests(&self.out), self.wanted.digests);
        assert_eq!(manifest_states(&self.out), self.wanted.manifest_states);
        let parts = fs::read_dir(self.out.join("frames/parts"));
        assert_eq!(parts.into_iter().flatten().count(), 0);
        for folder in ["", "batches", "frames"].map(|name| self.out.join(name)) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let is_partial = path.extension().is_some_and(|e| e == "part");
                assert!(!is_partial, "{} is left", path.display());
            }
        }
    }
}

#[test]
fn a_killed_job_resumes_where_it_was() {
    let folder: TempDir = scratch();
    let dataset = folder.path().join("dataset");
    make_dataset(&dataset);
    let both = [KEEP[0], LIMIT[0], LIMIT[1]];
    let corrected = [KEEP[0], "--profile", "corrected"];
    let variants = [&KEEP[..], &LIMIT, &[], &both, &corrected];
    let references: [Reference; 5] = std::array::from_fn(|n| {
        let out = folder.path().join(format!("reference-{n}"));
        Reference::make(&dataset, &out, variants[n])
    });
    // The sequences are those of a job that keeps no frames.
    for [kept, not_kept] in [[0, 2], [3, 1]].map(|pair| pair.map(|n| &references[n].npz)) {
        assert!(not_kept.iter().all(|(name, bytes)| kept[name] == *bytes));
        assert!(kept.keys().any(|name| name.starts_with("frames/")));
    }
    let place = folder.path().join("ledger");
    fs::create_dir(&place).unwrap();

    let is_full = std::env::var("HANDLOOM_SWEEP").is_ok_and(|v| v == "full");
    let target = if is_full { KILLS_FULL } else { KILLS_QUICK };
    let began = Instant::now();
    let (mut kills, mut jobs, mut phases) = (0, 0, Phases::default());
    let mut rng = TestRng::new(11);
    let is_enough = |kills, phases: &Phases| {
        let is_late = began.elapsed() > TIME_BUDGET && phases.reading > 0;
        kills >= target || (!is_full && kills >= KILLS_MIN && is_late)
    };
    while !is_enough(kills, &phases) {
        let out = folder.path().join(format!("out-{jobs}"));
        let mut job = Job {
            wanted: &references[jobs % references.len()],
            dataset: &dataset,
            log: out.with_extension("log"),
            out,
            committed: BTreeMap::new(),
            closing: 0,
        };
        loop {
            // The last job runs to its end.
            let (mark, time) = if is_enough(kills, &phases) {
                (Mark::Start, HUNG)
            } else {
                job.instant(&mut rng)
            };
            if let Some(ended) = job.run(mark, time) {
                let log = fs::read_to_string(&job.log).unwrap();
                assert!(ended.success(), "{ended}: {log}");
                break;
            }
            assert!(time < HUNG, "the job hangs: {}", job.out.display());
            kills += 1;
            job.check(&place, &mut phases);
        }
        job.compare();
        jobs += 1;
    }
    print_note(&format!(
        "killed at {kills} instants over {jobs} jobs of {CLIPS} clips, half of them with kept frames, half \
         with a limit per gloss: {} while starting, {} while reading, {} with all clips read",
        phases.starting, phases.reading, phases.closing,
    ));
    assert!(
        kills >= KILLS_MIN && phases.reading > 0,
        "the jobs were hardly interrupted"
    );
}
