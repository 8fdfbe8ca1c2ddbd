//! The output folder that a mirror belongs to. A file in the mirror states its identity and is written before the
//! first copy. The mirror of another output folder may be its only copy and is never changed.

use super::{
    CopyInterrupt, Listing, Mirror, MirrorError, SUMS_NAME, make_one, medium, parse, stream,
};
use crate::storage::atomic_file::open_plain;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

/// The file that states the identity of the output folder on its first line.
pub const OWNER_NAME: &str = "MIRROR_OF";
/// Hex digits of an identity.
const DIGITS: usize = 32;

impl Mirror {
    /// The identity that the mirror states; `None` when it states none.
    pub(super) fn owner(&self) -> Result<Option<String>, MirrorError> {
        let bytes = self.read(OWNER_NAME)?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().next().unwrap_or_default().trim();
        let is_identity = line.len() == DIGITS && line.bytes().all(|b| b.is_ascii_hexdigit());
        Ok(is_identity.then(|| line.to_owned()))
    }

    /// Whether the mirror may belong to the output folder of `listing`: it states its identity, or it states none and
    /// contains only files of `listing`, with equal bytes. `false` when `stop` returned `true` first. Changes
    /// nothing.
    ///
    /// # Errors
    /// [`MirrorError::Foreign`] when it belongs to another output folder. Also fails when the mirror cannot be read.
    pub(crate) fn belongs(
        &self,
        listing: &Listing,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, MirrorError> {
        match self.owner()? {
            Some(owner) if owner == listing.identity => Ok(true),
            Some(owner) => {
                Err(self.foreign(format!("{OWNER_NAME} in it has another identity, {owner}")))
            }
            None => self.is_equal(listing, stop),
        }
    }

    /// Creates the folder if it is one within a mirror, and writes the identity of the output folder durably, unless
    /// there is nothing to copy.
    pub(super) fn own(&self, listing: &Listing) -> Result<(), MirrorError> {
        if self.to != self.root {
            make_one(&self.to).map_err(medium(&self.to))?;
        }
        if listing.files.is_empty() || self.owner()?.as_ref() == Some(&listing.identity) {
            return Ok(());
        }
        self.write(OWNER_NAME, &format!("{}\n", listing.identity))
    }

    /// Whether all results in the mirror are equal to those of `listing`.
    fn is_equal(&self, listing: &Listing, stop: &dyn Fn() -> bool) -> Result<bool, MirrorError> {
        let files = listing.files.iter();
        let wanted: BTreeMap<_, _> = files.map(|(name, sha256)| (name, sha256)).collect();
        let text = self.read(SUMS_NAME)?;
        let listed = parse(&text);
        let lines = String::from_utf8_lossy(&text).lines().count();
        let mut is_ours = listed
            .iter()
            .map(|(name, sha)| wanted.get(name) == Some(&sha));
        if lines != listed.len() || !is_ours.all(|is| is) {
            return Err(self.unequal(SUMS_NAME));
        }
        let there = self.results()?;
        if let Some(name) = there.iter().find(|name| !wanted.contains_key(name)) {
            return Err(self.unequal(name));
        }
        // Backwards: manifest and provenance, which are small and differ most, are last in a listing.
        for (name, sha256) in listing.files.iter().rev() {
            let path = self.to.join(name);
            let mut file = match open_plain(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(medium(&path))?,
            };
            match stream(&mut file, &mut io::sink(), stop, CopyInterrupt::Medium) {
                Ok(found) if found == *sha256 => {}
                Ok(_) => return Err(self.unequal(name)),
                Err(CopyInterrupt::Stopped) => return Ok(false),
                Err(CopyInterrupt::Medium(source)) => return Err(medium(&path)(source)),
                Err(CopyInterrupt::Other(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    fn unequal(&self, name: &str) -> MirrorError {
        self.foreign(format!(
            "{name} in it is not as in this one, and it has no {OWNER_NAME}"
        ))
    }

    fn foreign(&self, found: String) -> MirrorError {
        MirrorError::Foreign {
            path: self.to.clone(),
            found,
        }
    }
}

#[cfg(test)]
mod tests;
