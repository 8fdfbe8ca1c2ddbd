//! File formats: which are opened, which are refused by name. No file makes a connection. Limits on pixels hold.

use gstreamer as gst;
use gstreamer::prelude::*;
use handloom::frame::FrameSource;
use handloom::video::clip::{self, VideoClip, VideoOptions};
use handloom::video::encode::Codec;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use test_support::{manifest, metadata, print_note, process, render_clip, scratch, write_metadata};

const FRAMES: usize = 24;

fn open(path: &Path) -> Result<VideoClip, String> {
    let options = VideoOptions {
        timeout: Duration::from_secs(20),
        ..VideoOptions::default()
    };
    VideoClip::open_path(path, &options).map_err(|e| e.to_string())
}

/// The declared number of frames, and the size and CRC-32 of each decoded frame.
type Decoded = (Option<u64>, Vec<(usize, usize, u32)>);

fn decode(path: &Path) -> Result<Decoded, String> {
    let mut clip = open(path)?;
    let mut frames = Vec::new();
    while clip.advance().map_err(|e| e.to_string())? {
        let frame = clip.frame().map_err(|e| e.to_string())?;
        frames.push((
            frame.width(),
            frame.height(),
            crc32fast::hash(frame.pixels()),
        ));
    }
    Ok((clip.declared_frames(), frames))
}

/// Runs GStreamer elements that write `to`; `false` when an element is not installed.
fn run_pipeline(elements: &str, to: &Path) -> bool {
    clip::init().unwrap();
    let text = format!("{elements} ! filesink location={}", to.display());
    let pipeline = match gst::parse::launch(&text) {
        Ok(pipeline) => pipeline,
        Err(error) => {
            print_note(&format!("not tested: {elements}: {error}"));
            return false;
        }
    };
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap();
    let end = end.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
    pipeline.set_state(gst::State::Null).unwrap();
    let end = end.unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{elements}: {end:?}");
    true
}

#[test]
fn every_container_gives_the_frames_of_the_mp4_file() {
    let folder = scratch();
    let (mp4, other) = (folder.path().join("a.mp4"), folder.path().join("b.mp4"));
    let byte_stream = "h264parse ! video/x-h264,stream-format=byte-stream,alignment=au";
    for (codec, parser, muxers) in [
        (
            Codec::H264,
            "h264parse config-interval=-1",
            &[
                "matroskamux",
                "matroskamux streamable=true",
                "flvmux",
                "avimux",
                "mpegtsmux",
                "mpegtsmux m2ts-mode=true",
                "mpegpsmux",
                byte_stream,
            ][..],
        ),
        (
            Codec::Mpeg4,
            "mpeg4videoparse config-interval=-1",
            &[
                "matroskamux streamable=true",
                "avimux",
                "mpegtsmux",
                "identity",
            ][..],
        ),
    ] {
        render_clip(&mp4, 3, FRAMES, (160, 112), codec);
        let (declared, frames) = decode(&mp4).unwrap();
        assert_eq!((declared, frames.len()), (Some(FRAMES as u64), FRAMES));
        for muxer in muxers {
            let from = format!("filesrc location={} ! qtdemux ! {parser}", mp4.display());
            if !run_pipeline(&format!("{from} ! {muxer}"), &other) {
                continue;
            }
            for _ in 0..2 {
                let (declared, got) = decode(&other).unwrap_or_else(|e| panic!("{muxer}: {e}"));
                assert!(got == frames, "{muxer}: {} frames", got.len());
                // Only AVI declares a frame count. An unknown count is not guessed.
                let expected = (*muxer == "avimux").then_some(FRAMES as u64);
                assert_eq!(declared, expected, "{muxer}");
            }
        }
    }
}

