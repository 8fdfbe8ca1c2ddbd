//! A video file as a [`FrameSource`]: one GStreamer pipeline per clip, from the first frame, without seeking.
//!
//! The decoder's planes are converted to RGB by [`crate::color`]: GStreamer's own conversion differs from the
//! notebook's by up to 20 grey levels.

use super::clip_file::{io_error, open_file};
use super::container::{self, VideoTrack};
use super::decoder::StreamCodec;
use super::file_format;
use super::frame_converter::FrameConverter;
use super::packet_order::Mark;
use crate::color::{self, Exactness};
use crate::dataset::clip_note::ClipNote;
use crate::frame::{ClipFormat, DecoderChoice, FrameSource, RgbFrame, SourceError};
use crate::video::gst_pipeline::{self, DecodePipeline, GRACE, PipelineItem};
use crossbeam_channel::RecvTimeoutError;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Interval of the checks whether a pipeline still runs.
const IDLE_CHECK: Duration = Duration::from_millis(500);

/// Options of the decoder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VideoOptions {
    /// Selects the decoder.
    pub decoder: DecoderChoice,
    /// Longest total wait for the decoder in one clip.
    pub timeout: Duration,
    /// Maximum number of pixels of a frame; a clip with larger ones is not decoded.
    pub pixels_max: u64,
}

/// Default maximum number of pixels of a frame: 4096 × 2304.
pub const PIXELS_MAX: u64 = 4096 * 2304;

impl Default for VideoOptions {
    fn default() -> Self {
        Self {
            decoder: DecoderChoice::Software,
            timeout: Duration::from_mins(1),
            pixels_max: PIXELS_MAX,
        }
    }
}

/// What a clip's decoder reports besides its frames.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClipFacts {
    /// Number of frames that the container states, which may be wrong. `None` when it states none.
    pub declared_frames: Option<u64>,
    /// Size and rate, as they were known when the clip was opened.
    pub format: ClipFormat,
    /// Name of the GStreamer element that decodes.
    pub decoder: Option<String>,
    /// Reasons why frames or pixels may differ from the notebook's.
    pub notes: BTreeSet<ClipNote>,
    /// Why decoding stopped before the end of the file, if it did.
    pub stopped_early: Option<String>,
}

/// An open clip.
pub struct VideoClip {
    pipeline: DecodePipeline,
    track: VideoTrack,
    timeout: Duration,
    /// Time left of the timeout.
    budget: Duration,
    frames: Option<u64>,
    format: ClipFormat,
    /// Number of frames that were shown.
    taken: u64,
    /// Whether the current frame is the one that `open` waited for.
    is_at_start: bool,
    ended: bool,
    late_error: Option<String>,
    current: Option<gst::Sample>,
    converter: FrameConverter,
    /// The frame that [`FrameSource::frame`] returns.
    shown: RgbFrame,
    /// A frame before it is turned upright.
    stored: RgbFrame,
    /// Notes on the frames that were converted.
    notes: BTreeSet<ClipNote>,
}

/// Starts GStreamer, once per process.
///
/// # Errors
/// Fails when GStreamer cannot start.
pub fn init() -> Result<(), SourceError> {
    static STARTED: OnceLock<Result<(), SourceError>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            gst::init().map_err(|e| SourceError::Machine(format!("GStreamer does not start: {e}")))
        })
        .clone()
}

impl VideoClip {
    /// Opens the clip at `path` and waits for its first frame.
    ///
    /// # Errors
    /// Fails as [`VideoClip::open`] does, and when there is no regular file at `path`.
    pub fn open_path(path: &Path, options: &VideoOptions) -> Result<Self, SourceError> {
        Self::open(open_file(path)?, options)
    }

    /// Opens the clip in `file`, from its first byte whatever its position is, and waits for its first frame.
    ///
    /// # Errors
    /// Fails when no frame can be decoded; the error is the decoder's reason.
    pub fn open(mut file: File, options: &VideoOptions) -> Result<Self, SourceError> {
        init()?;
        let found = file_format::identify(&file)?;
        let track = match container::first_video_track(&mut file).map_err(|e| io_error(&e))? {
            Some(track) => track,
            None => container::other_track(&mut file).map_err(|e| io_error(&e))?,
        };
        let is_cut = found.is_cut;
        let pipeline = gst_pipeline::build(file, &found, options, &track)?;
        let mut clip = Self {
            pipeline,
            timeout: options.timeout,
            budget: options.timeout,
            frames: Some(track.frames).filter(|frames| *frames > 0),
            format: ClipFormat::default(),
            track,
            taken: 0,
            is_at_start: false,
            ended: false,
            late_error: None,
            current: None,
            converter: FrameConverter::default(),
            shown: RgbFrame::default(),
            stored: RgbFrame::default(),
            notes: is_cut
                .then_some(ClipNote::MissingReferences)
                .into_iter()
                .collect(),
        };
        let starts = clip.pipeline.pipeline.set_state(gst::State::Playing);
        // A pipeline that does not start sends a message with the reason.
        if starts.is_err() {
            clip.budget = clip.budget.min(GRACE);
        }
        if !clip.advance()? {
            let reason = clip.late_error.take();
            return Err(SourceError::Clip(
                reason.unwrap_or_else(|| clip.pipeline.no_frame()),
            ));
        }
        clip.is_at_start = true;
        clip.format = clip.format_of_current();
        Ok(clip)
    }

    /// What the decoder has reported so far.
    #[must_use]
    pub fn facts(&self) -> ClipFacts {
        ClipFacts {
            declared_frames: self.frames,
            format: self.format,
            decoder: self.pipeline.stream().map(|s| s.decoder.clone()),
            notes: self.notes(),
            stopped_early: self.late_error.clone(),
        }
    }

