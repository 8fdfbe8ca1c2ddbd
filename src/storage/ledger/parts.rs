//! The files with the kept frames of clips: one for each clip until its batch is sealed, then one for the batch.

use super::checksum::{FRAMES_FILE, PART};
use super::clips::{IN_RANGE, limits};
use super::{Ledger, params};
use crate::storage::StoreError;
use rusqlite::{Connection, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The file with the kept frames of one clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRecord {
    /// File name in the folder of parts.
    pub name: String,
    /// Number of frames.
    pub frames: usize,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
}

/// SQL that removes the parts of clips that the ledger does not know.
pub(super) const DROP_ORPHANS: &str =
    "DELETE FROM part WHERE position NOT IN (SELECT position FROM clip)";

impl Ledger {
    /// Names of the parts of all clips.
    pub(crate) fn part_names(&self) -> Result<BTreeSet<String>, StoreError> {
        let parts = self.read(|db| parts_in(db, &(0..usize::MAX)))?;
        Ok(parts.into_values().map(|part| part.name).collect())
    }
}

/// The parts of the clips in `positions`.
pub(super) fn parts_in(
    db: &Connection,
    positions: &Range<usize>,
) -> rusqlite::Result<BTreeMap<usize, PartRecord>> {
    let row = |r: &rusqlite::Row<'_>| {
        let part = PartRecord {
            name: r.get(1)?,
            frames: r.get(2)?,
            sha256: r.get(3)?,
        };
        Ok((r.get(0)?, part))
    };
    let parts = PART.select(db, IN_RANGE, limits(positions), row)?;
    Ok(parts.into_iter().collect())
}

/// Records the part of the clip at `position`.
pub(super) fn put_part(
    tx: &Transaction<'_>,
    position: usize,
    part: &PartRecord,
) -> rusqlite::Result<()> {
    tx.prepare_cached(&PART.replace())?
        .execute(params![position, part.name, part.frames, part.sha256])
        .map(|_| ())
}

/// SHA-256 of the files of kept frames, by batch.
pub(super) fn frames_files(db: &Connection) -> rusqlite::Result<BTreeMap<usize, String>> {
    let files = FRAMES_FILE.select(db, "", [], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(files.into_iter().collect())
}

/// Records the SHA-256 of the file of kept frames of `batch`; `None` removes the record.
pub(super) fn mark_frames_file(
    tx: &Transaction<'_>,
    batch: usize,
    sha256: Option<&str>,
) -> rusqlite::Result<()> {
    match sha256 {
        Some(sha256) => tx
            .prepare_cached(&FRAMES_FILE.replace())?
            .execute(params![batch, sha256])?,
        None => tx.execute("DELETE FROM frames_file WHERE number = ?1", [batch])?,
    };
    Ok(())
}
