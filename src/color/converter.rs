//! The work of swscale's scaler at equal size: chroma is enlarged to the size of luma, then each row goes through a
//! matrix.
//!
//! Samples become 15 bits; chroma is enlarged horizontally first where each pixel has its own, then vertically. The
//! three matrices differ only in rounding ([`Method`]).

mod rows;

use super::coefficients::Matrix;
use super::filter::{Filter, HORIZONTAL_ONE, VERTICAL_ONE};
use super::{ChromaLayout, ColorError, Exactness, YuvFrame};
use crate::frame::RgbFrame;
use rows::{Method, NEAREST, Rows, applied_weights};

/// Neutral chroma (gray) in 15 bits.
const NEUTRAL: i16 = 128 << 7;

/// Turns images into RGB; keeps its working planes and rows from one image to the next.
#[derive(Debug, Default)]
pub struct Converter {
    /// U and V as 15-bit samples, with the width of the row that they are mixed into.
    chroma: [Vec<i16>; 2],
    /// One chroma row of 15-bit samples before enlarging.
    line: Vec<i16>,
    rows: Rows,
    /// The recipe of the last image and the format that it was made for.
    known: Option<(Format, Recipe)>,
}

/// The properties that a recipe depends on; images of a clip share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    coded: (usize, usize),
    layout: ChromaLayout,
    is_planar: bool,
    bit_depth: u8,
    full_range: bool,
}

/// The steps of swscale's conversion of an image.
#[derive(Debug)]
struct Recipe {
    /// Whether each pixel has its own chroma instead of sharing it with its neighbor.
    full_chroma: bool,
    full_range: bool,
    /// Enlarges chroma horizontally; `None` when no enlarging is needed.
    horizontal: Option<Filter>,
    /// Enlarges chroma vertically; with `None` the nearest row is taken.
    vertical: Option<Filter>,
    /// Rows from here on are made by [`Method::PairedPortable`] unless chroma is full.
    portable_from: usize,
}

impl Recipe {
    fn of(format: Format) -> Self {
        let (width, height) = format.coded;
        let (chroma_width, chroma_height) = format.layout.chroma_size(width, height);
        let (is_gray, is_8_bit) = (format.layout == ChromaLayout::Gray, format.bit_depth == 8);
        let is_full_size = is_gray || (chroma_width, chroma_height) == format.coded;
        let is_halved = matches!(format.layout, ChromaLayout::Yuv420 | ChromaLayout::Yuv422);
        let is_unscaled = is_halved && is_8_bit && format.is_planar && height.is_multiple_of(2);
        let full_chroma = !is_unscaled && (is_full_size || !width.is_multiple_of(2));
        let row_width = if full_chroma {
            width
        } else {
            width.div_ceil(2)
        };
        let is_widened = !is_gray && chroma_width < row_width;
        let is_heightened = !is_gray && chroma_height < height && !is_unscaled;
        Self {
            full_chroma,
            // swscale always counts gray as full range; no format of more bits is called yuvj.
            full_range: is_gray || (format.full_range && is_8_bit),
            horizontal: is_widened.then(|| Filter::new(chroma_width, row_width, HORIZONTAL_ONE)),
            vertical: is_heightened.then(|| Filter::new(chroma_height, height, VERTICAL_ONE)),
            portable_from: if is_unscaled {
                height
            } else {
                height.saturating_sub(2)
            },
        }
    }
}

impl Converter {
    /// A converter without working memory; the first image allocates it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `frame` into `out`, which is resized to the visible size: `[height, width, 3]` u8, R G B.
    ///
    /// ```
    /// use handloom::color::{ChromaLayout, Converter, Exactness, YuvFrame};
    /// use handloom::frame::RgbFrame;
    ///
    /// let (luma, chroma) = ([235; 16 * 16], [128; 8 * 8]); // White, in limited range.
    /// let frame = YuvFrame {
    ///     width: 16,
    ///     height: 16,
    ///     coded_width: 16,
    ///     coded_height: 16,
    ///     layout: ChromaLayout::Yuv420,
    ///     is_planar: true,
    ///     bit_depth: 8,
    ///     full_range: false,
    ///     planes: [&luma, &chroma, &chroma],
    ///     strides: [16, 8, 8],
    /// };
    /// let mut rgb = RgbFrame::default();
    /// assert_eq!(Converter::new().to_rgb(&frame, &mut rgb), Ok(Exactness::Exact));
    /// assert_eq!(rgb.pixels()[..3], [255, 255, 255]);
    /// ```
    ///
    /// # Errors
    /// Fails when the geometry is impossible or a plane is too short; `out` is then unchanged.
    pub fn to_rgb(
        &mut self,
        frame: &YuvFrame<'_>,
        out: &mut RgbFrame,
    ) -> Result<Exactness, ColorError> {
        frame.validate()?;
        out.resize(frame.width, frame.height);
        if frame.layout == ChromaLayout::Gray && frame.bit_depth == 8 {
            copy_gray(frame, out);
            return Ok(Exactness::Exact);
        }
        let format = Format {
            coded: (frame.coded_width, frame.coded_height),
            layout: frame.layout,
            is_planar: frame.is_planar,
            bit_depth: frame.bit_depth,
            full_range: frame.full_range,
        };
        let known = self.known.take().filter(|(of, _)| *of == format);
        let (_, recipe) = known.unwrap_or_else(|| (format, Recipe::of(format)));
        let chroma_width = if recipe.full_chroma {
            frame.width
        } else {
            frame.width.div_ceil(2)
        };
        self.load_chroma(frame, &recipe, chroma_width);
        self.rows.resize(frame.width, chroma_width);
        // Safe run-time choice of AVX2; on aarch64 the baseline already has NEON.
        let exactness = pulp::Arch::new().dispatch(AllRows {
            converter: self,
            recipe: &recipe,
            frame,
            out,
        });
        let is_cropped = recipe.horizontal.is_some() && frame.coded_width != frame.width;
        self.known = Some((format, recipe));
        Ok(if is_cropped {
            Exactness::Approximate
        } else {
            exactness
        })
    }

