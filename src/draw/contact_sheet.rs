//! A contact sheet: many images on one page, a caption under each.

use super::font::{ADVANCE, GLYPH_HEIGHT, draw_text, text_width};
use super::{to_byte, to_f32, to_index};
use crate::frame::RgbFrame;

/// Every tile's image is scaled to this many pixels across.
pub const TILE_WIDTH: usize = 240;

/// A taller image, as of a phone held upright, is scaled to this height instead and centerd.
pub const TILE_HEIGHT_MAX: usize = 320;

/// Pixels between tiles and around the page.
const GAP: usize = 12;

/// Pixels between a image and its caption.
const CAPTION_GAP: usize = 6;

const PAPER: [u8; 3] = [245, 245, 242];
const INK: [u8; 3] = [40, 44, 52];

/// One image of a contact sheet.
#[derive(Clone, Debug)]
pub struct Tile {
    /// The image, of any size.
    pub frame: RgbFrame,
    /// One line of ASCII under it; what does not fit is cut off, with dots in its place.
    pub caption: String,
}

/// One line of the legend.
#[derive(Clone, Debug)]
pub struct LegendEntry {
    /// A square of this colour is drawn before the text.
    pub color: Option<[u8; 3]>,
    /// One line of ASCII.
    pub text: String,
}

