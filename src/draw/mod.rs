//! Images we draw ourselves: hands for the demo and the tests, landmarks over a frame, the contact sheet.
//!
//! Pure: everything here turns numbers into pixels of an [`crate::frame::RgbFrame`] and knows nothing of
//! files, encoders or models. In reading order:
//!
//! * `capsule`: the shape that everything else is made of, anti-aliased and clipped to the image;
//! * `height_field`: capsules that merge into one surface with light on it;
//! * `hand`: a hand with its forearm, real enough for the palm model to detect it;
//! * [`scene`]: such hands moving over a soft background, one image per frame number;
//! * [`skeleton`]: the 21 landmarks of a hand as bones and joints;
//! * `font` and [`contact_sheet`]: captions, and many images on one page.
//!
//! Space: image pixels, x right, y down, `(0, 0)` the outer corner of the top left pixel, so that pixel's
//! center is `(0.5, 0.5)` and the image spans `0..width × 0..height`. Angles are radians and turn clockwise
//! on the screen. Colors are R G B bytes.

mod capsule;
pub mod contact_sheet;
mod font;
mod hand;
mod height_field;
pub mod scene;
pub mod skeleton;

use crate::frame::RgbFrame;

/// Fills the part of a rectangle that lies inside the image.
fn fill_rectangle(
    frame: &mut RgbFrame,
    [left, top]: [usize; 2],
    [width, height]: [usize; 2],
    color: [u8; 3],
) {
    let row = (frame.width() * 3).max(1);
    for line in frame
        .pixels_mut()
        .chunks_exact_mut(row)
        .skip(top)
        .take(height)
    {
        for pixel in line.chunks_exact_mut(3).skip(left).take(width) {
            pixel.copy_from_slice(&color);
        }
    }
}

/// A count of pixels as a coordinate.
#[expect(
    clippy::cast_precision_loss,
    reason = "no image is 2^24 pixels wide or high"
)]
fn to_f32(count: usize) -> f32 {
    count as f32
}

/// Rounds a color value to a byte; what is outside `0..=255` saturates, NaN gives 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturation is intended"
)]
fn to_byte(value: f32) -> u8 {
    (value + 0.5) as u8
}

/// The pixel index at `position`, 0 for anything left of the image and for NaN.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturation is intended"
)]
fn to_index(position: f32) -> usize {
    position as usize
}
