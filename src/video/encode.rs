//! Frames → an MP4 file, through GStreamer: appsrc ! videoconvert ! encoder ! mp4mux ! filesink.
//!
//! For the demo and the tests, which need small clips of known content. The same frames give the same bytes on the
//! same machine: one encoder thread, fixed settings, no date in the file. A pipeline that takes no frame for 30 s is
//! stopped. No incomplete file is left.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::frame::RgbFrame;
use crate::video::container;

mod pipeline;

use pipeline::Encoder;

/// A codec to encode with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// H.264 by `x264enc`, 4:2:0; width and height must be even.
    H264,
    /// MPEG-4 part 2 by `avenc_mpeg4`, 4:2:0.
    Mpeg4,
}

/// Why a clip was not written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(String);

impl EncodeError {
    fn build(error: impl std::fmt::Display) -> Self {
        Self(format!("the encoding pipeline cannot be built: {error}"))
    }
}

fn start_gstreamer() -> Result<(), EncodeError> {
    crate::video::clip::init().map_err(|e| EncodeError(e.to_string()))
}

/// The best installed codec: H.264 where `x264enc` is installed, else MPEG-4, whose encoder comes with the decoders.
///
/// # Errors
/// Fails when GStreamer does not start or not even MPEG-4 can be encoded.
pub fn best_codec() -> Result<Codec, EncodeError> {
    start_gstreamer()?;
    pipeline::find_elements(Codec::Mpeg4)?;
    let has_h264 = pipeline::find_elements(Codec::H264).is_ok();
    Ok(if has_h264 { Codec::H264 } else { Codec::Mpeg4 })
}

/// Writes `frames`, all of one size, as the MP4 file `path` at `fps` frames per second.
///
/// An existing file is replaced. On an error no file is left.
///
/// # Errors
/// Fails when there are no frames, their size or rate is not supported, an element is not installed or fails, or the
/// file cannot be written. An unsupported size or rate is reported before the file is opened.
pub fn encode_mp4(
    path: &Path,
    frames: impl Iterator<Item = RgbFrame>,
    fps: u32,
    codec: Codec,
) -> Result<(), EncodeError> {
    // The first frame's format is described by GStreamer types.
    start_gstreamer()?;
    let mut frames = frames.peekable();
    let no_frames = || EncodeError("no pictures to encode".to_owned());
    let info = image_info(frames.peek().ok_or_else(no_frames)?, fps, codec)?;
    if path.is_symlink() || (path.exists() && !path.is_file()) {
        // Opening a pipe without a reader blocks, and neither a device nor the target of a link may be replaced.
        let text = format!("{}: not a regular file", path.display());
        return Err(EncodeError(text));
    }
    let written = write_file(path, frames, fps, codec, &info);
    if written.is_err() && path.is_file() {
        // An incomplete clip must not pass for a whole one; the first error is reported.
        fs::remove_file(path).ok();
    }
    written
}

/// Runs one pipeline until it has closed the file. Checks that the file lists all frames, and clears its dates.
fn write_file(
    path: &Path,
    frames: impl Iterator<Item = RgbFrame>,
    fps: u32,
    codec: Codec,
    info: &gst_video::VideoInfo,
) -> Result<(), EncodeError> {
    let encoder = Encoder::start(path, info, fps, codec)?;
    let wanted = encoder.push_all(frames)?;
    encoder.finish(wanted)?;
    drop(encoder);
    let finished = complete_file(path);
    let written = finished.map_err(|e| EncodeError(format!("{}: {e}", path.display())))?;
    if written != wanted {
        return Err(EncodeError(format!(
            "{wanted} pictures were encoded, but the file holds {written}"
        )));
    }
    Ok(())
}

/// Clears the dates of a file: the muxer writes the current time. Returns the number of its frames.
fn complete_file(path: &Path) -> io::Result<u64> {
    let mut file = File::options().read(true).write(true).open(path)?;
    container::clear_dates(&mut file)?;
    let track = container::first_video_track(&mut file)?;
    Ok(track.map_or(0, |track| track.frames))
}

/// The format of the frames, if the codec supports it.
fn image_info(
    frame: &RgbFrame,
    fps: u32,
    codec: Codec,
) -> Result<gst_video::VideoInfo, EncodeError> {
    let (width, height) = (frame.width(), frame.height());
    let even = match codec {
        Codec::H264 => ", even width and height",
        Codec::Mpeg4 => "",
    };
    let unfit = || {
        let what = format!("{width}x{height} pictures cannot be encoded as {codec:?}");
        EncodeError(format!("{what}: at least 16x16{even}"))
    };
    let odd = width % 2 + height % 2 > 0;
    // mp4mux accepts no side below 16 pixels; x264 cannot halve the chroma planes of odd sizes.
    if width < 16 || height < 16 || (codec == Codec::H264 && odd) {
        return Err(unfit());
    }
    let wide = u32::try_from(width).map_err(|_| unfit())?;
    let high = u32::try_from(height).map_err(|_| unfit())?;
    let rate = i32::try_from(fps)
        .ok()
        .filter(|rate| (1..=1000).contains(rate));
    let rate = rate
        .ok_or_else(|| EncodeError(format!("{fps} frames per second are outside of 1 to 1000")))?;
    gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, wide, high)
        .fps(gst::Fraction::new(rate, 1))
        .build()
        .map_err(EncodeError::build)
}

#[cfg(test)]
mod tests {
    use gstreamer::prelude::*;
    use gstreamer_app as gst_app;

    use super::*;
    use std::path::PathBuf;

