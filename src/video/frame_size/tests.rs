use super::*;

/// The bytes of a header: `COUNT:VALUE` are the lowest bits of a number, `gVALUE` is an Exp-Golomb number.
fn bits(fields: &str) -> Vec<u8> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    };
    let mut bits: Vec<bool> = Vec::new();
    let mut put = |count: u32, value: u64| {
        bits.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    };
    for field in fields.split_whitespace() {
        if let Some((count, value)) = field.split_once(':') {
            put(count.parse().unwrap(), number(value));
        } else {
            let value = number(field.strip_prefix('g').unwrap()) + 1;
            put(value.ilog2(), 0);
            put(value.ilog2() + 1, value);
        }
    }
    let byte =
        |bits: &[bool]| (0..8).fold(0, |n, at| n << 1 | u8::from(bits.get(at) == Some(&true)));
    bits.chunks(8).map(byte).collect()
}

/// H.264's parameter set of `columns × rows` blocks of 16 pixels, with its first byte.
fn h264_set(profile: u64, columns: u64, rows: u64, has_fields: bool) -> Vec<u8> {
    // 4:2:0, 8 bits, one scaling list of 16 deltas of 0 and one that ends at once with -8, in the code of signed
    // numbers.
    let high = format!("g1 g0 g0 1:0 1:1 1:1 {} 1:1 g16 6:0", "g0 ".repeat(16));
    let high = if profile == 100 { high } else { String::new() };
    let (columns, rows) = (columns - 1, if has_fields { rows / 2 } else { rows } - 1);
    let is_whole = u8::from(!has_fields);
    bits(&format!(
        "8:0x67 8:{profile} 16:10 g0 {high} g0 g0 g4 g3 1:0 g{columns} g{rows} 1:{is_whole} 9:0x1ff"
    ))
}

fn with_length(unit: &[u8]) -> Vec<u8> {
    let length = u32::try_from(unit.len()).unwrap().to_be_bytes();
    [&length[..], unit].concat()
}

#[test]
fn h264_gives_its_size_in_both_framings() {
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
fn h265_gives_its_size() {
    // The first of two layers has a profile and a level, the second a level.
    for (layers, more) in [(0, ""), (2, "2:3 2:1 12:0 64:0 24:0 8:0 8:0")] {
        let start = format!("16:0x4201 4:0 3:{layers} 1:1 64:0 32:0");
        let set = bits(&format!("{start} {more} g0 g3 1:0 g16000 g9000"));
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
fn other_codecs_give_their_size() {
    let check = |format: PacketFormat, packet: &[u8], expected: (u64, u64)| {
        assert_eq!(format.size_of_packet(packet), Some(expected), "{format:?}");
        for end in 0..packet.len() {
            format.size_of_packet(&packet[..end]);
        }
    };
    let extended = bits("32:0x1b3 12:1 12:2 40:0 32:0x1b5 4:1 11:0 2:3 2:1 24:0");
    check(PacketFormat::Mpeg2, &extended, (0x3001, 0x1002));
    let layer = "32:0x120 9:0 1:1 4:2 3:1 4:15 16:0 1:1 3:0 1:1 64:0 15:0 2:0 1:1";
    let layer = bits(&format!(
        "{layer} 16:25 1:1 1:1 5:1 1:1 13:8000 1:1 13:7000"
    ));
    check(PacketFormat::Mpeg4, &layer, (8000, 7000));
    let sorenson = bits("17:1 5:0 8:0 3:1 16:60000 16:50000");
    check(PacketFormat::Sorenson, &sorenson, (60_000, 50_000));
    let vc1 = bits("32:0x10f 2:3 14:0 12:4095 12:2047");
    check(PacketFormat::Vc1, &vc1, (8192, 4096));
    let vp8 = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x7f, 0x00, 0x10];
    check(PacketFormat::Vp8, &vp8, (16383, 4096));
    let key = bits("2:2 2:0 1:0 1:0 2:0 24:0x498342 4:0 16:65535 16:9");
    check(PacketFormat::Vp9, &key, (65_536, 10));
    let resized = bits("2:2 2:0 1:0 1:1 1:1 1:0 2:0 20:0 3:0 16:999 16:19999");
    check(PacketFormat::Vp9, &resized, (1000, 20_000));
    // Two frames in one packet, with an index at its end.
    let size = |frame: &[u8]| u8::try_from(frame.len()).unwrap();
    let index = [0xc1, size(&key), size(&resized), 0xc1];
    let both = [&key[..], &resized, &index].concat();
    check(PacketFormat::Vp9, &both, (1000, 20_000));
    let av1 = bits("3:0 2:0 3:0 4:0 12:0 5:9 1:0 4:15 4:14 16:40000 15:30000 8:0");
    let units = [&[0x12, 0, 0x0a, size(&av1)][..], &av1].concat();
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
