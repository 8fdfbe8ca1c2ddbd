//! A V4L2 device: its formats and its frames. Only this module and its children use the `v4l` crate.
//!
//! That crate panics on unknown answers of a driver. The camera's thread turns a panic during capture into a fault;
//! this module catches the panics of other calls.

mod list;
mod stuck;

pub use list::{CameraListing, list};

use super::negotiate::{self, FormatOffer, FrameSizes};
use super::{
    CameraError, CameraOpener, Capture, CaptureStep, FormatRequest, OpenedCamera, PixelFormat,
    RawFrame,
};
use crate::camera::reconnect::{self, CameraIdentity, DeviceCard};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stuck::{Stoppable, StuckStreams};
use v4l::buffer::{Flags as BufferFlags, Type};
use v4l::capability::Flags as Capability;
use v4l::format::{Format, FourCC, Quantization};
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::io::mmap::Stream;
use v4l::io::traits::{CaptureStream, Stream as _};
use v4l::video::Capture as _;
use v4l::video::capture::Parameters;

/// Number of buffers that the driver fills in turn.
const BUFFERS: u32 = 4;
/// Maximum time for the first frame, which takes longer than the others.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens one device, and finds it again after it was unplugged.
#[derive(Debug)]
pub struct V4l2Camera {
    path: PathBuf,
    request: FormatRequest,
    identity: Option<CameraIdentity>,
    stuck: Arc<StuckStreams<OpenStream>>,
}

impl V4l2Camera {
    /// The device at `path`.
    #[must_use]
    pub fn new(path: PathBuf, request: FormatRequest) -> Self {
        Self {
            path,
            request,
            identity: None,
            stuck: Arc::default(),
        }
    }
}

impl CameraOpener for V4l2Camera {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
        self.stuck.retry(&self.name());
        let dev = Path::new(DEV);
        let path = match &self.identity {
            None => self.path.clone(),
            Some(known) => {
                let query = |path: &Path| card(path).ok();
                reconnect::find_again(dev, &self.path, known, &query)
                    .ok_or_else(|| CameraError::NotFound(self.name()))?
            }
        };
        let name = path.display().to_string();
        let open = || V4l2Capture::open(&path, &self.request, start, self.stuck.clone());
        let (capture, card) = guarded(&name, open)?;
        if self.identity.is_none() {
            self.identity = Some(reconnect::identity(dev, &path, card));
        }
        Ok(Box::new(capture))
    }
}

/// Folder of the device nodes.
const DEV: &str = "/dev";

/// Runs a call of the crate and turns its panic into an error.
fn guarded<T>(
    device: &str,
    work: impl FnOnce() -> Result<T, CameraError>,
) -> Result<T, CameraError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(CameraError::Failed {
            device: device.to_owned(),
            reason: "its driver gives an answer that is not supported".to_owned(),
        })
    })
}

fn card(path: &Path) -> Result<DeviceCard, CameraError> {
    guarded(&path.display().to_string(), || {
        open(path).map(|(_, card)| card)
    })
}

/// Opens a node that captures video.
fn open(path: &Path) -> Result<(v4l::Device, DeviceCard), CameraError> {
    let name = path.display().to_string();
    let device = v4l::Device::with_path(path).map_err(|e| CameraError::of(&name, &e))?;
    let no_camera = |reason: &str| CameraError::NoCamera {
        device: name.clone(),
        reason: reason.to_owned(),
    };
    let caps = device.query_caps().map_err(|e| match e.raw_os_error() {
        Some(libc::ENOTTY | libc::EINVAL) => no_camera("it is not a V4L2 device"),
        _ => CameraError::of(&name, &e),
    })?;
    if caps.capabilities.contains(Capability::VIDEO_CAPTURE_MPLANE) {
        return Err(no_camera(
            "it uses the multi-planar API (a camera behind an image processor: use gst:libcamerasrc)",
        ));
    }
    if !caps.capabilities.contains(Capability::VIDEO_CAPTURE) {
        return Err(no_camera("it does not capture video"));
    }
    if !caps.capabilities.contains(Capability::STREAMING) {
        return Err(no_camera("it does not stream"));
    }
    let card = DeviceCard {
        driver: caps.driver,
        card: caps.card,
        bus: caps.bus,
    };
    Ok((device, card))
}

fn sizes(device: &v4l::Device, fourcc: FourCC) -> Vec<FrameSizes> {
    // A driver may list no sizes; then the requested one is tried.
    let sizes = device.enum_framesizes(fourcc).unwrap_or_default();
    let size = |size| match size {
        FrameSizeEnum::Discrete(d) => FrameSizes::One(d.width, d.height),
        FrameSizeEnum::Stepwise(s) => FrameSizes::Range(
            [s.min_width, s.min_height],
            [s.max_width, s.max_height],
            [s.step_width, s.step_height],
        ),
    };
    sizes.into_iter().map(|s| size(s.size)).collect()
}

