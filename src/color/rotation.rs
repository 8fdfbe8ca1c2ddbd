//! Quarter turns, for clips whose container carries a rotation tag.

use crate::frame::RgbFrame;

/// Target rows turned together, so that each cache line of the source is fetched once.
const BAND: usize = 16;

/// Turns `frame` clockwise by `quarter_turns_clockwise` times 90° (modulo 4) into `out`, which takes the new size.
///
/// A tag of 90, 180 or 270 means 1, 2 or 3 turns: `np.rot90(frame, k=3)`, `k=2`, `k=1`. Width and height swap
/// for an odd number of turns.
pub fn rotate(frame: &RgbFrame, quarter_turns_clockwise: u8, out: &mut RgbFrame) {
    let (width, height) = (frame.width(), frame.height());
    let turns = quarter_turns_clockwise % 4;
    if turns.is_multiple_of(2) {
        out.resize(width, height);
    } else {
        out.resize(height, width);
    }
    if width == 0 || height == 0 {
        return;
    }
    let (source, _) = frame.pixels().as_chunks::<3>();
    let (target, _) = out.pixels_mut().as_chunks_mut::<3>();
    match turns {
        0 => target.copy_from_slice(source),
        2 => {
            for (target, source) in target.iter_mut().zip(source.iter().rev()) {
                *target = *source;
            }
        }
        _ => {
            for (band, rows) in target.chunks_mut(BAND * height).enumerate() {
                for step in 0..height {
                    for (row, pixels) in rows.chunks_exact_mut(height).enumerate() {
                        let along = band * BAND + row;
                        // Clockwise, target row t is source column t read upwards; anticlockwise, the last but t
                        // downwards.
                        let (x, y) = if turns == 1 {
                            (along, height - 1 - step)
                        } else {
                            (width - 1 - along, step)
                        };
                        pixels[step] = source[y * width + x];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 3 × 2 image whose pixels are numbered in reading order.
    fn numbered() -> RgbFrame {
        let pixels = (0..6).flat_map(|n| [n, n + 100, n + 200]).collect();
        RgbFrame::from_pixels(3, 2, pixels).expect("6 pixels")
    }

    fn reds(frame: &RgbFrame) -> Vec<u8> {
        frame.pixels().iter().step_by(3).copied().collect()
    }

    #[test]
    fn turns_as_numpy_rot90() {
        // np.rot90(np.arange(6).reshape(2, 3), k) for k = 0, 3, 2, 1.
        let expected = [
            (0, (3, 2), [0, 1, 2, 3, 4, 5]),
            (1, (2, 3), [3, 0, 4, 1, 5, 2]),
            (2, (3, 2), [5, 4, 3, 2, 1, 0]),
            (3, (2, 3), [2, 5, 1, 4, 0, 3]),
            (5, (2, 3), [3, 0, 4, 1, 5, 2]),
        ];
        for (turns, size, pixels) in expected {
            let mut out = RgbFrame::new(0, 0);
            rotate(&numbered(), turns, &mut out);
            assert_eq!((out.width(), out.height()), size, "{turns} turns");
            assert_eq!(reds(&out), pixels, "{turns} turns");
        }
    }

    #[test]
    fn four_single_turns_are_none() {
        for (width, height) in [(1, 1), (5, 40), (37, 19), (33, 16), (0, 4)] {
            let pixels = (0..width * height * 3)
                .map(|n| u8::try_from(n * 7 % 251).expect("below 251"))
                .collect();
            let original = RgbFrame::from_pixels(width, height, pixels).expect("the right size");
            let mut turned = original.clone();
            for _ in 0..4 {
                let mut next = RgbFrame::default();
                rotate(&turned, 1, &mut next);
                let mut back = RgbFrame::default();
                rotate(&next, 3, &mut back);
                assert_eq!(back, turned, "{width} × {height}");
                turned = next;
            }
            assert_eq!(turned, original, "{width} × {height}");
        }
    }
}
