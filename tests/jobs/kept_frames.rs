//! Kept frames have the same bytes with any number of workers and do not change the sequences. Sequences made from
//! kept frames equal those of a run that decodes the clips.

use handloom::storage::npz::NpzReader;
use handloom::video::encode::Codec;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use test_support::{
    Run, digests, handloom, manifest, manifest_states, process, render_clip, scratch,
};
use zip::write::SimpleFileOptions;

const KEEP: &str = "--keep-frames";
const SETTINGS: [&str; 4] = ["--min-videos-per-gloss", "1", "--batch-size", "3"];
/// Id, first frame in the metadata, number of frames.
const CLIPS: [(&str, i64, usize); 7] = [
    ("00001", 1, 30),
    ("00002", -1, 24),
    ("00003", 7, 20),
    // Trimmed: its range is that of the recording it was cut from.
    ("00004", 5122, 22),
    ("00005", 1, 6),
    ("00006", 1, 90),
    // Broken.
    ("00007", 1, 0),
];

struct Fixture {
    folder: TempDir,
    dataset: PathBuf,
    /// The results of a run with two workers and `--keep-frames`.
    kept: PathBuf,
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
        let instances = CLIPS.map(|(id, start, _)| (id, start));
        test_support::write_metadata(
            &dataset,
            &test_support::metadata(&[("hello", &instances[..4]), ("book", &instances[4..])]),
        );
        for (seed, (id, _, frames)) in (0..).zip(CLIPS) {
            let path = dataset.join(format!("videos/{id}.mp4"));
            if frames == 0 {
                fs::write(path, "no video").unwrap();
            } else {
                // Not square, for `aspect`.
                render_clip(&path, seed, frames, (320, 240), Codec::H264);
            }
        }
        let kept = folder.path().join("kept");
        run(&dataset, &kept, &[KEEP, "--workers", "2"]).ends(0);
        Fixture {
            folder,
            dataset,
            kept,
        }
    })
}

fn run(dataset: &Path, out: &Path, more: &[&str]) -> Run {
    process(dataset, out, &[&SETTINGS[..], more].concat())
}

fn resequence(from: &Path, out: &Path, more: &[&str]) -> Run {
    let paths = [from, Path::new("--out"), out].map(Path::as_os_str);
    let args = [Path::new("resequence").as_os_str()]
        .into_iter()
        .chain(paths);
    handloom(args.chain(more.iter().map(|arg| Path::new(*arg).as_os_str())))
}

/// The digests of the sequences alone.
fn sequences(out: &Path) -> BTreeMap<String, String> {
    let mut all = digests(out);
    all.retain(|name, _| !name.starts_with("frames/"));
    all
}

#[test]
fn frames_are_the_same_whatever_reads_them() {
    let fixture = fixture();
    let wanted = digests(&fixture.kept);
    let names = ["00000", "00001", "00002"].map(|name| format!("frames/{name}.npz"));
    assert!(
        names.iter().all(|name| wanted.contains_key(name)),
        "{wanted:?}"
    );
    assert_eq!(
        fs::read_dir(fixture.kept.join("frames/parts"))
            .unwrap()
            .count(),
        0
    );

    let archive = fixture.path("archive.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&archive).unwrap());
    let clips = CLIPS.map(|(id, ..)| format!("videos/{id}.mp4"));
    for name in clips.iter().map(String::as_str).chain(["WLASL_v0.3.json"]) {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&fs::read(fixture.dataset.join(name)).unwrap())
            .unwrap();
    }
    zip.finish().unwrap();
    for (dataset, workers) in [
        (&fixture.dataset, "1"),
        (&fixture.dataset, "5"),
        (&archive, "2"),
    ] {
        let out = fixture.path(&format!("kept-{workers}"));
        run(dataset, &out, &[KEEP, "--workers", workers]).ends(0);
        assert_eq!(digests(&out), wanted, "{workers} workers");
        fs::remove_dir_all(out).unwrap();
    }
    let out = fixture.path("not-kept");
    run(&fixture.dataset, &out, &[]).ends(0);
    assert_eq!(digests(&out), sequences(&fixture.kept));
    assert_eq!(manifest_states(&out), manifest_states(&fixture.kept));
    assert!(!out.join("frames").exists());
}

