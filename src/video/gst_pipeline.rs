//! The GStreamer pipeline that decodes one clip, and what its threads send to the worker.
//!
//! MP4 files use `filesrc ! qtdemux ! decoder ! appsink`, with the same packets as FFmpeg's demuxer gives. Other containers
//! use `parsebin`. No element converts or scales.

mod packets;

use super::container::{Packet, VideoTrack};
use super::decoder::{self, StreamCodec};
use crate::frame::DecoderChoice;
use crossbeam_channel::{Receiver, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Decoded frames that wait for the worker; each holds the memory of a whole frame.
const FRAMES_AHEAD: usize = 1;

/// Largest frame, in pixels: a wrong header must not exhaust the memory.
const PIXELS_MAX: i64 = 8192 * 8192;

/// What the pipeline's threads send to the worker.
pub(super) enum PipelineItem {
    /// A decoded frame.
    Frame(gst::Sample),
    /// No further frame.
    End,
    /// An element failed.
    Error {
        /// Its message.
        reason: String,
        /// Whether it is the decoder: OpenCV then stops at once and never sees the frames that wait.
        is_final: bool,
    },
}

/// The codec of the stream and the name of its decoder.
#[derive(Clone, Debug)]
pub(super) struct StreamInfo {
    pub(super) codec: StreamCodec,
    pub(super) decoder: String,
}

/// The pipeline of one clip; it stops when dropped.
pub(super) struct DecodePipeline {
    pub(super) pipeline: gst::Pipeline,
    pub(super) items: Receiver<PipelineItem>,
    shared: Arc<PipelineShared>,
}

impl DecodePipeline {
    /// Whether the decoder makes pictures up that FFmpeg makes up in another way.
    pub(super) fn is_made_up(&self) -> bool {
        self.shared.is_made_up.load(Ordering::Acquire)
    }

    /// The decoded stream; `None` until a decoder was chosen.
    pub(super) fn stream(&self) -> Option<&StreamInfo> {
        self.shared.stream.get()
    }
}

impl Drop for DecodePipeline {
    fn drop(&mut self) {
        // The closed channel releases a streaming thread that waits to send a frame.
        self.items = crossbeam_channel::never();
        stop(&self.pipeline);
    }
}

/// State shared by the callbacks in GStreamer's threads.
struct PipelineShared {
    choice: DecoderChoice,
    /// What the track's edit list sends to the decoder.
    packets: Option<Arc<[Packet]>>,
    /// Whether an edit begins with a picture whose references are missing, or a parser saw a packet that is cut off.
    is_made_up: AtomicBool,
    /// Bytes by which the end of the file cuts off what was just read.
    missing: AtomicUsize,
    /// Bytes that the container has behind each packet and reads with it.
    trailer: usize,
    stream: OnceLock<StreamInfo>,
    send: Sender<PipelineItem>,
}

impl PipelineShared {
    fn fail(&self, reason: String) -> bool {
        let is_final = false;
        self.send(PipelineItem::Error { reason, is_final })
    }

    /// Waits until the worker takes the item; `false` when the worker has left.
    fn send(&self, item: PipelineItem) -> bool {
        self.send.send(item).is_ok()
    }
}

/// Time for an element to stop; after it the element is left behind.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Stops a pipeline for good.
pub(crate) fn stop(pipeline: &gst::Pipeline) {
    if let Some(bus) = pipeline.bus() {
        bus.unset_sync_handler();
    }
    // Stopping a decoder that hangs never returns: a thread of its own does it.
    let (stopped, wait) = bounded(1);
    let pipeline = pipeline.clone();
    let stop = move || stopped.send(pipeline.set_state(gst::State::Null).is_ok());
    let thread = std::thread::Builder::new().name("stop-decoder".into());
    let is_clean = match thread.spawn(stop) {
        Ok(_) => wait.recv_timeout(GRACE).unwrap_or(false),
        Err(_) => false,
    };
    if !is_clean {
        tracing::warn!("a decoder does not stop and is left behind");
    }
}

/// Builds the elements for `path`; they do not play yet. An MP4 file is patched as `track` says, so that it is read as
/// FFmpeg reads it.
///
/// # Errors
/// When an element is not installed.
pub(super) fn build(
    path: &Path,
    is_mp4: bool,
    choice: &DecoderChoice,
    track: &VideoTrack,
) -> Result<DecodePipeline, gst::glib::BoolError> {
    let (send, items) = bounded(FRAMES_AHEAD);
    let shared = Arc::new(PipelineShared {
        choice: choice.clone(),
        packets: track.packets.clone(),
        is_made_up: AtomicBool::new(false),
        missing: AtomicUsize::new(0),
        trailer: track.trailer,
        stream: OnceLock::new(),
        send,
    });
    let pipeline = gst::Pipeline::new();
    let file = gst::ElementFactory::make("filesrc")
        .property("location", path)
        .build()?;
    if let Some(output) = file.static_pad("src") {
        packets::patch_file(&output, track.clone(), &shared);
    }
    let kind = track
        .demuxer
        .unwrap_or(if is_mp4 { "qtdemux" } else { "parsebin" });
    let demux = gst::ElementFactory::make(kind).build()?;
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .max_buffers(1)
        .caps(&gst::Caps::new_empty_simple("video/x-raw"))
        .build();
    sink.set_callbacks(callbacks(&shared));
    pipeline.add_many([&file, &demux, sink.upcast_ref()])?;
    file.link(&demux)?;

    let (weak, on_pad) = (pipeline.downgrade(), Arc::clone(&shared));
    let sink_pad = sink.static_pad("sink");
    demux.connect_pad_added(move |_, pad| {
        let (Some(pipeline), Some(sink_pad)) = (weak.upgrade(), sink_pad.as_ref()) else {
            return;
        };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps.structure(0).map_or("", |s| s.name().as_str());
        let is_video = name.starts_with("video/") || name.starts_with("image/");
        // The first video stream is the one, as for OpenCV.
        if is_video
            && !sink_pad.is_linked()
            && let Err(reason) = attach(&pipeline, pad, &caps, sink_pad, &on_pad)
        {
            on_pad.fail(reason);
        }
    });
    let on_all = Arc::clone(&shared);
    demux.connect_no_more_pads(move |_| {
        if on_all.stream.get().is_none() {
            on_all.fail("the file has no video stream".into());
        }
    });
    let on_message = Arc::clone(&shared);
    if let Some(bus) = pipeline.bus() {
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(e) = message.view() {
                on_message.send(describe(e));
            }
            gst::BusSyncReply::Drop
        });
    }
    Ok(DecodePipeline {
        pipeline,
        items,
        shared,
    })
}

