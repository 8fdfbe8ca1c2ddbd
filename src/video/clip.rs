//! A video file as a [`FrameSource`]: one GStreamer pipeline per clip, from the first frame, without seeking.
//!
//! The decoder's planes are converted to RGB by [`crate::color`]: GStreamer's own conversion differs from the notebook's by
//! up to 20 grey levels.

use super::container::{self, VideoTrack};
use super::decoder::StreamCodec;
use super::frame_converter::FrameConverter;
use super::packet_order::Mark;
use crate::color::{self, Exactness};
use crate::frame::{DecoderChoice, FrameSource, RgbFrame, SourceError};
use crate::video::gst_pipeline::{self, DecodePipeline, GRACE, PipelineItem};
use crossbeam_channel::RecvTimeoutError;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Options of the decoder.
#[derive(Clone, Debug)]
pub struct VideoOptions {
    /// Which decoder is used.
    pub decoder: DecoderChoice,
    /// Longest total wait for the decoder in one clip.
    pub timeout: Duration,
}

/// An open clip.
pub struct VideoClip {
    pipeline: DecodePipeline,
    track: VideoTrack,
    /// What is left of the clip's timeout.
    budget: Duration,
    frames: u64,
    /// Number of frames that were shown.
    taken: u64,
    /// Whether the current frame is the one that `open` waited for.
    is_at_start: bool,
    ended: bool,
    late_error: Option<String>,
    current: Option<gst::Sample>,
    converter: FrameConverter,
    upright: RgbFrame,
    turned: RgbFrame,
    approximate: bool,
}

/// Starts GStreamer, once per process.
///
/// # Errors
/// When GStreamer cannot start.
pub fn init() -> Result<(), SourceError> {
    static STARTED: OnceLock<Result<(), SourceError>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            gst::init().map_err(|e| SourceError(format!("GStreamer does not start: {e}")))
        })
        .clone()
}

impl VideoClip {
    /// Opens `path` and waits for its first frame.
    ///
    /// # Errors
    /// When no frame can be decoded, with the decoder's reason.
    pub fn open(path: &Path, options: &VideoOptions) -> Result<Self, SourceError> {
        init()?;
        let text = |e: std::io::Error| SourceError(e.to_string());
        // Opening a pipe waits for its writer, and a device may never end.
        if !std::fs::metadata(path).map_err(text)?.is_file() {
            return Err(SourceError("not a regular file".into()));
        }
        let mut file = File::open(path).map_err(text)?;
        let mut head = [0; 8];
        let length = (&mut file).take(8).read(&mut head).map_err(text)?;
        if length == 0 {
            return Err(SourceError("the file is empty (0 bytes)".into()));
        }
        let track = container::first_video_track(&mut file).map_err(text)?;
        let is_mp4 = track.is_some() || container::is_mp4(&head);
        let track = match track {
            Some(track) => track,
            None => container::other_track(&mut file).map_err(text)?,
        };
        drop(file);
        let pipeline = gst_pipeline::build(path, is_mp4, &options.decoder, &track)
            .map_err(|e| SourceError(e.to_string()))?;
        let mut clip = Self {
            pipeline,
            budget: options.timeout,
            frames: track.frames,
            approximate: track.is_approximate,
            track,
            taken: 0,
            is_at_start: false,
            ended: false,
            late_error: None,
            current: None,
            converter: FrameConverter::default(),
            upright: RgbFrame::default(),
            turned: RgbFrame::default(),
        };
        let starts = clip.pipeline.pipeline.set_state(gst::State::Playing);
        // A pipeline that does not start sends a message with the reason.
        if starts.is_err() {
            clip.budget = clip.budget.min(GRACE);
        }
        if !clip.advance()? {
            let reason = clip.late_error.take();
            return Err(SourceError(reason.unwrap_or_else(|| {
                "the file has no frame that can be decoded".into()
            })));
        }
        clip.is_at_start = true;
        if clip.frames == 0 {
            clip.frames = clip.frames_by_duration();
        }
        Ok(clip)
    }

    /// Name of the GStreamer element that decodes.
    #[must_use]
    pub fn decoder(&self) -> Option<String> {
        self.pipeline.stream().map(|s| s.decoder.clone())
    }

    fn codec(&self) -> StreamCodec {
        let stream = self.pipeline.stream();
        stream.map_or(StreamCodec::Other, |s| s.codec)
    }

    /// Presentation time of the current frame, by the container; its origin is arbitrary.
    #[must_use]
    pub fn time(&self) -> Option<Duration> {
        let buffer = self.current.as_ref()?.buffer()?;
        Some(Duration::from_nanos(buffer.pts()?.nseconds()))
    }