/// The rate of frames that are this many seconds apart.
fn frames_per_second(interval: v4l::Fraction) -> Option<f64> {
    let (seconds, parts) = (interval.numerator, interval.denominator);
    (seconds > 0).then(|| f64::from(parts) / f64::from(seconds))
}

/// Highest frames per second at this size.
fn rate(device: &v4l::Device, fourcc: FourCC, width: u32, height: u32) -> Option<f64> {
    let intervals = device.enum_frameintervals(fourcc, width, height).ok()?;
    let shortest = |interval| match interval {
        FrameIntervalEnum::Discrete(d) => d,
        FrameIntervalEnum::Stepwise(s) => s.min,
    };
    let rates = intervals
        .into_iter()
        .filter_map(|i| frames_per_second(shortest(i.interval)));
    rates.max_by(f64::total_cmp)
}

fn offers(
    device: &v4l::Device,
    name: &str,
    request: &FormatRequest,
) -> Result<Vec<FormatOffer>, CameraError> {
    let formats = device
        .enum_formats()
        .map_err(|e| CameraError::of(name, &e))?;
    let known = formats.into_iter().filter_map(|f| {
        let format = PixelFormat::from_fourcc(f.fourcc.repr)?;
        let size = negotiate::best_size(&sizes(device, f.fourcc), request);
        let (width, height) = size.unwrap_or((request.width, request.height));
        Some(FormatOffer {
            format,
            width,
            height,
            rate: rate(device, f.fourcc, width, height),
        })
    });
    Ok(known.collect())
}

/// A device and its stream. The crate panics when a stream does not stop while the device exists.
type OpenStream = (v4l::Device, Stream<'static>);

impl Stoppable for OpenStream {
    fn stop(&mut self) -> bool {
        match self.1.stop() {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENODEV),
        }
    }
}

/// A device that streams.
struct V4l2Capture {
    opened: OpenedCamera,
    /// `Some` until the drop.
    parts: Option<OpenStream>,
    stuck: Arc<StuckStreams<OpenStream>>,
    stride: usize,
    full_range: bool,
    needed: usize,
    start: Instant,
    /// The kernel's monotonic clock at the camera's start.
    zero: Duration,
    is_started: bool,
}

/// The clock of the drivers' time stamps.
fn monotonic() -> Duration {
    clock_gettime(ClockId::Monotonic)
        .try_into()
        .unwrap_or_default()
}

impl V4l2Capture {
    fn open(
        path: &Path,
        request: &FormatRequest,
        start: Instant,
        stuck: Arc<StuckStreams<OpenStream>>,
    ) -> Result<(Self, DeviceCard), CameraError> {
        let name = path.display().to_string();
        let of = |e: io::Error| CameraError::of(&name, &e);
        let (device, card) = open(path)?;
        let offers = offers(&device, &name, request)?;
        let no_format = |wanted: &str| CameraError::NoFormat {
            device: name.clone(),
            wanted: wanted.to_owned(),
            offered: negotiate::describe(&offers),
        };
        let requested = request.format.map_or("pictures", PixelFormat::name);
        let chosen = negotiate::choose(&offers, request).ok_or_else(|| no_format(requested))?;
        // Stride and size are left open in the new format: a driver would keep their old values otherwise.
        let requested = Format::new(
            chosen.width,
            chosen.height,
            FourCC::new(&chosen.format.fourcc()),
        );
        let got = device.set_format(&requested).map_err(of)?;
        // A driver that lacks the format sets another one and reports it only here.
        if got.fourcc != requested.fourcc {
            return Err(no_format(chosen.format.name()));
        }
        let rate = set_rate(&device, request.rate);
        let mut stream = Stream::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(of)?;
        stream.set_timeout(FIRST_FRAME_TIMEOUT);
        let (width, height) = (got.width as usize, got.height as usize);
        let stride = (got.stride as usize).max(chosen.format.row_bytes(width));
        let capture = Self {
            opened: OpenedCamera {
                name: format!("{} ({})", card.card, card.bus),
                path: name,
                format: chosen.format,
                width,
                height,
                rate: rate.or(chosen.rate),
            },
            parts: Some((device, stream)),
            stuck,
            stride,
            full_range: matches!(got.quantization, Quantization::FullRange),
            needed: chosen.format.frame_bytes(stride, height),
            start,
            zero: monotonic().saturating_sub(start.elapsed()),
            is_started: false,
        };
        Ok((capture, card))
    }
}