fn callbacks(shared: &Arc<PipelineShared>) -> gst_app::AppSinkCallbacks {
    let (frames, ends) = (Arc::clone(shared), Arc::clone(shared));
    gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if frames.send(PipelineItem::Frame(sample)) {
                Ok(gst::FlowSuccess::Ok)
            } else {
                Err(gst::FlowError::Flushing)
            }
        })
        .eos(move |_| {
            ends.send(PipelineItem::End);
        })
        .build()
}

/// Links a decoder, and a parser if the decoder needs one, between `pad` and the sink.
fn attach(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    caps: &gst::Caps,
    sink_pad: &gst::Pad,
    shared: &Arc<PipelineShared>,
) -> Result<(), String> {
    if let Some(s) = caps.structure(0) {
        let side = |name| i64::from(s.get::<i32>(name).unwrap_or(0));
        check_size(side("width"), side("height"))?;
    }
    let decoder = decoder::make(caps, &shared.choice)?;
    pipeline.add(&decoder).map_err(|e| e.to_string())?;
    let input = decoder
        .static_pad("sink")
        .ok_or("the decoder has no input")?;
    let output = decoder
        .static_pad("src")
        .ok_or("the decoder has no output")?;
    packets::cut_packets(pad, caps, shared);
    packets::follow_edits(pad, caps, &decoder, shared);
    packets::adjust_packets(&input, &decoder, shared);
    output
        .link(sink_pad)
        .map_err(|e| format!("decoder and sink do not fit: {e:?}"))?;
    shared.stream.get_or_init(|| StreamInfo {
        codec: StreamCodec::of(caps),
        decoder: decoder
            .factory()
            .map_or_else(String::new, |f| f.name().to_string()),
    });
    let start = |element: &gst::Element| {
        element
            .sync_state_with_parent()
            .map_err(|e| format!("{} does not start: {e}", element.name()))
    };
    start(&decoder)?;
    let fits = caps.is_fixed() && pad.can_link(&input) && input.query_accept_caps(caps);
    let input = if fits {
        input
    } else {
        let parser = decoder::parser(caps).ok_or_else(|| {
            format!(
                "no parser for {caps} is installed; on Debian: apt-get install gstreamer1.0-plugins-bad"
            )
        })?;
        pipeline.add(&parser).map_err(|e| e.to_string())?;
        parser.link(&decoder).map_err(|e| e.to_string())?;
        start(&parser)?;
        parser.static_pad("sink").ok_or("the parser has no input")?
    };
    pad.link(&input)
        .map_err(|e| format!("demuxer and decoder do not fit: {e:?}"))?;
    Ok(())
}

/// Refuses frames with too many pixels.
pub(crate) fn check_size(width: i64, height: i64) -> Result<(), String> {
    if width.saturating_mul(height) > PIXELS_MAX {
        return Err(format!(
            "{width}x{height} pixels are more than the limit of {PIXELS_MAX}"
        ));
    }
    Ok(())
}

/// The element's message; the last line of its debug detail names the cause more closely.
fn describe(error: &gst::message::Error) -> PipelineItem {
    // The kind of element: its name has a number that differs from run to run.
    let kind = error
        .src()
        .and_then(|s| s.downcast_ref::<gst::Element>())
        .and_then(ElementExt::factory);
    let is_final = kind
        .as_ref()
        .is_some_and(|f| f.has_type(gst::ElementFactoryType::DECODER));
    // It has decoded before it asks for memory, and its output is still without a format.
    let has_no_format = error
        .src()
        .and_then(|s| s.downcast_ref::<gst::Element>())
        .and_then(|decoder| decoder.static_pad("src"))
        .is_some_and(|output| output.current_caps().is_none());
    if is_final && has_no_format && error.error().matches(gst::ResourceError::Failed) {
        let reason =
            "GStreamer does not know the pixel format; re-encode the clip as yuv420p".into();
        return PipelineItem::Error { reason, is_final };
    }
    let from = kind.map_or_else(String::new, |f| format!("{}: ", f.name()));
    let text = error.debug();
    let detail = text
        .as_deref()
        .and_then(|d| d.lines().skip(1).last())
        .map_or_else(String::new, |l| format!(" ({})", l.trim()));
    let reason = format!("{from}{}{detail}", error.error());
    PipelineItem::Error { reason, is_final }
}
