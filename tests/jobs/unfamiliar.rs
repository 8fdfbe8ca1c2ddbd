//! Inputs that are no dataset: the message for each kind names what it is and what to do.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::Path;
use test_support::{handloom, scratch};
use zip::write::SimpleFileOptions;

/// Name and content of a file; a name that ends in `/` is a folder.
type Files = &'static [(&'static str, &'static [u8])];

/// Wrong inputs: the path to pass, more arguments, and the files.
const INPUTS: &[(&str, &[&str], Files)] = &[
    ("gone", &[], &[]),
    ("empty.zip", &[], &[("empty.zip", b"")]),
    (
        "WLASL_v0.3.json",
        &[],
        &[(
            "WLASL_v0.3.json",
            br#"[{"gloss": "book", "instances": []}]"#,
        )],
    ),
    (
        "WLASL100.json",
        &[],
        &[("WLASL100.json", br#"[{"gloss": "book", "instances": []}]"#)],
    ),
    (
        "nslt_100.json",
        &[],
        &[(
            "nslt_100.json",
            br#"{"05237": {"subset": "train", "action": [77, 1, 55]}}"#,
        )],
    ),
    (
        "MSASL_train.json",
        &[],
        &[(
            "MSASL_train.json",
            br#"[{"org_text": "match", "clean_text": "match"}]"#,
        )],
    ),
    ("other.json", &[], &[("other.json", br#"{"a": 1}"#)]),
    (
        "wlasl_class_list.txt",
        &[],
        &[("wlasl_class_list.txt", b"0\tbook\n1\tdrink\n")],
    ),
    (
        "notes.txt",
        &[],
        &[("notes.txt", b"The clips are on the other disk.\n")],
    ),
    (
        "no-columns.csv",
        &[],
        &[("no-columns.csv", b"video,sentence\n1.mp4,hello\n")],
    ),
    (
        "no-header.csv",
        &[],
        &[("no-header.csv", b"1.mp4,book\n2.mp4,drink\n")],
    ),
    ("empty.csv", &[], &[("empty.csv", b"\n")]),
    (
        "clip.mp4",
        &[],
        &[("clip.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0")],
    ),
    ("x.tar.gz", &[], &[("x.tar.gz", b"\x1F\x8B\x08\0\0\0")]),
    ("x.7z", &[], &[("x.7z", b"7z\xBC\xAF\x27\x1C\0\x04")]),
    ("x.rar", &[], &[("x.rar", b"Rar!\x1A\x07\x01\0")]),
    (
        "cut.zip",
        &[],
        &[("cut.zip", b"PK\x03\x04\x14\0\0\0\x08\0")],
    ),
    ("x.z01", &[], &[("x.z01", b"PK\x07\x08PK\x03\x04")]),
    (
        "page.zip",
        &[],
        &[("page.zip", b"<!DOCTYPE html><html><title>Sign in</title>")],
    ),
    (
        "pointer.zip",
        &[],
        &[(
            "pointer.zip",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        )],
    ),
    ("sign.swf", &[], &[("sign.swf", b"CWS\x08\0\0\0\0")]),
    (
        "photo.jpg",
        &[],
        &[("photo.jpg", b"\xFF\xD8\xFF\xE0\0\x10JFIF\0")],
    ),
    ("array.npy", &[], &[("array.npy", b"\x93NUMPY\x01\0")]),
    ("data.pkl", &[], &[("data.pkl", b"\x80\x04\x95\0\0")]),
    ("data.parquet", &[], &[("data.parquet", b"PAR1\x15\x04")]),
    (
        "noise.bin",
        &[],
        &[("noise.bin", b"\x01\x02\xFE\xFF\0\x07 noise")],
    ),
    ("folder", &[], &[("folder/", b"")]),
    (
        "folder",
        &[],
        &[("folder/1.mp4", b"x"), ("folder/2.MOV", b"x")],
    ),
    ("folder", &[], &[("folder/videos/1.mp4", b"x")]),
    (
        "folder",
        &[],
        &[("folder/a/b/c/1.mp4", b"x"), ("folder/a/b/d/2.mp4", b"x")],
    ),
    (
        "folder",
        &[],
        &[
            ("folder/book/0001.jpg", b"x"),
            ("folder/book/0002.jpg", b"x"),
        ],
    ),
    (
        "folder",
        &[],
        &[("folder/book.npy", b"x"), ("folder/drink.npy", b"x")],
    ),
    ("folder", &[], &[("folder/x.tar.gz", b"x")]),
    (
        "folder",
        &[],
        &[
            ("folder/list.csv", b"video,sentence\n"),
            ("folder/clips/1.mp4", b"x"),
        ],
    ),
    (
        "folder",
        &["--format", "csv"],
        &[("folder/book/1.mp4", b"x")],
    ),
    (
        "folder",
        &["--format", "folders"],
        &[
            ("folder/list.csv", b"path,gloss\n1.mp4,a\n"),
            ("folder/1.mp4", b"x"),
        ],
    ),
    (
        "folder",
        &["--format", "asl-citizen"],
        &[("folder/train.csv", b"path,gloss\n1.mp4,a\n")],
    ),
    (
        "folder",
        &[],
        &[
            ("folder/book/1.mp4", b"x"),
            ("folder/drink/2.mp4", b"x"),
            ("folder/drink/3.mp4", b"x"),
        ],
    ),
];

/// Archives without a dataset: name and files.
const ARCHIVES: &[(&str, &[&str])] = &[
    ("results.npz", &["sequences.npy", "labels.npy"]),
    ("table.xlsx", &["[Content_Types].xml", "xl/workbook.xml"]),
    ("inner.zip", &["dataset.zip"]),
    ("clips.zip", &["1.mp4", "2.mp4"]),
];

/// Exit code and stderr of the program when `path` is given as a dataset.
fn message(folder: &Path, path: &str, more: &[&str]) -> String {
    let path = folder.join(path);
    let run = handloom([&["process", path.to_str().unwrap(), "--list"], more].concat());
    let stderr = run.stderr.replace(folder.to_str().unwrap(), "DIR");
    format!("exit {}\n{stderr}\n", run.code.unwrap())
}

#[test]
fn each_kind_of_wrong_input_gets_its_own_advice() {
    let mut all = String::new();
    for (path, more, files) in INPUTS {
        let folder = scratch();
        for (name, content) in *files {
            let file = folder.path().join(name);
            if name.ends_with('/') {
                fs::create_dir_all(file).unwrap();
                continue;
            }
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let given = [&[*path], *more].concat().join(" ");
        write!(
            all,
            "{given} of {names:?}\n{}",
            message(folder.path(), path, more)
        )
        .unwrap();
    }
    for (name, files) in ARCHIVES {
        let folder = scratch();
        let mut zip = zip::ZipWriter::new(fs::File::create(folder.path().join(name)).unwrap());
        for file in *files {
            zip.start_file(*file, SimpleFileOptions::default()).unwrap();
            zip.write_all(b"x").unwrap();
        }
        zip.finish().unwrap();
        write!(
            all,
            "{name} of {files:?}\n{}",
            message(folder.path(), name, &[])
        )
        .unwrap();
    }
    let tar = scratch();
    let mut block = [0; 1024];
    block[..5].copy_from_slice(b"1.mp4");
    block[257..262].copy_from_slice(b"ustar");
    fs::write(tar.path().join("x.tar"), block).unwrap();
    write!(all, "x.tar\n{}", message(tar.path(), "x.tar", &[])).unwrap();
    insta::assert_snapshot!(all);
}
