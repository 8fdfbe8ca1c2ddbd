//! Pictures → an MP4 file, through GStreamer: appsrc ! videoconvert ! encoder ! mp4mux ! filesink.
//!
//! For the demo and the tests, which need small clips of known content. The same pictures give the same bytes on the same
//! machine: one encoder thread, fixed settings, no date in the file. A pipeline that takes no picture for
//! [`STALL_MAX_MS`] is stopped. No incomplete file is left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::frame::RgbFrame;

mod mp4_normalize;
mod pipeline;

use pipeline::Encoder;

/// Longest time without progress of the pipeline, in milliseconds.
pub const STALL_MAX_MS: u64 = 30_000;

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
pub enum EncodeError {
    /// GStreamer does not start.
    #[error("GStreamer does not start: {0}")]
    Start(#[source] gst::glib::Error),
    /// An element is not installed.
    #[error("GStreamer has no element {element}; on Debian: apt-get install {package}")]
    ElementMissing {
        /// The element.
        element: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// An element refused a setting or a link.
    #[error("the encoding pipeline cannot be built: {0}")]
    Build(#[source] gst::glib::BoolError),
    /// There are no pictures.
    #[error("no pictures to encode")]
    NoFrames,
    /// A frame rate outside 1 to 1000.
    #[error("{fps} frames per second are outside of 1 to 1000")]
    FrameRate {
        /// The requested value.
        fps: u32,
    },
    /// A picture size that the codec cannot encode.
    #[error("{width}x{height} pictures cannot be encoded as {codec:?}: at least 16x16{}", even_note(*.codec))]
    Size {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
        /// The requested value.
        codec: Codec,
    },
    /// A picture whose size differs from the first.
    #[error("picture {index} is {width}x{height}, unlike the first")]
    SizeChanged {
        /// Number of the picture, from 0.
        index: usize,
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// An element failed, with GStreamer's message.
    #[error("encoding failed in {element}: {message} ({detail})")]
    Pipeline {
        /// Name of the element.
        element: String,
        /// Its message.
        message: String,
        /// Its message for developers.
        detail: String,
    },
    /// The pipeline made no progress.
    #[error("the encoder made no progress for {STALL_MAX_MS} ms at picture {index}")]
    Stalled {
        /// Number of pictures that it received.
        index: usize,
    },
    /// Pictures are missing in the file, although no element failed.
    #[error("{wanted} pictures were encoded, but the file holds {written}")]
    Incomplete {
        /// Number of encoded pictures.
        wanted: usize,
        /// Number of pictures in the file's index.
        written: u64,
    },
    /// The path is not a regular file, or the finished file cannot be read or changed.
    #[error("{}: {source}", path.display())]
    File {
        /// The file that was written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The best installed codec: H.264 where `x264enc` is installed, else MPEG-4, whose encoder comes with the decoders.
///
/// # Errors
/// [`EncodeError::Start`], and [`EncodeError::ElementMissing`] when not even MPEG-4 can be encoded.
pub fn best_codec() -> Result<Codec, EncodeError> {
    gst::init().map_err(EncodeError::Start)?;
    pipeline::find_encoder(Codec::Mpeg4)?;
    let has_h264 = pipeline::find_encoder(Codec::H264).is_ok();
    Ok(if has_h264 { Codec::H264 } else { Codec::Mpeg4 })
}

/// Writes `frames`, all of one size, as the MP4 file `path` at `fps` frames per second.
///
/// An existing file is replaced. On an error no file is left.
///
/// # Errors
/// Every variant of [`EncodeError`]; errors about sizes come before the file is opened, except
/// [`EncodeError::SizeChanged`].
pub fn encode_mp4(
    path: &Path,
    frames: impl Iterator<Item = RgbFrame>,
    fps: u32,
    codec: Codec,
) -> Result<(), EncodeError> {
    if !(1..=1000).contains(&fps) {
        return Err(EncodeError::FrameRate { fps });
    }
    // A picture's description needs GStreamer, too.
    gst::init().map_err(EncodeError::Start)?;
    let mut frames = frames.peekable();
    let first = frames.peek().ok_or(EncodeError::NoFrames)?;
    let info = image_info(first, fps, codec)?;
    if path.exists() && !path.is_file() {
        // Opening a pipe that nobody reads waits for ever, and a device must not be replaced.
        let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        let path = path.to_owned();
        return Err(EncodeError::File { path, source });
    }

    let written =
        write_file(path, frames, fps, codec, &info).and_then(|count| complete_file(path, count));
    if written.is_err() && path.is_file() {
        // An incomplete clip must not pass for a whole one; the first error is reported.
        fs::remove_file(path).ok();
    }
    written
}

/// Runs one pipeline until it has closed the file; returns the number of pictures.
fn write_file(
    path: &Path,
    frames: impl Iterator<Item = RgbFrame>,
    fps: u32,
    codec: Codec,
    info: &gst_video::VideoInfo,
) -> Result<usize, EncodeError> {
    let encoder = Encoder::start(path, info, fps, codec)?;
    let count = encoder.push_all(frames, fps, info)?;
    encoder.finish(count)?;
    Ok(count)
}

/// Checks that the index lists `wanted` pictures, and clears its dates.
fn complete_file(path: &Path, wanted: usize) -> Result<(), EncodeError> {
    let written = mp4_normalize::clear_dates(path).map_err(|source| EncodeError::File {
        path: path.to_owned(),
        source,
    })?;
    if usize::try_from(written) == Ok(wanted) {
        return Ok(());
    }
    Err(EncodeError::Incomplete { wanted, written })
}

fn even_note(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => ", even width and height",
        Codec::Mpeg4 => "",
    }
}

/// The format of the pictures, if the codec supports it.
fn image_info(
    frame: &RgbFrame,
    fps: u32,
    codec: Codec,
) -> Result<gst_video::VideoInfo, EncodeError> {
    let (width, height) = (frame.width(), frame.height());
    let unfit = || EncodeError::Size {
        width,
        height,
        codec,
    };
    let odd = width % 2 + height % 2 > 0;
    // mp4mux accepts no side below 16 pixels; x264 cannot halve the colour of odd sizes.
    if width < 16 || height < 16 || (codec == Codec::H264 && odd) {
        return Err(unfit());
    }
    let wide = u32::try_from(width).map_err(|_| unfit())?;
    let high = u32::try_from(height).map_err(|_| unfit())?;
    let rate = i32::try_from(fps).map_err(|_| EncodeError::FrameRate { fps })?;
    gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, wide, high)
        .fps(gst::Fraction::new(rate, 1))
        .build()
        .map_err(EncodeError::Build)
}

#[cfg(test)]
mod tests {
    use gstreamer::prelude::*;
    use gstreamer_app as gst_app;

    use super::*;

    /// A file name of this test's own, gone when dropped.
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

    /// A light square that moves over a dark ground.
    fn film(count: usize, width: usize, height: usize) -> impl Iterator<Item = RgbFrame> {
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

    /// What a decoder makes of the file: the pictures' count, and red of the first one's first pixel.
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
            encode_mp4(&file.0, film(count, width, height), 25, codec).unwrap();
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
                encode_mp4(&file.0, film(20, 64, 48), 25, codec).unwrap();
                fs::read(&file.0).unwrap()
            };
            assert!(encode() == encode(), "{codec:?}");
        }
    }

    #[test]
    fn what_cannot_be_encoded_says_why_and_leaves_no_file() {
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
            let error = encode_mp4(path, film(2, 64, 48), 25, Codec::H264).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
            assert!(path.exists());
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_in_gstreamers_words() {
        let path = Path::new("/nonexistent-folder/clip.mp4");
        let error = encode_mp4(path, film(40, 64, 48), 25, Codec::H264).unwrap_err();
        assert!(matches!(error, EncodeError::Pipeline { .. }), "{error:?}");
        assert!(error.to_string().contains("nonexistent-folder"), "{error}");
    }
}
