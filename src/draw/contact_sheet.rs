//! A contact sheet: many images on one page, a caption under each.

use super::font::{GLYPH_HEIGHT, draw_text, text_width};
use super::{fill_rectangle, to_byte, to_f32, to_index};
use crate::frame::RgbFrame;

/// Every tile's image is scaled to fit into this width and height, in pixels.
const TILE: [usize; 2] = [240, 180];

/// Pixels between tiles and around the page.
const GAP: usize = 12;

/// Pixels between an image and its caption, and between lines of the legend.
const CAPTION_GAP: usize = 6;

/// Pixels of a dot of the legend and of a caption.
const LEGEND_SCALE: usize = 2;
const CAPTION_SCALE: usize = 1;

const PAPER: [u8; 3] = [245, 245, 242];
const INK: [u8; 3] = [40, 44, 52];

/// One image of a contact sheet.
#[derive(Clone, Debug)]
pub struct Tile {
    /// The image, best 4:3; without pixels the tile stays empty.
    pub frame: RgbFrame,
    /// One line of lower-case letters and digits under it, at most 40 characters.
    pub caption: String,
}

/// One line of the legend.
#[derive(Clone, Copy, Debug)]
pub struct LegendEntry {
    /// A square of this color is drawn before the text.
    pub color: Option<[u8; 3]>,
    /// One line of lower-case letters and digits.
    pub text: &'static str,
}

/// Draws the legend, then the tiles in rows of `columns` (at least one), left to right, top to bottom.
///
/// The page is as wide as its columns and as high as its legend and rows.
#[must_use]
pub fn contact_sheet(legend: &[LegendEntry], tiles: &[Tile], columns: usize) -> RgbFrame {
    let [tile_width, tile_height] = TILE;
    let square = GLYPH_HEIGHT * LEGEND_SCALE;
    let line_height = square + CAPTION_GAP;
    let row_height = tile_height + CAPTION_GAP + GLYPH_HEIGHT * CAPTION_SCALE + GAP;
    let tiles_top = GAP + legend.len() * line_height;
    let size = [
        GAP + columns * (tile_width + GAP),
        tiles_top + tiles.len().div_ceil(columns) * row_height,
    ];
    let mut page = RgbFrame::new(size[0], size[1]);
    fill_rectangle(&mut page, [0, 0], size, PAPER);
    for (entry, n) in legend.iter().zip(0..) {
        let (mut left, top) = (GAP, GAP + n * line_height);
        if let Some(color) = entry.color {
            fill_rectangle(&mut page, [left, top], [square; 2], color);
            left += square + CAPTION_GAP;
        }
        draw_text(&mut page, [left, top], entry.text, LEGEND_SCALE, INK);
    }
    for (n, tile) in tiles.iter().enumerate() {
        let left = GAP + n % columns * (tile_width + GAP);
        let top = tiles_top + n / columns * row_height;
        let [image_width, image_height] = fitted(&tile.frame);
        let image = scale_image(&tile.frame, image_width, image_height);
        let image_left = left + (tile_width - image_width) / 2;
        let rows = page.pixels_mut().chunks_exact_mut(size[0] * 3);
        let rows = rows.skip(top + (tile_height - image_height) / 2);
        for (row, line) in rows.zip(image.pixels().chunks_exact((image_width * 3).max(1))) {
            row[image_left * 3..][..line.len()].copy_from_slice(line);
        }
        let width = text_width(&tile.caption, CAPTION_SCALE);
        let indent = tile_width.saturating_sub(width) / 2;
        let corner = [left + indent, top + tile_height + CAPTION_GAP];
        draw_text(&mut page, corner, &tile.caption, CAPTION_SCALE, INK);
    }
    page
}

/// The largest size within [`TILE`] with the shape of `frame`; zeros when it has no pixels.
fn fitted(frame: &RgbFrame) -> [usize; 2] {
    let (width, height) = (frame.width(), frame.height());
    if width == 0 || height == 0 {
        return [0; 2];
    }
    let scaled = |to: usize, side: usize, other: usize| (to * other / side).max(1);
    if width * TILE[1] >= height * TILE[0] {
        [TILE[0], scaled(TILE[0], width, height)]
    } else {
        [scaled(TILE[1], height, width), TILE[1]]
    }
}

/// Scales to exactly `width × height` pixels: each output pixel is the weighted mean of the input around it.
///
/// Shrinking averages over the area, enlarging interpolates linearly. An empty input gives black.
#[must_use]
pub fn scale_image(frame: &RgbFrame, width: usize, height: usize) -> RgbFrame {
    let mut scaled = RgbFrame::new(width, height);
    if frame.width() == 0 || frame.height() == 0 || width == 0 || height == 0 {
        return scaled;
    }
    if (frame.width(), frame.height()) == (width, height) {
        return frame.clone();
    }
    let across = taps(frame.width(), width);
    let down = taps(frame.height(), height);

    // First along the rows, then along the columns: `[frame.height, width, 3]`, 0..=255.
    let mut rows = vec![0.0_f32; frame.height() * width * 3];
    let lines = frame.pixels().chunks_exact(frame.width() * 3);
    for (line, row) in lines.zip(rows.chunks_exact_mut(width * 3)) {
        for (out, (first, weights)) in row.chunks_exact_mut(3).zip(&across) {
            let pixels = line[first * 3..].chunks_exact(3);
            for (pixel, weight) in pixels.zip(weights) {
                for (sum, &value) in out.iter_mut().zip(pixel) {
                    *sum += weight * f32::from(value);
                }
            }
        }
    }
    let mut line = vec![0.0_f32; width * 3];
    let outputs = scaled.pixels_mut().chunks_exact_mut(width * 3);
    for (out, (first, weights)) in outputs.zip(&down) {
        line.fill(0.0);
        let inputs = rows[first * width * 3..].chunks_exact(width * 3);
        for (input, weight) in inputs.zip(weights) {
            for (sum, value) in line.iter_mut().zip(input) {
                *sum += weight * value;
            }
        }
        for (byte, value) in out.iter_mut().zip(&line) {
            *byte = to_byte(*value);
        }
    }
    scaled
}

