//! Opens the files of clips, and distinguishes errors of the clip from errors of the machine.

use crate::frame::SourceError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens the regular file at `path` for reading.
///
/// # Errors
/// Fails when it cannot be opened or is no regular file.
pub fn open_file(path: &Path) -> Result<File, SourceError> {
    open_regular(path).map_err(|error| io_error(&error))
}

/// Like [`open_file`], with the system's error.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    // A pipe would block until it has a writer, and a device may never end.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// Attributes `error` to the machine when it has no memory, file handles or processes left, else to the clip.
#[must_use]
pub fn io_error(error: &io::Error) -> SourceError {
    io_fault(error, error.to_string())
}

/// Like [`io_error`], with this `reason`.
pub(super) fn io_fault(error: &io::Error, reason: String) -> SourceError {
    if is_of_machine(error) {
        SourceError::Machine(reason)
    } else {
        SourceError::Clip(reason)
    }
}

/// Whether the machine has no memory, file handles or processes left, so that other files would fail too.
pub(super) fn is_of_machine(error: &io::Error) -> bool {
    const CODES: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN];
    let code = error.raw_os_error();
    code.is_some_and(|code| CODES.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_is_the_clips_or_the_machines() {
        let of = |code| io_error(&io::Error::from_raw_os_error(code));
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            assert!(matches!(of(code), SourceError::Machine(_)), "{code}");
        }
        for code in [libc::EIO, libc::ENOENT, libc::EACCES] {
            assert!(matches!(of(code), SourceError::Clip(_)), "{code}");
        }
    }
}
