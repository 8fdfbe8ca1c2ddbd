//! Times of the computations around the models: `make bench-kernels`. Machines are noisy: compare medians within one
//! run.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::expect_used,
    reason = "a bench works with small numbers and stops where it cannot run"
)]

use divan::{Bencher, black_box};
use handloom::color::{ChromaLayout, Converter, YuvFrame};
use handloom::draw::scene::signing_scene;
use handloom::frame::{FrameSource, RgbFrame};
use handloom::geometry::PixelRect;
use handloom::hand::warp::{Border, Warp};
use handloom::hand::{nms, palm};
use handloom::storage::npz::NpzWriter;
use handloom::video::clip::{VideoClip, VideoOptions};
use handloom::video::encode::{Codec, encode_mp4};
use std::io::Cursor;
use std::time::Duration;

fn main() {
    divan::main();
}

const SIZES: [(usize, usize); 3] = [(288, 192), (640, 480), (1280, 720)];

/// The palm model's crop of a whole frame.
#[divan::bench(args = SIZES)]
fn warp_palm(bencher: Bencher, (width, height): (usize, usize)) {
    let frame = signing_scene(1, 0, width, height);
    let side = width.max(height) as f32;
    let rect = PixelRect {
        cx: width as f32 / 2.0,
        cy: height as f32 / 2.0,
        w: side,
        h: side,
        rotation_rad: 0.0,
    };
    let (mut warp, mut tensor) = (Warp::default(), vec![0.0; 192 * 192 * 3]);
    bencher.bench_local(|| warp.crop(black_box(&frame), &rect, 192, Border::Zero, &mut tensor));
}

/// The hand model's crop of a hand that fills a third of the frame, partly outside.
#[divan::bench(args = SIZES)]
fn warp_hand(bencher: Bencher, (width, height): (usize, usize)) {
    let frame = signing_scene(1, 0, width, height);
    let side = height as f32 * 0.6;
    let rect = PixelRect {
        cx: width as f32 * 0.4,
        cy: height as f32 * 0.8,
        w: side,
        h: side,
        rotation_rad: 0.4,
    };
    let (mut warp, mut tensor) = (Warp::default(), vec![0.0; 224 * 224 * 3]);
    bencher.bench_local(|| {
        warp.crop(
            black_box(&frame),
            &rect,
            224,
            Border::Replicate,
            &mut tensor,
        );
    });
}

/// 4:2:0 planes to RGB.
#[divan::bench(args = SIZES)]
fn color(bencher: Bencher, (width, height): (usize, usize)) {
    let luma: Vec<u8> = (0..width * height).map(|i| (i * 31 % 251) as u8).collect();
    let chroma = &luma[..(width / 2) * (height / 2)];
    let image = YuvFrame {
        width,
        height,
        coded_width: width,
        coded_height: height,
        layout: ChromaLayout::Yuv420,
        is_planar: true,
        bit_depth: 8,
        full_range: false,
        planes: [&luma, chroma, chroma],
        strides: [width, width / 2, width / 2],
    };
    let (mut converter, mut out) = (Converter::default(), RgbFrame::default());
    bencher.bench_local(|| converter.to_rgb(black_box(&image), &mut out));
}

/// Palm outputs with 40 rows above the threshold, suppressed to palms.
#[divan::bench]
fn palm_decode(bencher: Bencher) {
    let anchors = palm::anchors();
    let boxes = vec![20.0_f32; palm::ANCHORS * palm::BOX_FLOATS];
    let mut logits = vec![-8.0_f32; palm::ANCHORS];
    for row in (0..palm::ANCHORS).step_by(50) {
        logits[row] = 1.0;
    }
    bencher.bench_local(|| nms::weighted(palm::decode(black_box(&boxes), &logits, &anchors, 0.5)));
}

/// A batch's sequences: 256 clips.
#[divan::bench]
fn npz_write(bencher: Bencher) {
    let values = vec![0.5_f32; 256 * 32 * 126];
    bencher.bench_local(|| {
        let mut npz = NpzWriter::new(Cursor::new(Vec::with_capacity(values.len() * 4 + 4096)));
        npz.numbers("sequences", &[256, 32, 126], values.iter().copied())
            .and_then(|()| npz.finish())
    });
}

/// A drawn H.264 clip of 64 frames, opened and decoded without color conversion.
#[divan::bench(args = SIZES, sample_count = 20)]
fn decode(bencher: Bencher, (width, height): (usize, usize)) {
    let dir = tempfile::tempdir().expect("a folder for the clip");
    let path = dir.path().join("clip.mp4");
    encode_mp4(
        &path,
        (0..64).map(|i| signing_scene(1, i, width, height)),
        25,
        Codec::H264,
    )
    .expect("a clip");
    let options = VideoOptions {
        timeout: Duration::from_mins(1),
        ..VideoOptions::default()
    };
    bencher.bench_local(|| {
        let mut clip = VideoClip::open_path(&path, &options).expect("a readable clip");
        let mut frames = 0;
        while clip.advance().expect("a frame") {
            frames += 1;
        }
        assert_eq!(frames, 64);
    });
}