#[test]
fn a_file_of_frames_has_every_frame_of_each_clip() {
    let fixture = fixture();
    let lines = manifest(&fixture.kept);
    let mut clips = 0;
    for batch in 0..3 {
        let path = fixture.kept.join(format!("frames/{batch:05}.npz"));
        let mut npz = NpzReader::open(&path).unwrap();
        let positions = npz.numbers::<i64>("positions").unwrap().0;
        let offsets = npz.numbers::<i64>("offsets").unwrap().0;
        let ids = npz.strings("video_ids").unwrap();
        let indexes = npz.numbers::<i32>("frame_index").unwrap().0;
        let times = npz.numbers::<f64>("time_s").unwrap().0;
        let (landmarks, shape) = npz.numbers::<f32>("landmarks").unwrap();
        let world = npz.numbers::<f32>("world_landmarks").unwrap().0;
        let counts = npz.numbers::<u8>("hand_count").unwrap().0;
        assert_eq!(shape, [indexes.len(), 2, 21, 3]);
        assert_eq!(world.len(), landmarks.len());
        assert_eq!(npz.strings("glosses").unwrap(), ["hello", "book"]);
        for (clip, position) in positions.iter().enumerate() {
            let position = usize::try_from(*position).unwrap();
            let (id, start, frames) = CLIPS[position];
            assert_eq!((ids[clip].as_str(), position / 3), (id, batch));
            let range = usize::try_from(offsets[clip]).unwrap()
                ..usize::try_from(offsets[clip + 1]).unwrap();
            let wanted: Vec<i32> = (0..).take(frames).collect();
            assert_eq!(indexes[range.clone()], wanted);
            assert_eq!(npz.numbers::<i64>("frame_start").unwrap().0[clip], start);
            let size = if frames == 0 { [0, 0] } else { [320, 240] };
            let found = ["width", "height"].map(|name| npz.numbers::<i32>(name).unwrap().0[clip]);
            assert_eq!(found, size);
            for (index, time) in times[range.clone()].iter().enumerate() {
                assert!((time - index as f64 / 25.0).abs() < 1e-3, "{index}: {time}");
            }
            // Most frames have a detected hand. World landmarks are in metres.
            let seen = range.clone().filter(|at| counts[*at] > 0).count();
            assert!(2 * seen >= frames, "{id}: {seen} of {frames}");
            for at in range.filter(|at| counts[*at] > 0) {
                let hand = &world[at * 126..][..63];
                assert!(
                    hand.iter().any(|value| value.abs() > 0.01),
                    "{id}: {hand:?}"
                );
            }
            clips += 1;
        }
    }
    assert_eq!(clips, CLIPS.len());
    assert_eq!(
        lines
            .iter()
            .filter(|line| line["position"].is_u64())
            .count(),
        CLIPS.len()
    );
    let shown = handloom([
        "inspect",
        fixture.kept.join("frames/00000.npz").to_str().unwrap(),
    ]);
    let shown = shown.ends(0).stdout;
    assert!(
        shown.contains("world_landmarks") && shown.contains("3 clips"),
        "{shown}"
    );
}

#[test]
fn sequences_made_again_are_those_of_a_new_run() {
    let fixture = fixture();
    // Each option takes a new value. Few runs, since each one reads all clips.
    let options: [&[&str]; 4] = [
        &[
            "--profile",
            "corrected",
            "--mirror",
            "dominant",
            "--max-gap",
            "1",
        ],
        &[
            "--sampling",
            "interpolate",
            "--missing",
            "interpolate_nan",
            "--z",
            "drop",
            "--frame-range",
            "auto",
        ],
        &[
            "--sequence-length",
            "48",
            "--frame-stride",
            "1",
            "--min-frames",
            "3",
            "--slots",
            "sides",
            "--missing",
            "nan",
        ],
        &[
            "--frame-range",
            "whole",
            "--sampling",
            "uniform",
            "--sequence-length",
            "8",
            "--aspect",
            "--z",
            "scaled",
        ],
    ];
    for (n, options) in options.iter().enumerate() {
        let (again, fresh) = (
            fixture.path(&format!("again-{n}")),
            fixture.path(&format!("fresh-{n}")),
        );
        resequence(&fixture.kept, &again, options).ends(0);
        run(&fixture.dataset, &fresh, options).ends(0);
        assert_eq!(digests(&again), digests(&fresh), "{options:?}");
        assert_eq!(manifest(&again), manifest(&fresh), "{options:?}");
        let settings = |out: &Path| {
            let run: Value =
                serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
            (run["settings"].clone(), run["finished"]["states"].clone())
        };
        assert_eq!(settings(&again), settings(&fresh), "{options:?}");
        // The same command has nothing to do.
        resequence(&fixture.kept, &again, options).ends(0);
        assert_eq!(digests(&again), digests(&fresh));
    }
}

#[test]
fn frames_that_are_not_as_they_were_kept_are_refused() {
    let fixture = fixture();
    let from = fixture.path("changed");
    test_support::copy_folder(&fixture.kept, &from);
    let (file, out) = (from.join("frames/00001.npz"), fixture.path("of-changed"));
    let whole = fs::read(&file).unwrap();
    for at in [whole.len() / 3, whole.len() - 40] {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&file, bytes).unwrap();
        let refused = resequence(&from, &out, &[]);
        refused
            .ends(65)
            .stderr_contains(&["frames/00001.npz", "has changed", "--keep-frames"]);
    }
    fs::write(&file, &whole).unwrap();
    for inside in [from.clone(), from.join("x"), from.join("frames/x")] {
        resequence(&from, &inside, &[])
            .ends(64)
            .stderr_contains(&["a folder of their own"]);
    }
    assert!(!from.join("x").exists());
    let lines = fs::read_to_string(from.join("manifest.jsonl")).unwrap();
    fs::write(from.join("manifest.jsonl"), lines.replace("hello", "hallo")).unwrap();
    resequence(&from, &out, &[])
        .ends(65)
        .stderr_contains(&["manifest.jsonl"]);
    fs::remove_file(from.join("run.json")).unwrap();
    resequence(&from, &out, &[])
        .ends(66)
        .stderr_contains(&["no finished results"]);

    let bare = fixture.path("bare");
    run(&fixture.dataset, &bare, &["--workers", "2"]).ends(0);
    resequence(&bare, &out, &[])
        .ends(66)
        .stderr_contains(&["were not kept", "--keep-frames"]);
    let tracked = run(&fixture.dataset, &out, &[KEEP, "--tracking"]);
    tracked.ends(64).stderr_contains(&["--tracking", KEEP]);
}

