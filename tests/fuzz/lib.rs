//! Helpers of the fuzz targets.

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Calls `run` with the path of an in-memory file that holds `bytes`.
///
/// # Panics
/// When memory is exhausted.
pub fn with_file(bytes: &[u8], run: impl FnOnce(&Path)) {
    let file = memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file in memory");
    let mut file = File::from(file);
    file.write_all(bytes).expect("memory for the file");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    run(&path);
}

/// The first line as text, and the bytes after it.
#[must_use]
pub fn line(bytes: &[u8]) -> (&str, &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n');
    let (line, rest) = end.map_or((bytes, &b""[..]), |end| (&bytes[..end], &bytes[end + 1..]));
    (std::str::from_utf8(line).unwrap_or_default(), rest)
}
