//! Paths that are not UTF-8, are too long or are links, and npz files whose headers declare more than they hold.

use super::final_file;
use handloom::video::encode::Codec;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::{handloom, metadata, process, render_clip, scratch, write_metadata};

const SETTINGS: [&str; 4] = ["--min-videos-per-gloss", "1", "--min-frames", "1"];

/// A dataset of one clip in `folder`.
fn make_dataset(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    write_metadata(folder, &metadata(&[("a", &[("1", 1)])]));
    render_clip(&folder.join("videos/1.mp4"), 1, 6, (320, 240), Codec::H264);
}

#[test]
fn a_path_that_is_no_text_works_to_the_end() {
    let place = scratch();
    let [dataset, out] =
        [b"d\xff", b"o\xff"].map(|name| place.path().join(OsStr::from_bytes(name)));
    make_dataset(&dataset);
    let run = process(&dataset, &out, &SETTINGS).ends(0);
    // Each byte that is not UTF-8 is shown as U+FFFD.
    let shown = |event: &Value, key: &str, end: &str| {
        let text = event[key].as_str().unwrap().to_owned();
        assert!(text.ends_with(end), "{text}");
    };
    shown(&run.event("done"), "out", "o\u{fffd}");
    shown(&run.event("dataset"), "json", "d\u{fffd}/WLASL_v0.3.json");
    let provenance: Value =
        serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    shown(&provenance["dataset"], "path", "d\u{fffd}");
    process(&dataset, &out, &SETTINGS).ends(0);
    let joined = final_file(&out);
    let args = ["inspect".as_ref(), "--json".as_ref(), joined.as_os_str()];
    let summary = handloom(args).ends(0).stdout;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    shown(&summary, "file", "o\u{fffd}/wlasl_landmarks.npz");
}

#[test]
fn a_path_that_is_too_long_is_named() {
    let place = scratch();
    let dataset = place.path().join("dataset");
    make_dataset(&dataset);
    let mut out = place.path().to_path_buf();
    while out.as_os_str().len() < 500 {
        out.push("a-folder-with-a-long-name");
    }
    process(&dataset, &out, &SETTINGS)
        .ends(73)
        .stderr_contains(&["can have 504 (SQLite's limit)", "--out"]);
    let out = place.path().join("n".repeat(300));
    process(&dataset, &out, &SETTINGS)
        .ends(73)
        .stderr_contains(&["File name too long", "use a shorter path"]);
}

