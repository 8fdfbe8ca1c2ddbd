//! A hand with its forearm, modeled from capsules that merge into one lit surface.
//!
//! MediaPipe's palm model takes it for a real one as long as the forearm is there and no finger is curled by
//! more than about 0.6: fists and pointing hands are not found. It sees the palm side, so that a hand that is
//! not `left` has its thumb on the left of the image when the fingers point up.
//!
//! Hand space: x right, y down (towards the elbow), one unit is [`HandPose::size`] pixels, the origin is in the
//! palm just below the knuckle of the middle finger; z rises towards the viewer.

use super::capsule::Capsule;
use crate::draw::height_field::HeightField;
use crate::frame::RgbFrame;

/// Knuckles (MCP joints) from the index to the little finger, hand space.
const KNUCKLES: [[f32; 2]; 4] = [[-0.46, -0.02], [-0.16, -0.10], [0.13, -0.06], [0.40, 0.08]];

/// Where each finger points at `spread` 1, radians clockwise from straight up, index to little finger.
const FINGER_ANGLES_RAD: [f32; 4] = [-0.20, -0.04, 0.10, 0.27];

/// Length of each finger, hand space, index to little finger.
const FINGER_LENGTHS: [f32; 4] = [0.86, 0.97, 0.90, 0.70];

/// Share of a finger's length that each phalanx takes, from the knuckle out.
const PHALANX_SHARES: [f32; 3] = [0.46, 0.30, 0.24];

/// Radius of a finger at MCP, PIP, DIP and tip, hand space.
const FINGER_RADII: [f32; 4] = [0.165, 0.15, 0.135, 0.115];

/// The little finger is thinner than the others by this factor.
const LITTLE_FINGER_SCALE: f32 = 0.88;

/// Radius of the thumb at CMC, MCP, IP and tip, hand space.
const THUMB_RADII: [f32; 4] = [0.24, 0.18, 0.16, 0.125];

/// The lines of the palm as chains of points, hand space: heart, head and life line.
const CREASES: [[[f32; 2]; 4]; 3] = [
    [[0.44, 0.26], [0.22, 0.22], [-0.02, 0.14], [-0.18, 0.02]],
    [[-0.44, 0.28], [-0.20, 0.32], [0.06, 0.42], [0.28, 0.56]],
    [[-0.44, 0.27], [-0.24, 0.38], [-0.12, 0.60], [-0.12, 0.88]],
];

/// The arm from the wrist to beyond the edge of most images, hand space.
const FOREARM: [[f32; 3]; 2] = [[0.02, 1.0, 0.0], [0.05, 4.6, 0.0]];

/// Half the width of a fold of the skin, hand space.
const CREASE_RADIUS: f32 = 0.012;

/// Share of the brightness that is lost in a fold.
const CREASE_DEPTH: f32 = 0.22;

/// How far two parts melt into each other: flesh of the palm, and phalanges of one finger. Hand space.
const SOFT: f32 = 0.16;
const CRISP: f32 = 0.03;

/// How much of its true rise towards the viewer a bent finger shows; all of it would look like a claw.
const RISE: f32 = 0.35;

/// How a hand is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HandPose {
    /// The middle of the upper palm, `[x, y]` in image pixels.
    pub(super) center: [f32; 2],
    /// About the length of the middle finger in pixels; the open hand is twice as high without the forearm.
    pub(super) size: f32,
    /// Turn about the center, clockwise; at 0 the fingers point up.
    pub(super) rotation_rad: f32,
    /// How far the fingers are fanned out: 0 parallel, 1 relaxed, 1.5 wide.
    pub(super) spread: f32,
    /// Bend of thumb, index, middle, ring and little finger: 0 straight, 1 fully curled.
    pub(super) curl: [f32; 5],
    /// Draws the mirror image, the other hand of the same person.
    pub(super) left: bool,
}

/// Builds the surface of a hand from shapes in hand space.
struct HandBuilder<'a> {
    height_field: HeightField,
    pose: &'a HandPose,
}

/// Draws a hand over what is already in the image; parts outside of it are clipped.
///
/// `skin`: R G B where the light falls straight on it.
pub(super) fn draw_hand(frame: &mut RgbFrame, pose: &HandPose, skin: [u8; 3]) {
    let height_field = HeightField::new(frame.width(), frame.height());
    let mut builder = HandBuilder { height_field, pose };
    builder.body(FOREARM, [0.36, 0.46], SOFT);
    builder.palm();
    for finger in 0..KNUCKLES.len() {
        builder.finger(finger);
    }
    builder.thumb();
    builder.height_field.paint(frame, skin.map(f32::from));
}