    /// Frames per second: the average of the container's time table, else what the decoder reports with the current
    /// frame, which may be a guess from the first.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.track.rate().or_else(|| self.rate_of_current())
    }

    fn rate_of_current(&self) -> Option<f64> {
        let caps = self.current.as_ref()?.caps()?;
        let rate = caps.structure(0)?.get::<gst::Fraction>("framerate").ok()?;
        (rate.denom() > 0 && rate.numer() > 0)
            .then(|| f64::from(rate.numer()) / f64::from(rate.denom()))
    }

    /// Width and height of the current frame in pixels, after rotation.
    #[must_use]
    pub fn size(&self) -> Option<(usize, usize)> {
        let info = gst_video::VideoInfo::from_caps(self.current.as_ref()?.caps()?).ok()?;
        let (width, height) = (info.width() as usize, info.height() as usize);
        Some(if self.track.quarter_turns.is_multiple_of(2) {
            (width, height)
        } else {
            (height, width)
        })
    }

    /// Whether a frame was converted by a rule that is not proven equal to the notebook's, or an edit list shows parts that
    /// are not: see [`VideoTrack::is_approximate`].
    #[must_use]
    pub fn is_approximate(&self) -> bool {
        self.approximate || self.pipeline.is_made_up()
    }

    /// Why decoding stopped before the end of the file, if it did.
    #[must_use]
    pub fn stopped_early(&self) -> Option<&str> {
        self.late_error.as_deref()
    }

    /// OpenCV's frame count for a container without one: duration × rate.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "as OpenCV"
    )]
    fn frames_by_duration(&self) -> u64 {
        let duration = self.pipeline.pipeline.query_duration::<gst::ClockTime>();
        match (duration, self.rate_of_current()) {
            (Some(d), Some(r)) => (d.nseconds() as f64 / 1e9 * r + 0.5) as u64,
            _ => 0,
        }
    }

    /// The next output, `None` after `at_most`, or an error when the clip's timeout is used up.
    fn wait(&mut self, at_most: Duration) -> Result<Option<PipelineItem>, SourceError> {
        let limit = at_most.min(self.budget);
        let from = Instant::now();
        let got = self.pipeline.items.recv_timeout(limit);
        self.budget = self.budget.saturating_sub(from.elapsed());
        match got {
            Ok(item) => Ok(Some(item)),
            Err(RecvTimeoutError::Disconnected) => Ok(Some(PipelineItem::End)),
            Err(RecvTimeoutError::Timeout) if self.budget.is_zero() => {
                self.ended = true;
                Err(SourceError(
                    "the decoder gave no frame within the clip timeout".into(),
                ))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }
}

impl FrameSource for VideoClip {
    fn advance(&mut self) -> Result<bool, SourceError> {
        if self.ended {
            return Ok(false);
        }
        if std::mem::take(&mut self.is_at_start) {
            return Ok(true);
        }
        loop {
            // After an error upstream, frames that are still in the pipeline follow at once.
            let timeout = if self.late_error.is_some() {
                GRACE
            } else {
                self.budget
            };
            match self.wait(timeout)? {
                Some(PipelineItem::Frame(sample)) => {
                    if self.codec().hides()
                        && sample.buffer().is_some_and(|b| Mark::Hidden.is_on(b))
                    {
                        continue;
                    }
                    self.taken += 1;
                    // As OpenCV: one more than the container's count is read, where edits repeat frames.
                    if self.track.frames > 0 && self.taken > self.track.frames + 1 {
                        self.ended = true;
                        self.current = None;
                        return Ok(false);
                    }
                    self.current = Some(sample);
                    return Ok(true);
                }
                Some(PipelineItem::Error { reason, is_final }) => {
                    let reachable = self.pipeline.stream().is_some();
                    self.late_error.get_or_insert(reason);
                    if reachable && !is_final {
                        continue;
                    }
                }
                Some(PipelineItem::End) | None => {}
            }
            self.ended = true;
            self.current = None;
            return Ok(false);
        }
    }

    fn frame(&mut self) -> Result<&RgbFrame, SourceError> {
        let sample = self
            .current
            .as_ref()
            .ok_or_else(|| SourceError("no current frame".into()))?;
        let codec = self.codec();
        let exactness = self
            .converter
            .convert(sample, codec, &mut self.upright)
            .map_err(SourceError)?;
        // What is missing of a JPEG image keeps what its memory held before.
        let is_undefined =
            codec == StreamCodec::Jpeg && sample.buffer().is_some_and(|b| Mark::CutOff.is_on(b));
        self.approximate |=
            exactness == Exactness::Approximate || !codec.is_exact() || is_undefined;
        if self.track.quarter_turns == 0 {
            return Ok(&self.upright);
        }
        color::rotate(&self.upright, self.track.quarter_turns, &mut self.turned);
        Ok(&self.turned)
    }

    fn declared_frames(&self) -> u64 {
        self.frames
    }
}

/// GStreamer's version.
#[must_use]
pub fn version() -> String {
    let (major, minor, micro, _) = gst::version();
    format!("{major}.{minor}.{micro}")
}
