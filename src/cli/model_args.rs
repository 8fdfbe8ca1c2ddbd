//! Which numbers, and the models that they are made with.

use super::by;
use crate::config::constraints;
use crate::hand;
use crate::inference::ModelPaths;
use crate::sequence::{Profile, SequenceSpec};
use clap::Args;
use std::num::NonZeroU64;
use std::path::PathBuf;

/// What the numbers are made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which numbers")]
pub struct SequenceArgs {
    /// notebook: reproduce the notebook exactly, its quirks included
    #[arg(long, value_name = "NAME", default_value = "notebook", value_parser = by(constraints::ProfileName))]
    pub profile: Profile,
    /// Frames in a sequence; shorter clips are padded with zeros
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = by(constraints::LENGTH))]
    pub sequence_length: usize,
    /// Look at every Nth frame
    #[arg(long, value_name = "N", default_value_t = NonZeroU64::MIN.saturating_add(1), value_parser = by(constraints::STRIDE))]
    pub frame_stride: NonZeroU64,
    /// Clips with a hand in fewer frames are left out
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = by(constraints::COUNT))]
    pub min_frames: usize,
    /// Which hands
    #[command(flatten)]
    pub hands: HandArgs,
    /// Follow hands from frame to frame (MediaPipe's VIDEO mode): faster, other numbers than the notebook's
    #[arg(long)]
    pub tracking: bool,
}

impl SequenceArgs {
    /// For the sequences.
    #[must_use]
    pub fn shape(&self) -> SequenceSpec {
        SequenceSpec {
            length: self.sequence_length,
            stride: self.frame_stride,
            tracking: self.tracking,
        }
    }
}

/// What is a hand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which numbers")]
pub struct HandArgs {
    /// Hands to look for in a frame; the sequence has room for two
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = by(constraints::HANDS))]
    pub num_hands: usize,
    /// MediaPipe's threshold for palms
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = by(constraints::PROBABILITY))]
    pub min_hand_detection_confidence: f32,
    /// MediaPipe's threshold for hands
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = by(constraints::PROBABILITY))]
    pub min_hand_presence_confidence: f32,
    /// MediaPipe's overlap of a palm with a hand that is followed; only where hands are followed
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = by(constraints::PROBABILITY))]
    pub min_tracking_confidence: f32,
}

impl HandArgs {
    /// For the detector.
    #[must_use]
    pub fn options(&self) -> hand::Options {
        hand::Options {
            num_hands: self.num_hands,
            detection_min: self.min_hand_detection_confidence,
            presence_min: self.min_hand_presence_confidence,
            tracking_iou: self.min_tracking_confidence,
        }
    }
}

/// Which models run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which models")]
pub struct ModelArgs {
    /// Folder with both .tflite files, or a hand_landmarker.task bundle [default: as installed, or as fetched by
    /// `make setup`]
    #[arg(
        long,
        value_name = "PATH",
        env = "HANDLOOM_MODELS",
        hide_env_values = true
    )]
    pub models: Option<PathBuf>,
    /// Palm model, .tflite or .task
    #[arg(long, value_name = "FILE")]
    pub palm_model: Option<PathBuf>,
    /// Hand model, .tflite or .task
    #[arg(long, value_name = "FILE")]
    pub hand_model: Option<PathBuf>,
    /// Take model files whose SHA-256 is not the pinned one
    #[arg(long)]
    pub trust_models: bool,
}

impl ModelArgs {
    /// For the loader.
    #[must_use]
    pub fn selection(&self) -> ModelPaths {
        ModelPaths {
            models: self.models.clone(),
            palm: self.palm_model.clone(),
            hand: self.hand_model.clone(),
            trust: self.trust_models,
        }
    }
}
