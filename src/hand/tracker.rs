//! The state of VIDEO mode: where the hands of the last frame should be in the next one. Source: `HAND_LANDMARKER`
//! specification, section 7. No smoothing and no clock: only the order of frames counts.

use super::detector::DetectorOptions;
use super::landmarks::Hand;
use super::roi;
use crate::geometry::{ImageRect, Size, UprightBox};

/// The squares of tracked hands for the next frame. Each clip has its own tracker.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    next: Vec<ImageRect>,
}

impl Tracker {
    /// Whether `num_hands` hands are followed, so that the palm model is not needed.
    #[must_use]
    pub fn is_full(&self, num_hands: usize) -> bool {
        self.next.len() >= num_hands
    }

    /// Returns the followed squares first, then those of `palms` that are new; at most `num_hands`.
    #[must_use]
    pub fn join(&self, palms: &[ImageRect], options: &DetectorOptions) -> Vec<ImageRect> {
        let mut rects = self.next.clone();
        for palm in palms {
            let known = rects
                .iter()
                .any(|r| upright(r).iou(&upright(palm)) > options.tracking_iou);
            if !known {
                rects.push(*palm);
            }
        }
        rects.truncate(options.num_hands);
        rects
    }

    /// Stores the squares in which `hands` are expected in the next frame.
    pub fn follow(&mut self, hands: &[Hand], size: Size) {
        self.next = hands
            .iter()
            .map(|h| roi::from_landmarks(&h.landmarks, size))
            .collect();
    }
}

/// The box of a rect without its rotation. The half is computed in f64, as in MediaPipe.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounded to f32 after the f64 half"
)]
fn upright(rect: &ImageRect) -> UprightBox {
    let edge = |center: f32, side: f32| (f64::from(center) - f64::from(side) / 2.0) as f32;
    UprightBox {
        x: edge(rect.cx, rect.w),
        y: edge(rect.cy, rect.h),
        w: rect.w,
        h: rect.h,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(cx: f32) -> ImageRect {
        ImageRect {
            cx,
            cy: 0.5,
            w: 0.2,
            h: 0.2,
            rotation_rad: 0.3,
        }
    }

    #[test]
    fn followed_hands_come_first_and_known_palms_are_dropped() {
        let tracker = Tracker {
            next: vec![rect(0.5)],
        };
        let options = DetectorOptions::default();
        assert!(!tracker.is_full(2) && tracker.is_full(1));
        assert_eq!(
            tracker.join(&[rect(0.51), rect(0.8)], &options),
            vec![rect(0.5), rect(0.8)]
        );
        assert_eq!(
            tracker.join(&[rect(0.1), rect(0.8)], &options),
            vec![rect(0.5), rect(0.1)]
        );
        assert_eq!(
            Tracker::default().join(&[rect(0.1)], &options),
            vec![rect(0.1)]
        );
    }
}
