//! The part of a job that one process makes: all of its batches, or those of a shard.

use crate::dataset::plan::{Plan, PlannedClip};
use crate::messages::payloads::{ShardName, plan_name};
use crate::shard::{ShardIndex, partition};
use std::collections::BTreeMap;

/// The part of a job that one process makes.
#[derive(Clone, Debug)]
pub struct Share {
    /// The shard; `None` for all of the job.
    pub(super) shard: Option<ShardIndex>,
    /// Hash of the plan of the whole job; empty without shards.
    pub(super) plan_sha256: String,
    /// Numbers of its batches, in order.
    pub(super) batches: Vec<usize>,
    /// Positions of its clips in the plan, in order.
    pub(crate) positions: Vec<usize>,
    /// The batch of each record of the plan, and whether it is one of [`Share::batches`].
    records: Vec<(usize, bool)>,
}

impl Share {
    /// All of a job with `plan`, whose batches cover `batch_size` positions.
    pub(super) fn whole(plan: &Plan, batch_size: usize) -> Self {
        let batches = (0..plan.jobs.len().div_ceil(batch_size)).collect();
        Self::of_batches(plan, batch_size, batches, true)
    }

    /// The part of `shard`. `clip_bytes` is the size of a clip, `clip_key` is all that decides the row at a position.
    pub(super) fn of_shard(
        plan: &Plan,
        batch_size: usize,
        shard: ShardIndex,
        clip_bytes: impl Fn(&PlannedClip) -> u64,
        clip_key: impl Fn(usize) -> String,
    ) -> Self {
        let bytes: Vec<u64> = plan.jobs.iter().map(clip_bytes).collect();
        let own = partition::owned(&partition::batch_weights(&bytes, batch_size), shard);
        // A plan without clips has records only, which belong to the first shard.
        let is_first = bytes.is_empty() && shard.index() == 0;
        Self {
            shard: Some(shard),
            plan_sha256: partition::plan_sha256(plan, clip_key),
            ..Self::of_batches(plan, batch_size, own, is_first)
        }
    }

    /// The part with `batches`. `has_rest`: also the records of a plan without batches.
    fn of_batches(plan: &Plan, batch_size: usize, batches: Vec<usize>, has_rest: bool) -> Self {
        let count = plan.jobs.len();
        let clips = |batch: &usize| batch * batch_size..((batch + 1) * batch_size).min(count);
        let is_own = |batch| batches.binary_search(&batch).is_ok() || (count == 0 && has_rest);
        let records = partition::record_batches(&plan.records, batch_size);
        Self {
            shard: None,
            plan_sha256: String::new(),
            positions: batches.iter().flat_map(clips).collect(),
            records: records.map(|batch| (batch, is_own(batch))).collect(),
            batches,
        }
    }

    /// The name of the shard in messages; `None` for a whole job.
    pub(crate) fn name(&self) -> Option<ShardName> {
        let shard = self.shard?;
        Some(ShardName {
            index: shard.index(),
            count: shard.count(),
            plan: plan_name(&self.plan_sha256),
        })
    }

    /// Number of its batches.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Whether the record `number` of the plan belongs to it.
    pub(crate) fn has_record(&self, number: usize) -> bool {
        self.records.get(number).is_some_and(|(_, is_own)| *is_own)
    }

    /// Number of its records in each batch that has any.
    pub(crate) fn record_counts(&self) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for (batch, _) in self.records.iter().filter(|(_, is_own)| *is_own) {
            *counts.entry(*batch).or_default() += 1;
        }
        counts
    }
}
