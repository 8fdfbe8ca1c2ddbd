//! What decides the numbers of takes, from the command line or the daemon's config.

use crate::camera::FormatRequest;
use crate::hand;
use crate::inference::BackendHandle;
use crate::inference::ModelFiles;
use crate::sequence::segmenter::SegmentRules;
use crate::sequence::sign_recorder::SignConfig;
use crate::sequence::{Profile, SequenceSpec};
use serde_json::{Value, json};
use std::time::Duration;

/// All that a session is told beside its camera and its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureSettings {
    /// What the camera is asked for; decides no number.
    pub want: FormatRequest,
    /// Reproduce or mend.
    pub profile: Profile,
    /// What a sequence is made of.
    pub shape: SequenceSpec,
    /// Takes with a hand in fewer frames are no takes.
    pub min_frames: usize,
    /// For the detector.
    pub detector: hand::DetectorOptions,
    /// Frames a second of the dataset.
    pub dataset_fps: f64,
    /// Frames with hands that begin a sign.
    pub start_frames: u32,
    /// Frames without hands that end it.
    pub end_frames: u32,
    /// Shorter signs are dropped.
    pub min_seconds: f64,
    /// Longer ones are cut.
    pub max_seconds: f64,
    /// First part of the takes' names.
    pub prefix: String,
    /// Takes in a batch file.
    pub batch_size: usize,
}

impl CaptureSettings {
    /// For the weaver.
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

    /// All that decides the numbers; the takes of a folder share it.
    #[must_use]
    pub fn settings(&self, backend: &BackendHandle) -> Value {
        self.settings_on(backend.files(), Some(backend.identity()))
    }

    /// The same with what runs the models as `accelerator` says; takes of the first versions have none.
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
