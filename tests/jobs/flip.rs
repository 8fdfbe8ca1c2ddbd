//! One bit is flipped in the ledger, its log, a batch, kept frames or the joined file, before a job is resumed or
//! while it runs. The results are right, or the program reports what is damaged.
//!
//! `HANDLOOM_SWEEP=full` flips 500 bits, otherwise a share.

use handloom::video::encode::Codec;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_support::{TestRng, manifest_states, npz_files, print_note, render_clip, scratch};

const CLIPS: [&str; 5] = ["1", "2", "3", "4", "5"];
const SETTINGS: [&str; 8] = [
    "--min-videos-per-gloss",
    "1",
    "--min-frames",
    "1",
    "--workers",
    "1",
    "--batch-size",
    "2",
];
/// Bits of the full sweep, and of the share.
const FULL: usize = 500;
const SHARE: usize = 24;
/// One bit of this number is flipped while the job runs, the others afterwards.
const RUNNING_EVERY: usize = 3;
/// A run that takes longer hangs.
const HUNG: Duration = Duration::from_mins(2);

/// A child process that is killed when the test ends.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Guard {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the log has `word` `times` times; `false` when the program ended before.
    fn reaches(&mut self, log: &Path, word: &str, times: usize) -> bool {
        let began = Instant::now();
        loop {
            let has_ended = self.0.try_wait().unwrap().is_some();
            if fs::read_to_string(log).unwrap().matches(word).count() >= times {
                return true;
            }
            if has_ended {
                return false;
            }
            assert!(
                began.elapsed() < HUNG,
                "{}",
                fs::read_to_string(log).unwrap()
            );
            sleep(Duration::from_millis(3));
        }
    }
}

fn start(dataset: &Path, out: &Path, log: &Path, more: &[&str]) -> Guard {
    let child = Command::new(test_support::binary())
        .arg("process")
        .arg(dataset)
        .arg("--out")
        .arg(out)
        .args(SETTINGS)
        .args(more)
        .args(test_support::quick_flags())
        .env("HANDLOOM_LOG", "debug")
        .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
        .stdout(Stdio::null())
        .stderr(File::create(log).unwrap())
        .spawn();
    Guard(child.unwrap())
}

/// All results of a job, except its times.
fn results(out: &Path) -> (BTreeMap<String, Vec<u8>>, Vec<String>, Vec<u8>) {
    let manifest = fs::read(out.join("manifest.jsonl")).unwrap();
    (npz_files(out), manifest_states(out), manifest)
}

/// Flips a random bit below `out`, every second time in the ledger or its log. Returns the file and the offset.
fn flip(out: &Path, rng: &mut TestRng) -> String {
    let folders = ["batches", "frames", "frames/parts"].map(|name| fs::read_dir(out.join(name)));
    let entries = folders.into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.extend(["wlasl_landmarks.npz", "manifest.jsonl"].map(|name| out.join(name)));
    files.retain(|path| fs::metadata(path).is_ok_and(|m| m.len() > 0));
    files.sort();
    let ledger = ["ledger.sqlite", "ledger.sqlite-wal"].map(|name| out.join(name));
    let ledger = ledger
        .into_iter()
        .filter(|path| fs::metadata(path).is_ok_and(|m| m.len() > 0));
    let ledger: Vec<PathBuf> = ledger.collect();
    let all = if files.is_empty() || rng.below(2) == 0 {
        &ledger
    } else {
        &files
    };
    let path = &all[rng.below(all.len())];
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let at = rng.below(usize::try_from(file.metadata().unwrap().len()).unwrap());
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    byte[0] ^= 1 << rng.below(8);
    file.write_all_at(&byte, at as u64).unwrap();
    let name = path.strip_prefix(out).unwrap().display().to_string();
    let name = if name.starts_with("frames/parts/") {
        "frames/parts/*".to_owned()
    } else {
        name
    };
    format!("{name} at {at}")
}

#[test]
fn a_flipped_bit_makes_no_wrong_number() {
    sweep(&[]);
}

#[test]
fn a_flipped_bit_makes_no_wrong_frame() {
    sweep(&["--keep-frames"]);
}

/// Flips bits of a job with `more` settings.
fn sweep(more: &[&str]) {
    let place = scratch();
    let dataset = place.path().join("dataset");
    let instances: Vec<(&str, i64)> = CLIPS.iter().map(|id| (*id, 1)).collect();
    test_support::write_metadata(&dataset, &test_support::metadata(&[("hello", &instances)]));
    for id in CLIPS {
        let path = dataset.join(format!("videos/{id}.mp4"));
        render_clip(&path, id.parse().unwrap(), 6, (320, 240), Codec::H264);
    }
    // The output folder after each clip, as a kill leaves it, and after the end of the job.
    let log = place.path().join("log");
    let mut states = Vec::new();
    for clips in 1..=CLIPS.len() + 1 {
        let out = place.path().join(format!("state-{clips}"));
        let mut child = start(&dataset, &out, &log, more);
        if child.reaches(&log, "clip recorded", clips) {
            drop(child);
        } else {
            assert!(
                child.0.wait().unwrap().success(),
                "{}",
                fs::read_to_string(&log).unwrap()
            );
        }
        states.push(out);
    }
    let wanted = results(&states[CLIPS.len()]);
    let is_full = std::env::var("HANDLOOM_SWEEP").is_ok_and(|sweep| sweep == "full");
    let bits = if is_full { FULL } else { SHARE };
    let mut rng = TestRng::new(5);
    let mut outcomes = BTreeMap::<String, usize>::new();
    for n in 0..bits {
        let out = place.path().join("out");
        if out.exists() {
            fs::remove_dir_all(&out).unwrap();
        }
        let state = &states[rng.below(states.len())];
        test_support::copy_folder(state, &out);
        let is_running = n % RUNNING_EVERY == 0;
        let mut place = (!is_running).then(|| flip(&out, &mut rng));
        let mut child = start(&dataset, &out, &log, more);
        if is_running {
            let clips = 1 + rng.below(3);
            if child.reaches(&log, "clip recorded", clips) && child.0.try_wait().unwrap().is_none()
            {
                child.signal("-STOP");
                place = Some(flip(&out, &mut rng));
                child.signal("-CONT");
            }
        }
        let ended = child.0.wait().unwrap();
        let output = fs::read_to_string(&log).unwrap();
        let is_reported = output.lines().any(|line| {
            let is_loud = line.contains("WARN") || line.starts_with("handloom: ");
            is_loud && line.contains(&*out.to_string_lossy())
        });
        assert!(!output.contains("panicked"), "{place:?}: {output}");
        let kind = if ended.success() {
            // The next run finds a bit that flips after the last read.
            let is_right = results(&out) == wanted;
            assert!(
                is_right || is_reported,
                "bit {n}, {place:?}: unreported wrong results: {output}"
            );
            assert!(is_right, "bit {n}, {place:?}: wrong results: {output}");
            if is_reported {
                "read again and reported"
            } else {
                "without effect"
            }
        } else {
            assert!(
                is_reported,
                "bit {n}, {place:?}: {ended}, not reported: {output}"
            );
            "refused and reported"
        };
        let file = place
            .as_deref()
            .and_then(|p| p.split(' ').next())
            .unwrap_or("none");
        *outcomes.entry(format!("{file}: {kind}")).or_default() += 1;
    }
    for (outcome, count) in outcomes {
        print_note(&format!("{count:>4} {outcome}"));
    }
}
