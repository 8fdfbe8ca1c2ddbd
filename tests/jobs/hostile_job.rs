//! A job of 200 clips: 20 are bombs, crash or hang their decoder, or are no videos. The other 180 give the right
//! results, the 20 are recorded with their true reasons, and memory stays bounded.
//!
//! `HANDLOOM_SWEEP=full` runs five pairs of jobs with and without the bad clips, otherwise one. With it,
//! `HANDLOOM_BAD_CLIPS` names a folder for `tests/bench/job_pairs.py`: the 18 bad clips that do not hang are copied
//! there, and their decoder.

use crate::decoder_process::{CRASHERS, DecoderFixture, decoders, reasons};
use crate::formats::oversized_sps;
use handloom::video::encode::Codec;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_support::memory::runs_program;
use test_support::{digests, manifest, print_note, render_clip};

const GOOD: usize = 180;
const WORKERS: [&str; 2] = ["--workers", "2"];
/// Memory limit of the program and its decoder processes together.
const MEMORY_MB_MAX: u64 = 600;
/// Clips that run into the clip timeout.
const HANGING: [&str; 2] = ["blck", "hang"];

/// Texts that are not videos: id, content, and a word of the recorded reason.
const TEXTS: [(&str, &str, &str); 8] = [
    (
        "hls_",
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:1/x.ts\n",
        "HLS",
    ),
    (
        "dash",
        "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"/>",
        "DASH",
    ),
    (
        "smth",
        "<?xml version=\"1.0\"?><SmoothStreamingMedia MajorVersion=\"2\"/>",
        "Smooth Streaming",
    ),
    (
        "sdp_",
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n",
        "SDP",
    ),
    (
        "m3u_",
        "#EXTM3U\n#EXTINF:1,x\nhttp://127.0.0.1:1/x.mp4\n",
        "M3U",
    ),
    (
        "pls_",
        "[playlist]\nNumberOfEntries=1\nFile1=http://127.0.0.1:1/x.mp4\n",
        "PLS",
    ),
    (
        "html",
        "<!DOCTYPE html><html><body>404</body></html>",
        "web page",
    ),
    (
        "svg_",
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"90000\" height=\"90000\"/>",
        "SVG",
    ),
];

/// Clips that declare frames above the pixel limit: id, content and declared size.
fn bombs(path: &Path) -> [(&'static str, Vec<u8>, &'static str); 4] {
    render_clip(path, 3, 4, (160, 112), Codec::H264);
    let mut in_stream = fs::read(path).unwrap();
    let avcc = in_stream.windows(4).position(|w| w == b"avcC").unwrap();
    let at = avcc + 4 + 6;
    let length = usize::from(u16::from_be_bytes([in_stream[at], in_stream[at + 1]]));
    let place = &mut in_stream[at + 2..at + 2 + length];
    place.fill(0);
    let set = oversized_sps();
    place[..set.len()].copy_from_slice(&set);

    let mut jpeg = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new(&mut jpeg);
    let (side, kind) = (64, image::ExtendedColorType::Rgb8);
    image::ImageEncoder::write_image(encoder, &[90; 64 * 64 * 3], side, side, kind).unwrap();
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x4e, 0x20, 0x4e, 0x20]);

    let mut vp8 =
        b"DKIF\0\0\x20\0VP80\x40\x1f\x40\x1f\x19\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    vp8.extend([10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    vp8.extend([0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x1f, 0x40, 0x1f]);

    let mut y4m = b"YUV4MPEG2 W20000 H20000 F25:1 Ip A1:1 C420jpeg\nFRAME\n".to_vec();
    y4m.resize(8192, 0);
    [
        ("h264", in_stream, "16384x15872"),
        ("jpeg", jpeg.repeat(3), "20000x20000"),
        ("vp8_", vp8, "8000x8000"),
        ("y4m_", y4m, "20000x20000"),
    ]
}

/// Duration of a job, and peak memory of its processes.
struct JobMeasurement {
    seconds: f64,
    peak_mb: u64,
}

/// Waits for the end of a job and measures it.
fn measure_job(mut job: Child) -> JobMeasurement {
    let since = Instant::now();
    let mut peak_mb = 0;
    let status = loop {
        if runs_program(job.id()) {
            let all = decoders(job.id()).into_iter().chain([job.id()]);
            peak_mb = peak_mb.max(all.filter_map(proportional_kib).sum::<u64>() / 1000);
        }
        if let Some(status) = job.try_wait().unwrap() {
            break status;
        }
        sleep(Duration::from_millis(40));
    };
    assert!(status.success(), "{status}");
    JobMeasurement {
        seconds: since.elapsed().as_secs_f64(),
        peak_mb,
    }
}

