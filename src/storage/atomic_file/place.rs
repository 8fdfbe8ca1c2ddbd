//! A file that is whole elsewhere gets its place in a folder of ours, without copying where the file system allows that.

use super::{Folder, RANDOM_DIGITS, file_sha256, open_plain, refuse_odd, sha256, write_checked};
use crate::storage::StoreError;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};

/// Puts the file at `from`, whose SHA-256 should be `wanted`, into the place of the file `name` below the folder `root`: as a
/// second name of the same file where the file system has such, else as a copy. A file that is there with that hash stays.
/// Returns `false`, and changes nothing, when `from` has another hash. Several processes may do it.
///
/// # Errors
/// When `from` cannot be read or the file cannot be written.
pub(crate) fn place_file(
    from: &Path,
    root: &Path,
    name: &str,
    wanted: &str,
) -> Result<bool, StoreError> {
    let target = root.join(name);
    refuse_odd(&target)?;
    if file_sha256(&target).is_ok_and(|found| found == wanted) {
        return Ok(true);
    }
    let mut source = open_plain(from).map_err(StoreError::read(from))?;
    let mut is_same = true;
    let mut check = |file: &mut File| {
        is_same = sha256(file)? == wanted;
        if is_same {
            return Ok(());
        }
        Err(io::Error::other("its contents have changed"))
    };
    let linked = Folder::open(root, name).and_then(|folder| folder.link_partial(from, name));
    let placed = if let Ok((folder, partial)) = linked {
        folder.adopt_link(&partial, name, &mut check)
    } else {
        // A link of a link, another disk, or a file system without links.
        let copy = |to: &mut BufWriter<File>| io::copy(&mut source, to).map(|_| ());
        write_checked(root, name, copy, &mut check)
    };
    match placed {
        Err(_) if !is_same => Ok(false),
        placed => placed.map(|()| true).map_err(StoreError::write(&target)),
    }
}

impl Folder {
    /// Gives the plain file at `from` a second name in this folder, that of a partial file for `name`.
    fn link_partial(self, from: &Path, name: &str) -> io::Result<(Self, PathBuf)> {
        if !from.symlink_metadata()?.is_file() {
            return Err(ErrorKind::Unsupported.into());
        }
        let name = Path::new(name).file_name().unwrap_or_default();
        let random = fastrand::Rng::new().u64(..);
        let partial = format!(".{}.{random:0RANDOM_DIGITS$x}.part", name.to_string_lossy());
        let partial = self.place(partial.as_ref());
        fs::hard_link(from, &partial)?;
        Ok((self, partial))
    }

    /// Renames `partial` to `name` when `check` finds it right, durably. `partial` is gone in any case.
    fn adopt_link(
        &self,
        partial: &Path,
        name: &str,
        check: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let name = Path::new(name).file_name().unwrap_or_default();
        let adopted = File::open(partial).and_then(|mut file| {
            check(&mut file)?;
            // A copy that was just made of it may not be on disk yet.
            file.sync_all()?;
            fs::rename(partial, self.place(name))
        });
        // Two names of one file stay as they are when one is renamed to the other.
        match fs::remove_file(partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        adopted.and_then(|()| self.sync())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::atomic_file::make_folder;

    #[test]
    fn a_file_is_placed_once_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (from, out) = (dir.path().join("from"), dir.path().join("out"));
        make_folder(&out.join("batches")).unwrap();
        fs::write(&from, "rows").unwrap();
        let sha256 = file_sha256(&from).unwrap();
        let name = "batches/00000.npz";
        let place = |wanted| place_file(&from, &out, name, wanted).unwrap();
        assert!(!place("00"));
        assert!(!out.join(name).exists());
        // Again, and over a link to the same file, another file and a broken copy.
        for _ in 0..2 {
            assert!(place(&sha256));
        }
        fs::write(dir.path().join("other"), "rows").unwrap();
        assert!(place_file(&dir.path().join("other"), &out, name, &sha256).unwrap());
        fs::remove_file(out.join(name)).unwrap();
        fs::write(out.join(name), "ro").unwrap();
        assert!(place(&sha256));
        // Through a link it is copied.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&from, &link).unwrap();
        fs::remove_file(out.join(name)).unwrap();
        assert!(place_file(&link, &out, name, &sha256).unwrap());
        fs::remove_file(&from).unwrap();
        assert_eq!(fs::read(out.join(name)).unwrap(), b"rows");
        assert_eq!(fs::read_dir(out.join("batches")).unwrap().count(), 1);
        fs::remove_file(out.join(name)).unwrap();
        let missing = place_file(&from, &out, name, &sha256).unwrap_err();
        assert!(missing.to_string().contains("cannot read"), "{missing}");
    }
}
