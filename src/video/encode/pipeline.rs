//! The GStreamer pipeline of [`super::encode_mp4`]. No wait in it is without a limit.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::{Codec, EncodeError};
use crate::frame::RgbFrame;

/// Longest time without progress of the pipeline, in milliseconds.
const STALL_MAX_MS: u64 = 30_000;

/// Length of one wait for the bus while the queue is full, in milliseconds.
const POLL_MS: u64 = 5;

/// Frames that wait for the encoder.
const QUEUE_MAX: u64 = 8;

/// A running pipeline; dropping it stops it.
pub(super) struct Encoder {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    source: gst_app::AppSrc,
    info: gst_video::VideoInfo,
    fps: u32,
}

impl Encoder {
    pub(super) fn start(
        path: &Path,
        info: &gst_video::VideoInfo,
        fps: u32,
        codec: Codec,
    ) -> Result<Self, EncodeError> {
        find_elements(codec)?;
        // With `block` a push waits forever on a pipeline that failed; `push_all` waits instead.
        let elements = format!(
            "appsrc name=source format=time block=false ! videoconvert ! \
             video/x-raw,format=I420,colorimetry=bt601 ! {} ! mp4mux ! filesink name=file sync=false",
            encoder(codec)
        );
        let pipeline = gst::parse::launch(&elements).map_err(EncodeError::build)?;
        let no_pipeline = |_| EncodeError::build("not a pipeline");
        let pipeline: gst::Pipeline = pipeline.downcast().map_err(no_pipeline)?;
        let element = |name: &str| {
            let missing = || EncodeError::build(format_args!("it has no {name}"));
            pipeline.by_name(name).ok_or_else(missing)
        };
        element("file")?.set_property("location", path);
        if codec == Codec::Mpeg4 {
            number_frames(&element("encoder")?, fps);
        }
        let no_source = |_| EncodeError::build("its source takes no frames");
        let source: gst_app::AppSrc = element("source")?.downcast().map_err(no_source)?;
        source.set_caps(Some(&info.to_caps().map_err(EncodeError::build)?));
        source.set_max_bytes(QUEUE_MAX * info.size() as u64);
        let bus = pipeline.bus();
        let encoder = Self {
            bus: bus.ok_or_else(|| EncodeError::build("a pipeline without a bus"))?,
            pipeline,
            source,
            info: info.clone(),
            fps,
        };
        if let Err(refused) = encoder.pipeline.set_state(gst::State::Playing) {
            // The element that refused sends its reason to the bus.
            encoder.wait(POLL_MS, &[gst::MessageType::Error])?;
            return Err(EncodeError::build(refused));
        }
        Ok(encoder)
    }

    /// Sends all frames and the end of the stream; returns the number of frames.
    pub(super) fn push_all(
        &self,
        frames: impl Iterator<Item = RgbFrame>,
    ) -> Result<u64, EncodeError> {
        let mut count = 0;
        for frame in frames {
            self.wait_for_room(count)?;
            let buffer = self.buffer(&frame, count)?;
            if self.source.push_buffer(buffer).is_err() {
                return Err(self.refusal(count));
            }
            count += 1;
        }
        match self.source.end_of_stream() {
            Ok(_) => Ok(count),
            Err(_) => Err(self.refusal(count)),
        }
    }

    /// A copy of the frame with its time, and with rows as GStreamer pads them, to multiples of four bytes.
    fn buffer(&self, frame: &RgbFrame, index: u64) -> Result<gst::Buffer, EncodeError> {
        let (width, height) = (frame.width(), frame.height());
        if (width, height) != (self.info.width() as usize, self.info.height() as usize) {
            return Err(EncodeError(format!(
                "picture {index} is {width}x{height}, unlike the first"
            )));
        }
        let mut bytes = vec![0; self.info.size()];
        let targets = bytes.chunks_exact_mut(self.info.size() / height);
        for (target, row) in targets.zip(frame.pixels().chunks_exact(width * 3)) {
            target[..row.len()].copy_from_slice(row);
        }
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        if let Some(buffer) = buffer.get_mut() {
            set_time(buffer, gst::ClockTime::ZERO, index, self.fps);
        }
        Ok(buffer)
    }

    /// Waits until there is room in the queue.
    fn wait_for_room(&self, index: u64) -> Result<(), EncodeError> {
        // Counts waits of fixed length instead of reading a clock.
        for _ in 0..STALL_MAX_MS / POLL_MS {
            let full = self.source.current_level_bytes() >= self.source.max_bytes();
            let timeout = if full { POLL_MS } else { 0 };
            self.wait(timeout, &[gst::MessageType::Error])?;
            if !full {
                return Ok(());
            }
        }
        Err(stalled(index))
    }

    /// Waits until the file is complete.
    pub(super) fn finish(&self, count: u64) -> Result<(), EncodeError> {
        let awaited = [gst::MessageType::Eos, gst::MessageType::Error];
        let is_finished = self.wait(STALL_MAX_MS, &awaited)?;
        is_finished.then_some(()).ok_or_else(|| stalled(count))
    }

