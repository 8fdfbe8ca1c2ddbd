//! `.pose` files of pose-format 0.2: a header with the image size and the names of the points, then for each frame x,
//! y in pixels, z as detected, and a confidence. Little-endian. Pure.

use super::source::ClipHands;
use crate::draw::skeleton::{BONES, HAND_COLORS};
use crate::hand::landmarks::LANDMARKS;
use crate::sequence::normalize::SLOTS;
use std::io::{self, Write};

/// The frame rate that is written for clips of unknown rate. Players divide by it.
const DEFAULT_FPS: f32 = 25.0;

/// The names of the components, left hand first.
const COMPONENTS: [&str; SLOTS] = ["LEFT_HAND_LANDMARKS", "RIGHT_HAND_LANDMARKS"];

/// MediaPipe's names of the landmarks.
#[rustfmt::skip]
const POINTS: [&str; LANDMARKS] = [
    "WRIST", "THUMB_CMC", "THUMB_MCP", "THUMB_IP", "THUMB_TIP",
    "INDEX_FINGER_MCP", "INDEX_FINGER_PIP", "INDEX_FINGER_DIP", "INDEX_FINGER_TIP",
    "MIDDLE_FINGER_MCP", "MIDDLE_FINGER_PIP", "MIDDLE_FINGER_DIP", "MIDDLE_FINGER_TIP",
    "RING_FINGER_MCP", "RING_FINGER_PIP", "RING_FINGER_DIP", "RING_FINGER_TIP",
    "PINKY_MCP", "PINKY_PIP", "PINKY_DIP", "PINKY_TIP",
];

/// Writes the file of a clip.
pub(super) fn write(to: &mut impl Write, hands: &ClipHands) -> io::Result<()> {
    // Without a known size the image counts as one pixel, so the coordinates stay fractions.
    let [width, height] =
        [hands.width, hands.height].map(|side| u16::try_from(side).ok().filter(|side| *side > 0));
    let size = width.zip(height).unwrap_or((1, 1));
    let scale = [f32::from(size.0), f32::from(size.1), 1.0];
    to.write_all(&0.2_f32.to_le_bytes())?;
    put_numbers(to, &[size.0, size.1, 0, short(COMPONENTS.len())])?;
    for (name, color) in COMPONENTS.into_iter().zip(HAND_COLORS) {
        put_text(to, name)?;
        put_text(to, "XYZC")?;
        put_numbers(
            to,
            &[short(POINTS.len()), short(BONES.len()), short(BONES.len())],
        )?;
        POINTS.iter().try_for_each(|point| put_text(to, point))?;
        for bone in BONES {
            put_numbers(to, &bone.map(short))?;
        }
        for _ in BONES {
            put_numbers(to, &color.map(u16::from))?;
        }
    }
    let frames = u32::try_from(hands.frames.len()).map_err(io::Error::other)?;
    to.write_all(&hands.fps.unwrap_or(DEFAULT_FPS).to_le_bytes())?;
    to.write_all(&frames.to_le_bytes())?;
    put_numbers(to, &[1])?;
    for hand in hands.frames.iter().flat_map(|frame| frame.hands) {
        for point in hand.unwrap_or_default() {
            for (value, scale) in point.into_iter().zip(scale) {
                to.write_all(&(value * scale).to_le_bytes())?;
            }
        }
    }
    for frame in &hands.frames {
        for (hand, score) in frame.hands.iter().zip(frame.scores) {
            let confidence = if hand.is_some() { score } else { 0.0 };
            for _ in POINTS {
                to.write_all(&confidence.to_le_bytes())?;
            }
        }
    }
    Ok(())
}

/// Converts a length or an index of constant data to 16 bits.
fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn put_numbers(to: &mut impl Write, numbers: &[u16]) -> io::Result<()> {
    numbers
        .iter()
        .try_for_each(|number| to.write_all(&number.to_le_bytes()))
}

fn put_text(to: &mut impl Write, text: &str) -> io::Result<()> {
    put_numbers(to, &[short(text.len())])?;
    to.write_all(text.as_bytes())
}
