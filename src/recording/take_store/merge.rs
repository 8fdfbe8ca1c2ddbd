//! The joined file of the takes, with manifest and provenance.

use super::entry::TakeRecord;
use super::{ACCEPTED, DISCARDED, TOO_SHORT, TakeStore};
use crate::storage::StoreError;
use crate::storage::atomic_file::file_sha256;
use crate::storage::batches;
use crate::storage::batches::FINAL_NAME;
use crate::storage::ledger::ClipRecord;
use crate::storage::output_dir;
use crate::storage::output_dir::{ManifestLine, ManifestPlace};
use serde_json::Value;
use std::collections::BTreeMap;

/// The ledger's note that takes came or went since they were joined.
pub(super) const BEHIND: &str = "behind";

impl TakeStore {
    /// Joins the takes of all batches, which grows with the folder, and says where they come from.
    pub(super) fn join(&mut self, provenance: &Value) -> Result<(), StoreError> {
        let batches = self.next.div_ceil(self.common.batch_size);
        // Also where nothing came: a cut before the end of this must be known.
        self.fall_behind()?;
        // From here to the end the files are not what was closed.
        self.ledger.set_metadata("final", None)?;
        let clips = self.ledger.clips()?;
        output_dir::write_manifest(&self.out, &self.manifest(&clips))?;
        let has_final = self.accepted > 0;
        if has_final {
            // A label whose takes were all discarded is none.
            let in_use: Vec<TakeRecord> = clips
                .values()
                .filter(|c| c.state == ACCEPTED)
                .map(TakeRecord::of)
                .collect();
            self.glosses
                .retain(|g| in_use.iter().any(|e| *e.gloss == **g));
            batches::write_final(&self.out, batches, &self.glosses, self.common.length)?;
        }
        output_dir::prune(&self.out, batches, has_final)?;
        output_dir::write_run(&self.out, provenance)?;
        let sha256 = if has_final {
            file_sha256(&self.out.join(FINAL_NAME))?
        } else {
            String::new()
        };
        self.ledger.set_metadata("final", Some(&sha256))?;
        self.ledger.set_metadata(BEHIND, None)?;
        self.is_behind = false;
        Ok(())
    }

    /// Notes that takes come or go, which are not joined yet.
    pub(super) fn fall_behind(&mut self) -> Result<(), StoreError> {
        if !self.is_behind {
            self.ledger.set_metadata(BEHIND, Some("yes"))?;
            self.is_behind = true;
        }
        Ok(())
    }

    fn manifest(&self, clips: &BTreeMap<usize, ClipRecord>) -> Vec<ManifestLine> {
        let mut rows = BTreeMap::new();
        let line = |(position, clip): (&usize, &ClipRecord)| {
            let state = [ACCEPTED, TOO_SHORT, DISCARDED]
                .into_iter()
                .find(|s| *s == clip.state)
                .unwrap_or(DISCARDED);
            let entry = TakeRecord::of(clip);
            let batch = position / self.common.batch_size;
            let stored = (state == ACCEPTED).then(|| {
                let row: &mut usize = rows.entry(batch).or_default();
                *row += 1;
                ManifestPlace {
                    batch,
                    row: *row - 1,
                }
            });
            ManifestLine {
                gloss: entry.gloss,
                video_id: Some(entry.id),
                instance: *position,
                state,
                reason: clip.reason.clone(),
                split: entry.split,
                signer_id: entry.signer_id,
                frame_start: None,
                frame_end: None,
                clip: Some(entry.clip),
                stored,
            }
        };
        clips.iter().map(line).collect()
    }
}
