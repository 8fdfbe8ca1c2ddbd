//! Converts other memory layouts of YUV to planes of little-endian samples.

use super::{ChromaLayout, ColorError, YuvFrame};

/// How the samples of a YUV image lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Planes Y, U, V (or Y alone) of one byte or two bytes little-endian a sample.
    Planar,
    /// Like `Planar`, with two bytes big-endian a sample.
    BigEndian,
    /// A plane of Y, and one in which U and V alternate. Hardware decoders give this layout instead of three planes;
    /// a raw stream is stored in it.
    Pairs {
        /// Whether V comes before U.
        is_v_first: bool,
        /// Whether the stream itself is stored in this layout.
        is_raw: bool,
    },
    /// One plane of four bytes for two pixels; the positions of Y, U, Y, V among these bytes.
    Quads([usize; 4]),
}

/// Buffers for the planes; their memory is reused from one image to the next.
#[derive(Debug, Default)]
pub struct Planes([Vec<u8>; 3]);

impl Planes {
    /// Converts `frame`, whose planes are packed as in `packing`, to planes.
    ///
    /// # Errors
    /// Fails when a plane is too short for its geometry.
    pub fn unpack<'a>(
        &'a mut self,
        frame: YuvFrame<'a>,
        packing: Packing,
    ) -> Result<YuvFrame<'a>, ColorError> {
        let short = || ColorError(format!("a plane is too short for {packing:?}"));
        let (width, height) = (frame.width, frame.height);
        let row = |plane: usize, y: usize, bytes: usize| {
            let start = y.checked_mul(frame.strides[plane]).ok_or_else(short)?;
            let end = start.checked_add(bytes).ok_or_else(short)?;
            frame.planes[plane].get(start..end).ok_or_else(short)
        };
        let (chroma_width, chroma_height) = frame.layout.chroma_size(width, height);
        self.0.iter_mut().for_each(Vec::clear);
        let [first, second, third] = &mut self.0;
        match packing {
            Packing::Planar => return Ok(frame),
            Packing::BigEndian => {
                let sizes = [
                    (width, height),
                    (chroma_width, chroma_height),
                    (chroma_width, chroma_height),
                ];
                for (index, (plane, (columns, rows))) in [&mut *first, &mut *second, &mut *third]
                    .into_iter()
                    .zip(sizes)
                    .enumerate()
                {
                    for y in 0..rows {
                        let source = row(index, y, 2 * columns)?.as_chunks::<2>().0;
                        plane.extend(source.iter().flat_map(|[high, low]| [*low, *high]));
                    }
                }
                let strides = [2 * width, 2 * chroma_width, 2 * chroma_width];
                return Ok(YuvFrame {
                    planes: [first, second, third],
                    strides,
                    ..frame
                });
            }
            Packing::Pairs { is_v_first, is_raw } => {
                for y in 0..chroma_height {
                    let pairs = row(1, y, 2 * chroma_width)?.as_chunks::<2>().0;
                    second.extend(pairs.iter().map(|pair| pair[usize::from(is_v_first)]));
                    third.extend(pairs.iter().map(|pair| pair[usize::from(!is_v_first)]));
                }
                return Ok(YuvFrame {
                    planes: [frame.planes[0], second, third],
                    strides: [frame.strides[0], chroma_width, chroma_width],
                    is_planar: !is_raw,
                    ..frame
                });
            }
            Packing::Quads([y0, u, y1, v]) => {
                for y in 0..height {
                    let quads = row(0, y, 4 * chroma_width)?.as_chunks::<4>().0;
                    first.extend(quads.iter().flat_map(|quad| [quad[y0], quad[y1]]));
                    second.extend(quads.iter().map(|quad| quad[u]));
                    third.extend(quads.iter().map(|quad| quad[v]));
                }
            }
        }
        Ok(YuvFrame {
            planes: [first, second, third],
            strides: [2 * chroma_width, chroma_width, chroma_width],
            layout: ChromaLayout::Yuv422,
            is_planar: false,
            ..frame
        })
    }
}

#[cfg(test)]
mod tests;
