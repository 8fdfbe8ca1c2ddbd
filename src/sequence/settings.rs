//! The settings of `run.json` that clips and takes share: those that affect the numbers of a sequence.

use super::options::{NamedChoice, Profile, SequenceOptions, SequenceSpec};
use crate::hand::DetectorOptions;
use serde_json::{Value, json};

/// The settings that affect the numbers of a sequence, besides its frames and the models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SequenceSettings<'a> {
    /// The profile, which gives the defaults of the options.
    pub profile: Profile,
    /// Length, stride, tracking and options.
    pub spec: &'a SequenceSpec,
    /// Clips and takes with fewer frames with a hand are too short.
    pub min_frames: usize,
    /// Options of the detector.
    pub detector: &'a DetectorOptions,
}

impl SequenceSettings<'_> {
    /// Returns `others`, a JSON object, with these settings added.
    #[must_use]
    pub fn add_to(&self, mut others: Value) -> Value {
        let (spec, detector) = (self.spec, self.detector);
        let SequenceOptions {
            frame_range,
            sampling,
            slots,
            missing,
            max_gap,
            aspect,
            z,
            mirror,
        } = spec.options;
        let own = json!({
            "profile": self.profile.name(),
            "frame_range": frame_range.name(),
            "sampling": sampling.name(),
            "slots": slots.name(),
            "missing": missing.name(),
            // `max_gap` has no effect when no gap is filled.
            "max_gap": missing.interpolates().then_some(max_gap),
            "aspect": aspect,
            "z": z.name(),
            "mirror": mirror.name(),
            "sequence_length": spec.length,
            "frame_stride": spec.stride,
            "min_frames": self.min_frames,
            "num_hands": detector.num_hands,
            "min_hand_detection_confidence": f64::from(detector.detection_min),
            "min_hand_presence_confidence": f64::from(detector.presence_min),
            "min_tracking_confidence": f64::from(detector.tracking_iou),
            "tracking": spec.tracking,
        });
        if let (Value::Object(others), Value::Object(own)) = (&mut others, own) {
            others.extend(own);
        }
        others
    }
}