#[test]
fn a_clip_without_a_count_is_counted() {
    let folder = scratch();
    let dataset = folder.path().join("dataset");
    let ids = ["whole", "part", "behind"];
    let instances = ids.map(|id| (id, 1));
    let mut metadata = metadata(&[("sign", &instances)]);
    for (n, start, end) in [(0, 1, -1), (1, 5, 12), (2, 90, 95)] {
        let instance = &mut metadata[0]["instances"][n];
        (instance["frame_start"], instance["frame_end"]) = (start.into(), end.into());
    }
    write_metadata(&dataset, &metadata);
    let mp4 = folder.path().join("a.mp4");
    render_clip(&mp4, 3, FRAMES, (160, 112), Codec::Mpeg4);
    let live = folder.path().join("b.mp4");
    let chain = "qtdemux ! mpeg4videoparse ! matroskamux streamable=true";
    if !run_pipeline(
        &format!("filesrc location={} ! {chain}", mp4.display()),
        &live,
    ) {
        return;
    }
    for id in ids {
        fs::copy(&live, dataset.join(format!("videos/{id}.mp4"))).unwrap();
    }
    let out = folder.path().join("out");
    let args = [
        "--min-videos-per-gloss",
        "1",
        "--min-frames",
        "0",
        "--workers",
        "1",
    ];
    process(&dataset, &out, &args);
    let lines = manifest(&out);
    let (whole, part, behind) = (&lines[0], &lines[1], &lines[2]);
    assert_eq!(whole["clip"]["declared_frames"], FRAMES, "{whole}");
    assert_eq!(whole["clip"]["frame_count"], "counted", "{whole}");
    // Every second frame is sampled.
    assert_eq!(whole["clip"]["sampled"], 12, "{whole}");
    assert_eq!(part["clip"]["sampled"], 4, "{part}");
    assert_eq!(part["clip"]["frame_count"], "unknown", "{part}");
    assert_eq!(behind["state"], "empty", "{behind}");
    assert_eq!(
        behind["reason"],
        "frame range starts at 90, the clip has 24 frames"
    );
}

