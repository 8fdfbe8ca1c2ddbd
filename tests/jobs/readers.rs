//! Datasets of each format: in a folder, in a zip archive and one folder down they give the same bytes. Every
//! instance gets one state. Rows and files that do not fit are named.

use handloom::storage::npz::NpzReader;
use handloom::video::encode::Codec;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use test_support::{digests, handloom, manifest, process, render_clip, scratch};
use zip::write::SimpleFileOptions;

/// A clip that gives a sequence.
static CLIP: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = scratch();
    let path = folder.path().join("1.mp4");
    render_clip(&path, 0, 10, (160, 120), Codec::H264);
    fs::read(path).unwrap()
});

const MIN_ARGS: [&str; 6] = [
    "--min-videos-per-gloss",
    "1",
    "--min-frames",
    "1",
    "--sequence-length",
    "2",
];

/// A dataset: its format, its files (`None` is a clip), and gloss, id, state and split of each instance.
struct Sample {
    format: &'static str,
    files: &'static [(&'static str, Option<&'static str>)],
    manifest_states: &'static [&'static str],
}

const SAMPLES: [Sample; 6] = [
    Sample {
        format: "wlasl",
        files: &[
            (
                "WLASL_v0.3.json",
                Some(
                    r#"[{"gloss": "book", "instances": [{"video_id": "1", "split": "val"}, {"video_id": "2"}]}]"#,
                ),
            ),
            ("videos/1.mp4", None),
        ],
        manifest_states: &["book 1 accepted val", "book 2 missing "],
    },
    Sample {
        format: "folders",
        files: &[
            ("labels.txt", Some("thank you\nBook\nnone\n")),
            ("train/Book/1.MP4", None),
            ("train/thank you/1.mp4", None),
            ("val/Book/é, 2.mp4", None),
            ("test/Book/bad.mp4", Some("no video")),
            ("test/notes.txt", Some("x")),
        ],
        manifest_states: &[
            "thank you train/thank you/1.mp4 accepted train",
            "Book train/Book/1.MP4 accepted train",
            "Book é, 2 accepted val",
            "Book bad unreadable test",
        ],
    },
    Sample {
        format: "csv",
        files: &[
            (
                "list.csv",
                Some(
                    "\u{feff}path;gloss;split;signer;note\r\nclips/a b.mp4;Book;train;P3;\"say \"\"x\"\"\"\r\n\
                     clips/2;book;dev;P4;\r\nclips/2.mp4;book;dev;P4;\r\n../3.mp4;book;;;\r\nclips/4.mp4;book;test;P4;\r\n",
                ),
            ),
            ("clips/a b.mp4", None),
            ("clips/2.mp4", None),
            ("clips/4.MP4", None),
        ],
        manifest_states: &[
            "Book a b accepted train",
            "book 2 accepted val",
            "book - unreadable val",
            "book - unreadable ",
            "book 4 missing test",
        ],
    },
    Sample {
        format: "asl-citizen",
        files: &[
            (
                "splits/train.csv",
                Some("Participant ID,Video file,Gloss,ASL-LEX Code\nP5,1.5-BOOK.mp4,BOOK1,A_01\n"),
            ),
            (
                "splits/test.csv",
                Some(
                    "Participant ID,Video file,Gloss,ASL-LEX Code\nP52,2-X.mp4,BOOK1,A_01\nP52,3-X.mp4,DRINK,B_02\n",
                ),
            ),
            ("videos/1.5-BOOK.mp4", None),
            ("videos/2-X.mp4", None),
        ],
        manifest_states: &[
            "BOOK1 1.5-BOOK accepted train",
            "BOOK1 2-X accepted test",
            "DRINK 3-X not_selected test",
        ],
    },
    Sample {
        format: "autsl",
        files: &[
            (
                "train_labels.csv",
                Some("signer0_sample1,1\nsigner3_sample2,0\n"),
            ),
            ("validation_labels.csv", Some("signer1_sample7,1\n")),
            ("train/signer0_sample1_color.mp4", None),
            ("train/signer0_sample1_depth.mp4", None),
            ("train/signer3_sample2_color.mp4", None),
        ],
        manifest_states: &[
            "0 signer3_sample2_color accepted train",
            "1 signer0_sample1_color accepted train",
            "1 signer1_sample7_color missing val",
        ],
    },
    Sample {
        format: "msasl",
        files: &[
            (
                "MSASL_train.json",
                Some(
                    r#"[{"clean_text": "hello", "label": 0, "url": "www.youtube.com/watch?v=AAAAAAAAAA1", "start": 0, "end": 5,
                     "signer_id": 3}, {"clean_text": "hello", "label": 0, "url": "https://youtu.be/AAAAAAAAAA2", "start": 2,
                     "end": 8, "signer_id": 4}]"#,
                ),
            ),
            ("clips/AAAAAAAAAA1_0_5.mp4", None),
            ("clips/AAAAAAAAAA2.mp4", None),
        ],
        manifest_states: &[
            "hello AAAAAAAAAA1_0_5 accepted train",
            "hello AAAAAAAAAA2 accepted train",
        ],
    },
];

