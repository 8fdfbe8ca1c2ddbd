//! `handloom report` and `handloom inspect FOLDER` over the results of a job.

use handloom::storage::batches::{BATCH_FOLDER, BatchRow, read_batch, write_batch};
use handloom::video::encode::Codec;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Instant;
use tempfile::TempDir;
use test_support::{Run, handloom, print_note, process, render_clip, scratch, write_metadata};

/// A gloss that tries to add markup, to end an attribute and to reverse the text direction.
const HOSTILE: &str = "<script>alert(1)</script>\"' onload=x &amp; \u{202e}";

/// A dataset and its results.
struct Results {
    _folder: TempDir,
    dataset: PathBuf,
    out: PathBuf,
}

/// Two copies of a clip in two splits, two other clips, a text file, and a missing clip.
static RESULTS: LazyLock<Results> = LazyLock::new(|| {
    let folder = scratch();
    let (dataset, out) = (folder.path().join("dataset"), folder.path().join("out"));
    let instance = |id: &str, split: &str, signer: i64| json!({"video_id": id, "frame_start": 1, "frame_end": -1, "split": split, "signer_id": signer});
    let metadata = json!([
        {"gloss": "book", "instances": [instance("1", "train", 3), instance("2", "test", 3), instance("3", "train", 4)]},
        {"gloss": HOSTILE, "instances": [instance("4", "train", -1), instance("5", "train", -1), instance("6", "val", -1)]},
    ]);
    write_metadata(&dataset, &metadata);
    let video = |id: &str| dataset.join(format!("videos/{id}.mp4"));
    // The hands change slots in the first two clips.
    for (id, seed, frames) in [("1", 5, 70), ("3", 7, 40), ("4", 1, 30)] {
        render_clip(&video(id), seed, frames, (320, 240), Codec::Mpeg4);
    }
    fs::copy(video("1"), video("2")).unwrap();
    fs::write(video("5"), "<!doctype html><title>gone</title>").unwrap();
    process(
        &dataset,
        &out,
        &["--min-videos-per-gloss", "1", "--min-frames", "0"],
    )
    .ends(0);
    Results {
        _folder: folder,
        dataset,
        out,
    }
});

fn report(out: &Path, page: &Path, more: &[&str]) -> Run {
    let paths = [out.to_str().unwrap(), "--out", page.to_str().unwrap()];
    handloom(["report"].iter().chain(&paths).chain(more))
}

/// The page of `out`.
fn page(out: &Path, more: &[&str]) -> String {
    let folder = scratch();
    let file = folder.path().join("page.html");
    report(out, &file, more).ends(0);
    fs::read_to_string(&file).unwrap()
}

/// Fails unless the elements of `page` are closed in order and it refers to nothing outside.
fn check_markup(page: &str) {
    const CHECK: &str = r##"
import html.parser, sys
EMPTY = {"meta"}
class Checker(html.parser.HTMLParser):
    open = []
    def handle_starttag(self, tag, attributes):
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "img"}, tag
        for name, value in attributes:
            assert not name.startswith("on") and name not in {"src", "srcset", "action"}, (tag, name)
            assert name != "href" or value.startswith(("#", "data:image/jpeg;base64,")), value
        if tag not in EMPTY: self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag
checker = Checker()
checker.feed(sys.stdin.read())
checker.close()
assert not checker.open, checker.open
"##;
    for word in ["http:", "https:", "url(", "@import"] {
        assert!(!page.contains(word), "the page has {word}");
    }
    let child = Command::new("python3")
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        return print_note("SKIPPED: python3 is not installed");
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    assert!(
        child.wait().unwrap().success(),
        "the page is not well-formed HTML"
    );
}

#[test]
fn the_page_is_whole_safe_and_always_the_same() {
    let (out, dataset) = (&RESULTS.out, RESULTS.dataset.to_str().unwrap());
    let plain = page(out, &[]);
    check_markup(&plain);
    assert_eq!(plain, page(out, &[]));
    let escaped = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;' onload=x &amp;amp; \\u202e";
    assert!(
        plain.contains(escaped) && !plain.contains("<script"),
        "the gloss is not escaped"
    );
    for text in [
        "4</strong> accepted of 6 instances",
        "2</strong> of 4 accepted clips are longer than their sequence covers",
        "Sequences with equal landmarks, in groups (1)",
        "across splits: keep one",
        "Give the dataset to compare its files",
        "Signers in more than one split: 1.",
        "Files with the decoder's reason (1)",
        "Clips to inspect first",
    ] {
        assert!(plain.contains(text), "no {text}");
    }
    assert!(!plain.contains("data:image"));

    let real = page(out, &["--dataset", dataset]);
    check_markup(&real);
    assert_eq!(real, page(out, &["--dataset", dataset]));
    assert!(real.contains("Clips that are equal files, in groups (1)"));
    let frames = real.matches("data:image/jpeg").count();
    assert!(
        frames >= 8 && frames == real.matches("class=\"skeleton").count(),
        "{frames} frames"
    );
    assert!(real.len() < 5 << 20, "{} bytes", real.len());

    // Without a file name the page is written beside the results.
    handloom(["report", out.to_str().unwrap()]).ends(0);
    assert_eq!(fs::read_to_string(out.join("report.html")).unwrap(), plain);
}

