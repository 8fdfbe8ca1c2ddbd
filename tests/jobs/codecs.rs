//! Codecs that no demuxer names, and streams cut in the middle: each gives the frames that OpenCV reads.

use crate::decode::{decode, open, save};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use handloom::dataset::clip_note::ClipNote;
use handloom::frame::FrameSource;
use handloom::video::clip;
use tempfile::TempDir;
use test_support::print_note;

const FRAMES: usize = 30;
const SIZE: (u32, u32) = (176, 144);

/// Runs GStreamer `elements` on a test video of `format`. Returns the codec's header and the packets, or `None` when
/// an element is not installed.
fn packets(format: &str, elements: &str) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    clip::init().unwrap();
    let (width, height) = SIZE;
    let text = format!(
        "videotestsrc num-buffers={FRAMES} pattern=ball ! video/x-raw,format={format},width={width},height={height},\
         framerate=25/1 ! {elements} ! appsink name=out sync=false"
    );
    let pipeline = match gst::parse::launch(&text) {
        Ok(pipeline) => pipeline.downcast::<gst::Pipeline>().unwrap(),
        Err(error) => {
            print_note(&format!("not tested: {elements}: {error}"));
            return None;
        }
    };
    let sink = pipeline.by_name("out").unwrap();
    let sink = sink.downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut header, mut packets) = (Vec::new(), Vec::new());
    while let Ok(sample) = sink.pull_sample() {
        let fields = sample.caps().unwrap().structure(0).unwrap();
        if let Ok(data) = fields.get::<gst::Buffer>("codec_data") {
            header = data.map_readable().unwrap().to_vec();
        }
        packets.push(sample.buffer().unwrap().map_readable().unwrap().to_vec());
    }
    pipeline.set_state(gst::State::Null).unwrap();
    Some((header, packets))
}

/// An AVI file of one video stream.
fn avi(fourcc: &str, header: &[u8], packets: &[Vec<u8>]) -> Vec<u8> {
    let chunk = |kind: &str, content: &[u8]| {
        let size = u32::try_from(content.len()).unwrap().to_le_bytes();
        let pad = &[0][..content.len() % 2];
        [kind.as_bytes(), &size, content, pad].concat()
    };
    let list = |kind: &str, content: &[u8]| chunk("LIST", &[kind.as_bytes(), content].concat());
    let words = |words: &[u32]| {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        bytes.collect::<Vec<u8>>()
    };
    let count = u32::try_from(packets.len()).unwrap();
    let avih = words(&[40_000, 0, 0, 0, count, 0, 1, 0, SIZE.0, SIZE.1, 0, 0, 0, 0]);
    let strh = [
        b"vids",
        fourcc.as_bytes(),
        &words(&[0, 0, 0, 1, 25, 0, count, 0, 0, 0, 0, 0]),
    ];
    let bytes = u32::try_from(40 + header.len()).unwrap();
    let strf = [
        &words(&[bytes, SIZE.0, SIZE.1, 0x18_0001])[..],
        fourcc.as_bytes(),
        &words(&[0; 5]),
        header,
    ];
    let strl = [chunk("strh", &strh.concat()), chunk("strf", &strf.concat())];
    let hdrl = [chunk("avih", &avih), list("strl", &strl.concat())];
    let media: Vec<Vec<u8>> = packets.iter().map(|packet| chunk("00dc", packet)).collect();
    let parts = [list("hdrl", &hdrl.concat()), list("movi", &media.concat())];
    chunk("RIFF", &[b"AVI ", &parts.concat()[..]].concat())
}

#[test]
fn codecs_without_a_name_in_avi_are_decoded() {
    let dir = TempDir::new().unwrap();
    let (_, raw) = packets("I420", "identity").unwrap();
    let lossless = decode(&save(&dir, &avi("I420", &[], &raw))).unwrap();
    assert_eq!(lossless.len(), FRAMES);
    for (encoder, format, fourcc, decoder, is_lossless) in [
        ("avenc_ffvhuff", "I420", "FFVH", "avdec_ffvhuff", true),
        ("avenc_ljpeg", "I420", "LJPG", "avdec_mjpeg", false),
        ("avenc_h261", "I420", "H261", "avdec_h261", false),
        ("avenc_flashsv", "BGR", "FSV1", "avdec_flashsv", false),
        ("avenc_svq1", "YUV9", "svq1", "avdec_svq1", false),
    ] {
        let Some((header, packets)) = packets(format, encoder) else {
            continue;
        };
        assert_eq!(packets.len(), FRAMES, "{encoder}");
        let path = save(&dir, &avi(fourcc, &header, &packets));
        let clip = open(&path).unwrap_or_else(|e| panic!("{encoder}: {e}"));
        assert_eq!(clip.facts().decoder.as_deref(), Some(decoder), "{encoder}");
        let frames = decode(&path).unwrap();
        assert_eq!(frames.len(), FRAMES, "{encoder}");
        assert!(!is_lossless || frames == lossless, "{encoder}");
    }
}

/// A sample in the folder `codecs` with 3 frames of 48 x 32 pixels, its decoder, and the CRC-32 of the RGB bytes of
/// all frames as `cv2.VideoCapture.read` of opencv-python-headless 4.8.1.78 gives them. GStreamer has no encoder or
/// muxer for these.
const SAMPLES: [(&str, &str, u32); 1] = [("h264.mxf", "avdec_h264", 0xfb1d_8cf8)];

