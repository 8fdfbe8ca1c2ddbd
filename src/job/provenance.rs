//! `run.json`: the settings that decide the bytes, and what the results were made with.

use super::{DatasetScan, JobConfig};
use crate::dataset::acceptance::State;
use crate::dataset::acceptance::StateCounts;
use crate::dataset::plan::PlanRecord;
use crate::digest::sha256_hex;
use crate::inference::BackendHandle;
use crate::inference::ModelFiles;
use crate::storage::{Ledger, StoreError};
use crate::video::clip;
use serde_json::{Value, json};

/// All that decides the bytes of the npz files.
pub(super) fn settings(spec: &JobConfig, scan: &DatasetScan, backend: &BackendHandle) -> Value {
    settings_on(spec, scan, backend.files(), &backend.identity())
}

/// The same with what runs the models as `accelerator` says; see [`BackendHandle::identity`].
pub(super) fn settings_on(
    spec: &JobConfig,
    scan: &DatasetScan,
    bundle: &ModelFiles,
    accelerator: &Value,
) -> Value {
    let (plan_options, detector) = (&spec.plan_options, &spec.detector);
    let glosses: Vec<&str> = scan.plan.glosses.iter().map(|g| &**g).collect();
    json!({
        "profile": spec.profile.name(),
        "metadata_sha256": scan.json_sha256,
        "clips_sha256": clips_sha256(scan),
        "glosses_sha256": sha256_hex(glosses.join("\n").as_bytes()),
        "min_videos_per_gloss": plan_options.min_videos_per_gloss,
        "max_glosses": plan_options.max_glosses,
        "selected_glosses": plan_options.selected_glosses,
        "max_samples_per_gloss": plan_options.max_samples_per_gloss,
        "sequence_length": spec.shape.length,
        "frame_stride": spec.shape.stride,
        "min_frames": spec.min_frames,
        "num_hands": detector.num_hands,
        "min_hand_detection_confidence": f64::from(detector.detection_min),
        "min_hand_presence_confidence": f64::from(detector.presence_min),
        "min_tracking_confidence": f64::from(detector.tracking_iou),
        "tracking": spec.shape.tracking,
        "batch_size": spec.batch_size,
        "decoder": spec.video.decoder.to_string(),
        "palm_model_sha256": bundle.palm.sha256,
        "hand_model_sha256": bundle.hand.sha256,
        "accelerator": accelerator,
    })
}

/// One hash of the planned clips' names and sizes: tells a dataset with other clips from this one.
fn clips_sha256(scan: &DatasetScan) -> String {
    let line = |id: &str| format!("{id} {}", scan.dataset.clip_bytes(id));
    let lines: Vec<String> = scan.plan.jobs.iter().map(|j| line(&j.video_id)).collect();
    sha256_hex(lines.join("\n").as_bytes())
}

/// All that a clip's row depends on beside the settings.
pub(super) fn clip_key(record: &PlanRecord, bytes: u64) -> String {
    json!([
        &*record.gloss,
        record.video_id.as_deref(),
        bytes,
        record.frame_start.as_ref().ok(),
        record.frame_end.as_ref().ok(),
        record.split,
        record.signer_id,
    ])
    .to_string()
}

/// Where the results come from; `finished` is filled in at the end.
pub(super) fn provenance(
    spec: &JobConfig,
    scan: &DatasetScan,
    backend: &BackendHandle,
    ledger: &Ledger,
) -> Result<Value, StoreError> {
    let dataset = &scan.dataset;
    let started: Option<Value> = ledger
        .metadata("started")?
        .and_then(|s| serde_json::from_str(&s).ok());
    Ok(json!({
        "handloom": env!("CARGO_PKG_VERSION"),
        "run": ledger.job()?.map(|j| j.run),
        "settings": settings(spec, scan, backend),
        "dataset": {"path": spec.dataset, "json": dataset.json_path(), "videos": dataset.videos_path(), "video_files": dataset.video_count()},
        "backend": backend.record(),
        "gstreamer": clip::version(),
        "platform": {"arch": std::env::consts::ARCH, "os": std::env::consts::OS},
        "started": started,
        "finished": null,
    }))
}

/// Instances per state, zeros included.
#[must_use]
pub fn states(tally: &StateCounts) -> Value {
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
