//! `run.json` of merged shards: as a run over the whole job would write it, plus a list of the shards. It depends on
//! the shards alone.

use super::shard_set::{ShardSet, WholeShard};
use super::target::{JOB_SHA256, JoinedBatches, SHARDS_SHA256, job_sha256};
use crate::dataset::acceptance::State;
use crate::digest::sha256_hex;
use crate::storage::output_dir::MERGED;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The contents of `run.json` for `joined`. `files` are the hashes that later readers check, by file name.
pub(super) fn run_record(
    set: &ShardSet,
    joined: &JoinedBatches,
    files: &BTreeMap<String, String>,
) -> Value {
    let runs = || set.shards.iter().map(|shard| &shard.run);
    let mut run = json!({});
    // The values of the first shard, in its order.
    for (key, value) in runs()
        .next()
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        run[key] = value.clone();
        if key == "run" {
            let names: Vec<&Value> = runs().map(|run| &run["run"]).collect();
            let name = json!([job_sha256(set), names]).to_string();
            run["run"] = json!(sha256_hex(name.as_bytes())[..8]);
            run["settings"] = set.job.settings.clone();
        }
    }
    let time = |run: &&Value, key: &str| run[key]["at_unix"].as_i64();
    let first = runs().min_by_key(|run| time(run, "started").unwrap_or(i64::MAX));
    run["started"] = first.map(|run| run["started"].clone()).unwrap_or_default();
    let last = runs().max_by_key(|run| time(run, "finished"));
    let mut finished = last.map(|run| run["finished"].clone()).unwrap_or_default();
    let all = |key: &'static str| runs().map(move |run| run["finished"][key].clone());
    let seconds = all("seconds").filter_map(|seconds| seconds.as_f64());
    finished["seconds"] = json!(seconds.fold(0.0, f64::max));
    let counts = joined.lines.counts();
    let states = State::ALL.iter();
    finished["states"] = states
        .map(|state| (state.name(), counts.get(state).copied().unwrap_or(0)))
        .collect();
    finished["workers"] = json!(all("workers").filter_map(|n| n.as_u64()).sum::<u64>());
    if let Some(lost) = all("backend_lost").find(|lost| !lost.is_null()) {
        finished["backend_lost"] = lost;
    }
    finished["batches"] = json!(joined.batches.len());
    finished["backends"] = json!(joined.lines.backends());
    finished["files"] = json!(files);
    run["finished"] = finished;
    run[MERGED] = json!({
        JOB_SHA256: job_sha256(set),
        SHARDS_SHA256: set.sha256(),
        "count": set.job.shard.count(),
        "plan_sha256": set.job.plan_sha256,
        "missing": set.missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "shards": set.shards.iter().map(shard_record).collect::<Vec<_>>(),
    });
    run
}

/// The entry of one shard in the list of shards.
fn shard_record(shard: &WholeShard) -> Value {
    let run = &shard.run;
    json!({
        "shard": shard.shard.to_string(),
        "run": run["run"],
        "handloom": run["handloom"],
        "processor": shard.processor,
        "backend": run["backend"]["name"],
        "library_sha256": run["backend"]["library_sha256"],
        "gstreamer": run["gstreamer"],
        "dataset": run["dataset"]["path"],
        "started": run["started"]["at_unix"],
        "finished": run["finished"]["at_unix"],
        "seconds": run["finished"]["seconds"],
        "workers": run["finished"]["workers"],
    })
}
