//! The settings that decide the bytes of the results, and the provenance of a job in `run.json`.

use super::{DatasetScan, Job, JobConfig};
use crate::dataset::acceptance::{State, StateCounts};
use crate::dataset::format::FormatName;
use crate::dataset::plan::OtherComparison;
use crate::digest::sha256_hex;
use crate::hand::DetectorOptions;
use crate::inference::ModelFiles;
use crate::sequence::options::NamedChoice;
use crate::sequence::settings::SequenceSettings;
use crate::sequence::{Profile, SequenceSpec};
use crate::storage::kept_results::CLASS_ORDER;
use crate::storage::{StoreError, manifest};
use crate::video::clip;
use crate::video::dataset_source::DatasetSource;
use serde_json::{Value, json};
use std::path::Path;

/// Setting: the dataset's format, unless it is WLASL.
pub(super) const FORMAT: &str = "format";
/// Setting: the frames of all clips are kept.
const KEEP_FRAMES: &str = "keep_frames";
/// Setting, where frames are kept: the `clips_sha256` of a job that compares glosses in the other way, if it has other clips.
pub(super) const OTHER_CLIPS: &str = "other_clips_sha256";
/// Setting: the shard, with the hash of the plan of the whole job.
pub(super) const SHARD_SETTING: &str = "shard";
/// Settings that select instances by an official subset and by a splits file.
pub(super) const SELECTION_SETTINGS: [&str; 2] = ["subset", "splits_sha256"];
/// Settings that decide what is found in a frame.
const OF_FRAMES: [&str; 4] = [
    "num_hands",
    "min_hand_detection_confidence",
    "min_hand_presence_confidence",
    "min_tracking_confidence",
];

/// Everything that decides the bytes of the npz files. `accelerator` is the identity of what runs the models.
pub(super) fn settings(
    config: &JobConfig,
    scan: &DatasetScan,
    bundle: &ModelFiles,
    accelerator: &Value,
) -> Value {
    let plan_options = &config.plan_options;
    let glosses: Vec<&str> = scan.plan.glosses.iter().map(|g| &**g).collect();
    let settings = SequenceSettings {
        profile: config.profile,
        spec: &config.shape,
        min_frames: config.min_frames,
        detector: &config.detector,
    };
    let mut settings = settings.add_to(json!({
        "metadata_sha256": scan.json_sha256,
        "clips_sha256": clips_sha256(&scan.dataset, scan.plan.jobs.iter().map(|job| &*job.video_id)),
        "glosses_sha256": sha256_hex(glosses.join("\n").as_bytes()),
        "min_videos_per_gloss": plan_options.min_videos_per_gloss,
        "max_glosses": plan_options.max_glosses,
        "selected_glosses": plan_options.selected_glosses,
        "max_samples_per_gloss": plan_options.max_samples_per_gloss,
        "batch_size": config.batch_size,
        "decoder": config.video.decoder.to_string(),
        "palm_model_sha256": bundle.palm.sha256,
        "hand_model_sha256": bundle.hand.sha256,
        "accelerator": accelerator,
    }));
    // Absent when unset, so that jobs of earlier versions can be resumed.
    let [subset, splits] = SELECTION_SETTINGS;
    let order = scan.plan.class_order.as_ref();
    for (key, value) in [
        (subset, config.subset.map(|subset| subset.name().to_owned())),
        (splits, scan.splits_sha256.clone()),
        ("only_split", plan_options.only_split.clone()),
        (
            CLASS_ORDER,
            order.map(|order| sha256_hex(order.glosses.join("\n").as_bytes())),
        ),
    ] {
        if let Some(value) = value {
            settings[key] = json!(value);
        }
    }
    if config.keep_frames {
        settings[KEEP_FRAMES] = json!(true);
        let records = &scan.plan.records;
        if records.iter().any(|record| record.otherwise.is_some()) {
            let others = records.iter().filter(|record| match &record.otherwise {
                Some(other) => *other == OtherComparison::Processed,
                None => record.skipped.is_none(),
            });
            let others = others.filter_map(|record| record.video_id.as_deref());
            settings[OTHER_CLIPS] = json!(clips_sha256(&scan.dataset, others));
        }
    }
    let format = scan.dataset.format();
    if format != FormatName::Wlasl {
        settings[FORMAT] = json!(format.name());
    }
    if let Some(shard) = scan.share.shard {
        settings[SHARD_SETTING] = json!({
            "index": shard.index(), "count": shard.count(), "plan_sha256": scan.share.plan_sha256,
        });
    }
    settings
}