fn write(root: &Path, files: &[(&str, Option<&str>)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.map_or(CLIP.as_slice(), str::as_bytes)).unwrap();
    }
}

fn zip(path: &Path, top: &str, files: &[(&str, Option<&str>)]) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, text) in files {
        zip.start_file(format!("{top}{name}"), SimpleFileOptions::default())
            .unwrap();
        let content = text.map_or(CLIP.as_slice(), str::as_bytes);
        std::io::Write::write_all(&mut zip, content).unwrap();
    }
    zip.finish().unwrap();
}

/// Gloss, id, state and split of each line of the manifest.
fn manifest_states(out: &Path) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |line: &Value| {
        let words = ["gloss", "video_id", "state", "split"].map(|key| word(&line[key]));
        words.join(" ")
    };
    manifest(out).iter().map(line).collect()
}

#[test]
fn each_format_is_read_from_a_folder_and_archives() {
    for Sample {
        format,
        files,
        manifest_states: expected,
    } in &SAMPLES
    {
        let folder = scratch();
        let at = |name: &str| folder.path().join(name);
        write(&at("dataset"), files);
        let run = process(&at("dataset"), &at("out"), &MIN_ARGS).ends(0);
        let event = run.event("dataset");
        assert_eq!(event["format"], *format, "{event}");
        assert!(!event["why"].as_str().unwrap().is_empty());
        assert_eq!(manifest_states(&at("out")), *expected, "{format}");
        // The metadata of the accepted clips in the npz file.
        let accepted = expected.iter().filter(|state| state.contains(" accepted"));
        let accepted: Vec<Vec<&str>> = accepted
            .map(|state| state.split(" accepted ").collect())
            .collect();
        let mut npz = NpzReader::open(&at("out/batches/00000.npz")).unwrap();
        let labels = npz.strings("labels").unwrap();
        let ids = npz.strings("video_ids").unwrap();
        let names: Vec<String> = labels
            .iter()
            .zip(&ids)
            .map(|(label, id)| format!("{label} {id}"))
            .collect();
        let (expected_names, splits): (Vec<_>, Vec<_>) =
            accepted.iter().map(|state| (state[0], state[1])).unzip();
        assert_eq!(names, expected_names);
        assert_eq!(npz.strings("split").unwrap(), splits);
        let run: Value = serde_json::from_slice(&fs::read(at("out/run.json")).unwrap()).unwrap();
        let recorded = run["settings"]
            .get("format")
            .map_or("wlasl", |format| format.as_str().unwrap());
        assert_eq!(recorded, *format);
        for top in ["", "top/"] {
            let archive = at("archive.zip");
            zip(&archive, top, files);
            let out = at(&format!("out-zip{}", top.len()));
            process(&archive, &out, &MIN_ARGS).ends(0);
            assert_eq!(digests(&out), digests(&at("out")), "{format} {top}");
        }
        if *format != "wlasl" {
            write(&at("above/top"), files);
            let args = [&MIN_ARGS[..], &["--format", format]].concat();
            process(&at("above"), &at("out-above"), &args).ends(0);
            assert_eq!(digests(&at("out-above")), digests(&at("out")), "{format}");
        }
        let text = handloom([
            "process",
            at("dataset").to_str().unwrap(),
            "--list",
            "--progress",
            "bar",
        ]);
        let line = format!(
            "Dataset format: {format} ({})",
            event["why"].as_str().unwrap()
        );
        assert!(
            text.stdout.contains(&line) || text.stderr.contains(&line),
            "{text:?}"
        );
    }
}

