//! Reading copies back.

use super::{
    CopyInterrupt, Listing, Mirror, MirrorError, SUMS_NAME, medium, parse, render, stream,
};
use crate::storage::atomic_file::open_plain;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;

impl Mirror {
    /// Reads the copies that are in place and takes those that have changed off the list, so that the next pass
    /// copies them again. Returns their names. It ends early when `stop` returns `true`.
    ///
    /// # Errors
    /// Fails when the mirror cannot be read or written.
    pub(crate) fn verify(
        &self,
        listing: &Listing,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<String>, MirrorError> {
        self.present()?;
        if self.owner()?.as_ref() != Some(&listing.identity) {
            return Ok(Vec::new());
        }
        let mut listed = parse(&self.read(SUMS_NAME)?);
        let mut changed = Vec::new();
        for file in listing.files.iter().filter(|file| self.has(&listed, file)) {
            let (name, sha256) = file;
            let path = self.to.join(name);
            let mut copy = open_plain(&path).map_err(medium(&path))?;
            match read_back(&mut copy, stop) {
                Ok(found) if found == *sha256 => {}
                Ok(_) => changed.push(name.clone()),
                Err(CopyInterrupt::Stopped) => break,
                Err(CopyInterrupt::Medium(source)) => return Err(medium(&path)(source)),
                Err(CopyInterrupt::Other(error)) => return Err(error),
            }
        }
        if !changed.is_empty() {
            listed.retain(|name, _| !changed.contains(name));
            self.write(SUMS_NAME, &render(&[], &[], &listed))?;
        }
        Ok(changed)
    }
}

/// The SHA-256 of a copy, read from the medium.
pub(super) fn read_back(copy: &mut File, stop: &dyn Fn() -> bool) -> Result<String, CopyInterrupt> {
    // Asks the system to drop the copy from the page cache, so that the medium is read. If that fails, the cached
    // bytes are compared, which still finds bad memory.
    if let Err(error) = fadvise(&*copy, 0, None, Advice::DontNeed) {
        tracing::debug!(%error, "cannot drop a copy from memory");
    }
    stream(copy, &mut io::sink(), stop, CopyInterrupt::Medium)
}
