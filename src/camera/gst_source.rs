//! A camera behind GStreamer elements: CSI cameras (`libcamerasrc`, `nvarguscamerasrc ! nvvidconv`), network cameras,
//! test patterns.

use super::pixels::PIXELS_MAX;
use super::{CameraError, CameraOpener, Capture, CaptureStep, OpenedCamera, PixelFormat, RawFrame};
use crate::video::{clip, gst_pipeline};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use std::time::{Duration, Instant};

/// Appended to the elements. Converts only frames in none of these formats.
const TAIL: &str = "videoconvert ! video/x-raw,format=(string){YUY2,NV12,I420,RGB} ! appsink name=handloom_out sync=false max-buffers=1 drop=true";
/// Maximum time for the elements to start, and then for their first frame.
const START_TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(5);

const NO_START: &str = "the elements do not start";
const NO_FRAME: &str = "the elements give no picture";

/// Opens elements in the syntax of `gst-launch-1.0`.
#[derive(Debug)]
pub struct GstCamera {
    elements: String,
}

impl GstCamera {
    /// Elements whose last one gives frames.
    #[must_use]
    pub fn new(elements: String) -> Self {
        Self { elements }
    }

    fn fail(&self, reason: &str) -> CameraError {
        CameraError::Failed {
            device: self.name(),
            reason: reason.to_owned(),
        }
    }
}

impl CameraOpener for GstCamera {
    fn name(&self) -> String {
        format!("gst:{}", self.elements)
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
        clip::init().map_err(|e| self.fail(&e.to_string()))?;
        let no_camera = |reason: String| CameraError::NoCamera {
            device: self.name(),
            reason,
        };
        let pipeline = gst::parse::launch(&format!("{} ! {TAIL}", self.elements))
            .map_err(|e| no_camera(e.to_string()))?
            .downcast::<gst::Pipeline>()
            .map_err(|_| no_camera("the elements are not a pipeline".to_owned()))?;
        let sink = pipeline
            .by_name("handloom_out")
            .and_then(|e| e.downcast::<gst_app::AppSink>().ok())
            .ok_or_else(|| no_camera("the last element gives no pictures".to_owned()))?;
        let mut capture = GstCapture {
            opened: OpenedCamera {
                name: self.name(),
                path: self.name(),
                format: PixelFormat::Rgb3,
                width: 0,
                height: 0,
                rate: None,
            },
            pipeline,
            sink,
            start,
            anchor: None,
            waiting: None,
        };
        let first = capture
            .first_frame()
            .map_err(|reason| self.fail(&capture.last_error().unwrap_or(reason.to_owned())))?;
        capture
            .read_format(&first)
            .map_err(|reason| self.fail(&reason))?;
        capture.waiting = Some(first);
        Ok(Box::new(capture))
    }
}

struct GstCapture {
    opened: OpenedCamera,
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    start: Instant,
    /// Time of the first frame, by the pipeline's clock and since the camera's start.
    anchor: Option<(Duration, Duration)>,
    waiting: Option<gst::Sample>,
}

