//! Which batches a shard owns, and which records of the plan belong to a batch.

use super::ShardIndex;
use crate::dataset::plan::{Plan, PlanRecord};
use crate::digest::Hasher;
use serde_json::json;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How many mean sizes are added to the size of each clip; see [`batch_weights`].
const ADDED_MEANS: u128 = 2;

/// The expected work of each batch of `batch_size` clips, for [`owners`]. `bytes` are the sizes of the clips of the
/// plan, in order.
///
/// A clip weighs its own size plus twice the mean size of all clips. Its time grows less than its size: decoding
/// depends on the size, but detection runs on a limited number of frames (except with kept frames). A clip without
/// bytes weighs nothing.
#[must_use]
pub fn batch_weights(bytes: &[u64], batch_size: usize) -> Vec<u64> {
    let present = bytes.iter().filter(|bytes| **bytes > 0).count().max(1) as u128;
    let total: u128 = bytes.iter().map(|bytes| u128::from(*bytes)).sum();
    let constant = u64::try_from(ADDED_MEANS * total / present).unwrap_or(u64::MAX);
    let weight = |bytes: u64| match bytes {
        0 => 0,
        bytes => bytes.saturating_add(constant),
    };
    let batches = bytes.chunks(batch_size);
    batches
        .map(|clips| {
            clips
                .iter()
                .copied()
                .map(weight)
                .fold(0, u64::saturating_add)
        })
        .collect()
}

/// The shard that owns each batch; `count` is the number of shards, at least 1. `weights` are those of the batches;
/// see [`batch_weights`].
///
/// The batches are dealt out by weight, the heaviest first, each to the shard with the least weight so far. The
/// weights of two shards then differ by at most the weight of the heaviest batch.
#[must_use]
pub fn owners(weights: &[u64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|batch| (Reverse(weights[*batch]), *batch));
    // Weight, number of batches and index of each shard.
    let shards = (0..count).map(|shard| Reverse((0_u64, 0_usize, shard)));
    let mut shards: BinaryHeap<_> = shards.collect();
    let mut owners = vec![0; weights.len()];
    for batch in order {
        let Some(Reverse((load, batches, shard))) = shards.pop() else {
            break;
        };
        owners[batch] = shard;
        shards.push(Reverse((
            load.saturating_add(weights[batch]),
            batches + 1,
            shard,
        )));
    }
    owners
}

/// The batches of `shard`, in order; see [`owners`].
#[must_use]
pub fn owned(weights: &[u64], shard: ShardIndex) -> Vec<usize> {
    let owners = owners(weights, shard.count()).into_iter().enumerate();
    let own = owners.filter(|(_, owner)| *owner == shard.index());
    own.map(|(batch, _)| batch).collect()
}

/// The batch of each record, in the order of `records`. A batch covers `batch_size` processed records. A record that
/// is not processed belongs to the batch of the last processed one before it, or to the first batch.
pub fn record_batches(
    records: &[PlanRecord],
    batch_size: usize,
) -> impl Iterator<Item = usize> + '_ {
    let mut processed: usize = 0;
    records.iter().map(move |record| {
        processed += usize::from(record.skipped.is_none());
        processed.saturating_sub(1) / batch_size
    })
}

