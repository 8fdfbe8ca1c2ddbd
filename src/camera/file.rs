//! A file as a camera: a clip at its own rate, or a still image that repeats. Only this module uses [`crate::video`]
//! here.

use super::{CameraError, CameraOpener, Capture, CaptureStep, OpenedCamera, PixelFormat, RawFrame};
use crate::frame::{FrameSource, RgbFrame};
use crate::video::clip::{VideoClip, VideoOptions};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Rates that a file may declare; for others 25 is used.
const RATES: std::ops::RangeInclusive<f64> = 1.0..=240.0;
/// Maximum wait for a frame. A decoder on a busy machine is slow, but one that hangs must not block the camera.
const FRAME_TIMEOUT: Duration = Duration::from_secs(15);
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

    /// Gives the frames as fast as they are read, with unchanged times.
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
    /// Time of a decoded frame that is not due yet.
    ready: Option<Duration>,
    first: Option<Duration>,
    last: Duration,
}

impl CameraOpener for FileCamera {
    fn name(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn is_file(&self) -> bool {
        true
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
        let (media, size, rate) = if let Some(still) = self.still()? {
            let size = (still.width(), still.height());
            (Media::Still(still), size, Some(self.still_rate))
        } else {
            let options = VideoOptions {
                timeout: FRAME_TIMEOUT,
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
        unusable(&self.path.display().to_string(), reason)
    }

    /// Decodes the image; `None` when the file does not begin like a PNG or JPEG image.
    ///
    /// # Errors
    /// Fails when the file cannot be read, or is an image of another kind.
    pub fn still(&self) -> Result<Option<RgbFrame>, CameraError> {
        let unreadable = |reason: String| CameraError::NoFile {
            path: self.path.display().to_string(),
            reason,
        };
        let read = |e: std::io::Error| unreadable(e.to_string());
        // Opening a pipe would block until it has a writer.
        let kind = self.path.metadata().map_err(read)?;
        if kind.is_dir() {
            return Err(unreadable("it is a folder".to_owned()));
        }
        if !kind.is_file() {
            return Err(unreadable(
                "it is a pipe or a device, not a file".to_owned(),
            ));
        }
        if kind.len() == 0 {
            return Err(self.fail("the file is empty (0 bytes)"));
        }
        let mut file = File::open(&self.path).map_err(read)?;
        let mut bytes = Vec::new();
        (&mut file)
            .take(HEAD)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        if let Some(reason) = foreign_image(&bytes) {
            return Err(self.fail(reason));
        }
        if !bytes.starts_with(&[0xff, 0xd8, 0xff]) && !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
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

/// Number of bytes from which an image is recognised.
const HEAD: u64 = 16;

/// Why the image that begins with `head` cannot be used; `None` for PNG, JPEG and other files.
fn foreign_image(head: &[u8]) -> Option<&'static str> {
    let at = |place: usize, magic: &[u8]| head.get(place..).is_some_and(|h| h.starts_with(magic));
    let brands = [&b"avif"[..], b"avis", b"heic", b"heix", b"mif1", b"msf1"];
    if at(0, b"GIF8") {
        return Some(
            "a GIF is not a video that can be filmed; convert it: ffmpeg -i IN.gif -pix_fmt yuv420p OUT.mp4",
        );
    }
    let is_other = at(0, b"RIFF") && at(8, b"WEBP")
        || at(0, b"II*\0")
        || at(0, b"MM\0*")
        || at(0, b"BM") && at(6, &[0; 4])
        || at(4, b"ftyp") && brands.iter().any(|brand| at(8, brand));
    is_other.then_some("it is an image of a kind that cannot be filmed (WebP, TIFF, BMP, AVIF or HEIC); convert it to PNG or JPEG")
}

impl FileCapture {
    /// Steps to the next frame; returns its time since the camera's start, or `None` at the end.
    fn step(&mut self) -> Result<Option<Duration>, CameraError> {
        let nominal = self.interval * self.count;
        let time = match &mut self.media {
            Media::Still(_) => nominal,
            Media::Clip(clip) => {
                match advance(clip) {
                    Ok(true) => {}
                    Ok(false) => return Ok(None),
                    Err(reason) => {
                        let reason = format!("it broke off after {} frames: {reason}", self.count);
                        return Err(unusable(&self.opened.path, &reason));
                    }
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

/// Steps to the clip's next frame; `false` at its end.
fn advance(clip: &mut VideoClip) -> Result<bool, String> {
    clip.renew_timeout(FRAME_TIMEOUT);
    let since = Instant::now();
    match clip.advance() {
        Ok(true) => Ok(true),
        Ok(false) => clip.facts().stopped_early.map_or(Ok(false), Err),
        Err(_) if since.elapsed() >= FRAME_TIMEOUT => {
            Err(format!("no frame came for {} s", FRAME_TIMEOUT.as_secs()))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn unusable(path: &str, reason: &str) -> CameraError {
    CameraError::File {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

impl Capture for FileCapture {
    fn opened(&self) -> &OpenedCamera {
        &self.opened
    }

    fn frame_timeout(&self) -> Duration {
        FRAME_TIMEOUT
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
                return Ok(CaptureStep::NotDue);
            }
        }
        self.ready = None;
        let image = match &mut self.media {
            Media::Still(still) => &*still,
            Media::Clip(clip) => match clip.frame() {
                Ok(image) => image,
                // Its pixel format stays what it is.
                Err(error) => return Err(unusable(&self.opened.path, &error.to_string())),
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