/// Draws the legend, then the tiles in rows of `columns` (at least one), left to right, top to bottom.
///
/// The page is as wide as its columns and as high as its legend and rows; without tiles it is one tile wide.
#[must_use]
pub fn contact_sheet(legend: &[LegendEntry], tiles: &[Tile], columns: usize) -> RgbFrame {
    let columns = columns.clamp(1, tiles.len().max(1));
    let scale = caption_scale(tiles);
    let caption_height = CAPTION_GAP + GLYPH_HEIGHT * scale;
    let row_heights: Vec<usize> = tiles
        .chunks(columns)
        .map(|row| {
            let image = row.iter().map(|tile| fitted_size(&tile.frame)[1]).max();
            image.unwrap_or(0) + caption_height
        })
        .collect();

    let width = GAP + columns * (TILE_WIDTH + GAP);
    let legend_scale = legend_scale(legend, width);
    let line_height = GLYPH_HEIGHT * legend_scale + CAPTION_GAP;
    let tiles_top = GAP + legend.len() * line_height;
    let height = tiles_top + row_heights.iter().map(|h| h + GAP).sum::<usize>();
    let mut page = blank_page(width, height);
    for (entry, n) in legend.iter().zip(0..) {
        draw_legend_entry(&mut page, GAP + n * line_height, entry, legend_scale);
    }
    let mut top = tiles_top;
    for (row, row_height) in tiles.chunks(columns).zip(&row_heights) {
        for (column, tile) in row.iter().enumerate() {
            let left = GAP + column * (TILE_WIDTH + GAP);
            let [tile_width, tile_height] = fitted_size(&tile.frame);
            let image = scale_image(&tile.frame, tile_width, tile_height);
            let inset = (TILE_WIDTH - tile_width) / 2;
            // Images of unequal height stand on one line, just above their captions.
            let drop = row_height - caption_height - tile_height;
            paste(&mut page, &image, [left + inset, top + drop]);

            let caption = fit_caption(&tile.caption, scale);
            let indent = (TILE_WIDTH - text_width(&caption, scale).min(TILE_WIDTH)) / 2;
            let baseline = top + row_height - GLYPH_HEIGHT * scale;
            draw_text(&mut page, [left + indent, baseline], &caption, scale, INK);
        }
        top += row_height + GAP;
    }
    page
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

/// Width and height of a tile's image on the page, in pixels.
fn fitted_size(frame: &RgbFrame) -> [usize; 2] {
    if frame.width() == 0 || frame.height() == 0 {
        // A clip without a image still gets a black square over its caption.
        return [TILE_WIDTH, TILE_WIDTH * 3 / 4];
    }
    let height = (frame.height() * TILE_WIDTH / frame.width()).max(1);
    if height <= TILE_HEIGHT_MAX {
        return [TILE_WIDTH, height];
    }
    let width = (frame.width() * TILE_HEIGHT_MAX / frame.height()).max(1);
    [width, TILE_HEIGHT_MAX]
}

/// The largest size of dots in which all captions fit, the same for the whole page.
fn caption_scale(tiles: &[Tile]) -> usize {
    let fits = |scale| {
        tiles
            .iter()
            .all(|tile| text_width(&tile.caption, scale) <= TILE_WIDTH)
    };
    if fits(2) { 2 } else { 1 }
}

/// The largest size of dots in which all lines of the legend fit on the page.
fn legend_scale(legend: &[LegendEntry], page_width: usize) -> usize {
    let square = GLYPH_HEIGHT * 2 + CAPTION_GAP;
    let fits = |entry: &LegendEntry| text_width(&entry.text, 2) + square + 2 * GAP <= page_width;
    if legend.iter().all(fits) { 2 } else { 1 }
}

fn draw_legend_entry(page: &mut RgbFrame, top: usize, entry: &LegendEntry, scale: usize) {
    let side = GLYPH_HEIGHT * scale;
    let mut left = GAP;
    if let Some(color) = entry.color {
        let mut square = RgbFrame::new(side, side);
        for pixel in square.pixels_mut().chunks_exact_mut(3) {
            pixel.copy_from_slice(&color);
        }
        paste(page, &square, [left, top]);
        left += side + CAPTION_GAP;
    }
    draw_text(page, [left, top], &entry.text, scale, INK);
}

fn fit_caption(caption: &str, scale: usize) -> String {
    if text_width(caption, scale) <= TILE_WIDTH {
        return caption.to_owned();
    }
    let room = TILE_WIDTH / (ADVANCE * scale);
    let kept: String = caption.chars().take(room.saturating_sub(3)).collect();
    kept + "..."
}

fn blank_page(width: usize, height: usize) -> RgbFrame {
    let mut page = RgbFrame::new(width, height);
    for pixel in page.pixels_mut().chunks_exact_mut(3) {
        pixel.copy_from_slice(&PAPER);
    }
    page
}

/// Copies `image` onto the page, which is large enough, with its upper left corner at `left`, `top`.
fn paste(page: &mut RgbFrame, image: &RgbFrame, [left, top]: [usize; 2]) {
    let page_row = page.width() * 3;
    let image_row = image.width() * 3;
    let targets = page.pixels_mut().chunks_exact_mut(page_row).skip(top);
    for (target, source) in targets.zip(image.pixels().chunks_exact(image_row)) {
        target[left * 3..left * 3 + image_row].copy_from_slice(source);
    }
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

    fn tile(width: usize, height: usize, caption: &str) -> Tile {
        Tile {
            frame: flat(width, height, [10, 200, 30]),
            caption: caption.to_owned(),
        }
    }

    #[test]
    fn a_flat_picture_stays_flat_at_every_size() {
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
        let tiles = vec![tile(320, 240, "one"); 5];
        let page = contact_sheet(&[], &tiles, 2);
        let caption = 2 * GLYPH_HEIGHT;
        assert_eq!(page.width(), GAP + 2 * (TILE_WIDTH + GAP));
        assert_eq!(page.height(), GAP + 3 * (180 + CAPTION_GAP + caption + GAP));
        let green = page
            .pixels()
            .chunks_exact(3)
            .filter(|p| p == &[10, 200, 30]);
        assert_eq!(green.count(), 5 * 240 * 180);
        let ink = page.pixels().chunks_exact(3).filter(|p| p == &INK).count();
        assert!(ink > 5 * 30);
    }

    #[test]
    fn the_legend_lies_above_the_tiles() {
        let entry = |color, text: &str| LegendEntry {
            color,
            text: text.to_owned(),
        };
        let legend = [
            entry(Some([255, 96, 64]), "first hand"),
            entry(Some([64, 160, 255]), "second hand"),
            entry(None, "one row: one clip"),
        ];
        let tiles = [tile(320, 240, "one"), tile(320, 240, "two")];
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
    fn odd_tiles_and_column_counts_do_not_panic() {
        assert!(contact_sheet(&[], &[], 0).width() > 0);
        let tiles = [
            tile(0, 0, ""),
            tile(
                1,
                5_000,
                "a caption that is far too long to fit under one tile, ever",
            ),
            tile(5_000, 1, "\u{1F91F}"),
            tile(90, 160, "upright"),
        ];
        for columns in [0, 1, 3, usize::MAX] {
            assert!(contact_sheet(&[], &tiles, columns).height() > 0);
        }
    }

    #[test]
    fn long_captions_end_in_dots() {
        let long = "x".repeat(60);
        let cut = fit_caption(&long, 1);
        assert!(cut.ends_with("...") && text_width(&cut, 1) <= TILE_WIDTH);
        assert_eq!(fit_caption("short", 1), "short");
    }
}