    /// Waits at most `timeout_ms` for one of the messages. Returns whether one came; an error message becomes an
    /// error.
    fn wait(&self, timeout_ms: u64, awaited: &[gst::MessageType]) -> Result<bool, EncodeError> {
        let timeout = gst::ClockTime::from_mseconds(timeout_ms);
        let Some(message) = self.bus.timed_pop_filtered(timeout, awaited) else {
            return Ok(false);
        };
        let gst::MessageView::Error(error) = message.view() else {
            return Ok(true);
        };
        let element = error.src().map(GstObjectExt::name).unwrap_or_default();
        let (message, detail) = (error.error(), error.debug().unwrap_or_default());
        Err(EncodeError(format!(
            "encoding failed in {element}: {message} ({detail})"
        )))
    }

    /// The reason why the source accepts no more frames.
    fn refusal(&self, index: u64) -> EncodeError {
        let error = self.wait(POLL_MS, &[gst::MessageType::Error]).err();
        error.unwrap_or_else(|| stalled(index))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // There is no remedy for a pipeline that does not stop.
        self.pipeline.set_state(gst::State::Null).ok();
    }
}

fn stalled(index: u64) -> EncodeError {
    EncodeError(format!(
        "the encoder made no progress for {STALL_MAX_MS} ms at picture {index}"
    ))
}

/// Checks that everything that encodes as `codec` is installed.
pub(super) fn find_elements(codec: Codec) -> Result<(), EncodeError> {
    let encoder = match codec {
        Codec::H264 => ("x264enc", "gstreamer1.0-plugins-ugly"),
        Codec::Mpeg4 => ("avenc_mpeg4", "gstreamer1.0-libav"),
    };
    find_element(encoder)?;
    find_element(("videoconvert", "gstreamer1.0-plugins-base"))?;
    find_element(("mp4mux", "gstreamer1.0-plugins-good"))
}

/// Checks that an element is installed. Its Debian package is named in the error.
fn find_element((element, package): (&str, &str)) -> Result<(), EncodeError> {
    gst::ElementFactory::find(element)
        .map(|_| ())
        .ok_or_else(|| {
            EncodeError(format!(
                "GStreamer has no element {element}; on Debian: apt-get install {package}"
            ))
        })
}

/// The encoder with settings that depend on nothing but this file. Frames are shown in the order in which they are
/// decoded, so that times start at 0 without an edit list.
fn encoder(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => {
            "x264enc name=encoder threads=1 speed-preset=fast pass=quant quantizer=20 key-int-max=30 bframes=0"
        }
        Codec::Mpeg4 => "avenc_mpeg4 name=encoder pass=quant quantizer=3 gop-size=30 max-bframes=0",
    }
}

/// Sets the times of what leaves an encoder without B-frames.
///
/// `avenc_mpeg4` of GStreamer 1.22 gives every frame the time of 2562047 hours; the muxer then shows all of them at
/// once.
fn number_frames(encoder: &gst::Element, fps: u32) {
    let Some(pad) = encoder.static_pad("src") else {
        return;
    };
    let count = AtomicU64::new(0);
    // The probe lives as long as the pad and needs no removal.
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        // Encoders count from a thousand hours, to leave room for what is decoded before it is shown.
        let origin = pad
            .sticky_event::<gst::event::Segment>(0)
            .and_then(|event| event.segment().downcast_ref::<gst::ClockTime>()?.start())
            .unwrap_or(gst::ClockTime::ZERO);
        if let Some(buffer) = info.buffer_mut() {
            let buffer = buffer.make_mut();
            let index = count.fetch_add(1, Ordering::Relaxed);
            set_time(buffer, origin, index, fps);
            buffer.set_dts(buffer.pts());
        }
        gst::PadProbeReturn::Ok
    });
}

/// Sets when frame `index` is shown after `origin` and how long, rounded so that long clips do not drift.
fn set_time(buffer: &mut gst::BufferRef, origin: gst::ClockTime, index: u64, fps: u32) {
    let time = |index| gst::ClockTime::SECOND.mul_div_floor(index, u64::from(fps));
    let time = |index| time(index).unwrap_or(gst::ClockTime::MAX);
    buffer.set_pts(origin + time(index));
    buffer.set_duration(time(index + 1) - time(index));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::encode::image_info;

    #[test]
    fn a_missing_element_names_its_package() {
        gst::init().unwrap();
        let error = find_element(("nosuchenc", "gstreamer1.0-plugins-ugly")).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("apt-get install gstreamer1.0-plugins-ugly")
        );
    }

    #[test]
    fn a_full_disk_ends_with_an_error() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            // A skipped check must not look like a passed one.
            std::io::Write::write_all(&mut std::io::stderr(), b"skipped: no /dev/full here\n").ok();
            return;
        }
        let mut encoder = None;
        gst::init().unwrap();
        // A still picture would compress to less than the sink's buffer.
        let mut noise = RgbFrame::new(64, 48);
        for (index, value) in (0_u32..).zip(noise.pixels_mut()) {
            *value = index.wrapping_mul(2_654_435_761).to_be_bytes()[0];
        }
        let info = image_info(&noise, 25, Codec::Mpeg4).unwrap();
        let started = Encoder::start(full, &info, 25, Codec::Mpeg4);
        let outcome = started.and_then(|e| {
            let e = encoder.insert(e);
            e.push_all(std::iter::repeat_n(noise, 400))
                .and_then(|count| e.finish(count))
        });
        let error = outcome.unwrap_err().to_string();
        assert!(error.starts_with("encoding failed in"), "{error}");
    }
}
