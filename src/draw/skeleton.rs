//! The 21 landmarks of a hand, drawn as bones and joints.

use super::capsule::fill_line;
use super::to_f32;
use crate::frame::RgbFrame;

/// Landmarks of one hand in MediaPipe's order: wrist, then thumb CMC, MCP, IP, tip, then MCP, PIP, DIP, tip of
/// the index, middle, ring and little finger.
pub const LANDMARKS: usize = 21;

/// Pairs of landmark indices that are joined by a line, as MediaPipe's `HAND_CONNECTIONS` joins them.
#[rustfmt::skip]
pub(crate) const BONES: [[usize; 2]; 21] = [
    [0, 1], [1, 2], [2, 3], [3, 4], // Thumb.
    [0, 5], [5, 6], [6, 7], [7, 8], // Index finger.
    [5, 9], [9, 10], [10, 11], [11, 12], // Middle finger.
    [9, 13], [13, 14], [14, 15], [15, 16], // Ring finger.
    [13, 17], [0, 17], [17, 18], [18, 19], [19, 20], // Little finger and the outer edge of the palm.
];

/// Colors of the bones of the first and the second hand.
pub const HAND_COLORS: [[u8; 3]; 2] = [[255, 96, 64], [64, 160, 255]];

/// Width of a bone as a share of the image's shorter side.
const BONE_WIDTH: f32 = 0.0085;

/// No bone is thinner than this many pixels, or it would fade away.
const BONE_WIDTH_MIN_PX: f32 = 1.4;

/// Radius of a joint in bone widths.
const JOINT_RADIUS: f32 = 1.25;

/// How far the dark rim reaches beyond a bone or joint, in bone widths; it keeps light colors visible on skin.
const RIM: f32 = 0.45;

const RIM_COLOR: [u8; 3] = [20, 24, 32];
const RIM_OPACITY: f32 = 0.75;

/// Color of a joint's center, so that joints stand out from the bones.
const JOINT_CENTER_COLOR: [u8; 3] = [255; 3];

/// Draws the skeleton of one hand over the image.
///
/// `points`: `[21, 2]` x and y in normalized image coordinates, 0..=1 from the left and upper edge to the right
/// and lower one. Points outside are clipped; those that are not finite are left out with their bones.
/// `color`: R G B of bones and joints.
pub fn draw_landmarks(frame: &mut RgbFrame, points: &[[f32; 2]; LANDMARKS], color: [u8; 3]) {
    let (width, height) = (to_f32(frame.width()), to_f32(frame.height()));
    let points = points.map(|[x, y]| [x * width, y * height]);
    let bones = BONES.map(|[a, b]| [points[a], points[b]]);
    let bone = (BONE_WIDTH * width.min(height)).max(BONE_WIDTH_MIN_PX);
    let joint = JOINT_RADIUS * bone;
    let rim = RIM * bone;

    // All rims first, so that none of them cuts through a bone.
    for ends in bones {
        fill_line(frame, ends, bone + 2.0 * rim, RIM_COLOR, RIM_OPACITY);
    }
    for point in points {
        let width = 2.0 * (joint + rim);
        fill_line(frame, [point; 2], width, RIM_COLOR, RIM_OPACITY);
    }
    for ends in bones {
        fill_line(frame, ends, bone, color, 1.0);
    }
    for point in points {
        fill_line(frame, [point; 2], 2.0 * joint, color, 1.0);
        fill_line(frame, [point; 2], joint, JOINT_CENTER_COLOR, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEN: [u8; 3] = [0, 255, 0];

    /// A hand upright in the middle of the image: each finger a column of joints.
    fn upright() -> [[f32; 2]; LANDMARKS] {
        let mut points = [[0.5, 0.9]; LANDMARKS];
        for (index, point) in points.iter_mut().enumerate().skip(1) {
            let (finger, joint) = ((index - 1) / 4, (index - 1) % 4);
            *point = [0.3 + 0.1 * to_f32(finger), 0.6 - 0.1 * to_f32(joint)];
        }
        points
    }

    fn pixel(frame: &RgbFrame, [x, y]: [f32; 2]) -> [u8; 3] {
        let column = super::super::to_index(x * to_f32(frame.width()));
        let row = super::super::to_index(y * to_f32(frame.height()));
        let start = (row * frame.width() + column) * 3;
        [0, 1, 2].map(|c| frame.pixels()[start + c])
    }

    #[test]
    fn joints_lie_where_the_points_are_and_bones_between_them() {
        let mut frame = RgbFrame::new(640, 480);
        let points = upright();
        draw_landmarks(&mut frame, &points, GREEN);
        for point in points {
            assert_eq!(pixel(&frame, point), JOINT_CENTER_COLOR);
        }
        assert_eq!(pixel(&frame, [0.4, 0.55]), GREEN);
        assert_eq!(pixel(&frame, [0.9, 0.1]), [0; 3]);
    }

    #[test]
    fn sizes_follow_the_image() {
        let lit = |width, height| {
            let mut frame = RgbFrame::new(width, height);
            draw_landmarks(&mut frame, &upright(), GREEN);
            let count = frame.pixels().chunks_exact(3).filter(|p| p[1] > 0).count();
            to_f32(count) / to_f32(width * height)
        };
        assert!((lit(1280, 960) / lit(640, 480) - 1.0).abs() < 0.1);
    }

    #[test]
    fn each_landmark_has_a_bone() {
        for landmark in 0..LANDMARKS {
            assert!(BONES.iter().any(|bone| bone.contains(&landmark)));
        }
    }

    #[test]
    fn points_outside_and_odd_numbers_do_not_panic() {
        for odd in [f32::NAN, f32::INFINITY, -1.0e30, -3.0, 1.5] {
            for index in 0..LANDMARKS {
                let mut points = upright();
                points[index] = [odd, 0.5];
                draw_landmarks(&mut RgbFrame::new(32, 24), &points, GREEN);
                draw_landmarks(&mut RgbFrame::new(0, 24), &points, GREEN);
            }
        }
        let mut frame = RgbFrame::new(32, 24);
        draw_landmarks(&mut frame, &[[f32::NAN; 2]; LANDMARKS], GREEN);
        assert_eq!(frame, RgbFrame::new(32, 24));
    }
}