/// Handles a frame with too few bytes: a fault when the driver's format has changed, else a damaged frame with
/// `reason`.
fn short_frame(
    opened: &OpenedCamera,
    now: Option<&Format>,
    reason: String,
) -> Result<CaptureStep, CameraError> {
    let was = format!("{} {}x{}", opened.format, opened.width, opened.height);
    let now = now.map(|now| format!("{} {}x{}", now.fourcc, now.width, now.height));
    match now {
        Some(now) if now != was => Err(CameraError::Changed {
            device: opened.path.clone(),
            what: format!("{was} to {now}"),
        }),
        _ => Ok(CaptureStep::Damaged(reason)),
    }
}

/// Requests a rate. Returns the rate that the driver sets; `None` when it cannot set one.
fn set_rate(device: &v4l::Device, rate: f64) -> Option<f64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is 1 to 240, checked where it is set"
    )]
    let milli = (rate * 1000.0).round() as u32;
    let requested = Parameters::new(v4l::Fraction::new(1000, milli.max(1)));
    frames_per_second(device.set_params(&requested).ok()?.interval)
}

impl Capture for V4l2Capture {
    fn opened(&self) -> &OpenedCamera {
        &self.opened
    }

    fn next(
        &mut self,
        timeout: Duration,
        frame: &mut RawFrame,
    ) -> Result<CaptureStep, CameraError> {
        let device = self.opened.path.clone();
        let Some((_, stream)) = &mut self.parts else {
            return Ok(CaptureStep::End);
        };
        if self.is_started {
            // The crate's own wait loses its place in the queue when it times out, so the wait comes before.
            let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
            let ready = match stream.handle().poll(libc::POLLIN, timeout) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
                polled => polled.map_err(|e| CameraError::of(&device, &e))?,
            };
            if ready == 0 {
                return Ok(CaptureStep::NoFrame);
            }
        }
        let (bytes, meta) = stream.next().map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut => CameraError::Frozen {
                device: device.clone(),
                after: FIRST_FRAME_TIMEOUT,
            },
            _ => CameraError::of(&device, &e),
        })?;
        self.is_started = true;
        if meta.flags.contains(BufferFlags::ERROR) {
            return Ok(CaptureStep::Damaged(
                "the driver marks it as damaged".to_owned(),
            ));
        }
        let used = bytes.len().min(meta.bytesused as usize);
        let is_monotonic =
            (meta.flags & BufferFlags::TIMESTAMP_MASK) == BufferFlags::TIMESTAMP_MONOTONIC;
        frame.bytes.clear();
        frame.bytes.extend_from_slice(&bytes[..used]);
        frame.at = if is_monotonic {
            Duration::from(meta.timestamp).saturating_sub(self.zero)
        } else {
            self.start.elapsed()
        };
        frame.format = self.opened.format;
        (frame.width, frame.height) = (self.opened.width, self.opened.height);
        (frame.stride, frame.full_range) = (self.stride, self.full_range);
        if used < self.needed || used == 0 {
            let now = self.parts.as_ref().and_then(|(d, _)| d.format().ok());
            let reason = format!("{used} of {} bytes", self.needed);
            return short_frame(&self.opened, now.as_ref(), reason);
        }
        Ok(CaptureStep::Frame)
    }
}

impl Drop for V4l2Capture {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            self.stuck.close(parts, &self.opened.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_frame_is_damaged_or_the_first_of_another_format() {
        let opened = OpenedCamera {
            name: "a camera".into(),
            path: "/dev/video0".into(),
            format: PixelFormat::Yuyv,
            width: 640,
            height: 480,
            rate: None,
        };
        let check = |now: Option<(u32, u32, &[u8; 4])>, expected: Result<CaptureStep, &str>| {
            let now =
                now.map(|(width, height, code)| Format::new(width, height, FourCC::new(code)));
            let got = short_frame(&opened, now.as_ref(), "1 of 2 bytes".into());
            let expected = expected.map_err(|what| CameraError::Changed {
                device: "/dev/video0".into(),
                what: what.into(),
            });
            assert_eq!(got, expected);
        };
        let damaged = CaptureStep::Damaged("1 of 2 bytes".into());
        check(Some((640, 480, b"YUYV")), Ok(damaged.clone()));
        // For a driver that reports no format.
        check(None, Ok(damaged));
        check(
            Some((320, 240, b"YUYV")),
            Err("YUYV 640x480 to YUYV 320x240"),
        );
        check(
            Some((640, 480, b"MJPG")),
            Err("YUYV 640x480 to MJPG 640x480"),
        );
    }
}