#[test]
fn nothing_is_written_through_a_link() {
    let place = scratch();
    let dataset = place.path().join("dataset");
    make_dataset(&dataset);
    let victim = place.path().join("victim");
    fs::create_dir(&victim).unwrap();
    let file = victim.join("00000.npz");
    fs::write(&file, "theirs").unwrap();
    let names = [
        ".lock",
        "batches",
        "ledger.sqlite",
        "ledger.sqlite-wal",
        "ledger.sqlite-shm",
    ];
    for name in names {
        let out = place.path().join(format!("out-{name}"));
        fs::create_dir(&out).unwrap();
        symlink(
            if name == "batches" { &victim } else { &file },
            out.join(name),
        )
        .unwrap();
        let link = out.join(name).display().to_string();
        process(&dataset, &out, &SETTINGS)
            .ends(73)
            .stderr_contains(&[&format!("{link} is a link"), &format!("rm {link}")]);
        // `--fresh` does not remove the target of the link either.
        process(&dataset, &out, &[&SETTINGS[..], &["--fresh"]].concat()).ends(73);
        fs::remove_file(out.join(name)).unwrap();
        process(&dataset, &out, &SETTINGS).ends(0);
    }
    // A file that is replaced as a whole replaces the link, not its target. The output folder itself may be a link.
    let (out, named) = (place.path().join("real"), place.path().join("named"));
    fs::create_dir(&out).unwrap();
    symlink(&out, &named).unwrap();
    for name in [
        "run.json",
        "wlasl_landmarks.npz",
        ".run.json.part",
        ".manifest.jsonl.part",
    ] {
        symlink(&file, out.join(name)).unwrap();
    }
    let fresh = [&SETTINGS[..], &["--fresh"]].concat();
    process(&dataset, &named, &fresh).ends(0);
    assert!(
        !out.join("run.json").is_symlink() && final_file(&out).metadata().unwrap().len() > 1000
    );
    assert_eq!(fs::read(&file).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
}

#[test]
fn a_pipe_in_place_of_a_file_is_not_waited_for() {
    let place = scratch();
    let dataset = place.path().join("dataset");
    make_dataset(&dataset);
    for (name, code) in [
        ("run.json", 73),
        ("ledger.sqlite", 73),
        ("ledger.sqlite-wal", 73),
        ("ledger.sqlite-shm", 73),
        // A file that is replaced as a whole replaces the pipe.
        ("manifest.jsonl", 0),
        ("label_map.json", 0),
        ("wlasl_landmarks.npz", 0),
        ("batches/00000.npz", 0),
    ] {
        let out = place.path().join(format!("out-{}", name.replace('/', "-")));
        fs::create_dir_all(out.join("batches")).unwrap();
        let pipe = out.join(name);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let run = process(&dataset, &out, &SETTINGS).ends(code);
        if code == 73 {
            run.stderr_contains(&["is a link or no plain file", &pipe.display().to_string()]);
            fs::remove_file(&pipe).unwrap();
            process(&dataset, &out, &SETTINGS).ends(0);
        }
        assert!(
            pipe.metadata().map_or(true, |found| found.is_file()),
            "{name}"
        );
    }
}

/// Writes an npz file of arrays, each given by name, header and number of zero bytes.
fn npz(path: &Path, arrays: &[(&str, Vec<u8>, usize)]) -> PathBuf {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    for (name, start, zeros) in arrays {
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(start).unwrap();
        let zero = vec![0; 1 << 20];
        let mut left = *zeros;
        while left > 0 {
            let count = left.min(zero.len());
            zip.write_all(&zero[..count]).unwrap();
            left -= count;
        }
    }
    zip.finish().unwrap();
    path.to_path_buf()
}

fn header(descr: &str, shape: &str) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = u16::try_from(text.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes()].concat()
}

#[test]
fn an_npz_file_takes_no_memory_for_what_it_promises() {
    let place = scratch();
    let file =
        |name: &str, arrays: &[(&str, Vec<u8>, usize)]| npz(&place.path().join(name), arrays);
    let long_header = [&b"\x93NUMPY\x02\x00"[..], &[0xff; 4]].concat();
    let (frames, bytes) = ("(200000000,)", 200_000_000);
    let files = [
        (file("header.npz", &[("a", long_header, 0)]), 65),
        (
            file(
                "shape.npz",
                &[("sequences", header("<f4", "(800000000,)"), 0)],
            ),
            65,
        ),
        (
            file(
                "overflow.npz",
                &[("sequences", header("<f4", "(4294967296, 4294967296)"), 0)],
            ),
            65,
        ),
        (
            file(
                "string.npz",
                &[("labels", header("<U50000000", "(1,)"), bytes)],
            ),
            65,
        ),
        (
            file(
                "count.npz",
                &[
                    ("hand_count", header("|u1", frames), bytes),
                    ("frame_index", header("<i4", "(50000000,)"), bytes),
                ],
            ),
            65,
        ),
        // Large but valid: these are counted in pieces.
        (
            file(
                "labels.npz",
                &[("labels", header("<U50", "(1000000,)"), bytes)],
            ),
            0,
        ),
        (
            file(
                "sequences.npz",
                &[("sequences", header("<f4", "(50000, 1000)"), bytes)],
            ),
            0,
        ),
    ];
    for (path, code) in files {
        // In KiB: a larger allocation would abort the program.
        let script = "ulimit -d 100000; exec \"$0\" inspect \"$1\"";
        let run = Command::new("sh")
            .args(["-c", script])
            .arg(test_support::binary())
            .arg(&path)
            .output()
            .unwrap();
        let stderr_text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(
            run.status.code(),
            Some(code),
            "{}: {stderr_text}",
            path.display()
        );
        assert!(
            code == 0 || stderr_text.contains(&*path.to_string_lossy()),
            "{stderr_text}"
        );
    }
}
