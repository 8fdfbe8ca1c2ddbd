//! VP8's and VP9's frame headers, AV1's sequence header.

use super::bits::BitReader;

/// Size of a VP8 key frame.
pub(super) fn size_of_vp8(packet: &[u8]) -> Option<(u64, u64)> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = packet.first_chunk()? else {
        return None;
    };
    let side = |low: &u8, high: &u8| u64::from(u16::from_le_bytes([*low, *high]) & 0x3fff);
    (tag & 1 == 0).then(|| (side(w0, w1), side(h0, h1)))
}

/// Largest frame of a VP9 packet, which may hold several.
pub(super) fn size_of_vp9(packet: &[u8]) -> Option<(u64, u64)> {
    let whole = std::iter::once(packet);
    super::largest(whole.chain(vp9_frames(packet)).filter_map(vp9_frame))
}

/// The frames that the index at the end of a packet lists.
fn vp9_frames(packet: &[u8]) -> Vec<&[u8]> {
    let last = packet.last().copied().unwrap_or(0);
    let (count, bytes) = (usize::from(last & 7) + 1, usize::from(last >> 3 & 3) + 1);
    let index = packet.len().checked_sub(2 + count * bytes);
    let Some(sizes) = index
        .and_then(|from| packet.get(from..))
        .filter(|_| last & 0xe0 == 0xc0)
    else {
        return Vec::new();
    };
    let mut frames = Vec::new();
    let mut rest = packet;
    for size in sizes[1..].chunks_exact(bytes) {
        let size = size
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | usize::from(*byte));
        let Some((frame, behind)) = rest.split_at_checked(size) else {
            break;
        };
        frames.push(frame);
        rest = behind;
    }
    frames
}

fn vp9_frame(frame: &[u8]) -> Option<(u64, u64)> {
    const SYNC: u64 = 0x49_83_42;
    let mut bits = BitReader::new(frame);
    if bits.read(2)? != 2 {
        return None;
    }
    let profile = bits.read(1)? | bits.read(1)? << 1;
    if profile == 3 {
        bits.skip(1);
    }
    if bits.flag()? {
        return None;
    }
    let (is_inter, is_shown, is_resilient) = (bits.flag()?, bits.flag()?, bits.flag()?);
    let is_intra_only = is_inter && !is_shown && bits.flag()?;
    if is_inter && !is_resilient {
        bits.skip(2);
    }
    if !is_inter || is_intra_only {
        if bits.read(24)? != SYNC {
            return None;
        }
        if !is_inter || profile > 0 {
            skip_vp9_colors(&mut bits, profile)?;
        }
        bits.skip(if is_intra_only { 8 } else { 0 });
    } else {
        bits.skip(8 + 3 * 4);
        // The frame has the size of one of three earlier frames, or a new one.
        if bits.flag()? || bits.flag()? || bits.flag()? {
            return None;
        }
    }
    Some((bits.read(16)? + 1, bits.read(16)? + 1))
}

fn skip_vp9_colors(bits: &mut BitReader<'_>, profile: u64) -> Option<()> {
    const RGB: u64 = 7;
    bits.skip(usize::from(profile >= 2));
    let has_layout = profile & 1 == 1;
    if bits.read(3)? == RGB {
        bits.skip(usize::from(has_layout));
    } else {
        bits.skip(if has_layout { 4 } else { 1 });
    }
    Some(())
}

/// Largest frame that the sequence headers of an AV1 packet allow.
pub(super) fn size_of_av1(mut packet: &[u8]) -> Option<(u64, u64)> {
    const SEQUENCE_HEADER: u8 = 1;
    let mut sizes = Vec::new();
    while let [header, rest @ ..] = packet {
        let (has_extension, has_size) = (header & 4 != 0, header & 2 != 0);
        let mut rest = rest.get(usize::from(has_extension)..).unwrap_or(&[]);
        let length = if has_size {
            let Some(length) = leb128(&mut rest) else {
                break;
            };
            length
        } else {
            rest.len()
        };
        let (unit, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if header >> 3 & 0xf == SEQUENCE_HEADER {
            sizes.extend(av1_sequence(unit));
        }
        packet = behind;
    }
    super::largest(sizes.into_iter())
}

fn leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in 0..8 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= usize::from(byte & 0x7f).checked_shl(7 * shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn av1_sequence(unit: &[u8]) -> Option<(u64, u64)> {
    let mut bits = BitReader::new(unit);
    bits.skip(4);
    if bits.flag()? {
        bits.skip(5);
    } else {
        let mut delay_bits = None;
        if bits.flag()? {
            bits.skip(64);
            if bits.flag()? {
                bits.golomb()?;
            }
            if bits.flag()? {
                delay_bits = Some(usize::try_from(bits.read(5)?).ok()? + 1);
                bits.skip(42);
            }
        }
        let has_delay = bits.flag()?;
        for _ in 0..=bits.read(5)? {
            bits.skip(12);
            if bits.read(5)? > 7 {
                bits.skip(1);
            }
            if let Some(count) = delay_bits
                && bits.flag()?
            {
                bits.skip(2 * count + 1);
            }
            if has_delay && bits.flag()? {
                bits.skip(4);
            }
        }
    }
    let width_bits = usize::try_from(bits.read(4)?).ok()? + 1;
    let height_bits = usize::try_from(bits.read(4)?).ok()? + 1;
    Some((bits.read(width_bits)? + 1, bits.read(height_bits)? + 1))
}
