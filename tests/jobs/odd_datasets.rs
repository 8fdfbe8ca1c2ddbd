//! Datasets from other programs and people: odd values, encodings, archives, names. Readable content is read, the
//! rest is named with a reason, and memory is bounded.

use handloom::video::encode::Codec;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use test_support::memory::peak_kib;
use test_support::{
    Run, binary, digests, handloom, metadata, process, render_clip, scratch, shared,
};
use test_support::{print_note, write_metadata};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// Maximum memory of the program before it loads a model, in MB.
const MEMORY_MB_MAX: u64 = 200;

/// Maximum number of instances of one gloss.
const INSTANCES_MAX: usize = handloom::dataset::wlasl::ITEMS_MAX - 1;

fn list(dataset: &Path) -> Run {
    let dataset = dataset.to_str().unwrap();
    handloom(["process", dataset, "--list", "--min-videos-per-gloss", "1"])
}

/// Video id, state and reason of each instance.
fn instances(run: &Run) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut events = run.events();
    events.retain(|event| event["event"] == "list");
    let of = |e: &Value| (text(&e["video_id"]), text(&e["state"]), text(&e["reason"]));
    events.iter().map(of).collect()
}

fn zip(path: &Path, files: &[(&str, &[u8])], method: CompressionMethod) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// A dataset with all its clips and `json` as its metadata.
fn dataset(folder: &Path, json: &[u8]) -> PathBuf {
    let dataset = folder.join("dataset");
    fs::create_dir_all(dataset.join("videos")).unwrap();
    for id in ["1", "2", "3"] {
        fs::write(dataset.join(format!("videos/{id}.mp4")), "x").unwrap();
    }
    fs::write(dataset.join("WLASL_v0.3.json"), json).unwrap();
    dataset
}

#[test]
fn one_odd_value_refuses_its_instance_alone() {
    let folder = scratch();
    let json = |odd: &[u8]| {
        [
            br#"[{"gloss": "a", "instances": [{"video_id": "1"}, {"video_id": "2", "note": "#
                .as_slice(),
            odd,
            br#"}]}, {"gloss": "b", "instances": [{"video_id": "3"}]}]"#,
        ]
        .concat()
    };
    let deep = [b"[".repeat(200), b"]".repeat(200)].concat();
    let digits = b"9".repeat(400);
    // The notebook ignores the note, but an instance with an invalid value cannot be trusted.
    for (odd, reason) in [
        (b"1e999".as_slice(), "the number 1e999, which is too large"),
        (b"NaN", "`NaN`, which is no value in JSON"),
        (b"-Infinity", "`-Infinity`, which is no value in JSON"),
        (&digits, "the number 9999"),
        (&deep, "more than 128 levels"),
        (b"\"\\ud800\"", "half a character, \\ud800"),
        (b"\"\x01\"", "the control character 0x01"),
        (
            b"\"caf\xE9\"",
            "the byte 0xE9 in a text, which is not UTF-8: is the file in Latin-1?",
        ),
        (b"01", "`01`, which is no value in JSON"),
        (b"\"\\x\"", "the escape \\x"),
    ] {
        let reason = &format!("note: {reason}");
        let run = list(&dataset(folder.path(), &json(odd))).ends(0);
        let found = instances(&run);
        let states: Vec<_> = found.iter().map(|(_, state, _)| state.as_str()).collect();
        assert_eq!(states, ["process", "unreadable", "process"]);
        assert!(found[1].2.starts_with(reason), "{found:?}");
        run.stderr_contains(&[
            "1 glosses or instances of the metadata",
            "[0].instances[1]",
            reason,
        ]);
    }
    // A gloss that cannot be stored as a label.
    let gloss = br#"[{"gloss": "b\ud83d", "instances": [{"video_id": "1"}]}, {"gloss": "c", "instances": [{"video_id": "2"}]}]"#;
    let run = list(&dataset(folder.path(), gloss)).ends(0);
    let found = instances(&run);
    assert_eq!(
        (found[0].1.as_str(), found[1].1.as_str()),
        ("unreadable", "process")
    );
    assert!(
        found[0].2.starts_with("gloss: half a character, \\ud83d"),
        "{found:?}"
    );
}