impl GstCapture {
    /// Starts the pipeline and waits for its first frame.
    fn first_frame(&self) -> Result<gst::Sample, &'static str> {
        let paused = self.pipeline.set_state(gst::State::Paused);
        let mut paused = paused.map_err(|_| NO_START)?;
        if paused == gst::StateChangeSuccess::Async {
            paused = self.pipeline.state(START_TIMEOUT).0.map_err(|_| NO_START)?;
        }
        let is_live = match paused {
            // A live source gives its first frame only in the state PLAYING.
            gst::StateChangeSuccess::NoPreroll => true,
            gst::StateChangeSuccess::Success => false,
            gst::StateChangeSuccess::Async => return Err(NO_FRAME),
        };
        // A live source gives its newest frame at once. A recording plays at its own rate, not as fast as it is read.
        self.sink
            .set_property("sync", !is_live && self.is_recording());
        let playing = self.pipeline.set_state(gst::State::Playing);
        playing.map_err(|_| NO_START)?;
        self.sink.try_pull_sample(START_TIMEOUT).ok_or(NO_FRAME)
    }

    /// Whether the source can seek, as recordings can.
    fn is_recording(&self) -> bool {
        let mut seeking = gst::query::Seeking::new(gst::Format::Time);
        self.pipeline.query(&mut seeking) && seeking.result().0
    }

    /// The last error of an element.
    fn last_error(&self) -> Option<String> {
        let bus = self.pipeline.bus()?;
        let message = bus.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        }
    }

    fn read_format(&mut self, sample: &gst::Sample) -> Result<(), String> {
        let caps = sample.caps().ok_or("a picture without format")?;
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|e| e.to_string())?;
        let (width, height) = (u64::from(info.width()), u64::from(info.height()));
        if width.saturating_mul(height) > PIXELS_MAX as u64 {
            return Err(format!("a picture of {width} x {height} pixels"));
        }
        let rate = info.fps();
        self.opened.format = format(info.format())?;
        (self.opened.width, self.opened.height) = (info.width() as usize, info.height() as usize);
        self.opened.rate = (rate.numer() > 0 && rate.denom() > 0)
            .then(|| f64::from(rate.numer()) / f64::from(rate.denom()));
        Ok(())
    }

    fn unpack(&mut self, sample: &gst::Sample, frame: &mut RawFrame) -> Result<(), String> {
        let caps = sample.caps().ok_or("a picture without format")?;
        let buffer = sample.buffer().ok_or("a picture without data")?;
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|e| e.to_string())?;
        let now = self.start.elapsed();
        let shown = buffer.pts().map(|t| Duration::from_nanos(t.nseconds()));
        frame.at = match (shown, self.anchor) {
            (Some(shown), Some((first, at))) => at + shown.saturating_sub(first),
            (Some(shown), None) => {
                self.anchor = Some((shown, now));
                now
            }
            (None, _) => now,
        };
        frame.format = format(info.format())?;
        (frame.width, frame.height) = (info.width() as usize, info.height() as usize);
        frame.stride = frame.format.row_bytes(frame.width);
        frame.full_range = info.colorimetry().range() == gst_video::VideoColorRange::Range0_255;
        let image = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)
            .map_err(|e| e.to_string())?;
        frame.bytes.clear();
        for plane in 0..image.n_planes() {
            let index = plane as usize;
            let data = image.plane_data(plane).map_err(|e| e.to_string())?;
            let stride = usize::try_from(image.plane_stride()[index]).map_err(|e| e.to_string())?;
            let (row, rows) = match (frame.format, index) {
                (_, 0) => (frame.stride, frame.height),
                (PixelFormat::Nv12, _) => (frame.stride, frame.height.div_ceil(2)),
                _ => (frame.stride.div_ceil(2), frame.height.div_ceil(2)),
            };
            for line in data.chunks(stride.max(1)).take(rows) {
                // The last row may end with its last pixel.
                frame.bytes.extend_from_slice(&line[..row.min(line.len())]);
                frame
                    .bytes
                    .extend(std::iter::repeat_n(0, row.saturating_sub(line.len())));
            }
        }
        Ok(())
    }
}

fn format(format: gst_video::VideoFormat) -> Result<PixelFormat, String> {
    match format {
        gst_video::VideoFormat::Yuy2 => Ok(PixelFormat::Yuyv),
        gst_video::VideoFormat::Nv12 => Ok(PixelFormat::Nv12),
        gst_video::VideoFormat::I420 => Ok(PixelFormat::Yu12),
        gst_video::VideoFormat::Rgb => Ok(PixelFormat::Rgb3),
        other => Err(format!("pictures of the format {other}")),
    }
}

impl Capture for GstCapture {
    fn opened(&self) -> &OpenedCamera {
        &self.opened
    }

