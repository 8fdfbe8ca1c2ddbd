//! Scenes of signing hands: an image for every seed and frame number, each drawn by itself.
//!
//! A seed chooses how many hands there are, their size and skin, how they move and the colors behind them.

use super::hand::{HandPose, draw_hand};
use super::{to_byte, to_f32};
use crate::frame::RgbFrame;
use std::f32::consts::TAU;

/// The layout below is in pixels of an image this high; other sizes scale it.
const REFERENCE_HEIGHT: f32 = 240.0;

/// The layout needs this much width for each pixel of height, or it is scaled down to fit.
const REFERENCE_ASPECT: f32 = 4.0 / 3.0;

/// Skin tones, R G B where the skin faces the viewer.
const SKINS: [[u8; 3]; 6] = [
    [236, 188, 160],
    [224, 172, 138],
    [208, 152, 118],
    [184, 128, 96],
    [152, 102, 76],
    [122, 82, 62],
];

/// Backgrounds: the color at the top and at the bottom. All are cool, so that no skin tone melts into them.
const BACKDROPS: [[[f32; 3]; 2]; 5] = [
    [[96.0, 116.0, 136.0], [52.0, 66.0, 84.0]],
    [[104.0, 128.0, 124.0], [54.0, 74.0, 76.0]],
    [[112.0, 116.0, 142.0], [60.0, 60.0, 86.0]],
    [[128.0, 138.0, 148.0], [74.0, 84.0, 98.0]],
    [[92.0, 122.0, 146.0], [44.0, 62.0, 92.0]],
];

/// How many hands [`signing_scene`] shows for a seed: two for odd seeds, else one.
fn hands_in_scene(seed: u64) -> usize {
    if seed % 2 == 1 { 2 } else { 1 }
}

/// Frame number `frame` of the scene `seed`, `width × height` pixels; made for about 25 frames a second.
///
/// The same arguments give the same image. Images around 4:3 and at least 160 pixels high are best.
#[must_use]
pub fn signing_scene(seed: u64, frame: usize, width: usize, height: usize) -> RgbFrame {
    let mut image = RgbFrame::new(width, height);
    let mut rng = SceneRng(seed);
    let backdrop = BACKDROPS[rng.pick(BACKDROPS.len())];
    let glow = [rng.between(0.2, 0.8), rng.between(0.1, 0.5)];
    draw_backdrop(&mut image, backdrop, glow);

    let skin = SKINS[rng.pick(SKINS.len())];
    let unit = to_f32(height).min(to_f32(width) / REFERENCE_ASPECT) / REFERENCE_HEIGHT;
    let middle = [to_f32(width) / 2.0, to_f32(height) / 2.0];
    let lone = hands_in_scene(seed) == 1;
    let time = to_f32(frame);
    for left in [false, true].into_iter().take(hands_in_scene(seed)) {
        let motion = Motion::random(&mut rng, lone, left);
        draw_hand(&mut image, &motion.at(time, unit, middle), skin);
    }
    image
}

/// How one hand moves, in pixels of the reference layout and frames.
struct Motion {
    home: [f32; 2],
    sway: [f32; 2],
    /// Angular speeds in radians a frame: sideways, up and down, turning, bending.
    speeds: [f32; 4],
    phase_rad: f32,
    size: f32,
    tilt_rad: f32,
    turn_rad: f32,
    curl_max: f32,
    left: bool,
}

impl Motion {
    fn random(rng: &mut SceneRng, lone: bool, left: bool) -> Self {
        // The right hand of a person who faces us is on the left of the image.
        let side = if lone || left { 1.0 } else { -1.0 };
        // A number within the range of a lone hand, or of the left one of two.
        let mut choose = |alone: [f32; 2], paired: [f32; 2]| {
            let [low, high] = if lone { alone } else { paired };
            rng.between(low, high)
        };
        Self {
            home: [
                side * choose([-30.0, 30.0], [68.0, 76.0]),
                choose([8.0, 22.0], [6.0, 20.0]),
            ],
            sway: [
                choose([24.0, 44.0], [6.0, 14.0]),
                choose([8.0, 16.0], [8.0, 16.0]),
            ],
            speeds: [[0.08, 0.13], [0.10, 0.17], [0.06, 0.11], [0.12, 0.20]]
                .map(|range| choose(range, range)),
            phase_rad: choose([0.0, TAU], [0.0, TAU]),
            size: choose([50.0, 58.0], [39.0, 44.0]),
            tilt_rad: side * choose([-0.15, 0.15], [-0.15, 0.05]),
            turn_rad: choose([0.2, 0.4], [0.1, 0.2]),
            curl_max: choose([0.3, 0.5], [0.3, 0.5]),
            left,
        }
    }