#[test]
fn samples_give_the_frames_of_opencv() {
    for (name, decoder, expected) in SAMPLES {
        let path = test_support::root().join("tests/jobs/codecs").join(name);
        let mut clip = open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (mut count, mut crc) = (0, crc32fast::Hasher::new());
        while clip.advance().unwrap() {
            crc.update(clip.frame().unwrap().pixels());
            count += 1;
        }
        assert_eq!(clip.facts().decoder.as_deref(), Some(decoder), "{name}");
        assert_eq!((count, crc.finalize()), (3, expected), "{name}");
        let notes = clip.facts().notes;
        assert!(notes.iter().all(|note| !note.is_approximate()), "{name}");
    }
}

/// The units of a stream, each with its start code.
fn units(stream: &[u8]) -> Vec<&[u8]> {
    let codes =
        (0..stream.len().saturating_sub(3)).filter(|at| stream[*at..].starts_with(&[0, 0, 1]));
    let codes: Vec<usize> = codes.chain([stream.len()]).collect();
    codes
        .windows(2)
        .map(|two| &stream[two[0]..two[1]])
        .collect()
}

type IsKind = fn(u8) -> bool;

/// Removes the units before the first slice for which `is_set` holds.
fn without_first_sets(stream: &[u8], is_set: IsKind, is_slice: IsKind) -> Vec<u8> {
    let units = units(stream);
    let first = units.iter().position(|unit| is_slice(unit[3])).unwrap();
    let kept = units[..first].iter().filter(|unit| !is_set(unit[3]));
    let all: Vec<&[u8]> = kept.chain(&units[first..]).copied().collect();
    assert!(all.len() < units.len());
    all.concat()
}

#[test]
fn parameter_sets_that_come_later_serve_the_frames_before_them() {
    let dir = TempDir::new().unwrap();
    let h264 = "x264enc key-int-max=10 bframes=0 ! video/x-h264,stream-format=byte-stream";
    let h265 = "x265enc key-int-max=10 ! h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream";
    let mpeg4 = "avenc_mpeg4 gop-size=10 ! mpeg4videoparse config-interval=-1";
    let kinds: [(&str, IsKind, IsKind); 3] = [
        (
            h264,
            |first| matches!(first & 0x1f, 7 | 8),
            |first| matches!(first & 0x1f, 1 | 5),
        ),
        (
            h265,
            |first| matches!(first >> 1, 32..=34),
            |first| first >> 1 < 32,
        ),
        (
            mpeg4,
            |first| matches!(first, 0..=0x2f | 0xb0 | 0xb2 | 0xb5),
            |first| first == 0xb6,
        ),
    ];
    for (elements, is_set, is_slice) in kinds {
        let Some((_, packets)) = packets("I420", elements) else {
            continue;
        };
        let stream = packets.concat();
        let whole = decode(&save(&dir, &stream)).unwrap();
        assert_eq!(whole.len(), FRAMES, "{elements}");
        let cut = save(&dir, &without_first_sets(&stream, is_set, is_slice));
        assert_eq!(decode(&cut).unwrap(), whole, "{elements}");
        let is_mpeg4 = elements == mpeg4;
        let notes = open(&cut).unwrap().facts().notes;
        let is_made_up = notes.contains(&ClipNote::MissingReferences);
        assert_eq!(is_made_up, is_mpeg4, "{elements}");
    }
}

#[test]
fn a_stream_cut_before_an_open_gop_decodes_from_there() {
    let dir = TempDir::new().unwrap();
    let encoder =
        "x264enc key-int-max=10 bframes=2 b-adapt=false option-string=open-gop=1:scenecut=0";
    let raw = format!("{encoder} ! video/x-h264,stream-format=byte-stream,alignment=au");
    let Some((_, packets)) = packets("I420", &raw) else {
        return;
    };
    let whole = decode(&save(&dir, &packets.concat())).unwrap();
    assert_eq!(whole.len(), FRAMES);
    let check = |cut: &[u8], name: &str| {
        let frames = decode(&save(&dir, cut)).unwrap_or_else(|e| panic!("{name}: {e}"));
        // Two groups of pictures follow. Those before the first key frame may lack their references.
        assert!(
            (15..FRAMES - 4).contains(&frames.len()),
            "{name}: {}",
            frames.len()
        );
        assert_eq!(frames[..], whole[FRAMES - frames.len()..], "{name}");
    };
    check(&packets[4..].concat(), "raw");
    for muxer in ["mpegtsmux alignment=1", "mpegpsmux"] {
        let elements = format!("{raw} ! h264parse ! {muxer}");
        let Some((_, file)) = self::packets("I420", &elements) else {
            continue;
        };
        let file = file.concat();
        // Cuts at the packet of the fifth picture. MPEG-TS keeps its tables.
        let starts = (0..file.len() - 4).filter(|at| file[*at..].starts_with(&[0, 0, 1, 0xe0]));
        let at = starts.clone().nth(4).unwrap();
        let cut = if muxer.starts_with("mpegts") {
            let packet = at / 188 * 188;
            let first = starts.clone().next().unwrap() / 188 * 188;
            [&file[..first], &file[packet..]].concat()
        } else {
            file[at..].to_vec()
        };
        check(&cut, muxer);
    }
}