/// SHA-256 of everything in `plan` that decides the results: a line for each record, with the `clip_key` of its
/// position when it is processed, then a line for each clip that is read for its frames only.
pub fn plan_sha256(plan: &Plan, clip_key: impl Fn(usize) -> String) -> String {
    let mut hasher = Hasher::default();
    let mut line = |line: serde_json::Value| hasher.update(format!("{line}\n").as_bytes());
    let mut position = 0;
    for record in &plan.records {
        let (state, decides) = if let Some((state, reason)) = &record.skipped {
            (Some(state.name()), reason.clone())
        } else {
            position += 1;
            (None, clip_key(position - 1))
        };
        let (gloss, id) = (&*record.gloss, record.video_id.as_deref());
        line(json!([gloss, id, record.instance, state, decides]));
    }
    let frames_only = plan.jobs.iter().filter(|job| job.is_frames_only);
    for job in frames_only {
        line(json!(clip_key(job.position)));
    }
    hasher.hex()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::acceptance::State;
    use crate::dataset::plan::{PlanOptions, plan};
    use crate::dataset::wlasl::parse;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_batch_has_one_owner_and_shards_are_balanced(
            weights in prop::collection::vec(prop_oneof![Just(0_u64), 0_u64..10_000_000], 0..300),
            count in 1_usize..40,
        ) {
            let all: Vec<Vec<usize>> = (0..count)
                .map(|index| owned(&weights, ShardIndex::new(index, count).unwrap()))
                .collect();
            let mut batches = all.concat();
            batches.sort_unstable();
            prop_assert_eq!(batches, (0..weights.len()).collect::<Vec<_>>());
            prop_assert!(all.iter().all(|own| own.is_sorted()));
            let loads: Vec<u64> =
                all.iter().map(|own| own.iter().map(|batch| weights[*batch]).sum()).collect();
            let most = loads.iter().max().unwrap() - loads.iter().min().unwrap();
            prop_assert!(most <= weights.iter().copied().max().unwrap_or(0));
            prop_assert_eq!(owners(&weights, count), owners(&weights, count));
            // No shard is idle while another has two batches.
            let sizes = all.iter().map(Vec::len);
            if sizes.clone().max() > Some(1) && weights.iter().all(|weight| *weight > 0) {
                prop_assert!(sizes.min() > Some(0));
            }
        }
    }

    #[test]
    fn a_clip_weighs_its_size_and_twice_the_mean() {
        assert_eq!(batch_weights(&[10, 20, 30, 40], 2), [130, 170]);
        assert_eq!(batch_weights(&[10, 0, 30, 0], 3), [120, 0]);
        assert_eq!(batch_weights(&[0, 0], 1), [0, 0]);
        assert_eq!(batch_weights(&[u64::MAX; 3], 2), [u64::MAX; 2]);
        assert_eq!(batch_weights(&[], 2), [0; 0]);
    }

    #[test]
    fn equal_batches_go_to_the_shards_in_turn() {
        assert_eq!(owners(&[5; 7], 3), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(owners(&[0; 4], 2), [0, 1, 0, 1]);
        assert_eq!(owners(&[1, 9, 4, 4], 2), [1, 0, 1, 1]);
        assert_eq!(owners(&[], 2), [0; 0]);
    }

    fn example(ids: &str) -> Plan {
        let instances: Vec<_> = ids
            .chars()
            .map(|id| json!({"video_id": id.to_string()}))
            .collect();
        let json = json!([{"gloss": "book", "instances": instances}]).to_string();
        let entries = parse(json.as_bytes()).unwrap();
        let options = PlanOptions {
            min_videos_per_gloss: 1,
            ..PlanOptions::default()
        };
        plan(&entries, &options, &|id| id < "x")
    }

    #[test]
    fn records_belong_to_the_batch_before_them() {
        let batches = |ids: &str| record_batches(&example(ids).records, 2).collect::<Vec<_>>();
        assert_eq!(batches("xaxbxcxx"), [0, 0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(batches("abcde"), [0, 0, 1, 1, 2]);
        assert_eq!(batches("xyz"), [0, 0, 0]);
    }

    #[test]
    fn the_hash_of_a_plan_depends_on_each_record() {
        let hash = |plan: &Plan| plan_sha256(plan, |position| format!("key {position}"));
        let plan = example("abx");
        assert_eq!(hash(&plan), hash(&plan.clone()));
        let mut other = plan.clone();
        other.records[2].skipped = Some((State::Missing, "elsewhere".to_owned()));
        assert_ne!(hash(&plan), hash(&other));
        assert_ne!(hash(&plan), hash(&example("xab")));
        let more = |position| format!("key {}", position + 1);
        assert_ne!(hash(&plan), plan_sha256(&plan, more));
    }
}
