//! The settings of a recording session that decide the numbers of its takes.

use crate::camera::FormatRequest;
use crate::hand;
use crate::inference::BackendHandle;
use crate::inference::ModelFiles;
use crate::sequence::segmenter::SegmentRules;
use crate::sequence::sign_recorder::SignConfig;
use crate::sequence::{Profile, SequenceSpec};
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
    #[must_use]
    pub fn sign_config(&self) -> SignConfig {
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

    /// Everything that decides the numbers. All takes of a folder share it.
    #[must_use]
    pub fn settings(&self, backend: &BackendHandle) -> Value {
        self.settings_on(backend.files(), Some(backend.identity()))
    }

    /// [`CaptureSettings::settings`] with the identity `accelerator` of what runs the models. Takes of the first versions
    /// have none.
    #[must_use]
    pub fn settings_on(&self, bundle: &ModelFiles, accelerator: Option<Value>) -> Value {
        let detector = &self.detector;
        let mut settings = json!({
            "source": "camera",
            "profile": self.profile.name(),
            "sequence_length": self.shape.length,
            "frame_stride": self.shape.stride,
            "min_frames": self.min_frames,
            "num_hands": detector.num_hands,
            "min_hand_detection_confidence": f64::from(detector.detection_min),
            "min_hand_presence_confidence": f64::from(detector.presence_min),
            "min_tracking_confidence": f64::from(detector.tracking_iou),
            "tracking": true,
            "dataset_fps": self.dataset_fps,
            "start_frames": self.start_frames,
            "end_frames": self.end_frames,
            "min_seconds": self.min_seconds,
            "max_seconds": self.max_seconds,
            "prefix": self.prefix,
            "batch_size": self.batch_size,
            "palm_model_sha256": bundle.palm.sha256,
            "hand_model_sha256": bundle.hand.sha256,
        });
        if let Some(accelerator) = accelerator {
            settings["accelerator"] = accelerator;
        }
        settings
    }
}
