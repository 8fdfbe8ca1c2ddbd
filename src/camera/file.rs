//! A file that stands in for a camera: a clip at its own rate, or a still image again and again.

use super::{CameraError, CameraOpener, Capture, CaptureStep, OpenedCamera, PixelFormat, RawFrame};
use crate::frame::DecoderChoice;
use crate::frame::{FrameSource, RgbFrame, SourceError};
use crate::video::clip::{VideoClip, VideoOptions};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rates that a file may claim; others are taken for 25.
const RATES: std::ops::RangeInclusive<f64> = 1.0..=240.0;
/// A decoder may keep us waiting for so long in all: one that hangs must not hold up the end for ever.
const DECODING: Duration = Duration::from_mins(10);
/// Most of a still image that is read, bytes.
const STILL_MAX: u64 = 64 << 20;

/// Opens one file. Its frames' times are those of the file, counted from the opening.
#[derive(Debug)]
pub struct FileCamera {
    path: PathBuf,
    still_rate: f64,
    is_paced: bool,
}

impl FileCamera {
    /// A file at `path`; a still is shown `still_rate` times a second.
    #[must_use]
    pub fn new(path: PathBuf, still_rate: f64) -> Self {
        Self {
            path,
            still_rate,
            is_paced: true,
        }
    }

    /// Gives the frames as fast as they are taken, with the times that they would have had.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.is_paced = false;
        self
    }
}

enum Media {
    Clip(Box<VideoClip>),
    Still(RgbFrame),
}

struct FileCapture {
    media: Media,
    opened: OpenedCamera,
    path: String,
    interval: Duration,
    /// From the camera's start to the first frame.
    offset: Duration,
    start: Instant,
    is_paced: bool,
    count: u32,
    /// The frame that waits for its time.
    ready: Option<Duration>,
    first: Option<Duration>,
    last: Duration,
}

impl CameraOpener for FileCamera {
    fn name(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
        let fail = |e: SourceError| self.fail(&e.0);
        let media = if let Some(still) = self.still()? {
            Media::Still(still)
        } else {
            let options = VideoOptions {
                decoder: DecoderChoice::Software,
                timeout: DECODING,
            };
            let clip = VideoClip::open(&self.path, &options).map_err(fail)?;
            Media::Clip(Box::new(clip))
        };
        let (width, height, rate) = match &media {
            Media::Still(still) => (still.width(), still.height(), self.still_rate),
            Media::Clip(clip) => {
                let (width, height) = clip.size().unwrap_or_default();
                (width, height, 25.0)
            }
        };
        let rate = if RATES.contains(&rate) { rate } else { 25.0 };
        let offset = if self.is_paced {
            start.elapsed()
        } else {
            Duration::ZERO
        };
        Ok(Box::new(FileCapture {
            media,
            opened: OpenedCamera {
                name: self.name(),
                path: self.path.display().to_string(),
                format: PixelFormat::Rgb3,
                width,
                height,
                rate: Some(rate),
            },
            path: self.path.display().to_string(),
            interval: Duration::from_secs_f64(1.0 / rate),
            offset,
            start,
            is_paced: self.is_paced,
            count: 0,
            ready: None,
            first: None,
            last: Duration::ZERO,
        }))
    }
}

impl FileCamera {
    fn fail(&self, reason: &str) -> CameraError {
        CameraError::File {
            path: self.path.display().to_string(),
            reason: reason.to_owned(),
        }
    }

    /// The image, if the file begins like one.
    fn still(&self) -> Result<Option<RgbFrame>, CameraError> {
        let read = |e: std::io::Error| self.fail(&e.to_string());
        let is_file = |path: &Path| path.metadata().map(|m| m.is_file());
        if !is_file(&self.path).map_err(read)? {
            return Err(self.fail("not a regular file"));
        }
        let mut file = File::open(&self.path).map_err(read)?;
        let mut head = Vec::new();
        (&mut file).take(8).read_to_end(&mut head).map_err(read)?;
        let is_image = head.starts_with(&[0xff, 0xd8, 0xff]) || head == *b"\x89PNG\r\n\x1a\n";
        if !is_image {
            return Ok(None);
        }
        let mut bytes = head;
        (&mut file)
            .take(STILL_MAX)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        let image = image::load_from_memory(&bytes).map_err(|e| self.fail(&e.to_string()))?;
        let image = image.into_rgb8();
        let (width, height) = (image.width() as usize, image.height() as usize);
        Ok(RgbFrame::from_pixels(width, height, image.into_raw()))
    }
}

impl FileCapture {
    /// Steps to the next picture and says when it is due, since the camera's start; `None` at the end.
    fn step(&mut self) -> Result<Option<Duration>, CameraError> {
        let nominal = self.interval * self.count;
        let time = match &mut self.media {
            Media::Still(_) => nominal,
            Media::Clip(clip) => {
                let fail = |e: SourceError| CameraError::File {
                    path: self.path.clone(),
                    reason: e.0,
                };
                if !clip.advance().map_err(fail)? {
                    return Ok(None);
                }
                // The file's own times, unless they are missing or do not go on.
                let own = clip.time();
                let first = *self.first.get_or_insert(own.unwrap_or_default());
                let own = own.and_then(|t| t.checked_sub(first));
                own.filter(|t| self.count == 0 || *t > self.last)
                    .unwrap_or_else(|| nominal.max(self.last + self.interval / 2))
            }
        };
        if self.count == 0
            && let Media::Clip(clip) = &self.media
            && let Some(rate) = clip.rate().filter(|rate| RATES.contains(rate))
        {
            // Known from the first picture on.
            self.opened.rate = Some(rate);
            self.interval = Duration::from_secs_f64(1.0 / rate);
        }
        self.count += 1;
        self.last = time;
        Ok(Some(self.offset + time))
    }
}

impl Capture for FileCapture {
    fn opened(&self) -> &OpenedCamera {
        &self.opened
    }

    fn patience(&self) -> Duration {
        // A decoder on a busy machine is slow, not frozen.
        Duration::from_mins(1)
    }

    fn next(
        &mut self,
        patience: Duration,
        frame: &mut RawFrame,
    ) -> Result<CaptureStep, CameraError> {
        let due = match self.ready.take() {
            Some(due) => due,
            None => match self.step()? {
                Some(due) => due,
                None => return Ok(CaptureStep::End),
            },
        };
        if self.is_paced {
            let left = due.saturating_sub(self.start.elapsed());
            std::thread::sleep(left.min(patience));
            if left > patience {
                self.ready = Some(due);
                return Ok(CaptureStep::Nothing);
            }
        }
        let picture = match &mut self.media {
            Media::Still(still) => &*still,
            Media::Clip(clip) => match clip.frame() {
                Ok(picture) => picture,
                Err(error) => return Ok(CaptureStep::Damaged(error.0)),
            },
        };
        frame.at = due;
        frame.format = PixelFormat::Rgb3;
        (frame.width, frame.height) = (picture.width(), picture.height());
        frame.stride = picture.width() * 3;
        frame.bytes.clear();
        frame.bytes.extend_from_slice(picture.pixels());
        (self.opened.width, self.opened.height) = (picture.width(), picture.height());
        Ok(CaptureStep::Frame)
    }
}