#[test]
fn clips_whose_frames_were_not_kept_are_named() {
    let fixture = fixture();
    let limited = fixture.path("limited");
    run(
        &fixture.dataset,
        &limited,
        &[KEEP, "--max-samples-per-gloss", "1"],
    )
    .ends(0);
    assert!(
        manifest_states(&limited)
            .iter()
            .any(|state| state == "hello 00002 over_limit")
    );
    let out = fixture.path("of-limited");
    resequence(&limited, &out, &["--slots", "sides"]).ends(0);
    // A clip of 30 frames cannot have 50 frames with a hand.
    let more = [
        "--frame-stride",
        "1",
        "--sequence-length",
        "64",
        "--min-frames",
        "50",
    ];
    resequence(&limited, &fixture.path("more"), &more)
        .ends(65)
        .stderr_contains(&["clip 00002", "\"hello\"", "--max-samples-per-gloss"]);
}

#[test]
fn frames_are_kept_for_the_other_profile_too() {
    let fixture = fixture();
    let dataset = fixture.path("capitals");
    // The notebook profile processes "HELLO", because "hello" is kept, but not "Thanks". The other does the reverse.
    let metadata = test_support::metadata(&[
        ("HELLO", &[("00002", 1), ("00003", 1)]),
        ("Thanks", &[("00006", 1), ("missing", 1), ("00005", 1)]),
        ("hello", &[("00001", 1), ("00007", 1)]),
        ("bOOk", &[("00004", 1)]),
    ]);
    test_support::write_metadata(&dataset, &metadata);
    for (id, ..) in CLIPS {
        let name = format!("videos/{id}.mp4");
        fs::copy(fixture.dataset.join(&name), dataset.join(&name)).unwrap();
    }
    let read = |out: &Path| -> Value {
        serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap()
    };
    let selected = ["--selected-glosses", "hello,Thanks", "--profile"];
    let args = |profile: &'static str| [&selected[..], &[profile]].concat();
    for [first, second] in [["notebook", "corrected"], ["corrected", "notebook"]] {
        let out = |what: &str| fixture.path(&format!("{what}-{first}"));
        let (kept, bare) = (out("kept"), out("bare"));
        let run_with = |out: &Path, more: &[&str]| run(&dataset, out, more).ends(0);
        run_with(&kept, &[&args(first)[..], &[KEEP]].concat());
        run_with(&bare, &args(first));
        let digests_of_kept = digests(&kept);
        for (name, digest) in digests(&bare) {
            assert_eq!(digests_of_kept.get(&name), Some(&digest), "{first}: {name}");
        }
        assert_eq!(manifest_states(&kept), manifest_states(&bare), "{first}");
        assert_eq!(
            read(&kept)["finished"]["states"],
            read(&bare)["finished"]["states"]
        );

        let (again, fresh) = (out("again"), out("fresh"));
        resequence(&kept, &again, &["--profile", second]).ends(0);
        run_with(&fresh, &args(second));
        assert!(manifest_states(&fresh) != manifest_states(&bare));
        assert_eq!(digests(&again), digests(&fresh), "{second}");
        assert_eq!(manifest(&again), manifest(&fresh), "{second}");
        assert_eq!(read(&again)["settings"], read(&fresh)["settings"]);
        let label_map = |out: &Path| fs::read(out.join("label_map.json")).unwrap();
        assert_eq!(label_map(&again), label_map(&fresh));

        // A resumed job that has finished has nothing to do, also for the clips that it does not process.
        let resumed = run_with(&kept, &[&args(first)[..], &[KEEP]].concat());
        assert!(
            resumed
                .events()
                .iter()
                .all(|event| event["event"] != "clip")
        );
        assert_eq!(digests(&kept), digests_of_kept);

        // An earlier version kept other frames.
        let mut old = read(&kept);
        let settings = old["settings"].as_object_mut().unwrap();
        settings.remove("other_clips_sha256").unwrap();
        fs::write(kept.join("run.json"), old.to_string()).unwrap();
        resequence(&kept, &out("old"), &["--profile", second])
            .ends(65)
            .stderr_contains(&["\"HELLO\"", "--profile", second]);
    }
}
