//! Free space on a disk.

use std::io;
use std::path::Path;

/// MiB that a user without privileges can still write into the file system of `path`, or of the nearest folder above
/// it that exists.
///
/// # Errors
/// Fails when the system cannot report it.
pub fn free_mib(path: &Path) -> io::Result<u64> {
    let found = nearest(path, |place| rustix::fs::statvfs(place))?;
    Ok(mib(found.f_bavail, found.f_frsize))
}

/// Whether what is written below `a` and below `b` goes to one file system.
///
/// # Errors
/// Fails when the system cannot report it.
pub fn is_same(a: &Path, b: &Path) -> io::Result<bool> {
    let device = |path| nearest(path, |place| rustix::fs::stat(place));
    Ok(device(a)?.st_dev == device(b)?.st_dev)
}

/// The result of `query` for `path`, or for the nearest directory above it that exists.
fn nearest<T>(path: &Path, query: impl Fn(&Path) -> rustix::io::Result<T>) -> io::Result<T> {
    let mut place = path;
    loop {
        let here = if place.as_os_str().is_empty() {
            Path::new(".")
        } else {
            place
        };
        match query(here) {
            Err(rustix::io::Errno::NOENT) => match place.parent() {
                Some(parent) => place = parent,
                None => return Err(rustix::io::Errno::NOENT.into()),
            },
            found => return Ok(found?),
        }
    }
}

fn mib(blocks: u64, block_bytes: u64) -> u64 {
    let bytes = u128::from(blocks) * u128::from(block_bytes);
    u64::try_from(bytes >> 20).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_that_exists_answers() {
        let dir = tempfile::tempdir().unwrap();
        let here = free_mib(dir.path()).unwrap();
        let below = free_mib(&dir.path().join("not/there/yet")).unwrap();
        // Other tests write meanwhile.
        assert!(here > 0 && here.abs_diff(below) < 1024, "{here} {below}");
        for relative in ["", "nothing-of-this-name/x"] {
            assert!(free_mib(Path::new(relative)).unwrap() > 0, "{relative:?}");
        }
        assert_eq!(free_mib(Path::new("/proc")).unwrap(), 0);
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(free_mib(&file.join("below")).is_err());
    }

    #[test]
    fn folders_that_are_not_there_yet_are_on_the_disk_that_they_will_be_on() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_same(dir.path(), &dir.path().join("not/yet")).unwrap());
        assert!(!is_same(dir.path(), Path::new("/proc/nothing")).unwrap());
    }

    #[test]
    fn blocks_become_mib() {
        assert_eq!(mib(256, 4096), 1);
        assert_eq!(mib(255, 4096), 0);
        assert_eq!(mib(u64::MAX, 1 << 20), u64::MAX);
        assert_eq!(mib(u64::MAX, u64::MAX), u64::MAX);
    }
}
