//! Whether the log goes to the journal, which adds time and level by itself.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

/// Whether stderr is connected to the journal: `$JOURNAL_STREAM` names its device and inode. The variable alone is not
/// enough, because a service that redirects its stderr still has it.
#[must_use]
pub fn is_journal() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some_and(|stream| names(&stream, io::stderr()))
}

/// Whether `stream`, `device:inode` in decimal, is this open file.
fn names(stream: &OsStr, file: impl AsFd) -> bool {
    let named = stream.to_str().and_then(|text| {
        let (device, inode) = text.split_once(':')?;
        Some((device.parse().ok()?, inode.parse().ok()?))
    });
    // A closed stderr is not the journal.
    rustix::fs::fstat(file).is_ok_and(|found| named == Some((found.st_dev, found.st_ino)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_the_very_file_is_named() {
        let check = |stream: &str, file: &dyn Fn(&str) -> bool, expected| {
            assert_eq!(file(stream), expected, "{stream}");
        };
        let (socket, _other_end) = UnixStream::pair().unwrap();
        let meta = File::from(socket.as_fd().try_clone_to_owned().unwrap())
            .metadata()
            .unwrap();
        let (device, inode) = (meta.dev(), meta.ino());
        let is_socket = |stream: &str| names(OsStr::new(stream), &socket);
        check(&format!("{device}:{inode}"), &is_socket, true);
        check(&format!("{device}:{}", inode + 1), &is_socket, false);
        check(&format!("{}:{inode}", device + 1), &is_socket, false);
        for other in ["", ":", "8", "8:", "a:b", &format!("{device}:{inode}:")] {
            check(other, &is_socket, false);
        }
        let null = File::open("/dev/null").unwrap();
        let is_null = |stream: &str| names(OsStr::new(stream), &null);
        check(&format!("{device}:{inode}"), &is_null, false);
    }
}
