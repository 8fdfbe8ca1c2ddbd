//! A file as a camera: a clip at its own rate, or a still image that repeats. The one use of [`crate::video`] here.

use super::{CameraError, CameraOpener, Capture, CaptureStep, OpenedCamera, PixelFormat, RawFrame};
use crate::frame::{FrameSource, RgbFrame, SourceError};
use crate::video::clip::{VideoClip, VideoOptions};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Rates that a file may declare; for others 25 is used.
const RATES: std::ops::RangeInclusive<f64> = 1.0..=240.0;
/// Longest total wait for the decoder: one that hangs must not block the shutdown forever.
const DECODE_TIMEOUT: Duration = Duration::from_mins(10);
/// Largest still image, in bytes.
const STILL_BYTES_MAX: u64 = 64 << 20;

/// Opens one file. Its frames have the file's times, counted from the opening.
#[derive(Debug)]
pub struct FileCamera {
    path: PathBuf,
    still_rate: f64,
    is_paced: bool,
}

impl FileCamera {
    /// A file at `path`; a still image repeats `still_rate` times per second.
    #[must_use]
    pub fn new(path: PathBuf, still_rate: f64) -> Self {
        Self {
            path,
            still_rate,
            is_paced: true,
        }
    }

    /// Gives the frames as fast as they are read, with the same times.
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
    interval: Duration,
    /// Time from the camera's start to the first frame.
    offset: Duration,
    start: Instant,
    is_paced: bool,
    count: u32,
    /// Time of the frame that is decoded and waits for it.
    ready: Option<Duration>,
    first: Option<Duration>,
    last: Duration,
}

impl CameraOpener for FileCamera {
    fn name(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
        let (media, size, rate) = if let Some(still) = self.still()? {
            let size = (still.width(), still.height());
            (Media::Still(still), size, Some(self.still_rate))
        } else {
            let options = VideoOptions {
                timeout: DECODE_TIMEOUT,
                ..VideoOptions::default()
            };
            let clip = VideoClip::open_path(&self.path, &options)
                .map_err(|e| self.fail(&e.to_string()))?;
            let (size, rate) = (clip.size().unwrap_or_default(), clip.rate());
            (Media::Clip(Box::new(clip)), size, rate)
        };
        let rate = rate.filter(|rate| RATES.contains(rate)).unwrap_or(25.0);
        Ok(Box::new(FileCapture {
            media,
            opened: OpenedCamera {
                name: self.name(),
                path: self.path.display().to_string(),
                format: PixelFormat::Rgb3,
                width: size.0,
                height: size.1,
                rate: Some(rate),
            },
            interval: Duration::from_secs_f64(1.0 / rate),
            offset: if self.is_paced {
                start.elapsed()
            } else {
                Duration::ZERO
            },
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

    /// The image, if the file begins like a PNG or JPEG image.
    fn still(&self) -> Result<Option<RgbFrame>, CameraError> {
        let read = |e: std::io::Error| self.fail(&e.to_string());
        if !self.path.metadata().map_err(read)?.is_file() {
            return Err(self.fail("not a regular file"));
        }
        let mut file = File::open(&self.path).map_err(read)?;
        let mut bytes = Vec::new();
        (&mut file).take(8).read_to_end(&mut bytes).map_err(read)?;
        if !bytes.starts_with(&[0xff, 0xd8, 0xff]) && bytes != b"\x89PNG\r\n\x1a\n" {
            return Ok(None);
        }
        let mut rest = file.take(STILL_BYTES_MAX);
        rest.read_to_end(&mut bytes).map_err(read)?;
        let image = image::load_from_memory(&bytes).map_err(|e| self.fail(&e.to_string()))?;
        let image = image.into_rgb8();
        let (width, height) = (image.width() as usize, image.height() as usize);
        Ok(RgbFrame::from_pixels(width, height, image.into_raw()))
    }
}

impl FileCapture {
    /// Steps to the next frame; returns its time since the camera's start, or `None` at the end.
    fn step(&mut self) -> Result<Option<Duration>, CameraError> {
        let nominal = self.interval * self.count;
        let time = match &mut self.media {
            Media::Still(_) => nominal,
            Media::Clip(clip) => {
                let fail = |e: SourceError| CameraError::File {
                    path: self.opened.path.clone(),
                    reason: e.to_string(),
                };
                if !clip.advance().map_err(fail)? {
                    return Ok(None);
                }
                // The file's own times, unless they are missing or do not ascend.
                let own = clip.time();
                let first = *self.first.get_or_insert(own.unwrap_or_default());
                let own = own.and_then(|t| t.checked_sub(first));
                own.filter(|t| self.count == 0 || *t > self.last)
                    .unwrap_or_else(|| nominal.max(self.last + self.interval / 2))
            }
        };
        self.count += 1;
        self.last = time;
        Ok(Some(self.offset + time))
    }
}

impl Capture for FileCapture {
    fn opened(&self) -> &OpenedCamera {
        &self.opened
    }

    fn frame_timeout(&self) -> Duration {
        // A decoder on a busy machine is slow, not frozen.
        Duration::from_mins(1)
    }

    fn next(
        &mut self,
        timeout: Duration,
        frame: &mut RawFrame,
    ) -> Result<CaptureStep, CameraError> {
        if self.ready.is_none() {
            self.ready = self.step()?;
        }
        let Some(due) = self.ready else {
            return Ok(CaptureStep::End);
        };
        if self.is_paced {
            let left = due.saturating_sub(self.start.elapsed());
            std::thread::sleep(left.min(timeout));
            if left > timeout {
                return Ok(CaptureStep::NoFrame);
            }
        }
        self.ready = None;
        let image = match &mut self.media {
            Media::Still(still) => &*still,
            Media::Clip(clip) => match clip.frame() {
                Ok(image) => image,
                Err(error) => return Ok(CaptureStep::Damaged(error.to_string())),
            },
        };
        frame.at = due;
        frame.format = PixelFormat::Rgb3;
        (frame.width, frame.height) = (image.width(), image.height());
        frame.stride = image.width() * 3;
        frame.bytes.clear();
        frame.bytes.extend_from_slice(image.pixels());
        (self.opened.width, self.opened.height) = (image.width(), image.height());
        Ok(CaptureStep::Frame)
    }
}