/// For each of `to` output positions the first input index and the weights from there on, which sum to 1.
///
/// `from` and `to` are at least 1.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let ratio = to_f32(from) / to_f32(to);
    let reach = ratio.max(1.0);
    let tap = |index: usize| {
        let center = (to_f32(index) + 0.5) * ratio;
        let first = to_index(center - reach).min(from - 1);
        let end = to_index(center + reach + 1.0).clamp(first + 1, from);
        // A triangle: bilinear when enlarging, an area mean with soft edges when shrinking.
        let mut weights: Vec<f32> = (first..end)
            .map(|i| (1.0 - (to_f32(i) + 0.5 - center).abs() / reach).max(0.0))
            .collect();
        let sum: f32 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= sum;
        }
        (first, weights)
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: usize, height: usize, color: [u8; 3]) -> RgbFrame {
        let mut frame = RgbFrame::new(width, height);
        for pixel in frame.pixels_mut().chunks_exact_mut(3) {
            pixel.copy_from_slice(&color);
        }
        frame
    }

    fn tile(caption: &str) -> Tile {
        Tile {
            frame: flat(320, 240, [10, 200, 30]),
            caption: caption.to_owned(),
        }
    }

    #[test]
    fn a_flat_image_stays_flat_at_every_size() {
        let frame = flat(37, 23, [200, 100, 3]);
        for (width, height) in [(1, 1), (5, 90), (37, 23), (240, 156), (11, 7)] {
            assert_eq!(
                scale_image(&frame, width, height),
                flat(width, height, [200, 100, 3])
            );
        }
    }

    #[test]
    fn shrinking_keeps_the_mean() {
        let mut frame = RgbFrame::new(64, 64);
        for (index, pixel) in frame.pixels_mut().chunks_exact_mut(3).enumerate() {
            // One white column in four.
            pixel.fill(if index % 4 == 0 { 255 } else { 0 });
        }
        let small = scale_image(&frame, 8, 8);
        let middle = small.pixels()[(4 * 8 + 4) * 3];
        assert!((60..=68).contains(&middle), "{middle}");
    }

    #[test]
    fn the_page_holds_all_tiles() {
        let tiles = vec![tile("one"); 5];
        let page = contact_sheet(&[], &tiles, 2);
        assert_eq!(page.width(), GAP + 2 * (240 + GAP));
        assert_eq!(
            page.height(),
            GAP + 3 * (180 + CAPTION_GAP + GLYPH_HEIGHT + GAP)
        );
        let green = page
            .pixels()
            .chunks_exact(3)
            .filter(|p| p == &[10, 200, 30]);
        assert_eq!(green.count(), 5 * 240 * 180);
        let ink = page.pixels().chunks_exact(3).filter(|p| p == &INK).count();
        assert!(ink > 5 * 10);
    }

    #[test]
    fn the_legend_lies_above_the_tiles() {
        let entry = |color, text| LegendEntry { color, text };
        let legend = [
            entry(Some([255, 96, 64]), "first hand"),
            entry(Some([64, 160, 255]), "second hand"),
            entry(None, "one row: one clip"),
        ];
        let tiles = [tile("one"), tile("two")];
        let (bare, page) = (
            contact_sheet(&[], &tiles, 2),
            contact_sheet(&legend, &tiles, 2),
        );
        let added = page.height() - bare.height();
        assert_eq!(added, 3 * (2 * GLYPH_HEIGHT + CAPTION_GAP));
        // The tiles are the same, only lower.
        let row = page.width() * 3;
        assert!(page.pixels()[(GAP + added) * row..] == bare.pixels()[GAP * row..]);
        let above = &page.pixels()[..(GAP + added) * row];
        let count = |color: [u8; 3]| above.chunks_exact(3).filter(|p| *p == color).count();
        let square = (2 * GLYPH_HEIGHT).pow(2);
        assert_eq!(count([255, 96, 64]), square);
        assert_eq!(count([64, 160, 255]), square);
        assert!(count(INK) > 30);
    }

    #[test]
    fn no_tiles_give_a_page_and_long_captions_do_not_panic() {
        assert!(contact_sheet(&[], &[], 4).width() > 0);
        let long = "a caption that is far too long to fit under one tile, ever";
        assert!(contact_sheet(&[], &[tile(long)], 1).height() > 0);
    }
}