/// Memory of a process, with shared pages divided among the processes that share them; `None` when it has ended.
fn proportional_kib(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn copy_all(files: impl Iterator<Item = PathBuf>, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for file in files {
        fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
}

/// Each bad clip is recorded with its true reason.
fn check_reasons(out: &Path, bombs: &[(&str, Vec<u8>, &str)]) {
    let found: BTreeMap<String, String> = reasons(out).into_iter().collect();
    assert_eq!(found.len(), 20, "{found:?}");
    for (id, reason) in CRASHERS {
        assert_eq!(found[id], reason);
    }
    for (id, _, size) in bombs {
        let reason = format!("{size} pixels exceed the limit of 9437184 (max_pixels)");
        assert_eq!(found[*id], reason, "{id}");
    }
    for (id, _, name) in TEXTS {
        let reason = &found[id];
        assert!(
            reason.contains(name) && reason.contains("not a video"),
            "{id}: {reason}"
        );
    }
}

#[test]
fn twenty_bad_clips_change_nothing_of_180_good_ones() {
    let fixture = DecoderFixture::new();
    let Some(plugins) = fixture.plugin() else {
        return;
    };
    let bombs = bombs(&fixture.out("h264.mp4"));
    let texts = TEXTS.iter().map(|(id, ..)| *id);
    let bad: Vec<&str> = CRASHERS
        .iter()
        .map(|(id, _)| *id)
        .chain(texts)
        .chain(bombs.iter().map(|bomb| bomb.0))
        .collect();
    assert_eq!(bad.len(), 20);
    // The clips differ, so that swapped clips are noticed.
    let drawn: Vec<Vec<u8>> = (0..4)
        .map(|seed| {
            let path = fixture.out("drawn.mp4");
            render_clip(&path, seed, 2, (128, 96), Codec::Mpeg4);
            fs::read(path).unwrap()
        })
        .collect();
    let dataset = |name: &str, good: usize, bad: &[&str]| {
        let dataset = fixture.dataset(name, good, bad);
        let place = |id: &str| dataset.join(format!("videos/{id}.mp4"));
        for n in 0..good {
            fs::write(place(&format!("{n:05}")), &drawn[n % drawn.len()]).unwrap();
        }
        for id in bad {
            if let Some((_, bytes, _)) = bombs.iter().find(|bomb| bomb.0 == *id) {
                fs::write(place(id), bytes).unwrap();
            } else if let Some((_, text, _)) = TEXTS.iter().find(|text| text.0 == *id) {
                fs::write(place(id), text).unwrap();
            }
        }
        dataset
    };
    let run = |dataset: &Path, out: &str| {
        let out = fixture.out(out);
        // An earlier run may have used this folder.
        fs::remove_dir_all(&out).ok();
        let more = ["--clip-timeout", "6"];
        let more = [&more[..], &WORKERS].concat();
        let environment = [("GST_PLUGIN_PATH", plugins.as_os_str())];
        let measurement =
            measure_job(fixture.start(dataset, &out, &more, &environment, Stdio::null()));
        (out, measurement)
    };
    let alone = dataset("alone", GOOD, &[]);
    let mixed = dataset("mixed", GOOD, &bad);

    let (alone_out, measurement) = run(&alone, "alone-out");
    let (mixed_out, mixed_course) = run(&mixed, "mixed-out");
    print_note(&format!(
        "hostile job: {GOOD} clips in {:.1} s, peak {} MB; with 20 bad ones {:.1} s, peak {} MB",
        measurement.seconds, measurement.peak_mb, mixed_course.seconds, mixed_course.peak_mb
    ));
    assert!(
        mixed_course.peak_mb <= MEMORY_MB_MAX,
        "{} MB",
        mixed_course.peak_mb
    );

    let joined = |out: &Path| digests(out).remove("wlasl_landmarks.npz").unwrap();
    assert_eq!(joined(&alone_out), joined(&mixed_out));
    let accepted = |out: &Path| {
        let lines = manifest(out).into_iter();
        lines.filter(|line| line["state"] == "accepted").count()
    };
    assert_eq!((accepted(&alone_out), accepted(&mixed_out)), (GOOD, GOOD));
    check_reasons(&mixed_out, &bombs);
    if std::env::var("HANDLOOM_SWEEP").is_ok_and(|v| v == "full") {
        let bad: Vec<&str> = bad.into_iter().filter(|id| !HANGING.contains(id)).collect();
        let quick = dataset("quick", GOOD, &bad);
        if let Some(folder) = std::env::var_os("HANDLOOM_BAD_CLIPS") {
            let clips = bad.iter().map(|id| quick.join(format!("videos/{id}.mp4")));
            copy_all(clips, &Path::new(&folder).join("videos"));
            let plugin = fs::read_dir(&plugins).unwrap();
            let plugin = plugin.map(|entry| entry.unwrap().path());
            copy_all(plugin, &Path::new(&folder).join("plugins"));
        }
        let hanging = dataset("hanging", 1, &HANGING);
        for pair in 0..5 {
            let seconds = [&alone, &quick].map(|dataset| run(dataset, "timed-out").1.seconds);
            print_note(&format!(
                "hostile job: pair {pair}: {:.2} s without, {:.2} s with 18 bad clips",
                seconds[0], seconds[1]
            ));
        }
        let seconds = run(&hanging, "timed-out").1.seconds;
        print_note(&format!(
            "hostile job: the two clips that hang take {seconds:.2} s"
        ));
    }
}
