//! `run.json`: the settings that decide the bytes, and what the results were made with.

use crate::cli::ProcessArgs;
use crate::inference::{Bundle, bundle};
use crate::report::Tally;
use crate::source::dataset::Dataset;
use crate::source::video;
use crate::wlasl::judge::State;
use crate::wlasl::plan::Plan;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// All that decides the bytes of the npz files.
pub(super) fn settings(
    args: &ProcessArgs,
    plan: &Plan,
    bundle: &Bundle,
    json_sha256: &str,
) -> Value {
    let (s, p) = (&args.sequence, &args.plan);
    json!({
        "profile": s.profile.name(),
        "metadata_sha256": json_sha256,
        "clips_sha256": clips_sha256(plan),
        "min_videos_per_gloss": p.min_videos_per_gloss,
        "max_glosses": p.max_glosses,
        "selected_glosses": p.selected_glosses,
        "max_samples_per_gloss": p.max_samples_per_gloss,
        "sequence_length": s.sequence_length,
        "frame_stride": s.frame_stride,
        "min_frames": s.min_frames,
        "num_hands": s.num_hands,
        "min_hand_detection_confidence": f64::from(s.min_hand_detection_confidence),
        "min_hand_presence_confidence": f64::from(s.min_hand_presence_confidence),
        "min_tracking_confidence": f64::from(s.min_tracking_confidence),
        "tracking": s.tracking,
        "batch_size": args.run.batch_size,
        "decoder": args.run.decoder.to_string(),
        "palm_model_sha256": bundle.palm.sha256,
        "hand_model_sha256": bundle.hand.sha256,
    })
}

/// One hash of the planned clips' names: tells a dataset with other clips from this one.
fn clips_sha256(plan: &Plan) -> String {
    let names: Vec<&str> = plan.jobs.iter().map(|j| &*j.video_id).collect();
    bundle::sha256_hex(names.join("\n").as_bytes())
}

/// Where the results come from; `finished` is filled in at the end.
pub(super) fn provenance(args: &ProcessArgs, dataset: &Dataset, settings: &Value) -> Value {
    let runtime = bundle::loaded_runtime();
    let pinned = bundle::pinned_runtimes().unwrap_or_default();
    let is_pinned = runtime
        .as_ref()
        .is_some_and(|(_, sha)| pinned.contains(sha));
    if !is_pinned {
        tracing::warn!(
            ?runtime,
            "the TFLite library is not the pinned one; landmarks may differ in the last digits"
        );
    }
    json!({
        "handloom": env!("CARGO_PKG_VERSION"),
        "settings": settings,
        "dataset": {"path": args.dataset, "json": dataset.json_path(), "videos": dataset.videos_path(), "video_files": dataset.video_count()},
        "backend": {"name": "cpu", "runtime": "TensorFlow Lite C, XNNPACK, 1 thread", "library_sha256": runtime.map(|r| r.1), "library_is_pinned": is_pinned},
        "gstreamer": video::version(),
        "platform": {"arch": std::env::consts::ARCH, "os": std::env::consts::OS},
        "started": {"at_unix": unix_now()},
        "finished": null,
    })
}

/// Seconds since 1970 by the wall clock: for records alone.
pub(super) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// Instances per state, zeros included.
pub(super) fn states(tally: &Tally) -> Value {
    State::ALL
        .iter()
        .map(|s| {
            (
                s.name().to_owned(),
                json!(tally.get(s).copied().unwrap_or(0)),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}
