//! The size of the pictures that a packet declares, read before a decoder gets it. The container may state a wrong
//! size, and a decoder allocates memory for the size in the packet.
//!
//! Codecs that are not listed take their size from the container, or cannot declare more than 16 million pixels.

mod bits;
mod h26x;
mod vpx;

use bits::BitReader;
use h26x::UnitSyntax;
pub(super) use h26x::{Framing, units};

/// How the packets of a stream are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PacketFormat {
    H264(Framing),
    H265(Framing),
    /// MPEG-1 and MPEG-2.
    Mpeg2,
    /// MPEG-4 Part 2.
    Mpeg4,
    /// H.263 as in FLV.
    Sorenson,
    Vc1,
    Vp8,
    Vp9,
    Av1,
    Theora,
    Jpeg,
    Jpeg2000,
    Png,
    ProRes,
    DnxHd,
    /// A codec whose size is only in the container.
    #[default]
    Other,
}

impl PacketFormat {
    /// Width and height that a packet declares in pixels, the largest where there are several; `None` where it
    /// declares none.
    pub(super) fn size_of_packet(self, packet: &[u8]) -> Option<(u64, u64)> {
        match self {
            Self::H264(framing) => UnitSyntax::H264.size_of_packet(packet, framing),
            Self::H265(framing) => UnitSyntax::H265.size_of_packet(packet, framing),
            Self::Mpeg2 => largest(start_codes(packet).filter_map(|unit| mpeg2(unit, packet))),
            Self::Mpeg4 => largest(start_codes(packet).filter_map(mpeg4)),
            Self::Sorenson => sorenson(packet),
            Self::Vc1 => largest(start_codes(packet).filter_map(vc1)),
            Self::Vp8 => vpx::size_of_vp8(packet),
            Self::Vp9 => vpx::size_of_vp9(packet),
            Self::Av1 => vpx::size_of_av1(packet),
            Self::Theora => theora(packet),
            Self::Jpeg => jpeg(packet),
            Self::Jpeg2000 => jpeg2000(packet),
            Self::Png => (packet.get(12..16)? == b"IHDR")
                .then(|| Some((be32(packet, 16)?, be32(packet, 20)?)))?,
            Self::ProRes => (packet.get(4..8)? == b"icpf")
                .then(|| Some((be16(packet, 16)?, be16(packet, 18)?)))?,
            Self::DnxHd => Some((be16(packet, 0x1a)?, be16(packet, 0x18)?)),
            Self::Other => None,
        }
    }

    /// Like [`Self::size_of_packet`], for the stream's header. Also sets how the packets are framed, from the header.
    pub(super) fn size_of_header(&mut self, header: &[u8]) -> Option<(u64, u64)> {
        let size;
        match self {
            Self::H264(framing) => (size, *framing) = UnitSyntax::H264.size_of_header(header),
            Self::H265(framing) => (size, *framing) = UnitSyntax::H265.size_of_header(header),
            Self::Av1 => size = vpx::size_of_av1(header.get(4..)?),
            Self::Mpeg2 | Self::Mpeg4 | Self::Vc1 => size = self.size_of_packet(header),
            _ => size = None,
        }
        size
    }
}

/// The size with the most pixels.
fn largest(sizes: impl Iterator<Item = (u64, u64)>) -> Option<(u64, u64)> {
    sizes.max_by_key(|(width, height)| width.saturating_mul(*height))
}

/// The bytes after each start code 0, 0, 1, up to the next.
fn start_codes(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let find = |bytes: &[u8]| bytes.windows(3).position(|three| three == [0, 0, 1]);
    let mut rest = find(bytes).map(|at| &bytes[at + 3..]);
    std::iter::from_fn(move || {
        let unit = rest?;
        let end = find(unit);
        rest = end.map(|at| &unit[at + 3..]);
        Some(&unit[..end.unwrap_or(unit.len())])
    })
}

fn be16(bytes: &[u8], at: usize) -> Option<u64> {
    let two = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*two).into())
}