    fn next(
        &mut self,
        timeout: Duration,
        frame: &mut RawFrame,
    ) -> Result<CaptureStep, CameraError> {
        let waiting = self.waiting.take();
        let sample = waiting.or_else(|| {
            self.sink
                .try_pull_sample(gst::ClockTime::try_from(timeout).ok())
        });
        let failed = |reason: String| CameraError::Failed {
            device: self.opened.path.clone(),
            reason,
        };
        let Some(sample) = sample else {
            return match self.last_error() {
                Some(reason) => Err(failed(reason)),
                None if self.sink.is_eos() => Ok(CaptureStep::End),
                None => Ok(CaptureStep::NoFrame),
            };
        };
        match self.unpack(&sample, frame) {
            Ok(()) => Ok(CaptureStep::Frame),
            Err(reason) => Ok(CaptureStep::Damaged(reason)),
        }
    }
}

impl Drop for GstCapture {
    fn drop(&mut self) {
        gst_pipeline::stop(&self.pipeline);
    }
}

#[cfg(test)]
mod tests {
    use super::super::PixelConverter;
    use super::*;
    use crate::frame::RgbFrame;

    #[test]
    fn each_layout_of_a_pipeline_is_unpacked_rightly() {
        for (format, expected) in [
            ("YUY2", PixelFormat::Yuyv),
            ("NV12", PixelFormat::Nv12),
            ("I420", PixelFormat::Yu12),
            ("RGB", PixelFormat::Rgb3),
            // Converted on the way.
            ("BGRx", PixelFormat::Yuyv),
        ] {
            // A width whose rows GStreamer pads.
            let elements = format!(
                "videotestsrc num-buffers=5 pattern=solid-color foreground-color=0xff20c040 ! \
                 video/x-raw,format={format},width=70,height=50,framerate=10/1"
            );
            let mut capture = GstCamera::new(elements).open(Instant::now()).unwrap();
            assert_eq!(capture.opened().rate, Some(10.0));
            let (mut frame, mut times) = (RawFrame::default(), Vec::new());
            while capture.next(START_TIMEOUT.into(), &mut frame).unwrap() == CaptureStep::Frame {
                times.push(frame.at);
                if format != "BGRx" {
                    assert_eq!(frame.format, expected, "{format}");
                }
                let mut image = RgbFrame::default();
                PixelConverter::default()
                    .to_rgb(&frame, &mut image)
                    .unwrap();
                assert_eq!((image.width(), image.height()), (70, 50));
                for pixel in image.pixels().chunks_exact(3) {
                    for (got, wanted) in pixel.iter().zip([0x20, 0xc0, 0x40_u8]) {
                        assert!(got.abs_diff(wanted) <= 3, "{format}: {pixel:?}");
                    }
                }
            }
            // The newest waits; older ones may be gone.
            assert!(!times.is_empty(), "{format}");
            for pair in times.windows(2) {
                let gap = pair[1].saturating_sub(pair[0]).as_millis();
                assert!(gap > 0 && gap % 100 == 0, "{format}: {gap} ms");
            }
        }
    }

    #[test]
    fn a_source_that_is_not_live_plays_at_its_own_rate() {
        let check = |elements: &str| {
            let caps = "video/x-raw,width=64,height=48,framerate=10/1";
            let elements = format!("videotestsrc num-buffers=10 {elements} ! {caps}");
            let since = Instant::now();
            let mut capture = GstCamera::new(elements).open(since).unwrap();
            let (mut frame, mut count) = (RawFrame::default(), 0);
            while capture.next(START_TIMEOUT.into(), &mut frame).unwrap() == CaptureStep::Frame {
                count += 1;
            }
            // A busy machine may miss some.
            assert!(count >= 5, "{count}");
            assert!(since.elapsed() > Duration::from_millis(700));
        };
        check("");
        check("is-live=true");
    }

    #[test]
    fn elements_that_give_no_frames_are_named() {
        let check = |elements: &str, name: &str| {
            let error = GstCamera::new(elements.into()).open(Instant::now()).err();
            assert_eq!(error.unwrap().name(), name, "{elements}");
        };
        check("nosuchelement", "no_camera");
        check("videotestsrc ! fakesink", "no_camera");
        check("filesrc location=/nowhere ! decodebin", "failed");
    }
}
