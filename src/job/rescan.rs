//! Adopts what changed since a job began and keeps the results that are still right: clips that came, went or changed,
//! and clips that could not be read the first time.
//!
//! The outcome of a clip depends on its key and the settings alone. `over_limit` is the exception: it depends on the
//! clips ahead of it and is judged again. A batch file that would change is unsealed first, so that its rows are staged
//! in the ledger again. Each step is a transaction and leaves a job that can be resumed.

use super::Job;
use crate::dataset::acceptance::State;
use crate::storage::StoreError;
use crate::system::clock::timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};

impl Job<'_> {
    /// Moves the clips that are still in the plan to their new positions. The ledger belongs to `settings` then.
    pub(super) fn rescan(&self, settings: &Value) -> Result<(), StoreError> {
        let plan = &self.scan.plan;
        let mut wanted: HashMap<String, VecDeque<usize>> = HashMap::new();
        for position in 0..plan.jobs.len() {
            let key = self.scan.clip_key(position);
            wanted.entry(key).or_default().push_back(position);
        }
        let clips = self.recorder.ledger().clips()?;
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
        let job = self.recorder.ledger().job()?;
        let same_glosses = job.is_some_and(|j| glosses(&j.settings) == glosses(settings));
        let old_end = clips.last_key_value().map_or(0, |(last, _)| last + 1);
        let sealed = self.recorder.ledger().sealed()?;
        for batch in sealed.into_keys() {
            // What it covered when it was sealed; the last one may have been cut short by the end of the plan.
            let before = self.recorder.positions(batch, old_end);
            let stays = same_glosses
                && before == self.recorder.positions(batch, plan.jobs.len())
                && before.clone().all(|p| moves.get(&p) == Some(&p));
            if !stays {
                self.unseal(batch, old_end)?;
            }
        }
        self.recorder.reopen()?;
        self.recorder.ledger().renumber_clips(&moves, settings)
    }

    /// Forgets the clips that could not be read, so that the next run reads them again, and those whose turn may come or
    /// go with them. Returns how many could not be read.
    pub(crate) fn retry_failed(&self) -> Result<usize, StoreError> {
        let failed = State::Unreadable.name();
        let clips = self.recorder.ledger().clips()?;
        let Some((first, _)) = clips.iter().find(|(_, c)| c.state == failed) else {
            return Ok(0);
        };
        // With a limit per gloss a clip that turns out well takes the place of a later one, which may lie in any batch.
        let has_limit = self.config.plan_options.max_samples_per_gloss.is_some();
        let count = self.scan.plan.jobs.len();
        let sealed = self.recorder.ledger().sealed()?;
        for batch in sealed.into_keys() {
            let range = self.recorder.positions(batch, count);
            let is_touched = if has_limit {
                range.end > *first
            } else {
                clips.range(range).any(|(_, c)| c.state == failed)
            };
            if is_touched {
                self.unseal(batch, count)?;
            }
        }
        self.recorder.reopen()?;
        // Without a limit no clip is over it.
        let states = [failed, State::OverLimit.name()];
        self.recorder.ledger().forget_clips(&states, *first)?;
        Ok(clips.values().filter(|c| c.state == failed).count())
    }

    /// Unseals `batch`. If its file cannot be used, its clips are read again.
    fn unseal(&self, batch: usize, count: usize) -> Result<(), StoreError> {
        match self.recorder.unseal(batch, count) {
            Err(error @ (StoreError::Read { .. } | StoreError::Broken { .. })) => {
                tracing::warn!(batch, %error, "a batch file is unusable; its clips are read again");
                self.recorder.discard_batch(batch, count, &[], &timestamp())
            }
            unsealed => unsealed.map(|_| ()),
        }
    }
}