    /// Reasons why the frames or pixels so far may differ from the notebook's.
    #[must_use]
    pub fn notes(&self) -> BTreeSet<ClipNote> {
        let mut notes = self.pipeline.notes();
        notes.extend(self.track.notes.iter().chain(&self.notes));
        notes
    }

    fn codec(&self) -> StreamCodec {
        let stream = self.pipeline.stream();
        stream.map_or(StreamCodec::Other, |s| s.codec)
    }

    /// Frames per second: the average of the container's time table, else the rate that the decoder reports with the
    /// current frame, which may be a guess from the first.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.track.rate().or_else(|| self.rate_of_current())
    }

    #[expect(clippy::cast_possible_truncation, reason = "an average, rounded once")]
    fn format_of_current(&self) -> ClipFormat {
        let (width, height) = self.size().unwrap_or_default();
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        ClipFormat {
            width: side(width),
            height: side(height),
            fps: self.rate().map(|rate| rate as f32),
        }
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

    /// Gives the decoder a new `timeout` from now on, whatever it has used before.
    pub fn renew_timeout(&mut self, timeout: Duration) {
        self.budget = timeout;
    }

    /// Converts the current frame into `out`, as the viewer sees it (rotation applied).
    ///
    /// # Errors
    /// Fails when there is no current frame or its pixel format cannot be converted.
    pub fn frame_into(&mut self, out: &mut RgbFrame) -> Result<(), SourceError> {
        let codec = self.codec();
        let sample = self
            .current
            .as_ref()
            .ok_or_else(|| SourceError::Clip("no current frame".into()))?;
        let turns = self.track.quarter_turns;
        let target = if turns == 0 {
            &mut *out
        } else {
            &mut self.stored
        };
        let exactness = self
            .converter
            .convert(sample, codec, target)
            .map_err(SourceError::Clip)?;
        let is_cut_off = sample.buffer().is_some_and(|b| Mark::CutOff.is_on(b));
        let found = [
            (exactness == Exactness::Approximate).then_some(ClipNote::CroppedEdge),
            (codec == StreamCodec::ProRes4444).then_some(ClipNote::Prores4444),
            is_cut_off.then_some(ClipNote::CutOffFile),
            // The decoder does not write the missing part of a JPEG image, whose memory keeps earlier content.
            (is_cut_off && codec == StreamCodec::Jpeg).then_some(ClipNote::CutOffJpeg),
        ];
        self.notes.extend(found.into_iter().flatten());
        if turns != 0 {
            color::rotate(&self.stored, turns, out);
        }
        Ok(())
    }

    /// The next output, `None` after `at_most`, or an error when the clip's timeout is used up.
    fn wait(&mut self, at_most: Duration) -> Result<Option<PipelineItem>, SourceError> {
        let mut rest = at_most.min(self.budget);
        let mut was_idle = false;
        loop {
            let slice = rest.min(IDLE_CHECK);
            let from = Instant::now();
            let got = self.pipeline.items.recv_timeout(slice);
            self.budget = self.budget.saturating_sub(from.elapsed());
            rest = rest.saturating_sub(from.elapsed().max(slice));
            match got {
                Ok(item) => return Ok(Some(item)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(PipelineItem::End)),
                Err(RecvTimeoutError::Timeout) if self.budget.is_zero() => {
                    self.ended = true;
                    return Err(timed_out(self.timeout));
                }
                // An element that ended without a message sends nothing more. What it sent before that is read first.
                Err(RecvTimeoutError::Timeout) if was_idle => return Ok(Some(PipelineItem::End)),
                Err(RecvTimeoutError::Timeout) if rest.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => was_idle = self.pipeline.is_idle(),
            }
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
                    // Where edits repeat frames, OpenCV reads one frame more than the container's count.
                    if self.frames.is_some_and(|count| self.taken > count + 1) {
                        self.ended = true;
                        self.current = None;
                        return Ok(false);
                    }
                    self.current = Some(sample);
                    return Ok(true);
                }
                Some(PipelineItem::Error { error, is_final }) => {
                    let SourceError::Clip(reason) = error else {
                        self.ended = true;
                        return Err(error);
                    };
                    let reachable = self.pipeline.stream().is_some();
                    self.late_error.get_or_insert(reason);
                    if reachable && !is_final {
                        continue;
                    }
                }
                Some(PipelineItem::Refused(reason)) => {
                    self.ended = true;
                    self.current = None;
                    return Err(SourceError::Clip(reason));
                }
                Some(PipelineItem::End) | None => {}
            }
            self.ended = true;
            self.current = None;
            return Ok(false);
        }
    }

    fn frame(&mut self) -> Result<&RgbFrame, SourceError> {
        let mut shown = std::mem::take(&mut self.shown);
        let converted = self.frame_into(&mut shown);
        self.shown = shown;
        converted.map(|()| &self.shown)
    }

    fn declared_frames(&self) -> Option<u64> {
        self.frames
    }

    fn time(&self) -> Option<Duration> {
        let buffer = self.current.as_ref()?.buffer()?;
        Some(Duration::from_nanos(buffer.pts()?.nseconds()))
    }

    fn format(&self) -> ClipFormat {
        self.format
    }
}

/// The reason of a clip whose decoder took longer than `timeout`.
pub(super) fn timed_out(timeout: Duration) -> SourceError {
    let seconds = timeout.as_secs_f64();
    SourceError::Clip(format!(
        "the decoder gave no frame within the clip timeout of {seconds} s"
    ))
}

/// GStreamer's version.
#[must_use]
pub fn version() -> String {
    let (major, minor, micro, _) = gst::version();
    format!("{major}.{minor}.{micro}")
}