    /// A file of one test, removed when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let file = format!("handloom-encode-{}-{name}.mp4", std::process::id());
            Self(std::env::temp_dir().join(file))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_file(&self.0).ok();
        }
    }

    /// A light square that moves over a dark background.
    fn moving_square(count: usize, width: usize, height: usize) -> impl Iterator<Item = RgbFrame> {
        (0..count).map(move |index| {
            let mut frame = RgbFrame::new(width, height);
            for (i, pixel) in frame.pixels_mut().chunks_exact_mut(3).enumerate() {
                let inside = (index..index + 10).contains(&(i % width)) && i / width < 10;
                pixel.copy_from_slice(if inside {
                    &[230, 180, 150]
                } else {
                    &[40, 60, 90]
                });
            }
            frame
        })
    }

    /// Decodes the file: number of frames, and red of the first pixel.
    fn decode(path: &Path) -> (usize, u8) {
        gst::init().unwrap();
        let text = "filesrc name=f ! decodebin ! videoconvert ! video/x-raw,format=RGB ! appsink name=s sync=false";
        let pipeline = gst::parse::launch(text)
            .unwrap()
            .downcast::<gst::Pipeline>()
            .unwrap();
        pipeline
            .by_name("f")
            .unwrap()
            .set_property("location", path);
        let sink = pipeline
            .by_name("s")
            .unwrap()
            .downcast::<gst_app::AppSink>()
            .unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let (mut count, mut red) = (0, 0);
        while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(20)) {
            if count == 0 {
                red = sample.buffer().unwrap().map_readable().unwrap()[0];
            }
            count += 1;
        }
        assert!(sink.is_eos());
        pipeline.set_state(gst::State::Null).unwrap();
        (count, red)
    }

    #[test]
    fn an_encoded_clip_is_decoded_again() {
        for (codec, count, width, height) in [
            (Codec::H264, 1, 64, 48),
            (Codec::H264, 70, 62, 50),
            (Codec::Mpeg4, 70, 62, 50),
            (Codec::Mpeg4, 3, 63, 49),
        ] {
            let file = Scratch::new(&format!("back-{codec:?}-{count}"));
            encode_mp4(&file.0, moving_square(count, width, height), 25, codec).unwrap();
            let (decoded, red) = decode(&file.0);
            assert_eq!(decoded, count, "{codec:?}");
            assert!((210..=250).contains(&red), "{codec:?} {red}");
        }
    }

    #[test]
    fn two_runs_give_the_same_bytes() {
        for codec in [Codec::H264, Codec::Mpeg4] {
            let file = Scratch::new(&format!("same-{codec:?}"));
            let encode = || {
                encode_mp4(&file.0, moving_square(20, 64, 48), 25, codec).unwrap();
                fs::read(&file.0).unwrap()
            };
            assert!(encode() == encode(), "{codec:?}");
        }
    }

    #[test]
    fn a_file_has_no_dates() {
        for codec in [Codec::H264, Codec::Mpeg4] {
            let file = Scratch::new(&format!("dates-{codec:?}"));
            encode_mp4(&file.0, moving_square(3, 64, 48), 25, codec).unwrap();
            let bytes = fs::read(&file.0).unwrap();
            for kind in [b"mvhd", b"tkhd", b"mdhd"] {
                let at = bytes.windows(4).position(|w| w == kind).unwrap() + 4;
                let version = bytes[at];
                let dates = if version == 1 { 16 } else { 8 };
                assert!(
                    bytes[at + 4..][..dates].iter().all(|b| *b == 0),
                    "{codec:?}"
                );
                // What follows the dates is kept: a time scale or a track number.
                assert!(bytes[at + 4 + dates..][..4] != [0; 4], "{codec:?}");
            }
        }
    }

    #[test]
    fn a_failed_encoding_names_the_cause_and_leaves_no_file() {
        let file = Scratch::new("refused");
        let refused = |frames: Vec<RgbFrame>, fps, codec| {
            let error = encode_mp4(&file.0, frames.into_iter(), fps, codec).unwrap_err();
            assert!(!file.0.exists());
            error.to_string()
        };
        assert_eq!(refused(vec![], 25, Codec::H264), "no pictures to encode");
        let still = || vec![RgbFrame::new(64, 48)];
        assert!(refused(still(), 0, Codec::H264).contains("0 frames per second"));
        assert!(refused(vec![RgbFrame::new(63, 48)], 25, Codec::H264).contains("even"));
        assert!(refused(vec![RgbFrame::new(8, 8)], 25, Codec::Mpeg4).contains("16x16"));
        let uneven = vec![RgbFrame::new(64, 48), RgbFrame::new(48, 64)];
        assert!(refused(uneven, 25, Codec::Mpeg4).contains("picture 1 is 48x64"));
    }

    #[test]
    fn devices_and_folders_are_left_alone() {
        for path in [Path::new("/dev/null"), &std::env::temp_dir()] {
            let error = encode_mp4(path, moving_square(2, 64, 48), 25, Codec::H264).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
            assert!(path.exists());
        }
    }

    #[test]
    fn an_unwritable_path_is_an_error_with_gstreamers_reason() {
        let path = Path::new("/nonexistent-folder/clip.mp4");
        let error = encode_mp4(path, moving_square(40, 64, 48), 25, Codec::H264).unwrap_err();
        assert!(
            error.to_string().starts_with("encoding failed in"),
            "{error}"
        );
        assert!(error.to_string().contains("nonexistent-folder"), "{error}");
    }
}
