//! The GStreamer pipeline that decodes one clip, and what its threads send to the worker.
//!
//! `filesrc ! demuxer ! decoder ! appsink`, with a parser before the decoder where the packets need one. The demuxer is the
//! one that [`super::file_format`] lists: nothing is plugged that a file could choose. No element converts or scales.

mod attach;
mod raw;
mod size_limit;
mod stop;

use super::clip::VideoOptions;
use super::container::{EditList, VideoTrack};
use super::decoder::{self, StreamCodec};
use super::file_format::{FileFormat, FoundFormat, MP4};
use crate::frame::DecoderChoice;
use crossbeam_channel::{Receiver, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(crate) use stop::{GRACE, stop, stuck_decoders};

/// Decoded frames that wait for the worker; each holds the memory of a whole frame.
const FRAMES_AHEAD: usize = 1;

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
    /// The clip is not decoded, also not in part.
    Refused(String),
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
    /// The pads whose threads drive the pipeline.
    drivers: Vec<gst::Pad>,
    format: FileFormat,
    shared: Arc<PipelineShared>,
}

impl DecodePipeline {
    /// The decoded stream; `None` until a decoder was chosen.
    pub(super) fn stream(&self) -> Option<&StreamInfo> {
        self.shared.stream.get()
    }

    /// Whether no thread runs that could send a further item.
    pub(super) fn is_idle(&self) -> bool {
        let mut states = self.drivers.iter().map(PadExt::task_state);
        states.all(|state| state != gst::TaskState::Started)
    }

    /// Why the file gives no frame although no element failed.
    pub(super) fn no_frame(&self) -> String {
        let name = self.format.name;
        match self.stream() {
            Some(_) => format!("no frame of the {name} file can be decoded; it may be damaged"),
            None => self.shared.no_video(),
        }
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
    /// The shown part of the track; the demuxer and the decoder cut to it only when there are several parts.
    edits: EditList,
    /// Bytes that the file holds of the packet just read, if it is cut off; else `usize::MAX`.
    packet_bytes: AtomicUsize,
    stream: OnceLock<StreamInfo>,
    /// Names of the streams that are no video.
    other_streams: Mutex<Vec<String>>,
    format: FileFormat,
    pixels_max: u64,
    send: Sender<PipelineItem>,
}

impl PipelineShared {
    /// Notes a stream that is no video.
    fn pass_over(&self, name: &str) {
        let mut others = self
            .other_streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        others.push(name.to_owned());
    }

    /// Why nothing is decoded: what the file has instead of a video.
    fn no_video(&self) -> String {
        let others = self
            .other_streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let name = self.format.name;
        if others.iter().any(|stream| stream.starts_with("audio/")) {
            format!("the {name} file has sound alone, no video")
        } else if others.is_empty() {
            format!("the {name} file has no stream that can be found; it may be damaged")
        } else {
            format!("the {name} file has no video, only {}", others.join(", "))
        }
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

/// Builds the elements for `path`; they do not play yet. An MP4 file is patched as `track` says, so that it is read as
/// FFmpeg reads it.
///
/// # Errors
/// When an element is not installed.
pub(super) fn build(
    path: &Path,
    found: &FoundFormat,
    options: &VideoOptions,
    track: &VideoTrack,
) -> Result<DecodePipeline, String> {
    let text = |e: gst::glib::BoolError| e.to_string();
    let format = found.format;
    let (send, items) = bounded(FRAMES_AHEAD);
    let shared = Arc::new(PipelineShared {
        choice: options.decoder.clone(),
        edits: track.edits,
        packet_bytes: AtomicUsize::new(usize::MAX),
        stream: OnceLock::new(),
        other_streams: Mutex::default(),
        format,
        pixels_max: options.pixels_max,
        send,
    });
    let pipeline = gst::Pipeline::new();
    let file = source(path).map_err(text)?;
    if let Some(output) = file.static_pad("src").filter(|_| format == MP4) {
        patch_file(&output, track.clone(), &shared);
    }
    let reader = gst::ElementFactory::make(format.element).build();
    let reader = reader.map_err(|_| {
        format!(
            "GStreamer cannot read {}: {} is not installed; on Debian: apt-get install {}",
            format.name, format.element, format.package
        )
    })?;
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .max_buffers(1)
        .caps(&gst::Caps::new_empty_simple("video/x-raw"))
        .build();
    sink.set_callbacks(callbacks(&shared));
    let elements = [&file, &reader, sink.upcast_ref()];
    pipeline.add_many(elements).map_err(text)?;
    file.link(&reader).map_err(text)?;
    let pads = [file.static_pad("src"), reader.static_pad("sink")];
    let drivers = pads.into_iter().flatten().collect();
    attach::connect(&pipeline, &reader, &sink, found.stream.as_ref(), &shared)?;
    let on_message = Arc::clone(&shared);
    if let Some(bus) = pipeline.bus() {
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(e) = message.view() {
                on_message.send(describe(e, &on_message));
            }
            gst::BusSyncReply::Drop
        });
    }
    Ok(DecodePipeline {
        pipeline,
        items,
        drivers,
        format,
        shared,
    })
}

/// The element that reads the file.
fn source(path: &Path) -> Result<gst::Element, gst::glib::BoolError> {
    gst::ElementFactory::make("filesrc")
        .property("location", path)
        .build()
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

/// Changes what the decoder receives:
/// * Frames before the first one that are not shown are dropped: their references are missing after a cut.
/// * The container's colour tags are removed: FFmpeg uses those of the stream.
/// * The segment, which comes from the edit list, is opened: the decoder would cut frames to it in rounded nanoseconds, the
///   clip does it in exact ticks.
fn adjust_packets(input: &gst::Pad, decoder: &gst::Element, shared: &Arc<PipelineShared>) {
    let packets = Arc::clone(shared);
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
                .stream
                .get()
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
    let shared = Arc::clone(shared);
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
            gst::EventView::Segment(s) if shared.edits != EditList::Several => {
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

/// The element's message; the last line of its debug detail names the cause more closely.
fn describe(error: &gst::message::Error, shared: &PipelineShared) -> PipelineItem {
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
    // A demuxer without a decoder behind it fails with this flow, whatever is in the file.
    let reason = if shared.stream.get().is_none() && detail.contains("not-linked") {
        shared.no_video()
    } else {
        format!("{from}{}{detail}", error.error())
    };
    PipelineItem::Error { reason, is_final }
}
