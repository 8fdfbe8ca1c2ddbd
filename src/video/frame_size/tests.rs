use super::*;

/// A writer of headers, most significant bit first.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(mut self, count: usize, value: u64) -> Self {
        self.0
            .extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    fn golomb(self, value: u64) -> Self {
        let bits = (value + 1).ilog2() as usize;
        self.put(bits, 0).put(bits + 1, value + 1)
    }

    fn bytes(&self) -> Vec<u8> {
        let byte =
            |bits: &[bool]| (0..8).fold(0, |n, at| n << 1 | u8::from(bits.get(at) == Some(&true)));
        self.0.chunks(8).map(byte).collect()
    }
}

/// H.264's parameter set of `columns × rows` blocks of 16 pixels, with its first byte.
fn h264_set(profile: u64, columns: u64, rows: u64, has_fields: bool) -> Vec<u8> {
    let mut bits = Bits::default()
        .put(8, 0x67)
        .put(8, profile)
        .put(16, 10)
        .golomb(0);
    if profile == 100 {
        // 4:2:0, 8 bits, one scaling list of 16 deltas of 0 and one that ends at once.
        bits = bits.golomb(1).golomb(0).golomb(0).put(1, 0).put(1, 1);
        bits = (0..16).fold(bits.put(1, 1), |bits, _| bits.golomb(0));
        // -8 in the code of signed numbers.
        bits = bits.put(1, 1).golomb(16).put(6, 0);
    }
    bits = bits.golomb(0).golomb(0).golomb(4).golomb(3).put(1, 0);
    let rows = if has_fields { rows / 2 } else { rows };
    let bits = bits
        .golomb(columns - 1)
        .golomb(rows - 1)
        .put(1, u64::from(!has_fields))
        .put(9, 0x1ff);
    bits.bytes()
}

fn with_length(unit: &[u8]) -> Vec<u8> {
    let length = u32::try_from(unit.len()).unwrap().to_be_bytes();
    [&length[..], unit].concat()
}

#[test]
fn h264_tells_its_size_in_both_framings() {
    for (profile, has_fields) in [(66, false), (100, false), (77, true)] {
        let set = h264_set(profile, 1024, 992, has_fields);
        let start_coded = [
            &[0, 0, 0, 1, 9, 0x10, 0, 0, 1],
            &set[..],
            &[0, 0, 1, 0x65, 1],
        ]
        .concat();
        let lengths = [
            with_length(&[9, 0x10]),
            with_length(&set),
            with_length(&[0x65, 1]),
        ]
        .concat();
        let (start, length) = (Framing::StartCodes, Framing::Lengths(4));
        let expected = Some((16384, 15872));
        assert_eq!(
            PacketFormat::H264(start).size_of_packet(&start_coded),
            expected
        );
        assert_eq!(
            PacketFormat::H264(length).size_of_packet(&lengths),
            expected
        );
        // FFmpeg takes start codes where lengths are announced.
        assert_eq!(
            PacketFormat::H264(length).size_of_packet(&start_coded),
            expected
        );
        let size = u16::try_from(set.len()).unwrap().to_be_bytes();
        let mut header = [&[1, 100, 0, 10, 0xfd, 0xe1][..], &size, &set].concat();
        let mut format = PacketFormat::H264(length);
        assert_eq!(format.size_of_header(&header), expected);
        assert_eq!(format, PacketFormat::H264(Framing::Lengths(2)));
        for end in 0..header.len() {
            PacketFormat::H264(length).size_of_header(&header[..end]);
        }
        header[0] = 0;
        assert_eq!(format.size_of_header(&start_coded), expected);
        assert_eq!(format, PacketFormat::H264(start));
    }
}

#[test]
fn bytes_that_keep_start_codes_out_are_left_out() {
    // 257 blocks: the bits of the numbers make two bytes of zeros, which a 3 must follow.
    let set = h264_set(66, 1 << 15, 1 << 15, false);
    let at = set.windows(2).position(|two| two == [0, 0]).unwrap();
    let escaped = [&set[..at + 2], &[3], &set[at + 2..]].concat();
    let size = PacketFormat::H264(Framing::Lengths(4)).size_of_packet(&with_length(&escaped));
    assert_eq!(size, Some((1 << 19, 1 << 19)));
}

