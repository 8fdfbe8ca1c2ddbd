//! The long way: swscale's general scaler run at equal size, chroma enlarged by bicubic filters.
//!
//! Samples become 15 bits; chroma is enlarged horizontally first where the way needs it, then vertically;
//! each row then goes through one of three matrices that differ only in rounding ([`Way`]).

mod rows;

use super::filter::{Filter, HORIZONTAL_ONE, VERTICAL_ONE};
use super::unscaled::interleave;
use super::{ChromaLayout, Exactness, YuvFrame};
use crate::frame::RgbFrame;
use rows::{ChromaPlane, Rows, WHOLE, Way, blend};

/// Working planes, rows and filters, kept from image to image.
#[derive(Debug, Default)]
pub(super) struct General {
    horizontal: Option<Filter>,
    vertical: Option<Filter>,
    /// One chroma row of 15-bit samples before enlarging.
    line: Vec<i16>,
    chroma: [ChromaPlane; 2],
    rows: Rows,
}

/// Geometry of one conversion.
#[derive(Clone, Copy, Debug)]
struct Plan {
    full_chroma: bool,
    full_range: bool,
    /// Left shift that makes a sample 15 bits.
    shift: u32,
    /// Chroma samples per row after horizontal enlarging.
    chroma_width: usize,
}

impl General {
    /// Converts a validated image; `out` has its visible size.
    pub(super) fn convert(&mut self, frame: &YuvFrame<'_>, out: &mut RgbFrame) -> Exactness {
        let gray = frame.layout == ChromaLayout::Gray;
        let full_chroma =
            gray || frame.layout == ChromaLayout::Yuv444 || !frame.coded_width.is_multiple_of(2);
        let plan = Plan {
            full_chroma,
            // swscale counts gray as full range whatever it is told; no 10-bit format is called yuvj.
            full_range: gray || (frame.full_range && frame.bit_depth == 8),
            shift: u32::from(15 - frame.bit_depth),
            chroma_width: if full_chroma {
                frame.width
            } else {
                frame.width.div_ceil(2)
            },
        };
        let mut exactness = self.load_chroma(frame, plan);
        self.rows.resize(frame.width, plan.chroma_width);

        let (_, coded_chroma_height) = frame
            .layout
            .chroma_size(frame.coded_width, frame.coded_height);
        let vertical = (frame.layout == ChromaLayout::Yuv420).then(|| {
            Filter::cached(
                &mut self.vertical,
                coded_chroma_height,
                frame.coded_height,
                VERTICAL_ONE,
            )
        });
        // Safe run-time choice of AVX2; on aarch64 the baseline already has NEON.
        let all_rows = pulp::Arch::new().dispatch(AllRows {
            chroma: &self.chroma,
            rows: &mut self.rows,
            vertical,
            plan,
            frame,
            out,
        });
        if all_rows == Exactness::Approximate {
            exactness = Exactness::Approximate;
        }
        exactness
    }

    /// Brings both chroma planes to 15 bits and to `plan.chroma_width` columns.
    fn load_chroma(&mut self, frame: &YuvFrame<'_>, plan: Plan) -> Exactness {
        if frame.layout == ChromaLayout::Gray {
            for plane in &mut self.chroma {
                plane.fill_neutral(plan.chroma_width);
            }
            return Exactness::Exact;
        }
        let (coded_chroma_width, _) = frame
            .layout
            .chroma_size(frame.coded_width, frame.coded_height);
        let enlarging = plan.full_chroma && frame.layout != ChromaLayout::Yuv444;
        let filter = enlarging.then(|| {
            Filter::cached(
                &mut self.horizontal,
                coded_chroma_width,
                frame.coded_width,
                HORIZONTAL_ONE,
            )
        });
        self.line.resize(coded_chroma_width, 0);
        for (index, plane) in self.chroma.iter_mut().enumerate() {
            let (columns, rows) = frame.plane_size(index + 1);
            plane.resize(plan.chroma_width, rows);
            let targets = plane.samples.chunks_exact_mut(plan.chroma_width);
            for (y, target) in targets.enumerate() {
                let source = frame.row(index + 1, y);
                let Some(filter) = filter else {
                    widen(source, plan.shift, target);
                    continue;
                };
                let (visible, beyond) = self.line.split_at_mut(columns);
                widen(source, plan.shift, visible);
                beyond.fill(visible[columns - 1]);
                enlarge(&self.line, filter, target);
            }
        }
        if enlarging && frame.coded_width != frame.width {
            Exactness::Approximate
        } else {
            Exactness::Exact
        }
    }
}

/// One image's rows; a type of its own because a closure's call is not always inlined into the AVX2 code.
struct AllRows<'a> {
    chroma: &'a [ChromaPlane; 2],
    rows: &'a mut Rows,
    /// Absent where chroma has as many rows as luma.
    vertical: Option<&'a Filter>,
    plan: Plan,
    frame: &'a YuvFrame<'a>,
    out: &'a mut RgbFrame,
}

impl pulp::NullaryFnOnce for AllRows<'_> {
    type Output = Exactness;

    #[inline(always)]
    fn call(self) -> Exactness {
        let (frame, plan, rows) = (self.frame, self.plan, self.rows);
        let held = self.chroma[0].rows;
        let mut exactness = Exactness::Exact;
        let targets = self.out.pixels_mut().chunks_exact_mut(frame.width * 3);
        for (y, target) in targets.enumerate() {
            let (first, weights) = match self.vertical {
                Some(filter) => filter.row(y),
                None => (y.min(held - 1), &[WHOLE][..]),
            };
            if first + weights.len() > held {
                // swscale was promised more rows than it got: it stops here and leaves the rest unwritten.
                target.fill(0);
                exactness = Exactness::Approximate;
                continue;
            }
            let way = if plan.full_chroma {
                Way::Full
            } else if y + 2 < frame.coded_height {
                Way::PairedFast
            } else {
                Way::PairedPortable
            };
            let (blend, weights) = blend(weights);
            widen(frame.row(0, y), plan.shift, &mut rows.luma);
            rows.blend_chroma(self.chroma, first, weights, blend, way);
            rows.color(way, plan.full_range);
            let [red, green, blue] = &rows.channels;
            interleave(red, green, blue, target);
        }
        exactness
    }
}

/// Samples of one or two bytes to 15 bits; two when `shift` is that of 10-bit samples.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "limited to 15 bits"
)]
fn widen(source: &[u8], shift: u32, target: &mut [i16]) {
    if shift == 7 {
        for (target, &sample) in target.iter_mut().zip(source) {
            *target = i16::from(sample) << 7;
        }
    } else {
        for (target, &sample) in target.iter_mut().zip(source.as_chunks::<2>().0) {
            let sample = u32::from(u16::from_le_bytes(sample)) << shift;
            *target = sample.min(i16::MAX as u32) as i16;
        }
    }
}

/// Enlarges a chroma row of 15-bit `samples`, as many as the filter's source.
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