    /// The pose at frame `time`; `unit` pixels per reference pixel, `middle` of the image in pixels.
    fn at(&self, time: f32, unit: f32, middle: [f32; 2]) -> HandPose {
        let wave = |speed: f32, lead: f32| (time * speed + self.phase_rad + lead).sin();
        let [across, along, turning, bending] = self.speeds;
        // Each finger follows the one before it, as in a wave of the hand.
        let curl =
            [0.0, 0.5, 1.0, 1.5, 2.0].map(|lag| self.curl_max * (0.5 + 0.5 * wave(bending, -lag)));
        HandPose {
            center: [
                middle[0] + unit * (self.home[0] + self.sway[0] * wave(across, 0.0)),
                middle[1] + unit * (self.home[1] + self.sway[1] * wave(along, 1.0)),
            ],
            size: unit * self.size,
            rotation_rad: self.tilt_rad + self.turn_rad * wave(turning, 2.0),
            spread: 1.0 + 0.25 * wave(bending, 3.0),
            curl,
            left: self.left,
        }
    }
}

/// A vertical gradient with a soft light at `glow`, `[x, y]` as shares of the image.
fn draw_backdrop(image: &mut RgbFrame, [top, bottom]: [[f32; 3]; 2], glow: [f32; 2]) {
    let (width, height) = (image.width(), image.height());
    if width == 0 || height == 0 {
        return;
    }
    let (across, down) = (1.0 / to_f32(width), 1.0 / to_f32(height));
    let rows = image.pixels_mut().chunks_exact_mut(width * 3);
    for (row, line) in rows.enumerate() {
        let y = (to_f32(row) + 0.5) * down;
        let base: [f32; 3] = std::array::from_fn(|c| top[c] + (bottom[c] - top[c]) * y);
        for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
            let x = (to_f32(column) + 0.5) * across;
            let far = (x - glow[0]) * (x - glow[0]) + (y - glow[1]) * (y - glow[1]);
            let light = 26.0 / (1.0 + 6.0 * far);
            for (channel, value) in pixel.iter_mut().zip(base) {
                *channel = to_byte(value + light);
            }
        }
    }
}

/// Numbers that look random and depend on the seed alone (`SplitMix64`, Steele, Lea and Flood 2014).
struct SceneRng(u64);

impl SceneRng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly distributed in `low..high`.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        let [a, b, ..] = self.next().to_le_bytes();
        low + (high - low) * f32::from(u16::from_le_bytes([a, b])) / 65_536.0
    }

    /// An index below `count`, which is 1 to 256.
    fn pick(&mut self, count: usize) -> usize {
        usize::from(self.next().to_le_bytes()[0]) * count / 256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_depends_on_its_arguments_alone() {
        assert_eq!(
            signing_scene(3, 10, 160, 120),
            signing_scene(3, 10, 160, 120)
        );
        assert_ne!(
            signing_scene(3, 10, 160, 120),
            signing_scene(3, 11, 160, 120)
        );
        assert_ne!(
            signing_scene(3, 10, 160, 120),
            signing_scene(4, 10, 160, 120)
        );
    }

    #[test]
    fn every_size_and_number_is_drawable() {
        for (width, height) in [
            (0, 0),
            (0, 9),
            (9, 0),
            (1, 1),
            (17, 3),
            (90, 160),
            (640, 480),
        ] {
            let image = signing_scene(u64::MAX, usize::MAX, width, height);
            assert_eq!((image.width(), image.height()), (width, height));
        }
    }

    #[test]
    fn hands_stay_in_the_image() {
        for seed in 0..64 {
            let mut rng = SceneRng(seed);
            let lone = hands_in_scene(seed) == 1;
            for left in [false, true].into_iter().take(hands_in_scene(seed)) {
                let motion = Motion::random(&mut rng, lone, left);
                for time in 0..64 {
                    let pose = motion.at(to_f32(time), 1.0, [160.0, 120.0]);
                    assert!((40.0..280.0).contains(&pose.center[0]), "{seed} {pose:?}");
                    assert!((90.0..170.0).contains(&pose.center[1]), "{seed} {pose:?}");
                }
            }
        }
    }

    #[test]
    fn both_kinds_of_scene_exist() {
        assert_eq!([hands_in_scene(2), hands_in_scene(3)], [1, 2]);
    }
}
