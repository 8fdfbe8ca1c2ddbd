//! Shards of a job: their batches and lines are those of the whole job. An interrupted shard resumes, also on another
//! machine. When two attempts make the same shard, one wins.
//!
//! `HANDLOOM_SWEEP=full` tests all numbers of shards, otherwise a few.

use handloom::shard::ShardIndex;
use handloom::shard::record::ShardRecord;
use handloom::video::encode::Codec;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_support::{Run, npz_files, process, render_clip, scratch};
use zip::write::SimpleFileOptions;

const SETTINGS: [&str; 4] = ["--min-videos-per-gloss", "1", "--batch-size", "2"];
/// Clips of each gloss; two are broken, one is missing.
const CLIPS: usize = 6;
/// A run that takes longer counts as hung.
const HUNG: Duration = Duration::from_mins(2);

struct Fixture {
    folder: TempDir,
    dataset: PathBuf,
    archive: PathBuf,
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn fixture() -> &'static Fixture {
    static MADE: OnceLock<Fixture> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = scratch();
        let dataset = folder.path().join("dataset");
        let ids: Vec<String> = (0..2 * CLIPS).map(|n| format!("{n:05}")).collect();
        let instances: Vec<(&str, i64)> = ids.iter().map(|id| (&**id, 1)).collect();
        let (hello, book) = instances.split_at(CLIPS);
        // The notebook does not process a gloss with capitals.
        let capitals: [(&str, i64); 2] = [("00000", 1), ("00007", 1)];
        let glosses = [("hello", hello), ("Deaf", &capitals), ("book", book)];
        test_support::write_metadata(&dataset, &test_support::metadata(&glosses));
        let archive = folder.path().join("dataset.zip");
        let mut zip = zip::ZipWriter::new(fs::File::create(&archive).unwrap());
        let mut add = |name: &str| {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(&fs::read(dataset.join(name)).unwrap())
                .unwrap();
        };
        add("WLASL_v0.3.json");
        for (n, id) in ids.iter().enumerate() {
            let name = format!("videos/{id}.mp4");
            let path = dataset.join(&name);
            match n {
                7 => continue,
                5 | 10 => fs::write(path, "not a video").unwrap(),
                // Clips of different sizes.
                n => render_clip(&path, n as u64, 13 + 3 * (n % 4), (320, 240), Codec::H264),
            }
            add(&name);
        }
        zip.finish().unwrap();
        Fixture {
            folder,
            dataset,
            archive,
        }
    })
}

fn settings<'a>(shard: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&SETTINGS[..], more, &["--shard", shard]].concat()
}

fn make(out: &Path, shard: &str, more: &[&str]) -> Run {
    process(&fixture().dataset, out, &settings(shard, more))
}

/// The folder of `shard` in `out`.
fn shard_folder(out: &Path, shard: &str) -> PathBuf {
    out.join(shard.parse::<ShardIndex>().unwrap().folder())
}

fn record(folder: &Path) -> ShardRecord {
    ShardRecord::parse(&fs::read(folder.join("shard.json")).unwrap()).unwrap()
}

/// The names of the folders of attempts in `out`.
fn attempts(out: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    entries.filter(is_hidden).collect()
}

/// The npz files and the manifest of all `count` shards in `out` together.
fn joined(out: &Path, count: usize) -> (BTreeMap<String, Vec<u8>>, String) {
    let mut files = BTreeMap::new();
    let mut lines = BTreeMap::new();
    for index in 0..count {
        let folder = shard_folder(out, &format!("{index}/{count}"));
        let record = record(&folder);
        let text = fs::read_to_string(folder.join("manifest.jsonl")).unwrap();
        let mut own = text.lines();
        for batch in &record.owned {
            let part: Vec<&str> = own.by_ref().take(batch.lines).collect();
            assert_eq!(part.len(), batch.lines);
            let before = lines.insert(batch.batch, format!("{}\n", part.join("\n")));
            assert!(before.is_none(), "batch {} has two owners", batch.batch);
        }
        assert_eq!(own.next(), None);
        for (name, bytes) in npz_files(&folder) {
            assert!(files.insert(name, bytes).is_none());
        }
        let names = fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = names.map(|n| n.into_string().unwrap()).collect();
        names.retain(|name| name != "frames");
        names.sort();
        let expected = [
            "batches",
            "ledger.sqlite",
            "manifest.jsonl",
            "run.json",
            "shard.json",
        ];
        assert_eq!(names, expected);
    }
    let lines: Vec<String> = lines.into_values().filter(|part| part != "\n").collect();
    (files, lines.concat())
}