#[test]
fn two_runs_are_compared() {
    let folder = scratch();
    let other = folder.path().join("other");
    // With this stride the last clip has four sampled frames.
    let flags = [
        "--min-videos-per-gloss",
        "1",
        "--min-frames",
        "5",
        "--frame-stride",
        "9",
    ];
    process(&RESULTS.dataset, &other, &flags).ends(0);
    let page = page(&RESULTS.out, &["--against", other.to_str().unwrap()]);
    check_markup(&page);
    for text in [
        "Beside another run",
        "6 instances are in both runs",
        "frame_stride",
        "<td>too_short</td><td>accepted</td>",
    ] {
        assert!(page.contains(text), "no {text}");
    }
}

#[test]
fn the_contact_sheet_shows_the_clips() {
    let folder = scratch();
    let sheets: Vec<Vec<u8>> = [&[][..], &["--dataset", RESULTS.dataset.to_str().unwrap()]]
        .into_iter()
        .map(|more| {
            let file = folder.path().join("sheet.png");
            report(&RESULTS.out, &file, &[&["--sheet"], more].concat()).ends(0);
            fs::read(&file).unwrap()
        })
        .collect();
    assert_ne!(sheets[0], sheets[1]);
    for sheet in sheets {
        let image = image::load_from_memory(&sheet).unwrap();
        assert!(image.width() > 1000 && image.height() > 4 * 180);
    }
}