    /// Brings both chroma planes to 15 bits and to rows of `width` samples.
    fn load_chroma(&mut self, frame: &YuvFrame<'_>, recipe: &Recipe, width: usize) {
        let (coded_columns, _) = frame.layout.chroma_size(frame.coded_width, 1);
        self.line.resize(coded_columns, 0);
        for (index, plane) in (1..).zip(&mut self.chroma) {
            let (columns, rows) = frame.plane_size(index);
            if columns == 0 {
                plane.clear();
                plane.resize(width, NEUTRAL);
                continue;
            }
            plane.resize(width * rows, 0);
            for (y, target) in plane.chunks_exact_mut(width).enumerate() {
                let source = frame.row(index, y);
                if let Some(filter) = &recipe.horizontal {
                    let (visible, beyond) = self.line.split_at_mut(columns);
                    widen(source, frame.bit_depth, visible);
                    beyond.fill(visible[columns - 1]);
                    enlarge(&self.line, filter, target);
                } else {
                    widen(source, frame.bit_depth, target);
                }
            }
        }
    }
}

/// Converts one image's rows. It is a type of its own because a closure's call is not always inlined into the AVX2
/// code.
struct AllRows<'a> {
    converter: &'a mut Converter,
    recipe: &'a Recipe,
    frame: &'a YuvFrame<'a>,
    out: &'a mut RgbFrame,
}

impl pulp::NullaryFnOnce for AllRows<'_> {
    type Output = Exactness;

    #[inline(always)]
    fn call(self) -> Exactness {
        let (frame, recipe) = (self.frame, self.recipe);
        let Converter { chroma, rows, .. } = self.converter;
        let chroma_rows = frame.plane_size(1).1.max(1);
        let rows_per_chroma = frame.height.div_ceil(chroma_rows);
        let matrix = Matrix::of(recipe.full_range);
        let (mut exactness, mut loaded) = (Exactness::Exact, None);
        let targets = self.out.pixels_mut().chunks_exact_mut(frame.width * 3);
        for (y, target) in targets.enumerate() {
            let (first, weights) = match &recipe.vertical {
                Some(filter) => filter.row(y),
                None => (y / rows_per_chroma, NEAREST),
            };
            if first + weights.len() > chroma_rows {
                // swscale expects more rows than it got: it stops here and leaves the rest unwritten.
                target.fill(0);
                exactness = Exactness::Approximate;
                continue;
            }
            let method = if recipe.full_chroma {
                Method::Full
            } else if y < recipe.portable_from {
                Method::PairedFast
            } else {
                Method::PairedPortable
            };
            widen(frame.row(0, y), frame.bit_depth, &mut rows.luma);
            // With 4:2:0 two rows share their chroma.
            let source = (first, applied_weights(weights), method);
            if loaded != Some(source) {
                rows.load_chroma(chroma, source.0, source.1, method, matrix);
                loaded = Some(source);
            }
            rows.mix(method, recipe.full_range);
            let [red, green, blue] = &rows.channels;
            let channels = red.iter().zip(green).zip(blue);
            for (pixel, ((&r, &g), &b)) in target.as_chunks_mut::<3>().0.iter_mut().zip(channels) {
                *pixel = [r, g, b];
            }
        }
        exactness
    }
}

/// 8-bit gray goes through a palette whose entry `i` is `(i, i, i)`.
fn copy_gray(frame: &YuvFrame<'_>, out: &mut RgbFrame) {
    let rows = out.pixels_mut().chunks_exact_mut(frame.width * 3);
    for (y, target) in rows.enumerate() {
        let (pixels, _) = target.as_chunks_mut::<3>();
        for (pixel, &luma) in pixels.iter_mut().zip(frame.row(0, y)) {
            *pixel = [luma; 3];
        }
    }
}

/// Samples of `bits` bits, in one byte or two, to 15 bits.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "limited to 15 bits"
)]
fn widen(source: &[u8], bits: u8, target: &mut [i16]) {
    if bits == 8 {
        for (target, &sample) in target.iter_mut().zip(source) {
            *target = i16::from(sample) << 7;
        }
        return;
    }
    // 16 bits lose one bit.
    let (left, right) = (15_u8.saturating_sub(bits), bits.saturating_sub(15));
    for (target, &sample) in target.iter_mut().zip(source.as_chunks::<2>().0) {
        let sample = (u32::from(u16::from_le_bytes(sample)) << left) >> right;
        *target = sample.min(i16::MAX as u32) as i16;
    }
}

/// Enlarges a chroma row of 15-bit `samples`, whose number is that of the filter's source.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "clamped to 16 bits")]
fn enlarge(samples: &[i16], filter: &Filter, target: &mut [i16]) {
    for (x, target) in target.iter_mut().enumerate() {
        let (first, weights) = filter.row(x);
        let taps = samples[first..first + weights.len()].iter().zip(weights);
        let sum = taps.fold(0, |sum, (&sample, &weight)| {
            sum + i32::from(sample) * i32::from(weight)
        });
        // Weights have 14 fractional bits.
        *target = (sum >> 14).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
    }
}

#[cfg(test)]
mod tests;
