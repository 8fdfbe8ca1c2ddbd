//! The GStreamer pipeline that decodes one clip, and what its threads send to the worker.
//!
//! MP4 files use `filesrc ! qtdemux ! decoder ! appsink`, with the same packets as FFmpeg's demuxer gives. Other containers
//! use `parsebin`. No element converts or scales.

use super::container::{Packet, VideoTrack};
use super::decoder::{self, StreamCodec};
use super::packet_order;
use crate::frame::DecoderChoice;
use crossbeam_channel::{Receiver, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Decoded frames that wait for the worker; each holds the memory of a whole frame.
const FRAMES_AHEAD: usize = 1;

/// Largest frame, in pixels: a wrong header must not exhaust the memory.
const PIXELS_MAX: i64 = 8192 * 8192;

/// Largest packet, in bytes, that is filled up at the end of the file.
const PACKET_BYTES_MAX: usize = 32 << 20;

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
    /// Bytes that the file holds of the packet just read, if it is cut off; else `usize::MAX`.
    packet_bytes: AtomicUsize,
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
        packet_bytes: AtomicUsize::new(usize::MAX),
        stream: OnceLock::new(),
        send,
    });
    let pipeline = gst::Pipeline::new();
    let file = gst::ElementFactory::make("filesrc")
        .property("location", path)
        .build()?;
    if let Some(output) = file.static_pad("src").filter(|_| is_mp4) {
        patch_file(&output, track.clone(), &shared);
    }
    let demux = gst::ElementFactory::make(if is_mp4 { "qtdemux" } else { "parsebin" }).build()?;
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
    cut_packets(pad, shared);
    if let Some(packets) = &shared.packets {
        packet_order::follow(pad, Arc::clone(packets));
    }
    adjust_packets(&input, &decoder, shared);
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

/// Changes what the demuxer reads. Edits that begin inside the media would make it stop too early or never start: they are
/// hidden. It would drop a packet that the end of the file cuts off: the packet is filled up here and cut to its length
/// again before the decoder.
fn patch_file(output: &gst::Pad, track: VideoTrack, shared: &Arc<PipelineShared>) {
    let shared = Arc::clone(shared);
    let kind = gst::PadProbeType::PULL | gst::PadProbeType::BUFFER;
    output.add_probe(kind, move |_, info| {
        let (at, wanted) = (info.offset, info.size as usize);
        let Some(buffer) = info.buffer_mut() else {
            return gst::PadProbeReturn::Ok;
        };
        let have = buffer.size();
        for (place, bytes) in &track.patches {
            if let Some(from) = place
                .checked_sub(at)
                .and_then(|from| usize::try_from(from).ok())
                && from.saturating_add(bytes.len()) <= have
                && let Ok(mut map) = buffer.make_mut().map_writable()
            {
                map[from..from + bytes.len()].copy_from_slice(bytes);
            }
        }
        let is_cut_off = have < wanted
            && wanted <= PACKET_BYTES_MAX
            && track.cut_off_from.is_some_and(|from| at >= from);
        if is_cut_off {
            let rest = gst::Memory::from_slice(vec![0_u8; wanted - have]);
            buffer.make_mut().append_memory(rest);
        }
        let bytes = if is_cut_off { have } else { usize::MAX };
        shared.packet_bytes.store(bytes, Ordering::Release);
        gst::PadProbeReturn::Ok
    });
}

/// Cuts a packet that was filled up to the bytes that the file has of it.
fn cut_packets(output: &gst::Pad, shared: &Arc<PipelineShared>) {
    let shared = Arc::clone(shared);
    output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let bytes = shared.packet_bytes.load(Ordering::Acquire);
        if let Some(buffer) = info.buffer_mut()
            && buffer.size() > bytes
        {
            buffer.make_mut().set_size(bytes);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Changes what the decoder receives:
/// * A stream that begins with a picture whose references are missing may have errors.
/// * The container's colour tags are removed: FFmpeg uses those of the stream.
/// * The segment is opened: the decoder would cut frames to it in rounded nanoseconds.
fn adjust_packets(input: &gst::Pad, decoder: &gst::Element, shared: &Arc<PipelineShared>) {
    let packets = Arc::clone(shared);
    let decoder = decoder.downgrade();
    let first = OnceLock::new();
    input.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if packets
            .stream
            .get()
            .is_some_and(|s| s.codec == StreamCodec::H264)
            && let Some(buffer) = info.buffer()
            && (first.set(()).is_ok() || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT))
            && buffer
                .map_readable()
                .is_ok_and(|b| decoder::begins_open(&b))
            && let Some(decoder) = decoder.upgrade()
        {
            decoder::tolerate_errors(&decoder);
        }
        // Only the first packet tells, unless later ones begin another part.
        if packets.packets.is_some() {
            gst::PadProbeReturn::Ok
        } else {
            gst::PadProbeReturn::Remove
        }
    });
    input.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let Some(event) = info.event() else {
            return gst::PadProbeReturn::Ok;
        };
        let replacement = match event.view() {
            gst::EventView::Caps(c) => {
                let mut caps = c.caps_owned();
                caps.make_mut()
                    .iter_mut()
                    .for_each(|s| s.remove_field("colorimetry"));
                Some(
                    gst::event::Caps::builder(&caps)
                        .seqnum(event.seqnum())
                        .build(),
                )
            }
            gst::EventView::Segment(s) => {
                let mut segment = s.segment().clone();
                segment.downcast_mut::<gst::ClockTime>().map(|time| {
                    time.set_start(gst::ClockTime::ZERO);
                    time.set_stop(gst::ClockTime::NONE);
                    gst::event::Segment::builder(time)
                        .seqnum(event.seqnum())
                        .build()
                })
            }
            _ => None,
        };
        if let Some(event) = replacement {
            info.data = Some(gst::PadProbeData::Event(event));
        }
        gst::PadProbeReturn::Ok
    });
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
    let from = kind.map_or_else(String::new, |f| format!("{}: ", f.name()));
    let text = error.debug();
    let detail = text
        .as_deref()
        .and_then(|d| d.lines().skip(1).last())
        .map_or_else(String::new, |l| format!(" ({})", l.trim()));
    let reason = format!("{from}{}{detail}", error.error());
    PipelineItem::Error { reason, is_final }
}