impl HandBuilder<'_> {
    fn palm(&mut self) {
        for [x, y] in KNUCKLES {
            self.body([[0.25 * x, 0.95, 0.0], [x, y, 0.0]], [0.30, 0.20], SOFT);
        }
        self.body([[-0.22, 0.70, 0.0], [0.22, 0.68, 0.0]], [0.27, 0.24], SOFT);
        for line in CREASES {
            for ends in line.windows(2) {
                self.crease([ends[0], ends[1]]);
            }
        }
    }

    /// `finger`: 0 index to 3 little finger.
    fn finger(&mut self, finger: usize) {
        let (sin, cos) = (FINGER_ANGLES_RAD[finger] * self.pose.spread).sin_cos();
        let curl = self.pose.curl[finger + 1];
        // A finger that bends towards the viewer looks shorter, its outer phalanges most.
        let near = 1.0 - 0.75 * curl;
        let far = near * (1.0 - 0.3 * curl);
        let scale = if finger == 3 {
            LITTLE_FINGER_SCALE
        } else {
            1.0
        };

        let [x, y] = KNUCKLES[finger];
        let mut joint = [x, y, 0.0];
        for (phalanx, seen) in [near, far, far].into_iter().enumerate() {
            let length = FINGER_LENGTHS[finger] * PHALANX_SHARES[phalanx];
            let rise = RISE * length * (1.0 - seen * seen).max(0.0).sqrt();
            let [x, y, z] = joint;
            let next = [x + sin * length * seen, y - cos * length * seen, z + rise];
            let radii = [FINGER_RADII[phalanx], FINGER_RADII[phalanx + 1]].map(|r| r * scale);
            self.body([joint, next], radii, CRISP);
            let across = [0.7 * radii[0] * cos, 0.7 * radii[0] * sin];
            self.crease([-1.0, 1.0].map(|side| [x + side * across[0], y + side * across[1]]));
            joint = next;
        }
    }

    fn thumb(&mut self) {
        let curl = self.pose.curl[0];
        let joints = [
            [-0.34, 0.62, 0.02],
            [-0.66, 0.32, 0.05],
            [-0.90 + 0.35 * curl, 0.02 + 0.05 * curl, 0.05 + 0.2 * curl],
            [-1.02 + 0.75 * curl, -0.26 + 0.12 * curl, 0.05 + 0.3 * curl],
        ];
        let phalanges = joints.windows(2).zip(THUMB_RADII.windows(2));
        for ((ends, radii), blend) in phalanges.zip([SOFT, CRISP, CRISP]) {
            self.body([ends[0], ends[1]], [radii[0], radii[1]], blend);
        }
    }

    /// Adds a round limb between two points of hand space, merging it with what is there over `blend`.
    fn body(&mut self, ends: [[f32; 3]; 2], radii: [f32; 2], blend: f32) {
        let size = self.pose.size;
        let capsule = self.capsule(ends.map(|[x, y, _]| [x, y]), radii);
        let lifts = ends.map(|[_, _, z]| z * size);
        self.height_field.add(&capsule, lifts, blend * size);
    }

    /// Marks a thin fold of the skin, hand space.
    fn crease(&mut self, ends: [[f32; 2]; 2]) {
        let capsule = self.capsule(ends, [CREASE_RADIUS; 2]);
        self.height_field.darken(&capsule, CREASE_DEPTH);
    }

    /// Hand space → image pixels: mirror, turn, scale, move.
    fn capsule(&self, ends: [[f32; 2]; 2], radii: [f32; 2]) -> Capsule {
        let pose = self.pose;
        let (sin, cos) = pose.rotation_rad.sin_cos();
        let [a, b] = ends.map(|[x, y]| {
            let x = if pose.left { -x } else { x };
            [
                pose.center[0] + pose.size * (cos * x - sin * y),
                pose.center[1] + pose.size * (sin * x + cos * y),
            ]
        });
        let [radius_a, radius_b] = radii.map(|radius| radius * pose.size);
        Capsule {
            a,
            b,
            radius_a,
            radius_b,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKIN: [u8; 3] = [224, 172, 138];

    fn pose() -> HandPose {
        HandPose {
            center: [160.0, 120.0],
            size: 48.0,
            rotation_rad: 0.0,
            spread: 1.0,
            curl: [0.0; 5],
            left: false,
        }
    }

    fn drawn(pose: &HandPose) -> RgbFrame {
        let mut frame = RgbFrame::new(320, 240);
        draw_hand(&mut frame, pose, SKIN);
        frame
    }

    fn painted(frame: &RgbFrame) -> usize {
        frame
            .pixels()
            .chunks_exact(3)
            .filter(|p| p != &[0, 0, 0])
            .count()
    }

    #[test]
    fn a_hand_covers_its_share_and_leaves_the_background() {
        let frame = drawn(&pose());
        let count = painted(&frame);
        assert!((8_000..16_000).contains(&count), "{count} pixels");
        assert_eq!(frame.pixels()[..3], [0, 0, 0]);
    }

    #[test]
    fn the_same_pose_gives_the_same_bytes() {
        assert_eq!(drawn(&pose()), drawn(&pose()));
    }

    #[test]
    fn the_left_hand_is_the_mirror_image() {
        let right = drawn(&pose());
        let left = drawn(&HandPose {
            left: true,
            ..pose()
        });
        let lit = |frame: &RgbFrame, x: usize, y: usize| frame.pixels()[(y * 320 + x) * 3] > 0;
        for y in 0..240 {
            for x in 0..320 {
                assert_eq!(lit(&right, x, y), lit(&left, 319 - x, y), "{x} {y}");
            }
        }
    }

    #[test]
    fn bending_shortens_the_fingers() {
        let bent = HandPose {
            curl: [0.6; 5],
            ..pose()
        };
        let top = |frame: &RgbFrame| frame.pixels().iter().position(|&v| v > 0);
        assert!(top(&drawn(&bent)) > top(&drawn(&pose())));
    }

    #[test]
    fn poses_outside_of_the_image_and_odd_numbers_do_not_panic() {
        for odd in [f32::NAN, f32::INFINITY, 1.0e30, -5_000.0] {
            drawn(&HandPose {
                center: [odd, 10.0],
                ..pose()
            });
            drawn(&HandPose {
                size: odd,
                ..pose()
            });
            drawn(&HandPose {
                rotation_rad: odd,
                ..pose()
            });
            drawn(&HandPose {
                spread: odd,
                ..pose()
            });
            drawn(&HandPose {
                curl: [odd; 5],
                ..pose()
            });
        }
        draw_hand(&mut RgbFrame::new(0, 0), &pose(), SKIN);
    }
}
