//! Detects the hands in an image: palm crop → palm model → suppression → squares → hand model → landmarks.
//! Source: `HAND_LANDMARKER` specification, sections 0, 6 and 7.

use super::landmarks::{self, Hand, HandOutputs};
use super::tracker::Tracker;
use super::warp::{Border, Warp};
use super::{nms, palm, roi};
use crate::frame::RgbFrame;
use crate::geometry::{ImageRect, PixelRect, Size};
use std::slice;

/// A run of a model failed, for the runtime's reason.
#[derive(Debug, thiserror::Error)]
#[error("model run failed: {0}")]
pub struct ModelError(pub String);

/// A loaded model with one f32 input. Implemented by the inference backends.
pub trait Model {
    /// The input tensor, NHWC f32 in 0..=1, to be filled before [`Model::invoke`].
    fn input(&mut self) -> &mut [f32];
    /// Runs the model.
    ///
    /// # Errors
    /// The runtime's reason. The outputs must then not be used.
    fn invoke(&mut self) -> Result<(), ModelError>;
    /// Copies output `index`, in the order of the model's file, to `out`.
    ///
    /// # Errors
    /// Fails when there is no such output or its size differs from that of `out`.
    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError>;
}

impl<M: Model + ?Sized> Model for Box<M> {
    fn input(&mut self) -> &mut [f32] {
        (**self).input()
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        (**self).invoke()
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        (**self).output(index, out)
    }
}

/// Options of the detector. The defaults are MediaPipe's, with two hands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectorOptions {
    /// Maximum number of hands.
    pub num_hands: usize,
    /// Minimum score of a palm (inclusive), 0..=1.
    pub detection_min: f32,
    /// Minimum presence of a hand (exclusive), 0..=1.
    pub presence_min: f32,
    /// VIDEO mode: a palm that overlaps a tracked hand by more than this is the same hand, 0..=1.
    pub tracking_iou: f32,
}

impl Default for DetectorOptions {
    fn default() -> Self {
        Self {
            num_hands: 2,
            detection_min: 0.5,
            presence_min: 0.5,
            tracking_iou: 0.5,
        }
    }
}

/// Both models, with the options, anchors and buffers that they need. Not shared: each worker has one.
#[derive(Debug)]
pub struct Detector<M> {
    palm_model: M,
    hand_model: M,
    options: DetectorOptions,
    warp: Warp,
    anchors: Vec<[f32; 2]>,
    boxes: Vec<f32>,
    logits: Vec<f32>,
}

impl<M: Model> Detector<M> {
    /// A detector over the palm and the hand model.
    pub fn new(palm_model: M, hand_model: M, options: DetectorOptions) -> Self {
        Self {
            palm_model,
            hand_model,
            options,
            warp: Warp::default(),
            anchors: palm::anchors(),
            boxes: vec![0.0; palm::ANCHORS * palm::BOX_FLOATS],
            logits: vec![0.0; palm::ANCHORS],
        }
    }

    /// IMAGE mode: the hands in `frame`, best palm first, without memory of earlier frames.
    ///
    /// # Errors
    /// Fails when a model fails.
    pub fn detect(&mut self, frame: &RgbFrame) -> Result<Vec<Hand>, ModelError> {
        let rects = self.palm_rects(frame)?;
        self.hands(frame, &rects)
    }

    /// VIDEO mode: follows the hands of the frame before. The palm model runs only when a hand may be missing.
    ///
    /// # Errors
    /// Fails when a model fails; the tracker is then unchanged.
    pub fn track(
        &mut self,
        tracker: &mut Tracker,
        frame: &RgbFrame,
    ) -> Result<Vec<Hand>, ModelError> {
        let palms = if tracker.is_full(self.options.num_hands) {
            Vec::new()
        } else {
            self.palm_rects(frame)?
        };
        let rects = tracker.join(&palms, &self.options);
        let hands = self.hands(frame, &rects)?;
        tracker.follow(&hands, Size::of(frame));
        Ok(hands)
    }

    /// The squares in which to look for hands, at most `num_hands`.
    fn palm_rects(&mut self, frame: &RgbFrame) -> Result<Vec<ImageRect>, ModelError> {
        let size = Size::of(frame);
        let side = size.width_f32().max(size.height_f32());
        let whole = PixelRect {
            cx: 0.5 * size.width_f32(),
            cy: 0.5 * size.height_f32(),
            w: side,
            h: side,
            rotation_rad: 0.0,
        };
        self.warp.crop(
            frame,
            &whole,
            palm::INPUT_SIDE,
            Border::Zero,
            self.palm_model.input(),
        );
        self.palm_model.invoke()?;
        self.palm_model.output(0, &mut self.boxes)?;
        self.palm_model.output(1, &mut self.logits)?;
        let palms = palm::decode(
            &self.boxes,
            &self.logits,
            &self.anchors,
            self.options.detection_min,
        );
        let rects = nms::weighted(palms)
            .iter()
            .take(self.options.num_hands)
            .map(|p| roi::from_palm(&palm::from_crop_to_image(p, size), size))
            .collect();
        Ok(rects)
    }

    /// Runs the hand model on each square. Drops results that are no hand, and hands that repeat an earlier one.
    fn hands(&mut self, frame: &RgbFrame, rects: &[ImageRect]) -> Result<Vec<Hand>, ModelError> {
        let size = Size::of(frame);
        let mut hands = Vec::with_capacity(rects.len());
        for rect in rects {
            self.warp.crop(
                frame,
                &rect.to_pixels(size),
                landmarks::INPUT_SIDE,
                Border::Replicate,
                self.hand_model.input(),
            );
            self.hand_model.invoke()?;
            let mut outputs = HandOutputs::default();
            let read = |index, out: &mut [f32]| self.hand_model.output(index, out);
            read(0, outputs.landmarks.as_flattened_mut())?;
            read(1, slice::from_mut(&mut outputs.presence))?;
            read(2, slice::from_mut(&mut outputs.right))?;
            read(3, outputs.world.as_flattened_mut())?;
            hands.extend(landmarks::decode(&outputs, rect, self.options.presence_min));
        }
        landmarks::deduplicate(&mut hands, size);
        Ok(hands)
    }
}