#[test]
fn metadata_of_another_encoding_is_read_and_of_another_kind_named() {
    let folder = scratch();
    let json = metadata(&[("caf\u{e9}", &[("1", 1), ("2", 1)])]).to_string();
    let plain = instances(&list(&dataset(folder.path(), json.as_bytes())).ends(0));
    assert_eq!(plain.len(), 2);
    let marked = format!("\u{feff}{json}");
    for bytes in [
        marked.as_bytes().to_vec(),
        marked.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        json.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        json.chars()
            .map(u32::from)
            .flat_map(u32::to_le_bytes)
            .collect(),
    ] {
        let run = list(&dataset(folder.path(), &bytes)).ends(0);
        assert_eq!(instances(&run), plain);
    }
    for (bytes, words) in [
        (b"".as_slice(), "the file is empty"),
        (b"<!DOCTYPE html><html>", "a web page (HTML)"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "`git lfs pull`",
        ),
        (b"0\tbook\n1\tdrink\n", "a class list"),
        (
            br#"{"1": {"subset": "train", "action": [1]}}"#,
            "a list of splits",
        ),
        (b"\x1F\x8B\x08\0\0\0", "a gzip file"),
        (&json.as_bytes()[..60], "it is cut short"),
        (b"[\"a\", \"b\"]", "is this WLASL_v0.3.json?"),
    ] {
        let run = list(&dataset(folder.path(), bytes)).ends(65);
        run.stderr_contains(&["WLASL_v0.3.json: ", words]);
    }
}

#[test]
fn a_clip_under_another_name_is_named() {
    let folder = scratch();
    let json = metadata(&[("a", &[("1", 1), ("5", 1), ("6", 1), ("7", 1)])]);
    let dataset = dataset(folder.path(), json.to_string().as_bytes());
    fs::write(dataset.join("videos/5.MP4"), "x").unwrap();
    fs::write(dataset.join("videos/6.webm"), "x").unwrap();
    fs::create_dir(dataset.join("videos/train")).unwrap();
    fs::write(dataset.join("videos/train/7.mp4"), "x").unwrap();
    let run = list(&dataset).ends(0);
    let found = instances(&run);
    for (n, words) in [
        (1, "found 5.MP4: rename it to 5.mp4"),
        (2, "found 6.webm"),
        (3, "found train/7.mp4: move it"),
    ] {
        assert_eq!(found[n].1, "missing");
        assert!(found[n].2.contains(words), "{found:?}");
    }
    run.stderr_contains(&["3 missing clips are there under another name: found 5.MP4"]);
}

#[test]
fn archives_of_other_programs_give_the_same_bytes() {
    let folder = scratch();
    let dataset = folder.path().join("dataset");
    write_metadata(&dataset, &metadata(&[("wave", &[("1", 1)])]));
    let clip = dataset.join("videos/1.mp4");
    render_clip(&clip, 0, 10, (160, 120), Codec::H264);
    let few = [
        "--min-videos-per-gloss",
        "1",
        "--min-frames",
        "1",
        "--sequence-length",
        "2",
    ];
    let out = |name: &str| folder.path().join(name);
    process(&dataset, &out("folder"), &few).ends(0);
    let json = fs::read(dataset.join("WLASL_v0.3.json")).unwrap();
    let clip = fs::read(clip).unwrap();
    for (name, method, names) in [
        (
            "bzip2.zip",
            CompressionMethod::Bzip2,
            ["WLASL_v0.3.json", "videos/1.mp4"],
        ),
        (
            "backslash.zip",
            CompressionMethod::Deflated,
            ["w\\WLASL_v0.3.json", "w\\videos\\1.mp4"],
        ),
    ] {
        let path = folder.path().join(name);
        zip(&path, &[(names[0], &json), (names[1], &clip)], method);
        process(&path, &out(&format!("{name}.out")), &few).ends(0);
        assert_eq!(
            digests(&out(&format!("{name}.out"))),
            digests(&out("folder")),
            "{name}"
        );
    }
}

#[test]
fn what_is_no_dataset_is_named() {
    let folder = scratch();
    let inner = folder.path().join("inner.zip");
    zip(
        &inner,
        &[("WLASL_v0.3.json", b"[]")],
        CompressionMethod::Stored,
    );
    let inner = fs::read(inner).unwrap();
    let outer = folder.path().join("outer.zip");
    zip(&outer, &[("inner.zip", &inner)], CompressionMethod::Stored);
    let run = list(&outer).ends(66);
    run.stderr_contains(&["inner.zip is within the archive: unpack it"]);
    for (name, bytes, words) in [
        ("x.tar.gz", b"\x1F\x8B\x08\0\0\0".as_slice(), "tar xf"),
        ("x.7z", b"7z\xBC\xAF\x27\x1C\0\x04", "a 7z archive"),
        ("clip.mp4", b"\0\0\0\x18ftypmp42", "a single video"),
        (
            "x.csv",
            b"name,text\n1.mp4,a\n",
            "it is a table, but line 1: no column",
        ),
        (
            "x.z01",
            b"PK\x07\x08PK\x03\x04",
            "one part of a split archive",
        ),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let run = list(&path).ends(65).stderr_contains(&[name, words]);
        assert!(!run.stderr.contains("cut short"), "{}", run.stderr);
    }
}

