//! Takes up what changed since a job began, keeping the results that are still right: clips that came, went or
//! changed, and clips that could not be read the first time.
//!
//! A clip's outcome depends on its key and the settings alone, but for `over_limit`, which depends on the clips ahead
//! of it: those are judged anew. A batch file that would change is taken apart first, its rows go back to the ledger.
//! Each step is a transaction and leaves a job that can be resumed.

use super::collector::positions;
use super::{DatasetScan, JobConfig, provenance};
use crate::dataset::acceptance::State;
use crate::storage::{Ledger, StoreError, batches};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Moves the clips that are still in the plan to their new positions; the ledger belongs to `settings` then.
pub(super) fn rescan(
    spec: &JobConfig,
    scan: &DatasetScan,
    ledger: &mut Ledger,
    settings: &Value,
) -> Result<(), StoreError> {
    let plan = &scan.plan;
    let mut wanted: HashMap<String, VecDeque<usize>> = HashMap::new();
    for job in &plan.jobs {
        let bytes = scan.dataset.clip_bytes(&job.video_id);
        let key = provenance::clip_key(&plan.records[job.record], bytes);
        wanted.entry(key).or_default().push_back(job.position);
    }
    let clips = ledger.clips()?;
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
    let same_glosses = ledger
        .job()?
        .is_some_and(|j| glosses(&j.settings) == glosses(settings));
    let old_end = clips.last_key_value().map_or(0, |(last, _)| last + 1);
    for (batch, _) in ledger.sealed()? {
        // What it covered when it was sealed; the last one may have been cut short by the end of the plan.
        let before = positions(spec, old_end, batch);
        let stays = same_glosses
            && before == positions(spec, plan.jobs.len(), batch)
            && before.clone().all(|p| moves.get(&p) == Some(&p));
        if !stays {
            unseal(spec, ledger, batch, old_end)?;
        }
    }
    ledger.set_metadata("final", None)?;
    ledger.renumber(&moves, settings)
}

/// Forgets the unreadable clips, and those whose turn may come or go with them. Returns how many were unreadable.
pub(super) fn retry_failed(
    spec: &JobConfig,
    scan: &DatasetScan,
    ledger: &mut Ledger,
) -> Result<usize, StoreError> {
    let failed = State::Unreadable.name();
    let clips = ledger.clips()?;
    let first = clips.iter().find(|(_, c)| c.state == failed);
    let Some((first, _)) = first else {
        return Ok(0);
    };
    // With a limit per gloss a clip that turns out well takes the place of a later one, which may lie in any batch.
    let has_limit = spec.plan_options.max_samples_per_gloss.is_some();
    let jobs = scan.plan.jobs.len();
    for (batch, _) in ledger.sealed()? {
        let range = positions(spec, jobs, batch);
        let is_touched = if has_limit {
            range.end > *first
        } else {
            clips.range(range).any(|(_, c)| c.state == failed)
        };
        if is_touched {
            unseal(spec, ledger, batch, jobs)?;
        }
    }
    ledger.set_metadata("final", None)?;
    let count = clips.values().filter(|c| c.state == failed).count();
    // Without a limit no clip is over it.
    ledger.forget(&[failed, State::OverLimit.name()], *first)?;
    Ok(count)
}

/// Takes batch `batch` apart: its rows go back to the ledger, by the positions of its accepted clips.
fn unseal(
    spec: &JobConfig,
    ledger: &mut Ledger,
    batch: usize,
    jobs: usize,
) -> Result<(), StoreError> {
    let range = positions(spec, jobs, batch);
    let accepted: Vec<usize> = ledger
        .clips()?
        .range(range.clone())
        .filter(|(_, c)| c.state == State::Accepted.name())
        .map(|(position, _)| *position)
        .collect();
    let rows = batches::read_batch(&spec.out, batch);
    match rows {
        Ok(rows) if rows.len() == accepted.len() => {
            let rows = accepted
                .into_iter()
                .zip(&rows)
                .map(|(p, row)| Ok((p, batches::row_bytes(row, spec.shape.length)?)))
                .collect::<Result<Vec<_>, StoreError>>()?;
            ledger.unseal(batch, &rows)
        }
        unusable => {
            let reason = unusable.err().map(|e| e.to_string());
            tracing::warn!(
                batch,
                reason,
                "a batch file cannot be taken apart; its clips are read again"
            );
            ledger.lose(
                batch,
                range,
                &[],
                &crate::storage::ledger::Timestamp::default(),
            )
        }
    }
}
