//! Glosses, ids and file names that contain terminal control sequences are printed harmlessly.

use handloom::untrusted::is_terminal_control;
use handloom::video::encode::Codec;
use test_support::{Run, handloom, metadata, process, render_clip, scratch, write_metadata};

/// Clears the screen, sets the title and a color, overwrites a line, and reverses the text direction. Lower case,
/// since glosses are compared in lower case.
const EVIL: &str = "\u{1b}[2j\u{1b}]0;x\u{7}\u{9b}31m\r\u{202e}kcuf";

#[track_caller]
fn is_plain(run: &Run) {
    for text in [&run.stdout, &run.stderr] {
        let steering = text
            .chars()
            .find(|c| is_terminal_control(*c) && !matches!(c, '\n' | '\t'));
        assert_eq!(steering, None, "{text:?}");
    }
}

#[test]
fn text_of_a_dataset_reaches_the_terminal_escaped() {
    let folder = scratch();
    let (dataset, out) = (
        folder.path().join("data\u{202e}\u{1b}[31m"),
        folder.path().join("out"),
    );
    let gloss = format!("book{EVIL}");
    std::fs::create_dir_all(dataset.join("videos")).unwrap();
    write_metadata(
        &dataset,
        &metadata(&[(&gloss, &[("0", 1), ("1\u{202e}", 1)])]),
    );
    render_clip(
        &dataset.join("videos/0.mp4"),
        1,
        12,
        (160, 120),
        Codec::H264,
    );
    std::fs::write(dataset.join("videos/1\u{202e}.mp4"), "no film").unwrap();
    let few = ["--min-videos-per-gloss", "1", "--min-frames", "1"];
    for kind in ["bar", "json"] {
        let more = [&few[..], &["--progress", kind, "--fresh"]].concat();
        let run = process(&dataset, &out, &more).ends(0);
        is_plain(&run);
        assert!(
            run.stdout.contains("\\u001b") || run.stdout.contains("\\u202e"),
            "{}",
            run.stdout
        );
    }
    let dataset = dataset.to_str().unwrap();
    let list = [
        "process",
        dataset,
        "--list",
        "--min-videos-per-gloss",
        "1",
        "--min-frames",
        "1",
    ];
    let run = handloom(list).ends(0);
    is_plain(&run);
    assert!(run.stdout.contains("book\\u001b[2j"), "{}", run.stdout);
    let file = out.join("wlasl_landmarks.npz");
    let run = handloom(["inspect", file.to_str().unwrap()]).ends(0);
    is_plain(&run);
    assert!(run.stdout.contains("book\\u001b[2j"), "{}", run.stdout);
    is_plain(&handloom(["inspect", &format!("{EVIL}.npz")]).ends(66));
    let camera = format!("file:/nowhere{EVIL}.mp4");
    is_plain(&handloom(["camera", "--device", &camera]).ends(64));
}
