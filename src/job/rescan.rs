//! Adopts what changed since a job began and keeps the results that are still right: clips that came, went or changed,
//! and clips that could not be read the first time.
//!
//! The outcome of a clip depends on its key and the settings alone. `over_limit` is the exception: it depends on the
//! clips ahead of it and is judged again. A batch file that would change is unsealed first, so that its rows are staged
//! in the ledger again. Each step is a transaction and leaves a job that can be resumed.

use super::{DatasetScan, Job};
use crate::dataset::acceptance::State;
use crate::storage::ledger::CLOSED;
use crate::storage::{Ledger, StoreError};
use crate::system::clock::timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};

impl Job<'_> {
    /// Moves the clips that are still in the plan to their new positions. The ledger then belongs to `settings`.
    pub(super) fn rescan(&self, settings: &Value) -> Result<(), StoreError> {
        let plan = &self.scan.plan;
        let mut wanted: HashMap<String, VecDeque<usize>> = HashMap::new();
        for position in 0..plan.jobs.len() {
            let key = self.scan.clip_key(position);
            wanted.entry(key).or_default().push_back(position);
        }
        let clips = self.results.recorder.ledger().clips()?;
        let mut moves = BTreeMap::new();
        for (position, clip) in &clips {
            // Equal keys are interchangeable and keep their order.
            let to = wanted.get_mut(&clip.key).and_then(VecDeque::pop_front);
            if let Some(to) = to
                && clip.state != State::OverLimit.name()
            {
                moves.insert(*position, to);
            }
        }
        let glosses = |settings: &Value| settings.get("glosses_sha256").cloned();
        let job = self.results.recorder.ledger().job()?;
        let same_glosses = job.is_some_and(|j| glosses(&j.settings) == glosses(settings));
        let old_end = clips.last_key_value().map_or(0, |(last, _)| last + 1);
        let sealed = self.results.recorder.ledger().sealed()?;
        for batch in sealed.into_keys() {
            // The positions that the batch covered when it was sealed; the plan may have ended within the last batch.
            let before = self.results.recorder.positions(batch, old_end);
            let stays = same_glosses
                && before == self.results.recorder.positions(batch, plan.jobs.len())
                && before.clone().all(|p| moves.get(&p) == Some(&p));
            if !stays {
                self.unseal(batch, old_end)?;
            }
        }
        self.results.recorder.reopen()?;
        self.results
            .recorder
            .ledger()
            .renumber_clips(&moves, settings)
    }

    /// Forgets the clips that could not be read, so that the next run reads them again, and the clips over the limit
    /// behind the first of them. Returns how many could not be read.
    pub(crate) fn retry_failed(&self) -> Result<usize, StoreError> {
        let failed = State::Unreadable.name();
        let clips = self.results.recorder.ledger().clips()?;
        let Some((first, _)) = clips.iter().find(|(_, c)| c.state == failed) else {
            return Ok(0);
        };
        // With a limit per gloss a clip that turns out well takes the place of a later one, which may lie in any batch.
        let has_limit = self.config.plan_options.max_samples_per_gloss.is_some();
        let count = self.scan.plan.jobs.len();
        let sealed = self.results.recorder.ledger().sealed()?;
        for batch in sealed.into_keys() {
            let range = self.results.recorder.positions(batch, count);
            let is_touched = if has_limit {
                range.end > *first
            } else {
                clips.range(range).any(|(_, c)| c.state == failed)
            };
            if is_touched {
                self.unseal(batch, count)?;
            }
        }
        self.results.recorder.reopen()?;
        // Without a limit no clip is over it.
        let states = [failed, State::OverLimit.name()];
        self.results
            .recorder
            .ledger()
            .forget_clips(&states, *first)?;
        Ok(clips.values().filter(|c| c.state == failed).count())
    }

    /// Unseals `batch`. If its file cannot be used, its clips are read again.
    fn unseal(&self, batch: usize, count: usize) -> Result<(), StoreError> {
        match self.results.recorder.unseal(batch, count) {
            Err(error @ (StoreError::Read { .. } | StoreError::Broken { .. })) => {
                tracing::warn!(batch, %error, "a batch file is unusable; its clips are read again");
                self.results
                    .recorder
                    .discard_batch(batch, count, &[], &timestamp())
            }
            unsealed => unsealed.map(|_| ()),
        }
    }
}

