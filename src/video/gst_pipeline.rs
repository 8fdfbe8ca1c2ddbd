//! The GStreamer elements that decode one clip, and what their threads send to the worker.
//!
//! MP4 files go `filesrc ! qtdemux ! decoder ! appsink`, packets as FFmpeg's own demuxer would give them; other
//! containers go through `parsebin`. Nothing converts or scales.

use super::container::EditList;
use super::decoder::{self, StreamCodec};
use crate::frame::DecoderChoice;
use crossbeam_channel::{Receiver, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Decoded frames that wait for the worker; each holds a picture's memory.
const FRAMES_AHEAD: usize = 1;

/// Larger pictures are refused: no sign language video comes near, and a lying header must not take the memory.
const PIXELS_MAX: i64 = 8192 * 8192;

/// A packet that claims more is not filled up at the end of the file.
const PACKET_BYTES_MAX: usize = 32 << 20;

/// What the pipeline's threads send to the worker.
pub(super) enum PipelineItem {
    /// A decoded frame.
    Frame(gst::Sample),
    /// No frame will follow.
    End,
    /// An element gave up.
    Error {
        /// Its words.
        reason: String,
        /// It was the decoder: OpenCV stops at once then, and never sees the frames that wait for their turn.
        is_final: bool,
    },
}

/// Where the file is changed on its way to the demuxer, to be read as FFmpeg reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct DemuxPatches {
    /// File positions and what the demuxer sees there.
    pub(super) patches: Vec<(u64, [u8; 4])>,
    /// From this file position on, a packet that is cut off by the end of the file is decoded as far as it goes.
    pub(super) fills_from: Option<u64>,
    /// What of the track is shown; the demuxer and the decoder only cut to it where there are several parts.
    pub(super) edits: EditList,
}

/// What is decoded, and by what.
#[derive(Clone, Debug)]
pub(super) struct StreamInfo {
    pub(super) codec: StreamCodec,
    pub(super) decoder: String,
}

/// A pipeline that is not yet playing.
pub(super) struct DecodePipeline {
    pub(super) pipeline: gst::Pipeline,
    pub(super) items: Receiver<PipelineItem>,
    pub(super) link: Arc<PipelineShared>,
}

/// What the callbacks in GStreamer's threads share.
pub(super) struct PipelineShared {
    choice: DecoderChoice,
    edits: EditList,
    /// Bytes that the file holds of the packet just read, if it is cut off; else `usize::MAX`.
    packet_bytes: AtomicUsize,
    stream: Mutex<Option<StreamInfo>>,
    send: Sender<PipelineItem>,
}

impl PipelineShared {
    /// What is decoded; `None` until a decoder was found.
    pub(super) fn stream(&self) -> Option<StreamInfo> {
        self.stream.lock().ok().and_then(|s| s.clone())
    }

    fn fail(&self, reason: String) -> bool {
        let is_final = false;
        self.send(PipelineItem::Error { reason, is_final })
    }

    /// Waits until the worker takes the item; `false` when the worker has left.
    fn send(&self, item: PipelineItem) -> bool {
        self.send.send(item).is_ok()
    }
}

/// After this long an element that does not stop is left behind.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Stops a pipeline for good.
pub(crate) fn stop(pipeline: &gst::Pipeline) {
    if let Some(bus) = pipeline.bus() {
        bus.unset_sync_handler();
    }
    // A decoder that hangs would hang this too: it is stopped in a thread of its own, which then never ends.
    let (stopped, wait) = bounded(1);
    let pipeline = pipeline.clone();
    let stop = move || stopped.send(pipeline.set_state(gst::State::Null).is_ok());
    let thread = std::thread::Builder::new().name("stop-decoder".into());
    let is_clean = match thread.spawn(stop) {
        Ok(_) => wait.recv_timeout(GRACE).unwrap_or(false),
        Err(_) => false,
    };
    if !is_clean {
        tracing::warn!("a decoder does not stop; it is left behind");
    }
}

/// Builds the elements for `path`.
///
/// # Errors
/// When an element is not installed.
pub(super) fn build(
    path: &Path,
    is_mp4: bool,
    choice: &DecoderChoice,
    patches: DemuxPatches,
) -> Result<DecodePipeline, gst::glib::BoolError> {
    let (send, items) = bounded(FRAMES_AHEAD);
    let link = Arc::new(PipelineShared {
        choice: choice.clone(),
        edits: patches.edits,
        packet_bytes: AtomicUsize::new(usize::MAX),
        stream: Mutex::new(None),
        send,
    });
    let pipeline = gst::Pipeline::new();
    let file = gst::ElementFactory::make("filesrc")
        .property("location", path)
        .build()?;
    if let Some(output) = file.static_pad("src").filter(|_| is_mp4) {
        mend(&output, patches, &link);
    }
    let demux = gst::ElementFactory::make(if is_mp4 { "qtdemux" } else { "parsebin" }).build()?;
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .max_buffers(1)
        .caps(&gst::Caps::new_empty_simple("video/x-raw"))
        .build();
    sink.set_callbacks(callbacks(&link));
    pipeline.add_many([&file, &demux, sink.upcast_ref()])?;
    file.link(&demux)?;

    let (weak, on_pad) = (pipeline.downgrade(), Arc::clone(&link));
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
    let on_all = Arc::clone(&link);
    demux.connect_no_more_pads(move |_| {
        if on_all.stream().is_none() {
            on_all.fail("the file has no video stream".into());
        }
    });
    let on_message = Arc::clone(&link);
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
        link,
    })
}

