//! H.264's and H.265's sequence parameter sets.

use super::bits::BitReader;

/// How the units of a packet are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::video) enum Framing {
    /// By the bytes 0, 0, 1.
    StartCodes,
    /// By a length of so many bytes before each.
    Lengths(u8),
}

/// Profiles of H.264 whose parameter sets begin with the format of the samples.
const HIGH_PROFILES: [u64; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// The units of a packet. Where the lengths do not add up they are found by start codes, as FFmpeg does.
pub(in crate::video) fn units(packet: &[u8], framing: Framing) -> Vec<&[u8]> {
    if let Framing::Lengths(bytes) = framing
        && let Some(units) = by_length(packet, usize::from(bytes))
    {
        return units;
    }
    super::start_codes(packet).collect()
}

fn by_length(mut packet: &[u8], bytes: usize) -> Option<Vec<&[u8]>> {
    let mut units = Vec::new();
    while !packet.is_empty() {
        let (length, rest) = packet.split_at_checked(bytes)?;
        let length = length.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
        let (unit, rest) = rest.split_at_checked(length)?;
        units.push(unit);
        packet = rest;
    }
    Some(units)
}

/// A unit without the bytes that keep start codes out of it.
fn unescape(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// The largest picture that a packet of H.264 declares.
pub(super) fn size_of_h264(packet: &[u8], framing: Framing) -> Option<(u64, u64)> {
    super::largest(units(packet, framing).into_iter().filter_map(h264_unit))
}

fn h264_unit(unit: &[u8]) -> Option<(u64, u64)> {
    (unit.first()? & 0x1f == 7).then(|| h264_set(&unescape(&unit[1..])))?
}

/// The largest picture of an `avcC` box, and the framing of its packets.
pub(super) fn avc_header(header: &[u8]) -> (Option<(u64, u64)>, Framing) {
    if header.first() != Some(&1) {
        return (
            size_of_h264(header, Framing::StartCodes),
            Framing::StartCodes,
        );
    }
    let byte = |at: usize| header.get(at).copied().unwrap_or(0);
    let mut rest = header.get(6..).unwrap_or(&[]);
    let mut sizes = Vec::new();
    for _ in 0..byte(5) & 0x1f {
        let Some((unit, behind)) = prefixed(rest) else {
            break;
        };
        sizes.extend(h264_unit(unit));
        rest = behind;
    }
    (
        super::largest(sizes.into_iter()),
        Framing::Lengths((byte(4) & 3) + 1),
    )
}

/// What follows a length of two bytes, and what is behind it.
fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn h264_set(set: &[u8]) -> Option<(u64, u64)> {
    let mut bits = BitReader::new(set);
    let profile = bits.read(8)?;
    bits.skip(16);
    bits.golomb()?;
    if HIGH_PROFILES.contains(&profile) {
        let chroma = bits.golomb()?;
        if chroma == 3 {
            bits.skip(1);
        }
        bits.golomb()?;
        bits.golomb()?;
        bits.skip(1);
        if bits.flag()? {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.golomb()?;
    match bits.golomb()? {
        0 => _ = bits.golomb()?,
        1 => {
            bits.skip(1);
            bits.golomb()?;
            bits.golomb()?;
            for _ in 0..bits.golomb()? {
                bits.golomb()?;
            }
        }
        _ => {}
    }
    bits.golomb()?;
    bits.skip(1);
    let (columns, rows) = (bits.golomb()? + 1, bits.golomb()? + 1);
    let fields = if bits.flag()? { 1 } else { 2 };
    Some((columns * 16, rows * 16 * fields))
}

fn skip_scaling_list(bits: &mut BitReader<'_>, length: usize) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..length {
        if next != 0 {
            // A signed number: 1, -1, 2, -2 and so on.
            let code = i64::try_from(bits.golomb()?).ok()?;
            let delta = if code % 2 == 1 {
                (code + 1) / 2
            } else {
                -code / 2
            };
            next = (last + delta).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// The largest picture that a packet of H.265 declares.
pub(super) fn size_of_h265(packet: &[u8], framing: Framing) -> Option<(u64, u64)> {
    super::largest(units(packet, framing).into_iter().filter_map(h265_unit))
}

fn h265_unit(unit: &[u8]) -> Option<(u64, u64)> {
    (unit.first()? >> 1 & 0x3f == 33).then(|| h265_set(&unescape(unit.get(2..)?)))?
}

/// The largest picture of an `hvcC` box, and the framing of its packets.
pub(super) fn hevc_header(header: &[u8]) -> (Option<(u64, u64)>, Framing) {
    // Some writers leave the version at 0. Three bytes 0, 0, 1 cannot begin a box.
    if header.starts_with(&[0, 0, 1]) || header.starts_with(&[0, 0, 0, 1]) {
        return (
            size_of_h265(header, Framing::StartCodes),
            Framing::StartCodes,
        );
    }
    let byte = |at: usize| header.get(at).copied().unwrap_or(0);
    let mut rest = header.get(23..).unwrap_or(&[]);
    let mut sizes = Vec::new();
    'arrays: for _ in 0..byte(22) {
        let Some(([_, high, low], behind)) = rest.split_first_chunk() else {
            break;
        };
        rest = behind;
        for _ in 0..u16::from_be_bytes([*high, *low]) {
            let Some((unit, behind)) = prefixed(rest) else {
                break 'arrays;
            };
            sizes.extend(h265_unit(unit));
            rest = behind;
        }
    }
    (
        super::largest(sizes.into_iter()),
        Framing::Lengths((byte(21) & 3) + 1),
    )
}

fn h265_set(set: &[u8]) -> Option<(u64, u64)> {
    let mut bits = BitReader::new(set);
    bits.skip(4);
    let layers = usize::try_from(bits.read(3)?).ok()?;
    bits.skip(1 + 96);
    let mut present = Vec::new();
    for _ in 0..layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if layers > 0 {
        bits.skip(2 * (8 - layers));
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 });
    }
    bits.golomb()?;
    if bits.golomb()? == 3 {
        bits.skip(1);
    }
    Some((bits.golomb()?, bits.golomb()?))
}
