//! Puts a complete file from another folder into an output folder, without copying where the file system allows that.

use super::{
    Folder, RANDOM_DIGITS, file_sha256, open_plain, require_regular_file, sha256, write_checked,
};
use crate::storage::StoreError;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};

/// Puts the file at `from`, whose SHA-256 should be `wanted`, at `name` below the folder `root`: as a hard link where
/// possible, else as a copy. An existing file with that hash is kept. Returns `false` and changes nothing when `from`
/// has another hash. Several processes may call it at the same time.
///
/// # Errors
/// Fails when `from` cannot be read or the file cannot be written.
pub(crate) fn place_file(
    from: &Path,
    root: &Path,
    name: &str,
    wanted: &str,
) -> Result<bool, StoreError> {
    let target = root.join(name);
    require_regular_file(&target)?;
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
        // `from` is a link, is on another disk, or its file system has no hard links.
        let copy = |to: &mut BufWriter<File>| io::copy(&mut source, to).map(|_| ());
        write_checked(root, name, copy, &mut check)
    };
    match placed {
        Err(_) if !is_same => Ok(false),
        placed => placed.map(|()| true).map_err(StoreError::write(&target)),
    }
}

impl Folder {
    /// Creates a hard link to the regular file at `from` in this folder, named as a partial file of `name`.
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

    /// Renames `partial` to `name`, durably, when `check` succeeds. Removes `partial` in any case.
    fn adopt_link(
        &self,
        partial: &Path,
        name: &str,
        check: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let name = Path::new(name).file_name().unwrap_or_default();
        let adopted = File::open(partial).and_then(|mut file| {
            check(&mut file)?;
            // The file may have been copied just now and not be on disk yet.
            file.sync_all()?;
            fs::rename(partial, self.place(name))
        });
        // Renaming one hard link to another of the same file changes nothing: `partial` then remains.
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
        // A symbolic link is followed, and the file is copied.
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