#[test]
fn shards_make_the_batches_of_the_whole_job() {
    let fixture = fixture();
    let is_full = std::env::var("HANDLOOM_SWEEP").is_ok_and(|v| v == "full");
    let variants: [(&str, &Path, &[&str]); 3] = [
        ("plain", &fixture.dataset, &[]),
        ("corrected", &fixture.archive, &["--profile", "corrected"]),
        ("kept", &fixture.dataset, &["--keep-frames"]),
    ];
    for (name, dataset, more) in variants {
        let reference = fixture.path(&format!("{name}-reference"));
        process(dataset, &reference, &[&SETTINGS[..], more].concat()).ends(0);
        let mut wanted = npz_files(&reference);
        wanted.remove("wlasl_landmarks.npz").unwrap();
        let manifest = fs::read_to_string(reference.join("manifest.jsonl")).unwrap();
        let counts: &[usize] = match name {
            _ if is_full => &[1, 2, 3, 5, 7],
            "plain" => &[1, 3, 7],
            _ => &[2, 5],
        };
        for (at, count) in counts.iter().copied().enumerate() {
            let out = fixture.path(&format!("{name}-{count}"));
            let workers = ["1", "2"][at % 2];
            let mut plans = Vec::new();
            for index in 0..count {
                let shard = format!("{index}/{count}");
                let args = settings(&shard, &[more, &["--workers", workers]].concat());
                let run = process(dataset, &out, &args).ends(0);
                let event = run.event("shard");
                assert_eq!(event["shard"], json!({"index": index, "count": count}));
                assert!(run.event("shard_done")["was_done"] == false);
                let record = record(&shard_folder(&out, &shard));
                assert_eq!((record.instances, record.batches), (14, 6));
                assert_eq!(record.settings.get("shard"), None);
                plans.push((record.plan_sha256, record.settings));
            }
            assert!(plans.windows(2).all(|pair| pair[0] == pair[1]));
            assert!(attempts(&out).is_empty());
            let (files, lines) = joined(&out, count);
            assert!(files == wanted, "{name} {count}");
            assert_eq!(lines, manifest, "{name} {count}");
        }
    }
}

#[test]
fn a_shard_accepts_what_the_limit_leaves_of_its_own_clips() {
    let out = fixture().path("limit");
    let limit = ["--max-samples-per-gloss", "3"];
    let reference = fixture().path("limit-reference");
    process(
        &fixture().dataset,
        &reference,
        &[&SETTINGS[..], &limit].concat(),
    )
    .ends(0);
    for index in 0..3 {
        make(&out, &format!("{index}/3"), &limit).ends(0);
    }
    let accepted = |manifest: &str| -> Vec<String> {
        let lines = manifest
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap());
        let accepted = lines.filter(|line| line["state"] == "accepted");
        accepted.map(|line| line["video_id"].to_string()).collect()
    };
    let all = accepted(&joined(&out, 3).1);
    let wanted = accepted(&fs::read_to_string(reference.join("manifest.jsonl")).unwrap());
    assert!(
        wanted.iter().all(|id| all.contains(id)),
        "{all:?} {wanted:?}"
    );
}