fn callbacks(link: &Arc<PipelineShared>) -> gst_app::AppSinkCallbacks {
    let (frames, ends) = (Arc::clone(link), Arc::clone(link));
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

/// Puts a decoder, and a parser where the decoder needs one, between `pad` and the sink.
fn attach(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    caps: &gst::Caps,
    sink_pad: &gst::Pad,
    link: &Arc<PipelineShared>,
) -> Result<(), String> {
    if let Some(s) = caps.structure(0) {
        let side = |name| i64::from(s.get::<i32>(name).unwrap_or(0));
        check_size(side("width"), side("height"))?;
    }
    let decoder = decoder::make(caps, &link.choice)?;
    pipeline.add(&decoder).map_err(|e| e.to_string())?;
    let input = decoder
        .static_pad("sink")
        .ok_or("the decoder has no input")?;
    let output = decoder
        .static_pad("src")
        .ok_or("the decoder has no output")?;
    watch(&input, &decoder, link);
    output
        .link(sink_pad)
        .map_err(|e| format!("decoder and sink do not fit: {e:?}"))?;
    if let Ok(mut stream) = link.stream.lock() {
        let name = decoder
            .factory()
            .map_or_else(String::new, |f| f.name().to_string());
        *stream = Some(StreamInfo {
            codec: StreamCodec::of(caps),
            decoder: name,
        });
    }
    let start = |element: &gst::Element| {
        element
            .sync_state_with_parent()
            .map_err(|e| format!("{} does not start: {e}", element.name()))
    };
    start(&decoder)?;
    if caps.is_fixed() && pad.can_link(&input) && input.query_accept_caps(caps) {
        pad.link(&input)
            .map_err(|e| format!("demuxer and decoder do not fit: {e:?}"))?;
        return Ok(());
    }
    let parser = decoder::parser(caps).ok_or_else(|| {
        format!(
            "no parser for {caps} is installed; on Debian: apt-get install gstreamer1.0-plugins-bad"
        )
    })?;
    pipeline.add(&parser).map_err(|e| e.to_string())?;
    parser.link(&decoder).map_err(|e| e.to_string())?;
    start(&parser)?;
    let parser_input = parser.static_pad("sink").ok_or("the parser has no input")?;
    pad.link(&parser_input)
        .map_err(|e| format!("demuxer and parser do not fit: {e:?}"))?;
    Ok(())
}

/// Mends what the demuxer reads. It would stop too early, or never start, at edits that begin inside the media, so it
/// does not see them; and it would drop a packet that the end of the file cuts off, so that one is filled up here and
/// cut to its length again before the decoder.
fn mend(output: &gst::Pad, patches: DemuxPatches, link: &Arc<PipelineShared>) {
    let link = Arc::clone(link);
    let kind = gst::PadProbeType::PULL | gst::PadProbeType::BUFFER;
    output.add_probe(kind, move |_, info| {
        let (at, wanted) = (info.offset, info.size as usize);
        let Some(buffer) = info.buffer_mut() else {
            return gst::PadProbeReturn::Ok;
        };
        let have = buffer.size();
        for (place, bytes) in &patches.patches {
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
            && patches.fills_from.is_some_and(|from| at >= from);
        if is_cut_off {
            let rest = gst::Memory::from_slice(vec![0_u8; wanted - have]);
            buffer.make_mut().append_memory(rest);
        }
        let bytes = if is_cut_off { have } else { usize::MAX };
        link.packet_bytes.store(bytes, Ordering::Release);
        gst::PadProbeReturn::Ok
    });
}

/// Mends what comes to the decoder: drops pictures that lead up to the first one and are not shown, as their
/// references are missing after a cut; takes colour tags of the container away, since FFmpeg believes the stream itself;
/// and opens the segment, which comes from the file's edit list: the decoder would cut frames to it in rounded
/// nanoseconds, the clip does it in exact ticks.
fn watch(input: &gst::Pad, decoder: &gst::Element, link: &Arc<PipelineShared>) {
    let packets = Arc::clone(link);
    let decoder = decoder.downgrade();
    let start = OnceLock::new();
    input.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let bytes = packets.packet_bytes.load(Ordering::Acquire);
        let Some(buffer) = info.buffer_mut() else {
            return gst::PadProbeReturn::Ok;
        };
        if buffer.size() > bytes {
            buffer.make_mut().set_size(bytes);
        }
        if start.get().is_none()
            && packets
                .stream()
                .is_some_and(|s| s.codec == StreamCodec::H264)
            && buffer
                .map_readable()
                .is_ok_and(|b| decoder::begins_open(&b))
            && let Some(decoder) = decoder.upgrade()
        {
            decoder::tolerate_errors(&decoder);
        }
        let Some(time) = buffer.pts().map(gst::ClockTime::nseconds) else {
            return gst::PadProbeReturn::Ok;
        };
        let leads = time < *start.get_or_init(|| time);
        if leads && matches!(packets.edits, EditList::One(edit) if !edit.shows(time)) {
            return gst::PadProbeReturn::Drop;
        }
        gst::PadProbeReturn::Ok
    });
    let link = Arc::clone(link);
    input.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let Some(event) = info.event() else {
            return gst::PadProbeReturn::Ok;
        };
        let mended = match event.view() {
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
            gst::EventView::Segment(s) if link.edits != EditList::Several => {
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
        if let Some(event) = mended {
            info.data = Some(gst::PadProbeData::Event(event));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Refuses pictures that are too large to be meant.
pub(crate) fn check_size(width: i64, height: i64) -> Result<(), String> {
    if width.saturating_mul(height) > PIXELS_MAX {
        return Err(format!(
            "{width}x{height} pixels are more than the {PIXELS_MAX} that are taken"
        ));
    }
    Ok(())
}

/// The element's own words; the last line of the debug detail names the cause more closely.
fn describe(error: &gst::message::Error) -> PipelineItem {
    // The kind of element, not its name, which is numbered and would differ from run to run.
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
