//! The settings of a recording session that decide the numbers of its takes, and the provenance of its takes in
//! `run.json`.

use super::latency_stats::LatencyStats;
use crate::camera::{CameraAddress, CameraCounts, FormatRequest};
use crate::digest::sha256_hex;
use crate::hand;
use crate::inference::{BackendHandle, ModelFiles};
use crate::sequence::segmenter::SegmentRules;
use crate::sequence::settings::SequenceSettings;
use crate::sequence::sign_recorder::SignConfig;
use crate::sequence::{Profile, SequenceSpec};
use crate::storage::manifest;
use crate::system::clock;
use crate::video::clip;
use serde_json::{Value, json};
use std::time::Duration;

/// Everything that defines a recording session beside its camera and its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureSettings {
    /// Format that is requested from the camera. It decides no number.
    pub want: FormatRequest,
    /// Defaults that reproduce the notebook or correct it.
    pub profile: Profile,
    /// Length, stride and tracking of a sequence.
    pub shape: SequenceSpec,
    /// Takes with a hand in fewer frames are too short.
    pub min_frames: usize,
    /// Options of the detector.
    pub detector: hand::DetectorOptions,
    /// Frames per second of the dataset, to which signs are resampled.
    pub dataset_fps: f64,
    /// Frames with hands in a row that begin a sign.
    pub start_frames: u32,
    /// Frames without hands in a row that end it.
    pub end_frames: u32,
    /// Minimum duration of a sign, in seconds. Shorter ones are dropped.
    pub min_seconds: f64,
    /// Maximum duration of a sign, in seconds. Longer ones are cut.
    pub max_seconds: f64,
    /// First part of the names of takes.
    pub prefix: String,
    /// Takes in a batch file.
    pub batch_size: usize,
}

impl CaptureSettings {
    /// The settings of the sign recorder.
    pub(crate) fn sign_config(&self) -> SignConfig {
        SignConfig {
            rules: SegmentRules {
                frame: Duration::from_secs_f64(1.0 / self.dataset_fps),
                start_frames: self.start_frames,
                end_frames: self.end_frames,
                min: Duration::from_secs_f64(self.min_seconds),
                max: Duration::from_secs_f64(self.max_seconds),
            },
            spec: self.shape,
        }
    }

    /// Everything that decides the numbers. All takes of a folder share it. `accelerator` is the identity of what runs
    /// `models`.
    pub(crate) fn settings(&self, models: &ModelFiles, accelerator: &Value) -> Value {
        let settings = SequenceSettings {
            profile: self.profile,
            spec: &self.shape,
            min_frames: self.min_frames,
            detector: &self.detector,
        };
        settings.add_to(json!({
            "source": "camera",
            "dataset_fps": self.dataset_fps,
            "start_frames": self.start_frames,
            "end_frames": self.end_frames,
            "min_seconds": self.min_seconds,
            "max_seconds": self.max_seconds,
            "prefix": self.prefix,
            "batch_size": self.batch_size,
            "palm_model_sha256": models.palm.sha256,
            "hand_model_sha256": models.hand.sha256,
            "accelerator": accelerator,
        }))
    }
}

/// Where the takes of a session come from.
pub struct TakeProvenance<'a> {
    /// See [`CaptureSettings::settings`].
    pub settings: &'a Value,
    /// Runs the models.
    pub backend: &'a BackendHandle,
    /// The camera.
    pub device: &'a CameraAddress,
    /// When the session began, RFC 3339.
    pub started: &'a str,
}

impl TakeProvenance<'_> {
    /// The contents of `run.json`. `measured` is given at the end of the session.
    pub(crate) fn provenance(&self, measured: Option<(&CameraCounts, &LatencyStats)>) -> Value {
        let (settings, started) = (self.settings, self.started);
        let run = sha256_hex(format!("{settings} {started} {}", std::process::id()).as_bytes());
        let finished = measured.map(|(counts, meter)| {
            json!({
                "at": clock::now_utc(), "clock_synced": clock::clock_synced(),
                "frames": counts.frames, "dropped": counts.dropped, "damaged": counts.damaged,
                "looked_at": meter.seen, "opened": counts.opened, "backend_lost": self.backend.lost(),
            })
        });
        let mut record = manifest::provenance(
            &run[..8],
            settings,
            ("device", &json!(self.device.to_string())),
            &self.backend.record(),
            &clip::version(),
            &json!(started),
        );
        record["finished"] = json!(finished);
        record
    }
}