/// A run of the program that a test interrupts.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Running {
    /// Starts to make `shard` with one worker.
    fn start(out: &Path, shard: &str, more: &[&str]) -> Self {
        fs::create_dir_all(out).unwrap();
        let log = out.with_extension("log");
        let child = Command::new(test_support::binary())
            .arg("process")
            .arg(&fixture().dataset)
            .arg("--out")
            .arg(out)
            .args(settings(shard, &[more, &["--workers", "1"]].concat()))
            .args(test_support::quick_flags())
            .env("HANDLOOM_LOG", "debug")
            .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
            .stdout(fs::File::create(out.with_extension("json")).unwrap())
            .stderr(fs::File::create(&log).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// Waits until the log has `count` lines with `text`.
    fn wait_for(&mut self, text: &str, count: usize) {
        let since = Instant::now();
        loop {
            let log = fs::read_to_string(&self.log).unwrap();
            if log.matches(text).count() >= count {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "{log}");
            assert!(since.elapsed() < HUNG, "no \"{text}\": {log}");
            sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

/// Makes the only attempt in `out` look like one of another machine.
fn move_to_other_machine(out: &Path) -> PathBuf {
    let [folder] = <[PathBuf; 1]>::try_from(attempts(out)).unwrap();
    let name = folder.file_name().unwrap().to_string_lossy();
    let path = folder.join(format!("{name}.json"));
    let mut owner: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    owner["boot"] = json!("another");
    fs::write(path, owner.to_string()).unwrap();
    folder
}

/// The results of shard 0/1, made without interruption.
fn reference() -> &'static (BTreeMap<String, Vec<u8>>, String) {
    static MADE: OnceLock<(BTreeMap<String, Vec<u8>>, String)> = OnceLock::new();
    MADE.get_or_init(|| {
        let out = fixture().path("reference");
        make(&out, "0/1", &["--keep-frames"]).ends(0);
        joined(&out, 1)
    })
}

/// Starts shard 0/1 in `out` and kills it when two batches are sealed.
fn kill_after_two_batches(out: &Path) {
    let mut run = Running::start(out, "0/1", &["--keep-frames"]);
    run.wait_for("clip recorded", 5);
    run.signal("-KILL");
    run.end();
}

fn finish(out: &Path) -> Run {
    let run = make(out, "0/1", &["--keep-frames"]).ends(0);
    assert!(joined(out, 1) == *reference());
    run
}

fn events(run: &Run, kind: &str) -> usize {
    run.events().iter().filter(|e| e["event"] == kind).count()
}

#[test]
fn a_killed_attempt_is_continued_on_its_machine() {
    let out = fixture().path("killed");
    kill_after_two_batches(&out);
    let run = finish(&out);
    assert_eq!((events(&run, "adopted"), events(&run, "imported")), (1, 0));
    assert!(run.event("resume")["done"].as_u64().unwrap() >= 5);
    assert!(attempts(&out).is_empty());
}

#[test]
fn a_stopped_attempt_is_continued_anywhere() {
    let out = fixture().path("stopped");
    let mut run = Running::start(&out, "0/1", &["--keep-frames", "--progress", "bar"]);
    run.wait_for("clip recorded", 3);
    run.signal("-TERM");
    assert_eq!(run.end().code(), Some(75));
    let stopped = move_to_other_machine(&out);
    assert!(stopped.join("stopped").exists());
    let text = fs::read_to_string(out.with_extension("json")).unwrap();
    let resumes = "the same command resumes, on any machine that sees this folder";
    assert!(text.contains(resumes), "{text}");
    let run = finish(&out);
    assert_eq!((events(&run, "adopted"), events(&run, "imported")), (1, 0));
    assert!(attempts(&out).is_empty());
}

#[test]
fn the_batches_of_an_attempt_elsewhere_are_taken_over_when_they_are_right() {
    let damage = |name: &str| {
        let out = fixture().path(&format!("elsewhere-{}", name.replace(['/', '.'], "-")));
        kill_after_two_batches(&out);
        let folder = move_to_other_machine(&out);
        // A kill may leave one more, partial record.
        let records = fs::read_dir(folder.join("records")).unwrap();
        let records = records.map(|entry| entry.unwrap().path());
        let sealed = records.filter(|path| path.extension().is_some_and(|e| e == "json"));
        let sealed = sealed.count() as u64;
        assert!(sealed >= 2);
        if !name.is_empty() {
            let path = folder.join(name);
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            // Kept frames go missing; other files are damaged.
            fs::remove_file(&path).unwrap();
            if !name.starts_with("frames") {
                fs::write(&path, bytes).unwrap();
            }
        }
        let run = finish(&out);
        let done = run.event("resume")["done"].as_u64().unwrap();
        let imported = run.event("imported")["batches"].as_u64().unwrap();
        assert!(done >= 2 * imported - 1, "only {done} clips are reused");
        assert_eq!(events(&run, "adopted"), 0);
        assert_eq!(attempts(&out), [folder], "the attempt may still run");
        sealed - run.event("imported")["batches"].as_u64().unwrap()
    };
    assert_eq!(damage(""), 0);
    for name in [
        "records/00000.json",
        "batches/00001.npz",
        "frames/00000.npz",
    ] {
        assert_eq!(damage(name), 1, "{name}");
    }
}

#[test]
fn of_two_attempts_at_once_one_wins_and_the_other_changes_nothing() {
    let out = fixture().path("race");
    let mut first = Running::start(&out, "0/1", &["--keep-frames"]);
    first.wait_for("clip recorded", 3);
    first.signal("-STOP");
    let run = finish(&out);
    assert_eq!((events(&run, "adopted"), events(&run, "imported")), (0, 1));
    assert_eq!(attempts(&out).len(), 1);
    let before = fs::read(shard_folder(&out, "0/1").join("shard.json")).unwrap();
    first.signal("-CONT");
    assert_eq!(first.end().code(), Some(0));
    let stdout = fs::read_to_string(out.with_extension("json")).unwrap();
    assert!(stdout.contains("shard_done_elsewhere"), "{stdout}");
    assert!(attempts(&out).is_empty());
    assert_eq!(
        fs::read(shard_folder(&out, "0/1").join("shard.json")).unwrap(),
        before
    );
    assert!(joined(&out, 1) == *reference());
}

#[test]
fn an_attempt_does_not_replace_a_shard_of_another_job() {
    for signal in ["-CONT", "-TERM"] {
        let out = fixture().path(&format!("other-job{signal}"));
        let mut first = Running::start(&out, "0/1", &["--keep-frames"]);
        first.wait_for("clip recorded", 3);
        first.signal("-STOP");
        let other = ["--keep-frames", "--frame-stride", "1"];
        make(&out, "0/1", &other).ends(0);
        let before = fs::read(shard_folder(&out, "0/1").join("shard.json")).unwrap();
        first.signal(signal);
        first.signal("-CONT");
        assert_eq!(first.end().code(), Some(73));
        let log = fs::read_to_string(&first.log).unwrap();
        assert!(
            log.contains("frame_stride was 1, now 2") && log.contains("--fresh"),
            "{log}"
        );
        let after = fs::read(shard_folder(&out, "0/1").join("shard.json")).unwrap();
        assert!(before == after && attempts(&out).len() == 1);
        // The work of the refused attempt is not lost.
        fs::remove_dir_all(shard_folder(&out, "0/1")).unwrap();
        let run = finish(&out);
        assert_eq!(events(&run, "adopted"), 1);
    }
}

#[test]
fn a_fresh_start_leaves_the_whole_shard_until_it_is_whole_itself() {
    let out = fixture().path("fresh");
    finish(&out);
    let fresh = ["--keep-frames", "--fresh"];
    let unusable = [&fresh[..], &["--accelerator", "require:litert:gpu"]].concat();
    let failed = make(&out, "0/1", &unusable);
    assert_ne!(failed.code, Some(0));
    assert!(joined(&out, 1) == *reference());
    let other = [&fresh[..], &["--frame-stride", "1"]].concat();
    let mut killed = Running::start(&out, "0/1", &other);
    killed.wait_for("clip recorded", 3);
    killed.signal("-KILL");
    killed.end();
    assert!(joined(&out, 1) == *reference());
    // Batches of another attempt are not taken over, even if they are equal.
    kill_after_two_batches(&fixture().path("fresh-beside"));
    let beside = move_to_other_machine(&fixture().path("fresh-beside"));
    fs::rename(&beside, out.join(beside.file_name().unwrap())).unwrap();
    let run = make(&out, "0/1", &fresh).ends(0);
    assert_eq!((events(&run, "imported"), events(&run, "adopted")), (0, 0));
    assert!(joined(&out, 1) == *reference());
    assert_eq!(attempts(&out).len(), 1, "the attempt may still run");
    make(&out, "0/1", &other).ends(0);
    assert!(joined(&out, 1) != *reference());
}

#[test]
fn the_folder_of_a_shard_is_for_that_shard_alone() {
    let out = fixture().path("own");
    make(&out, "1/2", &[]).ends(0);
    let folder = shard_folder(&out, "1/2");
    let before = fs::read(folder.join("shard.json")).unwrap();
    for flags in [&[][..], &["--fresh"], &["--rescan"]] {
        process(
            &fixture().dataset,
            &folder,
            &[&SETTINGS[..], flags].concat(),
        )
        .ends(73)
        .stderr_contains(&["is the folder of a shard", "choose another --out"]);
    }
    assert_eq!(fs::read(folder.join("shard.json")).unwrap(), before);
    fs::remove_file(folder.join("shard.json")).unwrap();
    make(&out, "1/2", &[])
        .ends(66)
        .stderr_contains(&["shard.json", "remove the folder to make the shard again"]);
    make(&out, "1/2", &["--fresh"]).ends(0);
    assert!(folder.join("shard.json").exists() && attempts(&out).is_empty());
}

#[test]
fn engine_variables_are_ignored_when_the_shard_is_done() {
    let out = fixture().path("variables");
    let run = |shard: &[&str], variables: &[(&str, &str)]| {
        let paths = [&fixture().dataset, &out].map(|path| path.to_str().unwrap());
        let args = ["process", paths[0], "--out", paths[1]];
        let args = args.iter().chain(&SETTINGS).chain(shard);
        let variables: Vec<_> = variables
            .iter()
            .map(|(k, v)| (*k, OsStr::new(*v)))
            .collect();
        test_support::handloom_with(args, &variables)
    };
    let limit = ["--shard", "0/2", "--max-attempts", "2"];
    run(&limit, &[("SHARD_ATTEMPT", "2")]).ends(65);
    run(&limit, &[("SHARD_ATTEMPT", "1")]).ends(0);
    let shard_folder = run(&limit, &[("SHARD_ATTEMPT", "2")]).ends(0);
    assert_eq!(shard_folder.event("shard_done")["was_done"], true);
    run(&["--list"], &[("HANDLOOM_SHARD", "")]).ends(0);
    let rank = [
        ("OMPI_COMM_WORLD_RANK", "0"),
        ("OMPI_COMM_WORLD_SIZE", "3"),
        ("SHARD_COUNT", "2"),
    ];
    let detected = run(&["--shard", "mpi"], &rank).ends(0);
    assert_eq!(detected.event("shard_source")["shard"]["count"], 2);
}

#[test]
fn a_complete_shard_is_kept_repaired_or_remade() {
    let out = fixture().path("whole");
    make(&out, "1/2", &[]).ends(0);
    let folder = shard_folder(&out, "1/2");
    let before = fs::read(folder.join("shard.json")).unwrap();
    let run = make(&out, "1/2", &[]).ends(0);
    assert_eq!(run.event("shard_done")["was_done"], true);
    assert_eq!(fs::read(folder.join("shard.json")).unwrap(), before);
    let files = npz_files(&folder);
    let broken = folder.join(files.keys().next().unwrap());
    fs::write(&broken, "cut short").unwrap();
    make(&out, "1/2", &[])
        .ends(0)
        .stderr_contains(&["is missing or was changed; the shard is mended"]);
    assert!(npz_files(&folder) == files && attempts(&out).is_empty());
    make(&out, "1/2", &["--frame-stride", "1"])
        .ends(73)
        .stderr_contains(&["frame_stride was 2, now 1", "--fresh"]);
    make(&out, "1/2", &["--frame-stride", "1", "--fresh"]).ends(0);
    assert!(npz_files(&folder) != files);
    make(&out, "1/2", &["--frame-stride", "1", "--retry-failed"]).ends(0);
    assert!(attempts(&out).is_empty());
    let marker = folder.join("shard.json");
    let half = fs::read(&marker).unwrap();
    fs::write(&marker, &half[..half.len() / 2]).unwrap();
    make(&out, "1/2", &[])
        .ends(65)
        .stderr_contains(&["shard.json", "remove its folder"]);
}

#[test]
fn a_whole_shard_of_a_dataset_that_has_changed_is_to_be_made_again_with_all_others() {
    let fixture = fixture();
    let dataset = fixture.path("repaired");
    test_support::copy_folder(&fixture.dataset, &dataset);
    let out = fixture.path("changed");
    let run = |more: &[&str]| process(&dataset, &out, &settings("0/2", more));
    run(&[]).ends(0);
    let [broken, good] = ["00005", "00004"].map(|id| dataset.join(format!("videos/{id}.mp4")));
    fs::copy(good, broken).unwrap();
    for flags in [&[][..], &["--retry-failed"]] {
        run(flags).ends(73).stderr_contains(&[
            "the dataset has changed since the shard was made",
            "all of them must be made again; start each with --fresh",
        ]);
    }
    run(&["--fresh"]).ends(0);
}

#[test]
fn shards_have_a_folder_of_their_own() {
    let out = fixture().path("undivided");
    process(&fixture().dataset, &out, &SETTINGS).ends(0);
    for more in [&[][..], &["--fresh"]] {
        make(&out, "0/2", more)
            .ends(73)
            .stderr_contains(&["holds the results of a whole job", "choose another --out"]);
    }
    // A hidden file (not a folder) is the lock of the job without shards.
    assert!(!attempts(&out).iter().any(|path| path.is_dir()));
    assert!(out.join("run.json").exists() && !shard_folder(&out, "0/2").exists());
}

#[test]
fn a_shard_lists_its_own_clips() {
    let dataset = fixture().dataset.to_str().unwrap();
    let list = |flags: &[&str]| {
        let args = ["process", dataset, "--list", "--progress", "json"];
        let run = test_support::handloom(args.iter().chain(&SETTINGS).chain(flags)).ends(0);
        let events = run.events().into_iter();
        events.filter(|e| e["event"] == "list").collect::<Vec<_>>()
    };
    let parts = [list(&["--shard", "0/2"]), list(&["--shard", "1/2"])];
    assert!(parts.iter().all(|part| !part.is_empty()));
    let all = list(&[]);
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), all.len());
    assert!(parts.concat().iter().all(|clip| all.contains(clip)));
}

#[test]
fn shards_that_cannot_be_are_refused_and_empty_ones_are_whole() {
    let out = fixture().path("usage");
    make(&out, "4/4", &[])
        .ends(64)
        .stderr_contains(&["shards are numbered from 0: 0/4 to 3/4"]);
    make(&out, "0/4", &["--rescan"])
        .ends(64)
        .stderr_contains(&["--rescan and --shard"]);
    let run = make(&out, "99/100", &[])
        .ends(0)
        .stderr_contains(&["6 batches for 100 shards: 94 are empty"]);
    assert_eq!(run.event("shard")["clips"], 0);
    let record = record(&shard_folder(&out, "99/100"));
    assert!(record.owned.is_empty() && record.batches == 6, "{record:?}");
}