/// Replaces the difference in `error` by what has changed, if it is the error that the dataset has changed since the job
/// in `ledger` began. The ledger of a shard does not have all clips, and its plan cannot change alone.
pub(super) fn explain_change(
    mut error: StoreError,
    scan: &DatasetScan,
    ledger: &Ledger,
) -> StoreError {
    if let StoreError::Occupied {
        path,
        difference,
        is_dataset: true,
    } = &mut error
    {
        if scan.share.shard.is_some() {
            let path = std::mem::take(path);
            return StoreError::OtherPlan { path };
        }
        match dataset_change(scan, ledger) {
            Ok(change) => *difference = change,
            Err(error) => return error,
        }
    }
    error
}

fn dataset_change(scan: &DatasetScan, ledger: &Ledger) -> Result<String, StoreError> {
    let clips = ledger.clips()?.into_values();
    let old: Vec<String> = clips.map(|clip| clip.key).collect();
    let new: Vec<String> = (0..scan.plan.jobs.len())
        .map(|position| scan.clip_key(position))
        .collect();
    let metadata = ledger
        .job()?
        .map(|job| job.settings["metadata_sha256"].clone());
    let has_other_metadata = metadata.is_none_or(|sha256| sha256 != scan.json_sha256);
    let is_whole = ledger.metadata(CLOSED)?.is_some();
    Ok(describe_change(&old, &new, is_whole, has_other_metadata))
}

/// What differs between the clips with the keys `old` and `new`, for people: `1 clip added, 2 removed, metadata changed`.
/// `is_whole`: `old` are all clips of a plan, and not only those that were read of it.
fn describe_change(
    old: &[String],
    new: &[String],
    is_whole: bool,
    has_other_metadata: bool,
) -> String {
    // Equal clips cancel out.
    let mut surplus: HashMap<&str, i64> = HashMap::new();
    for (keys, one) in [(new, 1), (old, -1)] {
        for key in keys {
            *surplus.entry(key).or_default() += one;
        }
    }
    // What is left of one gloss and video id is a clip with another file or another entry.
    let mut by_name: HashMap<String, [u64; 2]> = HashMap::new();
    for (key, count) in surplus {
        let key: Value = serde_json::from_str(key).unwrap_or_default();
        let name = format!("{} {}", key[0], key[1]);
        by_name.entry(name).or_default()[usize::from(count < 0)] += count.unsigned_abs();
    }
    let [mut added, mut removed, mut changed] = [0; 3];
    for [came, went] in by_name.into_values() {
        let both = came.min(went);
        changed += both;
        added += came - both;
        removed += went - both;
    }
    if !is_whole {
        added = 0;
    }
    let mut parts: Vec<String> = Vec::new();
    let counts = [(added, "added"), (removed, "removed"), (changed, "changed")];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let clips = match count {
            _ if !parts.is_empty() => "",
            1 => " clip",
            _ => " clips",
        };
        parts.push(format!("{count}{clips} {what}"));
    }
    if has_other_metadata {
        parts.push("metadata changed".to_owned());
    }
    if !is_whole {
        let unknown = "which clips were added is not known, because the job had not finished";
        parts.push(unknown.to_owned());
    }
    if parts.is_empty() {
        parts.push("the order of its clips changed".to_owned());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_of_the_dataset_is_described() {
        let clip = |id: &str, bytes: u64| json!(["book", id, bytes, 1, -1, "train", 7]).to_string();
        let [a, b, c] = ["a", "b", "c"].map(|id| clip(id, 10));
        let old = [a.clone(), b.clone(), c.clone(), a.clone()];
        let describe = |new: &[String], is_whole, has_other_metadata| {
            describe_change(&old, new, is_whole, has_other_metadata)
        };
        let more = [&old[..], &[clip("d", 10), a.clone()]].concat();
        assert_eq!(
            describe(&more, true, true),
            "2 clips added, metadata changed"
        );
        let other = [a.clone(), clip("b", 11), clip("d", 10), clip("e", 1)];
        assert_eq!(
            describe(&other, true, false),
            "2 clips added, 2 removed, 1 changed"
        );
        assert_eq!(
            describe(&[a.clone(), c, b], true, true),
            "1 clip removed, metadata changed"
        );
        assert_eq!(describe(&old, true, true), "metadata changed");
        assert_eq!(
            describe(&old, true, false),
            "the order of its clips changed"
        );
        assert_eq!(
            describe(&more[1..], false, true),
            "metadata changed, which clips were added is not known, because the job had not finished"
        );
        assert_eq!(
            describe(&[a], false, false),
            "3 clips removed, which clips were added is not known, because the job had not finished"
        );
    }
}
