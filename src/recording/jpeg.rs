//! Pictures for people: the hands' bones drawn over a frame, encoded as JPEG.

use crate::draw::skeleton::{HAND_COLORS, draw_landmarks};
use crate::frame::RgbFrame;
use crate::hand::landmarks::LANDMARKS;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// From 1 to 100.
const JPEG_QUALITY: u8 = 85;

/// Draws `hands`, as detected, over `frame`.
fn draw_hands(frame: &mut RgbFrame, hands: &[[[f32; 3]; LANDMARKS]]) {
    for (hand, color) in hands.iter().zip(HAND_COLORS) {
        let points = std::array::from_fn(|i| [hand[i][0], hand[i][1]]);
        draw_landmarks(frame, &points, color);
    }
}

/// Draws `hands`, as detected, over `frame` and encodes it as JPEG.
///
/// # Errors
/// Returns the encoder's message.
pub(crate) fn jpeg_with_hands(
    frame: &mut RgbFrame,
    hands: &[[[f32; 3]; LANDMARKS]],
) -> Result<Vec<u8>, String> {
    draw_hands(frame, hands);
    let side = |n: usize| u32::try_from(n).map_err(|e| e.to_string());
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
        .write_image(
            frame.pixels(),
            side(frame.width())?,
            side(frame.height())?,
            ExtendedColorType::Rgb8,
        )
        .map_err(|e| e.to_string())?;
    Ok(bytes)
}
