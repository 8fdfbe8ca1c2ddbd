//! Copies the lines of the manifest in the order of the plan and applies the limit per gloss over all shards. A shard
//! applies the limit to its own clips only.

use super::MergeError;
use crate::dataset::acceptance::{ClipAcceptance, Outcome, State, StateCounts};
use crate::storage::StoreError;
use crate::storage::atomic_file::open_plain;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

/// Longest line of a manifest in bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The fields of a manifest line that are read. The others are copied unchanged.
#[derive(Deserialize)]
struct InstanceLine {
    gloss: String,
    state: String,
    reason: Option<String>,
    position: Option<usize>,
    clip: Option<ReadClip>,
    stored: Option<RowPlace>,
}

/// The fields of a line's `clip` that are read.
#[derive(Deserialize)]
struct ReadClip {
    backend: Option<String>,
}

/// The batch file and the row of an accepted clip's sequence.
#[derive(Deserialize)]
struct RowPlace {
    batch: usize,
    row: usize,
}

/// The clips of a batch that exceed the limit per gloss.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DroppedClips {
    /// Positions of the clips in the plan.
    pub(super) positions: BTreeSet<usize>,
    /// Rows of the clips in the batch file; a clip without a sequence has none.
    pub(super) rows: BTreeSet<usize>,
}

/// Copies lines with the limit per gloss applied, and counts states, clips and backends.
pub(super) struct ManifestMerger {
    clip_acceptance: ClipAcceptance,
    counts: StateCounts,
    clips: usize,
    /// Number of clips that each backend has read.
    backends: BTreeMap<String, usize>,
}

impl ManifestMerger {
    /// Starts without a line. `max_samples_per_gloss` of `None` or 0 means no limit.
    pub(super) fn new(max_samples_per_gloss: Option<usize>) -> Self {
        Self {
            // The shards have already applied the minimum number of frames.
            clip_acceptance: ClipAcceptance::new(0, max_samples_per_gloss),
            counts: StateCounts::new(),
            clips: 0,
            backends: BTreeMap::new(),
        }
    }

    /// Number of instances per state so far.
    pub(super) fn counts(&self) -> &StateCounts {
        &self.counts
    }

    /// Number of planned clips so far.
    pub(super) fn clips(&self) -> usize {
        self.clips
    }

    /// Number of accepted clips per gloss so far.
    pub(super) fn per_gloss(&self) -> &BTreeMap<Arc<str>, usize> {
        self.clip_acceptance.per_gloss()
    }

    /// Number of clips that each backend has read so far.
    pub(super) fn backends(&self) -> &BTreeMap<String, usize> {
        &self.backends
    }

    /// Writes the lines of `batch` to `to`: the next `lines` lines of the manifest at `path`, from the byte `offset`,
    /// which is advanced. Returns the number of rows in the batch file and the clips that are dropped.
    ///
    /// # Errors
    /// Fails when the manifest does not belong to the batch, or a file cannot be read or written.
    pub(super) fn pass_batch(
        &mut self,
        path: &Path,
        (offset, lines): (&mut u64, usize),
        batch: usize,
        to: &mut impl Write,
    ) -> Result<(usize, DroppedClips), MergeError> {
        let mut file = open_plain(path).map_err(StoreError::read(path))?;
        let sought = file.seek(SeekFrom::Start(*offset));
        sought.map_err(StoreError::read(path))?;
        let mut from = BufReader::new(file).take(0);
        let (mut rows, mut dropped) = (0, DroppedClips::default());
        let mut line = Vec::new();
        for _ in 0..lines {
            line.clear();
            from.set_limit(LINE_BYTES_MAX);
            let read = from.read_until(b'\n', &mut line);
            *offset += read.map_err(StoreError::read(path))? as u64;
            let passed = self.pass(&line, batch, &mut rows, &mut dropped, to);
            passed.map_err(|error| match error {
                LineError::Line(reason) => MergeError::BadLine {
                    path: path.to_path_buf(),
                    batch,
                    reason,
                },
                LineError::Write(error) => error.into(),
            })?;
        }
        Ok((rows, dropped))
    }

    /// Writes one line. `rows` counts the rows of the batch so far, including the dropped ones.
    fn pass(
        &mut self,
        line: &[u8],
        batch: usize,
        rows: &mut usize,
        dropped: &mut DroppedClips,
        to: &mut impl Write,
    ) -> Result<(), LineError> {
        let found: InstanceLine = serde_json::from_slice(line)?;
        let unknown = || LineError::Line(format!("the state {:?}", found.state));
        let mut state = State::from_name(&found.state).ok_or_else(unknown)?;
        let Some(position) = found.position else {
            *self.counts.entry(state).or_default() += 1;
            return Ok(to.write_all(line)?);
        };
        self.clips += 1;
        if let Some(stored) = &found.stored {
            if (stored.batch, stored.row) != (batch, *rows) {
                let RowPlace { batch, row } = stored;
                return Err(LineError::Line(format!("row {row} of batch {batch}")));
            }
            *rows += 1;
        }
        let known = Outcome::Known(state, found.reason);
        let verdict = self.clip_acceptance.decide(&Arc::from(found.gloss), known);
        let is_dropped = verdict.state != state;
        state = verdict.state;
        *self.counts.entry(state).or_default() += 1;
        if is_dropped {
            dropped.positions.insert(position);
            dropped.rows.extend(found.stored.map(|stored| stored.row));
            let mut value: Value = serde_json::from_slice(line)?;
            value["state"] = json!(state.name());
            value["reason"] = json!(verdict.reason);
            if let Value::Object(fields) = &mut value {
                fields.shift_remove("clip");
                fields.shift_remove("stored");
            }
            return Ok(writeln!(to, "{value}")?);
        }
        if let Some(backend) = found.clip.and_then(|clip| clip.backend) {
            *self.backends.entry(backend).or_default() += 1;
        }
        match found.stored {
            Some(stored) if !dropped.rows.is_empty() => {
                // `stored` comes last in a line. It is replaced as text, so that the numbers before it keep their
                // digits.
                let place = |row: usize| format!("{{\"batch\":{batch},\"row\":{row}}}}}\n");
                let before = line.strip_suffix(place(stored.row).as_bytes());
                let before = before.ok_or_else(|| LineError::Line("no row at its end".into()))?;
                to.write_all(before)?;
                Ok(to.write_all(place(stored.row - dropped.rows.len()).as_bytes())?)
            }
            _ => Ok(to.write_all(line)?),
        }
    }
}

/// Why a line was not copied.
#[derive(Debug)]
enum LineError {
    /// The line is invalid, for this reason.
    Line(String),
    /// The line cannot be written.
    Write(io::Error),
}

impl From<serde_json::Error> for LineError {
    fn from(error: serde_json::Error) -> Self {
        Self::Line(error.to_string())
    }
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

#[cfg(test)]
mod tests;