#[test]
fn decoders_take_what_a_parser_makes_of_the_stream() {
    let folder = scratch();
    let path = folder.path().join("a.mp4");
    render_clip(&path, 3, FRAMES, (160, 112), Codec::H264);
    let (_, frames) = decode(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let entry = bytes.windows(4).position(|w| w == b"avc1").unwrap();
    // The first match may be a brand of the file instead of the sample entry.
    let entry = bytes[entry + 4..]
        .windows(4)
        .position(|w| w == b"avc1")
        .map_or(entry, |at| at + entry + 4);
    bytes[entry..entry + 4].copy_from_slice(b"avc3");
    fs::write(&path, bytes).unwrap();
    assert!(decode(&path).unwrap().1 == frames);
    let size = "video/x-raw,format=I420,width=176,height=144,framerate=25/1";
    let source = format!("videotestsrc num-buffers={FRAMES} ! {size}");
    for (coder, decoder) in [
        ("avenc_h263 ! qtmux", "avdec_h263"),
        ("avenc_h263 ! avimux", "avdec_h263"),
        ("jpegenc ! qtmux", "avdec_mjpeg"),
        ("jpegenc ! avimux", "avdec_mjpeg"),
        ("jpegenc", "avdec_mjpeg"),
        ("avenc_flv ! flvmux", "avdec_flv"),
        ("theoraenc ! oggmux", "theoradec"),
        ("vp8enc deadline=1 ! webmmux streamable=true", "avdec_vp8"),
        ("avimux", "none (raw video)"),
        ("y4menc", "none (raw video)"),
    ] {
        if run_pipeline(&format!("{source} ! {coder}"), &path) {
            let clip = open(&path).unwrap_or_else(|e| panic!("{coder}: {e}"));
            assert_eq!(clip.facts().decoder.as_deref(), Some(decoder), "{coder}");
            assert_eq!(decode(&path).unwrap().1.len(), FRAMES, "{coder}");
        }
    }
}

#[test]
fn a_frame_above_the_limit_is_refused_before_it_is_decoded() {
    let folder = scratch();
    let path = folder.path().join("a.mp4");
    render_clip(&path, 3, FRAMES, (160, 112), Codec::H264);
    let whole = fs::read(&path).unwrap();
    let small = VideoOptions {
        pixels_max: 160 * 112 - 1,
        ..VideoOptions::default()
    };
    let reason = VideoClip::open_path(&path, &small)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert_eq!(
        reason,
        "160x112 pixels exceed the limit of 17919 (max_pixels)"
    );

    let expected = "16384x15872 pixels exceed the limit of 9437184 (max_pixels)";
    let set = oversized_sps();
    let box_at = whole.windows(4).position(|w| w == b"avcC").unwrap();
    let length_at = box_at + 4 + 6;
    let length = usize::from(u16::from_be_bytes([whole[length_at], whole[length_at + 1]]));
    let mut bomb = whole.clone();
    let place = &mut bomb[length_at + 2..length_at + 2 + length];
    place.fill(0);
    place[..set.len()].copy_from_slice(&set);
    fs::write(&path, &bomb).unwrap();
    assert_eq!(decode(&path).unwrap_err(), expected);

    // The size grows in mid-stream: earlier frames decode, but the clip is refused.
    let raw = folder.path().join("b.mp4");
    fs::write(&path, &whole).unwrap();
    let chain = "qtdemux ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream";
    assert!(run_pipeline(
        &format!("filesrc location={} ! {chain}", path.display()),
        &raw
    ));
    let stream = fs::read(&raw).unwrap();
    let slices: Vec<usize> = (0..stream.len() - 4)
        .filter(|at| stream[*at..].starts_with(&[0, 0, 1]) && stream[at + 3] & 0x1f == 1)
        .collect();
    let at = slices[slices.len() / 2] - 1;
    let late = [&stream[..at], &[0, 0, 0, 1], &set, &stream[at..]].concat();
    fs::write(&raw, late).unwrap();
    let mut clip = open(&raw).unwrap();
    let mut shown = 0;
    let reason = loop {
        match clip.advance() {
            Ok(true) => shown += 1,
            Ok(false) => panic!("{shown} frames and no refusal"),
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!(reason, expected);
    assert!((1..FRAMES).contains(&shown), "{shown}");
}

/// An H.264 sequence parameter set in the baseline profile, of 1024 × 992 macroblocks (16 × 16 pixels each).
pub(crate) fn oversized_sps() -> Vec<u8> {
    let mut bits = String::from("01100111");
    let golomb = |value: u32| {
        let text = format!("{:b}", value + 1);
        format!("{}{text}", "0".repeat(text.len() - 1))
    };
    // Profile and level; then set id 0, 16 frame numbers, picture order type 2, one reference, no gaps, width,
    // height, frames only.
    bits += "01000010";
    bits += "11000000";
    bits += "00110011";
    for part in [
        golomb(0),
        golomb(0),
        golomb(2),
        golomb(1),
        "0".into(),
        golomb(1023),
        golomb(991),
        "1".into(),
    ] {
        bits += &part;
    }
    // Direct 8x8 inference, no cropping, no VUI, stop bit.
    bits += "1001";
    let bytes = bits.as_bytes().chunks(8).map(|eight| {
        let text = str::from_utf8(eight).unwrap();
        u8::from_str_radix(&format!("{text:0<8}"), 2).unwrap()
    });
    bytes.collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of formats")]
fn no_file_makes_a_connection() {
    let folder = scratch();
    let dataset = folder.path().join("dataset");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let host = server.local_addr().unwrap();
    let url = format!("http://{host}/x");
    let texts = [
        (
            "hls",
            "HLS",
            format!(
                "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}.ts\n#EXT-X-ENDLIST\n"
            ),
        ),
        (
            "hls-master",
            "HLS",
            format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=64x64\n{url}.m3u8\n"),
        ),
        (
            "dash",
            "DASH",
            format!(
                "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" minBufferTime=\"PT1S\" \
                 mediaPresentationDuration=\"PT2S\" profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\"><Period>\
                 <AdaptationSet mimeType=\"video/mp4\"><Representation id=\"1\" bandwidth=\"1\" codecs=\"avc1.42c00d\">\
                 <BaseURL>{url}.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
            ),
        ),
        (
            "smooth",
            "Smooth Streaming",
            format!(
                "<?xml version=\"1.0\"?><SmoothStreamingMedia MajorVersion=\"2\" MinorVersion=\"0\" Duration=\"20000000\">\
                 <StreamIndex Type=\"video\" Chunks=\"1\" Url=\"{url}({{bitrate}},{{start time}})\"><QualityLevel \
                 Index=\"0\" Bitrate=\"1000\" FourCC=\"H264\"/><c d=\"20000000\"/></StreamIndex></SmoothStreamingMedia>"
            ),
        ),
        (
            "sdp",
            "SDP",
            format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:rtsp://{host}/x\r\nm=video 0 RTP/AVP 96\r\n"
            ),
        ),
        ("m3u", "M3U", format!("#EXTM3U\n#EXTINF:1,x\n{url}.mp4\n")),
        (
            "pls",
            "PLS",
            format!("[playlist]\nNumberOfEntries=1\nFile1={url}.mp4\n"),
        ),
        (
            "asx",
            "ASX",
            format!("<ASX version=\"3.0\"><ENTRY><REF HREF=\"{url}.wmv\"/></ENTRY></ASX>"),
        ),
        (
            "asf-link",
            "ASX",
            format!("[Reference]\r\nRef1={url}.asf\r\n"),
        ),
        (
            "smil",
            "SMIL",
            format!("<smil><body><video src=\"{url}.mp4\"/></body></smil>"),
        ),
        (
            "xspf",
            "XSPF",
            format!(
                "<?xml version=\"1.0\"?><playlist><trackList><track><location>{url}</location></track></trackList></playlist>"
            ),
        ),
        ("rtsp", "RTSP", format!("RTSPtextrtsp://{host}/x\n")),
        ("list", "addresses", format!("{url}.mp4\n")),
        (
            "concat",
            "ffconcat",
            format!("ffconcat version 1.0\nfile {url}.mp4\n"),
        ),
        (
            "svg",
            "SVG",
            format!(
                "<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\"><image xlink:href=\"{url}.png\"/></svg>"
            ),
        ),
        (
            "html",
            "web page",
            format!(
                "<html><head><meta http-equiv=\"refresh\" content=\"0; url={url}\"></head></html>"
            ),
        ),
        (
            "quicktime",
            "QuickTime",
            format!(
                "<?xml version=\"1.0\"?><?quicktime type=\"application/x-quicktime-media-link\"?><embed src=\"{url}.mov\"/>"
            ),
        ),
    ];
    let mut ids: Vec<&str> = texts.iter().map(|text| text.0).collect();
    ids.extend(["elsewhere", "reference"]);
    let instances: Vec<(&str, i64)> = ids.iter().map(|id| (*id, 1)).collect();
    write_metadata(&dataset, &metadata(&[("odd", &instances)]));
    let place = |id: &str| dataset.join(format!("videos/{id}.mp4"));
    for (id, _, text) in &texts {
        fs::write(place(id), text).unwrap();
    }
    write_references(&place("elsewhere"), &place("reference"), &url);
    let out = folder.path().join("out");
    let run = process(&dataset, &out, &["--workers", "1", "--clip-timeout", "10"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let lines = manifest(&out);
    for (line, (id, name, _)) in lines.iter().zip(&texts) {
        let reason = line["reason"].as_str().unwrap_or_default();
        assert_eq!(line["state"], "unreadable", "{id}");
        assert!(
            reason.contains(name) && reason.contains("not a video"),
            "{id}: {reason}"
        );
    }
    assert_eq!(lines.last().unwrap()["state"], "unreadable");
    // A connection to the server would still be pending here.
    let connection = server.accept().map(|(_, from)| from);
    assert!(connection.is_err(), "a connection from {connection:?}");
}

/// Writes an MP4 file whose samples are at `url`, and a movie that only refers to `url`.
fn write_references(elsewhere: &Path, reference: &Path, url: &str) {
    render_clip(elsewhere, 3, 4, (160, 112), Codec::Mpeg4);
    let mut bytes = fs::read(elsewhere).unwrap();
    let at = bytes.windows(4).position(|w| w == b"url ").unwrap();
    // Replaces the flag "in this file" of `url ` by an address. All enclosing boxes grow.
    let more = [url.as_bytes(), &[0]].concat();
    bytes[at + 7] = 0;
    let grow = u32::try_from(more.len()).unwrap();
    for name in [
        b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref", b"url ",
    ] {
        let size_at = bytes.windows(4).position(|w| w == name).unwrap() - 4;
        let size = u32::from_be_bytes(bytes[size_at..size_at + 4].try_into().unwrap()) + grow;
        bytes[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
    }
    bytes.splice(at + 8..at + 8, more);
    fs::write(elsewhere, bytes).unwrap();
    let boxed = |name: &[u8], content: &[u8]| {
        let size = u32::try_from(content.len() + 8).unwrap().to_be_bytes();
        [&size[..], name, content].concat()
    };
    let address = [url.as_bytes(), &[0]].concat();
    let length = u32::try_from(address.len()).unwrap().to_be_bytes();
    let link = boxed(b"rdrf", &[&[0; 4][..], b"url ", &length, &address].concat());
    let movie = boxed(b"moov", &boxed(b"rmra", &boxed(b"rmda", &link)));
    fs::write(
        reference,
        [boxed(b"ftyp", b"qt  \0\0\0\0qt  "), movie].concat(),
    )
    .unwrap();
}
