//! H.264's and H.265's sequence parameter sets.

use super::bits::BitReader;

/// How the units of a packet are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::video) enum Framing {
    /// The bytes 0, 0, 1 precede each unit.
    StartCodes,
    /// A length of this many bytes precedes each unit.
    Lengths(u8),
}

/// Profiles of H.264 whose parameter sets begin with the format of the samples.
const HIGH_PROFILES: [u64; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// The units of a packet. When the lengths are inconsistent, they are found by start codes, as FFmpeg does.
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

/// Removes the bytes that prevent start codes inside a unit.
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

/// The codec that defines the syntax of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitSyntax {
    H264,
    H265,
}

impl UnitSyntax {
    /// The largest picture that a packet declares.
    pub(super) fn size_of_packet(self, packet: &[u8], framing: Framing) -> Option<(u64, u64)> {
        let units = units(packet, framing).into_iter();
        super::largest(units.filter_map(|unit| self.size_of_unit(unit)))
    }

    fn size_of_unit(self, unit: &[u8]) -> Option<(u64, u64)> {
        let first = *unit.first()?;
        match self {
            Self::H264 if first & 0x1f == 7 => h264_set(&unescape(&unit[1..])),
            Self::H265 if first >> 1 & 0x3f == 33 => h265_set(&unescape(unit.get(2..)?)),
            _ => None,
        }
    }

    /// The largest picture of an `avcC` or `hvcC` box, and the framing of the stream's packets.
    pub(super) fn size_of_header(self, header: &[u8]) -> (Option<(u64, u64)>, Framing) {
        let is_start_coded = match self {
            Self::H264 => header.first() != Some(&1),
            // Some writers leave the version at 0. Three bytes 0, 0, 1 cannot begin a box.
            Self::H265 => header.starts_with(&[0, 0, 1]) || header.starts_with(&[0, 0, 0, 1]),
        };
        if is_start_coded {
            let size = self.size_of_packet(header, Framing::StartCodes);
            return (size, Framing::StartCodes);
        }
        let byte = |at: usize| header.get(at).copied().unwrap_or(0);
        let (length, lists, from) = match self {
            Self::H264 => (byte(4), 1, 6),
            Self::H265 => (byte(21), byte(22), 23),
        };
        let mut sizes = Vec::new();
        let mut rest = header.get(from..).unwrap_or(&[]);
        let mut read = || -> Option<()> {
            for _ in 0..lists {
                let mut count = u16::from(byte(5) & 0x1f);
                if self == Self::H265 {
                    let ([_, high, low], behind) = rest.split_first_chunk()?;
                    (count, rest) = (u16::from_be_bytes([*high, *low]), behind);
                }
                for _ in 0..count {
                    let (bytes, behind) = rest.split_first_chunk()?;
                    let bytes = usize::from(u16::from_be_bytes(*bytes));
                    let (unit, behind) = behind.split_at_checked(bytes)?;
                    sizes.extend(self.size_of_unit(unit));
                    rest = behind;
                }
            }
            Some(())
        };
        // Units up to a cut are used.
        _ = read();
        let framing = Framing::Lengths((length & 3) + 1);
        (super::largest(sizes.into_iter()), framing)
    }
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