#[test]
fn h265_tells_its_size() {
    for layers in [0, 2] {
        let mut bits = Bits::default()
            .put(16, 0x4201)
            .put(4, 0)
            .put(3, layers)
            .put(1, 1)
            .put(64, 0)
            .put(32, 0);
        if layers > 0 {
            // The first layer has a profile and a level, the second a level.
            bits = bits
                .put(2, 3)
                .put(2, 1)
                .put(12, 0)
                .put(64, 0)
                .put(24, 0)
                .put(8, 0)
                .put(8, 0);
        }
        let set = bits
            .golomb(0)
            .golomb(3)
            .put(1, 0)
            .golomb(16000)
            .golomb(9000)
            .bytes();
        let expected = Some((16000, 9000));
        let framing = Framing::Lengths(4);
        assert_eq!(
            PacketFormat::H265(framing).size_of_packet(&with_length(&set)),
            expected
        );
        let size = u16::try_from(set.len()).unwrap().to_be_bytes();
        let header = [&[1; 21][..], &[0xff, 1, 0x21, 0, 1], &size, &set].concat();
        let mut format = PacketFormat::H265(framing);
        assert_eq!(format.size_of_header(&header), expected);
        assert_eq!(format, PacketFormat::H265(framing));
        for end in 0..header.len() {
            format.size_of_header(&header[..end]);
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one header after another")]
fn other_codecs_tell_their_size() {
    let check = |format: PacketFormat, packet: &[u8], expected: (u64, u64)| {
        assert_eq!(format.size_of_packet(packet), Some(expected), "{format:?}");
        for end in 0..packet.len() {
            format.size_of_packet(&packet[..end]);
        }
    };
    let sequence = Bits::default()
        .put(32, 0x1b3)
        .put(12, 0x001)
        .put(12, 0x002)
        .put(40, 0);
    let extension = sequence
        .put(32, 0x1b5)
        .put(4, 1)
        .put(11, 0)
        .put(2, 3)
        .put(2, 1)
        .put(24, 0);
    check(PacketFormat::Mpeg2, &extension.bytes(), (0x3001, 0x1002));
    let layer = Bits::default()
        .put(32, 0x120)
        .put(9, 0)
        .put(1, 1)
        .put(4, 2)
        .put(3, 1)
        .put(4, 15)
        .put(16, 0);
    let layer = layer
        .put(1, 1)
        .put(3, 0)
        .put(1, 1)
        .put(64, 0)
        .put(15, 0)
        .put(2, 0)
        .put(1, 1);
    let layer = layer
        .put(16, 25)
        .put(1, 1)
        .put(1, 1)
        .put(5, 1)
        .put(1, 1)
        .put(13, 8000)
        .put(1, 1);
    check(
        PacketFormat::Mpeg4,
        &layer.put(13, 7000).bytes(),
        (8000, 7000),
    );
    let sorenson = Bits::default()
        .put(17, 1)
        .put(5, 0)
        .put(8, 0)
        .put(3, 1)
        .put(16, 60_000)
        .put(16, 50_000);
    check(PacketFormat::Sorenson, &sorenson.bytes(), (60_000, 50_000));
    let vc1 = Bits::default()
        .put(32, 0x10f)
        .put(2, 3)
        .put(14, 0)
        .put(12, 4095)
        .put(12, 2047);
    check(PacketFormat::Vc1, &vc1.bytes(), (8192, 4096));
    let vp8 = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x7f, 0x00, 0x10];
    check(PacketFormat::Vp8, &vp8, (16383, 4096));
    let key = Bits::default()
        .put(2, 2)
        .put(2, 0)
        .put(1, 0)
        .put(1, 0)
        .put(2, 0)
        .put(24, 0x49_83_42)
        .put(4, 0);
    let key = key.put(16, 65_535).put(16, 9).bytes();
    check(PacketFormat::Vp9, &key, (65_536, 10));
    let resized = Bits::default()
        .put(2, 2)
        .put(2, 0)
        .put(1, 0)
        .put(1, 1)
        .put(1, 1)
        .put(1, 0)
        .put(2, 0);
    let resized = resized
        .put(20, 0)
        .put(3, 0)
        .put(16, 999)
        .put(16, 19_999)
        .bytes();
    check(PacketFormat::Vp9, &resized, (1000, 20_000));
    // Two frames in one packet, with an index at its end.
    let size = |frame: &[u8]| u8::try_from(frame.len()).unwrap();
    let index = [0xc1, size(&key), size(&resized), 0xc1];
    let both = [&key[..], &resized, &index].concat();
    check(PacketFormat::Vp9, &both, (1000, 20_000));
    let av1 = Bits::default()
        .put(3, 0)
        .put(2, 0)
        .put(3, 0)
        .put(4, 0)
        .put(12, 0)
        .put(5, 9)
        .put(1, 0);
    let av1 = av1
        .put(4, 15)
        .put(4, 14)
        .put(16, 40_000)
        .put(15, 30_000)
        .put(8, 0)
        .bytes();
    let size = u8::try_from(av1.len()).unwrap();
    let units = [&[0x12, 0, 0x0a, size][..], &av1].concat();
    check(PacketFormat::Av1, &units, (40_001, 30_001));
    assert_eq!(
        PacketFormat::Av1.size_of_header(&[&[0x81; 4][..], &units].concat()),
        Some((40_001, 30_001))
    );
    let theora = [&b"\x80theora\x03\x02\x01"[..], &[0x10, 0, 0x08, 0]].concat();
    check(PacketFormat::Theora, &theora, (65_536, 32_768));
    let jpeg = [
        0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc2, 0, 17, 8, 0x20, 0, 0x40, 0,
    ];
    check(PacketFormat::Jpeg, &jpeg, (0x4000, 0x2000));
    let j2k = [
        &[0xff, 0x4f, 0xff, 0x51, 0, 41, 0, 0][..],
        &[0, 1, 0, 0, 0, 0, 0x80, 0],
    ]
    .concat();
    check(PacketFormat::Jpeg2000, &j2k, (65_536, 32_768));
    let png = [
        &b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..],
        &[0, 0, 0x40, 0, 0, 0, 0x20, 0],
    ]
    .concat();
    check(PacketFormat::Png, &png, (0x4000, 0x2000));
    let prores = [&[0, 0, 0, 9][..], b"icpf", &[0; 8], &[0x20, 0, 0x10, 0]].concat();
    check(PacketFormat::ProRes, &prores, (0x2000, 0x1000));
    let mut dnxhd = [0; 0x1c];
    dnxhd[0x18..].copy_from_slice(&[0x10, 0, 0x20, 0]);
    check(PacketFormat::DnxHd, &dnxhd, (0x2000, 0x1000));
    assert_eq!(PacketFormat::Other.size_of_packet(&[0xff; 100]), None);
}