fn be32(bytes: &[u8], at: usize) -> Option<u64> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*four).into())
}

/// A sequence header, with the upper bits of the extension in the same packet.
fn mpeg2(unit: &[u8], packet: &[u8]) -> Option<(u64, u64)> {
    let [0xb3, rest @ ..] = unit else { return None };
    let mut bits = BitReader::new(rest);
    let (width, height) = (bits.read(12)?, bits.read(12)?);
    let upper = start_codes(packet).find_map(|unit| {
        let mut bits = BitReader::new(unit);
        let is_sequence = bits.read(12)? == 0xb51;
        bits.skip(11);
        is_sequence.then(|| Some((bits.read(2)?, bits.read(2)?)))?
    });
    let (upper_width, upper_height) = upper.unwrap_or((0, 0));
    Some((upper_width << 12 | width, upper_height << 12 | height))
}

/// A video object layer.
fn mpeg4(unit: &[u8]) -> Option<(u64, u64)> {
    let [0x20..=0x2f, rest @ ..] = unit else {
        return None;
    };
    let mut bits = BitReader::new(rest);
    bits.skip(9);
    let mut version = 1;
    if bits.flag()? {
        version = bits.read(4)?;
        bits.skip(3);
    }
    if bits.read(4)? == 15 {
        bits.skip(16);
    }
    if bits.flag()? {
        bits.skip(3);
        if bits.flag()? {
            bits.skip(79);
        }
    }
    let shape = bits.read(2)?;
    if shape == 3 && version != 1 {
        bits.skip(4);
    }
    bits.skip(1);
    let resolution = bits.read(16)?;
    bits.skip(1);
    if bits.flag()? {
        let largest = resolution.saturating_sub(1).max(1);
        bits.skip(usize::try_from(u64::BITS - largest.leading_zeros()).ok()?);
    }
    bits.skip(1);
    let width = bits.read(13)?;
    bits.skip(1);
    (shape == 0).then(|| Some((width, bits.read(13)?)))?
}

fn sorenson(packet: &[u8]) -> Option<(u64, u64)> {
    let mut bits = BitReader::new(packet);
    bits.skip(30);
    let side = match bits.read(3)? {
        0 => 8,
        1 => 16,
        _ => return None,
    };
    Some((bits.read(side)?, bits.read(side)?))
}

/// A sequence header of the advanced profile.
fn vc1(unit: &[u8]) -> Option<(u64, u64)> {
    let [0x0f, rest @ ..] = unit else { return None };
    let mut bits = BitReader::new(rest);
    let is_advanced = bits.read(2)? == 3;
    bits.skip(14);
    let (width, height) = (bits.read(12)?, bits.read(12)?);
    is_advanced.then_some((2 * width + 2, 2 * height + 2))
}

fn theora(packet: &[u8]) -> Option<(u64, u64)> {
    let blocks = packet.starts_with(b"\x80theora");
    blocks.then(|| Some((16 * be16(packet, 10)?, 16 * be16(packet, 12)?)))?
}

/// The start of a frame among the segments before the coded data.
fn jpeg(packet: &[u8]) -> Option<(u64, u64)> {
    let mut at = 2;
    while packet.get(at)? == &0xff {
        match packet.get(at + 1)? {
            0xff => at += 1,
            0xda => return None,
            // The markers in between are the tables of Huffman and arithmetic codes, and the extension.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some((be16(packet, at + 7)?, be16(packet, at + 5)?));
            }
            _ => at += 2 + usize::try_from(be16(packet, at + 2)?).ok()?,
        }
    }
    None
}

/// The segment of the image's size, which comes first in the code stream.
fn jpeg2000(packet: &[u8]) -> Option<(u64, u64)> {
    let start = [0xff, 0x4f, 0xff, 0x51];
    let at = packet.windows(4).take(256).position(|four| four == start)?;
    Some((be32(packet, at + 8)?, be32(packet, at + 12)?))
}

#[cfg(test)]
mod tests;