#[test]
fn table_values_are_kept_and_refused_ones_are_named() {
    let folder = scratch();
    let (dataset, out) = (folder.path().join("dataset"), folder.path().join("out"));
    write(&dataset, SAMPLES[2].files);
    // The path of the table itself is accepted.
    let run = process(&dataset.join("list.csv"), &out, &MIN_ARGS).ends(0);
    run.stderr_contains(&[
        "2 glosses or instances of the metadata have values that cannot be used",
        "list.csv, line 4: clips/2.mp4 is already named in list.csv, line 3",
        "1 missing clips are there under another name: found clips/4.MP4",
    ]);
    let lines = manifest(&out);
    assert_eq!(
        lines[0]["columns"],
        serde_json::json!({"note": "say \"x\""})
    );
    assert_eq!(
        (&lines[0]["path"], &lines[0]["signer_id"]),
        (&"clips/a b.mp4".into(), &3.into())
    );
    let reasons: Vec<&str> = lines[2..]
        .iter()
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons,
        [
            "clips/2.mp4 is already named in list.csv, line 3",
            "../3.mp4 leads out of the folder of the dataset: move the clip into it",
            "no file clips/4.mp4 (list.csv, line 6); found clips/4.MP4: correct the path, or move the file",
        ]
    );
    // The clips of a table may be in another folder.
    let moved = folder.path().join("moved");
    fs::create_dir(&moved).unwrap();
    fs::rename(dataset.join("clips"), moved.join("clips")).unwrap();
    let again = folder.path().join("again");
    let args = [&MIN_ARGS[..], &["--videos", moved.to_str().unwrap()]].concat();
    process(&dataset, &again, &args).ends(0);
    assert_eq!(digests(&again), digests(&out));
    // `report` and sequences from kept frames find the clips by their ids.
    let kept = folder.path().join("kept");
    process(&dataset, &kept, &[&args[..], &["--keep-frames"]].concat()).ends(0);
    let new = folder.path().join("new");
    let pair = [
        "resequence",
        kept.to_str().unwrap(),
        "--out",
        new.to_str().unwrap(),
        "--profile",
        "corrected",
    ];
    handloom(pair).ends(0);
    let columns = |out: &Path| {
        manifest(out)
            .iter()
            .map(|l| (l["path"].clone(), l["columns"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(columns(&new), columns(&out));
    fs::rename(moved.join("clips"), dataset.join("clips")).unwrap();
    let args = [
        "report",
        out.to_str().unwrap(),
        "--dataset",
        dataset.to_str().unwrap(),
    ];
    handloom(args).ends(0);
}

#[test]
fn a_changed_dataset_is_reported_and_rescanned() {
    let folder = scratch();
    let (dataset, out) = (folder.path().join("dataset"), folder.path().join("out"));
    for (sample, path, text) in [
        (&SAMPLES[1], "val/Book/3.mp4", None),
        (
            &SAMPLES[2],
            "list.csv",
            Some("path,gloss\nclips/a b.mp4,Book\nclips/2.mp4,book\nclips/4.MP4,book\n"),
        ),
    ] {
        write(&dataset, sample.files);
        process(&dataset, &out, &MIN_ARGS).ends(0);
        process(&dataset, &out, &MIN_ARGS).ends(0);
        write(&dataset, &[(path, text)]);
        let change = if text.is_some() {
            "metadata changed"
        } else {
            "1 clip added, metadata changed"
        };
        process(&dataset, &out, &MIN_ARGS)
            .ends(73)
            .stderr_contains(&[change, "--rescan keeps what has not changed"]);
        process(&dataset, &out, &[&MIN_ARGS[..], &["--rescan"]].concat()).ends(0);
        let fresh = folder.path().join("fresh");
        process(&dataset, &fresh, &MIN_ARGS).ends(0);
        assert_eq!(digests(&out), digests(&fresh));
        for folder in [&dataset, &out, &fresh] {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}

/// Maximum memory of a plan over 70,000 rows, in MB.
const MEMORY_MB_MAX: u64 = 200;

#[test]
fn seventy_thousand_rows_take_little_memory() {
    let folder = scratch();
    let clips = folder.path().join("clips");
    fs::create_dir(&clips).unwrap();
    let mut table = "path,gloss,split,signer,note\n".to_owned();
    for n in 0..70_000 {
        // Only the first 1,000 clips exist.
        if n < 1000 {
            fs::write(clips.join(format!("{n}.mp4")), "x").unwrap();
        }
        writeln!(
            table,
            "clips/{n}.mp4,gloss {},train,P{},a note of some length about {n}",
            n % 2000,
            n % 50
        )
        .unwrap();
    }
    fs::write(folder.path().join("list.csv"), table).unwrap();
    let time = Command::new("sh")
        .arg("-c")
        .arg("ulimit -v 4000000; \"$0\" process \"$1\" --list --min-videos-per-gloss 0 >\"$1/listed\" & pid=$!; peak=0; \
              while read=$(grep VmHWM /proc/$pid/status 2>/dev/null); do peak=$read; done; wait $pid; echo $? $peak")
        .args([test_support::binary().as_os_str(), folder.path().as_os_str()])
        .output()
        .unwrap();
    let ended = String::from_utf8(time.stdout).unwrap();
    let words: Vec<&str> = ended.split_whitespace().collect();
    assert_eq!(
        words[0],
        "0",
        "{ended} {}",
        String::from_utf8_lossy(&time.stderr)
    );
    let megabytes = words[2].parse::<u64>().unwrap() / 1024;
    test_support::print_note(&format!("70,000 rows: {megabytes} MB"));
    assert!(megabytes < MEMORY_MB_MAX, "{megabytes} MB");
    let listed = fs::read_to_string(folder.path().join("listed")).unwrap();
    let listed = listed
        .lines()
        .filter(|line| line.contains("\"event\":\"list\""));
    assert_eq!(listed.count(), 70_000);
}