/// Runs `--list` on a dataset; returns the exit code, stderr and peak memory in KiB.
fn memory_of(dataset: &Path) -> (Option<i32>, String, u64) {
    let mut child = Command::new(binary());
    child.args(["process", dataset.to_str().unwrap(), "--list"]);
    child
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut most = 0;
    // The kernel reports the peak only while the process runs.
    let status = loop {
        most = most.max(peak_kib(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    (status.code(), stderr, most)
}

#[test]
fn bombs_take_little_memory() {
    let folder = scratch();
    let open = br#"[{"gloss": "a", "instances": ["#;
    let filled = |piece: &[u8], end: &[u8]| {
        let mut json = open.to_vec();
        json.extend(piece.repeat((50 << 20) / piece.len()));
        json.extend(end);
        json
    };
    let long = [
        "[{\"gloss\": \"a\", \"instances\": [{\"video_id\": \"",
        &"x".repeat(50 << 20),
        "\"}]}]",
    ];
    // The maximum number of instances, with short and with long values.
    let most = |gloss: &str, instance: &str| {
        let instances = vec![instance; INSTANCES_MAX].join(",");
        format!("[{{\"gloss\": \"{gloss}\", \"instances\": [{instances}]}}]").into_bytes()
    };
    let long_name = "n".repeat(250);
    let long_id = format!("{{\"video_id\":\"{long_name}\"}}");
    let long_id_and_split = format!("{{\"video_id\":\"{long_name}\",\"split\":\"{long_name}\"}}");
    let long_frame = format!("{{\"video_id\":1,\"frame_end\":\"{long_name}\"}}");
    let odd = "{\"video_id\":\"1\",\"0123456789012345678901234567890123456789\":1e999}";
    let mut seen = BTreeMap::new();
    for (name, json, code) in [
        ("instances", filled(b"{\"video_id\":\"1\"},", b"{}]}]"), 65),
        (
            "entries",
            [b"[".as_slice(), &b"{},".repeat(16 << 20), b"{}]"].concat(),
            65,
        ),
        ("numbers", filled(b"1,", b"1]}]"), 65),
        ("long-id", long.concat().into_bytes(), 0),
        ("nesting", filled(b"[", b""), 65),
        ("spaces", filled(b" ", b"]}]"), 0),
        (
            "keys",
            [
                b"[{".as_slice(),
                &b"\"k\":{\"a\":[1,2]},".repeat(3 << 20),
                b"\"gloss\":\"a\"}]",
            ]
            .concat(),
            0,
        ),
        ("most", most("a", "{\"video_id\":\"1\"}"), 0),
        ("long-ids", most("a", &long_id), 0),
        ("long-ids-and-splits", most("a", &long_id_and_split), 0),
        ("long-frames", most("a", &long_frame), 0),
        ("long-gloss", most(&long_name, "{}"), 0),
        ("refused", most("a", odd), 0),
        ("refused-gloss", most(&"n".repeat(300), "{}"), 0),
    ] {
        let path = folder.path().join(format!("{name}.zip"));
        zip(
            &path,
            &[("WLASL_v0.3.json", &json), ("videos/1.mp4", b"x")],
            CompressionMethod::Deflated,
        );
        drop(json);
        let (ended, stderr, peak) = memory_of(&path);
        assert_eq!(ended, Some(code), "{name}: {stderr}");
        seen.insert(name, peak / 1024);
    }
    print_note(&format!(
        "peak memory in MB with decompression bombs of 50 MB: {seen:?}"
    ));
    assert!(seen.values().all(|peak| *peak < MEMORY_MB_MAX));
    assert!(seen["long-ids"] > 0, "nothing was measured");
}

/// Inputs that failed in earlier versions.
#[test]
fn known_odd_inputs_are_read_or_named() {
    let Some(trials) = shared("trials") else {
        return;
    };
    for (path, code, words) in [
        ("json-one-odd-value/bigexp", 0, "1e999, which is too large"),
        ("json-one-odd-value/surr", 0, "half a character, \\ud83d"),
        ("json-utf16/utf16", 0, ""),
        ("zip-compression-methods/bzip2.zip", 0, ""),
        ("zip-odd-names/backslash.zip", 0, ""),
        (
            "archives-of-other-kinds/x.tar.gz",
            65,
            "it is a gzip file: unpack it",
        ),
        (
            "archives-of-other-kinds/zipinzip.zip",
            66,
            "archive.zip is within the archive",
        ),
    ] {
        let run = list(&trials.join(path)).ends(code);
        let is_read = words.is_empty();
        let found = if code == 0 {
            instances(&run)
        } else {
            Vec::new()
        };
        let is_processed = found.iter().any(|(_, state, _)| state == "process");
        assert_eq!(is_processed, is_read, "{path}: {found:?}");
        run.stderr_contains(&[words]);
    }
}
