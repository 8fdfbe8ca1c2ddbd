//! Storage faults: records what the program does to its output folder and computes what a power cut leaves of it.

pub(crate) mod cuts;
pub(crate) mod disk;
pub(crate) mod inspect;
pub(crate) mod sweep;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use test_support::DEADLINE;

/// A call of the program below the recorded folder, or text that it printed.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Open {
        fd: i32,
        path: String,
        creates: bool,
        empties: bool,
    },
    Close {
        fd: i32,
    },
    Write {
        fd: i32,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        fd: i32,
        length: usize,
    },
    Sync {
        fd: i32,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    MakeFolder {
        path: String,
    },
    Print {
        text: String,
    },
}

impl Op {
    /// A short form for messages.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Write { fd, at, bytes } => {
                format!("write of {} bytes at {at} to {fd}", bytes.len())
            }
            Self::Print { text } => format!("print {:?}", text.trim_end()),
            other => format!("{other:?}"),
        }
    }

    /// Whether the call changes the disk.
    pub(crate) fn changes(&self) -> bool {
        match self {
            Self::Close { .. } | Self::Print { .. } => false,
            Self::Open {
                creates, empties, ..
            } => *creates || *empties,
            _ => true,
        }
    }
}

/// The outcome of a recorded run.
pub(crate) struct Recorded {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) ops: Vec<Op>,
    pub(crate) stderr: String,
}

/// Runs the program and records what it does below `root`; ends it after `stop` entries of the record, if given.
pub(crate) fn record<S: AsRef<OsStr>>(
    root: &Path,
    args: impl IntoIterator<Item = S>,
    stop: Option<usize>,
) -> Recorded {
    let root = fs::canonicalize(root).unwrap();
    let log = root.with_extension("record");
    if log.exists() {
        fs::remove_file(&log).unwrap();
    }
    let mut command = assert_cmd::Command::new(test_support::binary());
    command
        .args(args)
        .env("LD_PRELOAD", recorder())
        .env("HANDLOOM_RECORD_ROOT", &root)
        .env("HANDLOOM_RECORD_LOG", &log)
        .env("HANDLOOM_LOG", "debug")
        .env_remove("HANDLOOM_MODELS")
        .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
        .timeout(DEADLINE);
    if let Some(stop) = stop {
        command.env("HANDLOOM_RECORD_STOP", stop.to_string());
    }
    let output = command.output().unwrap();
    Recorded {
        code: output.status.code(),
        ops: parse(&fs::read(&log).unwrap()),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The recorder, compiled once.
pub(crate) fn recorder() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = test_support::target_tmp().join("record.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs/faults/record.c");
        // Compiled under another name, then renamed: another test run may be using the library.
        let fresh = made.with_extension(std::process::id().to_string());
        let compiled = Command::new("cc")
            .args([
                "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o",
            ])
            .arg(&fresh)
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .output()
            .unwrap_or_else(|e| panic!("cc: {e}; `make setup` installs gcc, a C compiler"));
        assert!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        fs::rename(&fresh, &made).unwrap();
        made
    })
}

/// The entries of a record: see `record.c`.
fn parse(log: &[u8]) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut rest = log;
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'\n').unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        let &[name, fd, number, path_bytes, data_bytes] = words.as_slice() else {
            panic!("{head}");
        };
        let count = |word: &str| word.parse::<usize>().unwrap();
        let (path, tail) = rest[end + 1..].split_at(count(path_bytes));
        let (data, tail) = tail.split_at(count(data_bytes));
        rest = &tail[1..];
        let fd: i32 = fd.parse().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ops.push(match name {
            "open" | "create" | "empty" | "create-empty" => Op::Open {
                fd,
                path: text(path),
                creates: name.starts_with("create"),
                empties: name.ends_with("empty"),
            },
            "close" => Op::Close { fd },
            "write" => Op::Write {
                fd,
                at: count(number),
                bytes: data.to_vec(),
            },
            "truncate" => Op::Truncate {
                fd,
                length: count(number),
            },
            "sync" => Op::Sync { fd },
            "rename" => Op::Rename {
                from: text(path),
                to: text(data),
            },
            "remove" => Op::Remove { path: text(path) },
            "folder" => Op::MakeFolder { path: text(path) },
            "say" => Op::Print { text: text(data) },
            other => panic!("unknown entry in the record: {other}"),
        });
    }
    ops
}