/// The settings of sequences that are made from the kept frames of a job with the settings `known`: those of a job that
/// decodes the clips and does not keep their frames. `is_other`: glosses are compared in another way than there.
pub(super) fn resequenced(
    profile: Profile,
    spec: &SequenceSpec,
    min_frames: usize,
    known: &Value,
    is_other: bool,
) -> Value {
    let settings = SequenceSettings {
        profile,
        spec,
        min_frames,
        detector: &DetectorOptions::default(),
    };
    let own = settings.add_to(json!({}));
    let mut settings = known.clone();
    if let (Value::Object(settings), Value::Object(own)) = (&mut settings, own) {
        // The settings that decide the frames stay as they were.
        let own = own
            .into_iter()
            .filter(|(key, _)| !OF_FRAMES.contains(&key.as_str()));
        settings.extend(own);
        settings.shift_remove(KEEP_FRAMES);
        let other = settings.shift_remove(OTHER_CLIPS).filter(|_| is_other);
        if let Some(other) = other {
            settings.insert("clips_sha256".to_owned(), other);
        }
    }
    settings
}

/// A hash of the names and sizes of planned clips. It changes when the dataset has other clips.
fn clips_sha256<'a>(dataset: &DatasetSource, ids: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<String> = ids
        .map(|id| format!("{id} {}", dataset.clip_bytes(id)))
        .collect();
    sha256_hex(lines.join("\n").as_bytes())
}

impl DatasetScan {
    /// Everything beside the settings that decides the row of the clip at `position`.
    pub(super) fn clip_key(&self, position: usize) -> String {
        let clip = &self.plan.jobs[position];
        let record = &self.plan.records[clip.record];
        let mut key = json!([
            &*record.gloss,
            record.video_id.as_deref(),
            self.dataset.clip_bytes(&clip.video_id),
            record.frame_start.as_ref().ok(),
            record.frame_end.as_ref().ok(),
            record.split,
            record.signer_id,
        ]);
        // Another path is another file, even of the same size. In WLASL the id is the file's name.
        if let (Some(path), Value::Array(key)) = (&record.path, &mut key) {
            key.push(json!(&**path));
        }
        // Its record says that it is not processed.
        if let (true, Value::Array(key)) = (clip.is_frames_only, &mut key) {
            key.push(json!("frames only"));
        }
        key.to_string()
    }
}

/// The provenance of the run named `run`. `finished` is filled in at its end.
pub(super) fn provenance(job: &Job<'_>, run: &str) -> Result<Value, StoreError> {
    let dataset = &job.scan.dataset;
    let started = job.results.started()?;
    // A path that is no UTF-8 is shown with replacement characters.
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let mut source = json!({
        "path": shown(&job.config.dataset), "json": shown(&dataset.json_path()),
        "videos": shown(&dataset.videos_path()),
        "video_files": dataset.video_count(),
    });
    if let Some(splits) = &job.config.splits {
        source["splits"] = json!(shown(splits));
    }
    Ok(manifest::provenance(
        run,
        &job.settings(),
        ("dataset", &source),
        &job.backend.record(),
        &clip::version(),
        &started,
    ))
}

/// Instances per state, zeros included.
pub(crate) fn states(counts: &StateCounts) -> Value {
    let states = State::ALL.iter();
    states
        .map(|s| (s.name(), counts.get(s).copied().unwrap_or(0)))
        .collect()
}