/// A copy of the results to damage.
fn copy_results() -> TempDir {
    let folder = scratch();
    fs::create_dir(folder.path().join(BATCH_FOLDER)).unwrap();
    for name in [
        "run.json",
        "manifest.jsonl",
        "ledger.sqlite",
        "batches/00000.npz",
    ] {
        fs::copy(RESULTS.out.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn refused(out: &Path, code: i32, words: &[&str]) {
    let folder = scratch();
    report(out, &folder.path().join("page.html"), &[])
        .ends(code)
        .stderr_contains(words);
    assert!(!folder.path().join("page.html").exists());
}

#[test]
fn what_is_damaged_is_named_with_the_fix() {
    refused(
        &RESULTS.dataset,
        66,
        &["is no output folder", "handloom process"],
    );
    refused(
        Path::new("/nonexistent"),
        66,
        &["/nonexistent is no output folder"],
    );

    let folder = copy_results();
    let batch = folder.path().join("batches/00000.npz");
    let mut bytes = fs::read(&batch).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&batch, &bytes).unwrap();
    refused(folder.path(), 65, &["00000.npz", "run the job again"]);
    fs::remove_file(&batch).unwrap();
    refused(
        folder.path(),
        66,
        &["00000.npz is missing", "run the job again"],
    );

    let folder = copy_results();
    let manifest = folder.path().join("manifest.jsonl");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replacen("\"3\"", "\"8\"", 1)).unwrap();
    refused(folder.path(), 65, &["00000.npz", "\"3\"", "not of one job"]);
    fs::write(&manifest, text.replacen("\"train\"", "tra", 2)).unwrap();
    refused(folder.path(), 65, &["manifest.jsonl is damaged in line 1"]);
    fs::write(folder.path().join("run.json"), "{").unwrap();
    refused(folder.path(), 65, &["run.json is damaged"]);
}

#[test]
fn an_unfinished_job_gets_a_page_marked_unfinished() {
    let folder = copy_results();
    let run = folder.path().join("run.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&run).unwrap()).unwrap();
    value["finished"] = Value::Null;
    fs::write(&run, value.to_string()).unwrap();
    for (lost, states) in [
        ("manifest.jsonl", ["too_short", "unreadable"].as_slice()),
        ("ledger.sqlite", &[]),
    ] {
        fs::remove_file(folder.path().join(lost)).unwrap();
        let page = page(folder.path(), &[]);
        check_markup(&page);
        assert!(page.contains("The job has not finished."), "without {lost}");
        assert!(page.contains("4</strong> accepted"), "without {lost}");
        let has_state = states
            .iter()
            .any(|state| page.contains(&format!("<code>{state}</code>")));
        assert_eq!(has_state, !states.is_empty(), "without {lost}");
    }
}

#[test]
fn a_folder_is_inspected() {
    let out = RESULTS.out.to_str().unwrap();
    let text = handloom(["inspect", out]).ends(0).stdout;
    for part in [
        "finished",
        "manifest.jsonl",
        "batches/ has 1 files with 4 sequences",
        "accepted",
        "sequences         <f4",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let json: Value =
        serde_json::from_str(&handloom(["inspect", out, "--json"]).ends(0).stdout).unwrap();
    assert_eq!(
        json["states"],
        json!({"accepted": 4, "missing": 1, "unreadable": 1})
    );
    assert_eq!(json["batches"], json!({"files": 1, "sequences": 4}));
    assert_eq!(
        json["joined"]["arrays"]["sequences"]["shape"],
        json!([4, 32, 126])
    );
    handloom(["inspect", RESULTS.dataset.to_str().unwrap()])
        .ends(66)
        .stderr_contains(&["is no output folder"]);
}

/// Number of clips in the large folder; `make test-long` sets a larger one.
fn clip_count() -> usize {
    let number = std::env::var("HANDLOOM_TEST_CLIPS");
    number.map_or(500, |number| number.parse().unwrap())
}

/// Writes an output folder of `count` clips: those of the results with moved, swapped and missing hands.
fn write_many(out: &Path, count: usize) {
    const LENGTH: usize = 32;
    const BATCH: usize = 256;
    let clips = read_batch(&RESULTS.out, 0).unwrap();
    let row = |n: usize| {
        let mut row = clips[n % clips.len()].clone();
        row.gloss = format!("gloss {}", n % 2000).into();
        row.video_id = format!("{n:05}").into();
        ["train", "val", "test"][n % 3].clone_into(&mut row.split);
        row.signer_id = i64::try_from(n % 119).unwrap();
        for (i, frame) in row.frames.iter_mut().enumerate() {
            for hand in frame.landmarks.iter_mut().flatten() {
                hand[0] += (n * 7 % 101) as f32 / 1000.0;
            }
            match (n + i) % (5 + n % 7) {
                0 => frame.landmarks.reverse(),
                1 => (frame.hand_count, frame.handedness) = (0, [-1; 2]),
                _ => {}
            }
        }
        row
    };
    fs::create_dir_all(out.join(BATCH_FOLDER)).unwrap();
    let mut manifest = String::new();
    let all: Vec<usize> = (0..count).collect();
    for (batch, numbers) in all.chunks(BATCH).enumerate() {
        let rows: Vec<BatchRow> = numbers.iter().map(|n| row(*n)).collect();
        write_batch(out, batch, &rows, &[], LENGTH).unwrap();
        for (at, row) in rows.iter().enumerate() {
            let line = json!({
                "gloss": &*row.gloss, "video_id": &*row.video_id, "instance": 0, "state": "accepted", "reason": null,
                "split": row.split, "signer_id": row.signer_id, "frame_start": 0, "frame_end": -1,
                "clip": {"declared_frames": 40 + (batch * BATCH + at) % 90, "sampled": 32},
                "stored": {"batch": batch, "row": at},
            });
            manifest.extend([line.to_string(), "\n".to_owned()]);
        }
    }
    fs::write(out.join("manifest.jsonl"), manifest).unwrap();
    let run = json!({"handloom": "0.1.0", "settings": {"profile": "notebook"}, "finished": {}});
    fs::write(out.join("run.json"), run.to_string()).unwrap();
}

#[test]
fn many_clips_give_a_page_of_bounded_size_in_bounded_time() {
    let folder = scratch();
    let count = clip_count();
    write_many(folder.path(), count);
    assert_eq!(read_batch(folder.path(), 0).unwrap().len(), 256.min(count));
    let begun = Instant::now();
    let page = page(folder.path(), &[]);
    let seconds = begun.elapsed().as_secs_f64();
    check_markup(&page);
    println!(
        "{count} clips: a page of {} KiB in {seconds:.1} s",
        page.len() >> 10
    );
    assert!(page.len() < 30 << 20, "{} bytes", page.len());
    assert!(seconds < 60.0, "{seconds} s");
    assert_eq!(page.matches("class=\"strip\"").count(), 50);
}
