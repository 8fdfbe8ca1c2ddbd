//! The GStreamer pipeline that decodes one clip, and what its threads send to the worker.
//!
//! `FileSource ! demuxer ! decoder ! appsink`, with a parser before the decoder where the packets need one. The
//! demuxer is the one that [`super::file_format`] lists: a file cannot choose an element. No element converts or
//! scales.

mod attach;
mod packets;
mod parameter_sets;
mod raw;
mod size_limit;
mod stop;

use super::clip::VideoOptions;
use super::clip_file::io_error;
use super::container::{AviFrameFormat, Packet, VideoTrack};
use super::decoder::StreamCodec;
use super::file_format::{FileFormat, FoundFormat};
use crate::dataset::clip_note::ClipNote;
use crate::frame::{DecoderChoice, SourceError};
use crossbeam_channel::{Receiver, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) use stop::{GRACE, stop, stuck_decoders};

/// Decoded frames that wait for the worker; each holds the memory of a whole frame.
const FRAMES_AHEAD: usize = 1;

/// What the pipeline's threads send to the worker.
pub(super) enum PipelineItem {
    /// A decoded frame.
    Frame(gst::Sample),
    /// No frame follows.
    End,
    /// An element failed.
    Error {
        /// Its message.
        error: SourceError,
        /// Whether the element is the decoder: OpenCV then stops at once and does not see the waiting frames.
        is_final: bool,
    },
    /// No part of the clip is decoded, for this reason.
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
    /// Reasons why frames may differ from the notebook's: FFmpeg fills in missing parts of pictures in another way.
    pub(super) fn notes(&self) -> BTreeSet<ClipNote> {
        self.shared.notes().clone()
    }

    /// The decoded stream; `None` until a decoder was chosen.
    pub(super) fn stream(&self) -> Option<&StreamInfo> {
        self.shared.stream.get()
    }

    /// Whether every thread that could send an item has stopped.
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
    /// What the track's edit list sends to the decoder.
    packets: Option<Arc<[Packet]>>,
    /// Whether an edit begins with a picture whose references are missing, or a parser saw a packet that is cut off.
    notes: Mutex<BTreeSet<ClipNote>>,
    /// Bytes by which the end of the file cuts off what was just read.
    missing: AtomicUsize,
    /// Bytes that the container has behind each packet and reads with it.
    trailer: usize,
    stream: OnceLock<StreamInfo>,
    /// Names of the streams that are no video.
    other_streams: Mutex<Vec<String>>,
    format: FileFormat,
    pixels_max: u64,
    avi: Option<AviFrameFormat>,
    send: Sender<PipelineItem>,
}

impl PipelineShared {
    fn notes(&self) -> MutexGuard<'_, BTreeSet<ClipNote>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a stream that is no video.
    fn record_other_stream(&self, name: &str) {
        let mut others = self
            .other_streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        others.push(name.to_owned());
    }

    /// Why nothing is decoded: which streams the file has instead of a video.
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

    fn fail(&self, error: SourceError) -> bool {
        let is_final = false;
        self.send(PipelineItem::Error { error, is_final })
    }

    /// Waits until the worker takes the item; `false` when the worker no longer receives.
    fn send(&self, item: PipelineItem) -> bool {
        self.send.send(item).is_ok()
    }
}

/// Builds the elements for `file`; they do not play yet. An MP4 file is patched as `track` says, so that it is read
/// as FFmpeg reads it.
///
/// # Errors
/// Fails when an element is not installed.
pub(super) fn build(
    file: File,
    found: &FoundFormat,
    options: &VideoOptions,
    track: &VideoTrack,
) -> Result<DecodePipeline, SourceError> {
    let machine = |e: gst::glib::BoolError| SourceError::Machine(e.to_string());
    let format = found.format;
    let (send, items) = bounded(FRAMES_AHEAD);
    let shared = Arc::new(PipelineShared {
        choice: options.decoder.clone(),
        packets: track.packets.clone(),
        notes: Mutex::default(),
        missing: AtomicUsize::new(0),
        trailer: track.trailer,
        stream: OnceLock::new(),
        other_streams: Mutex::default(),
        format,
        pixels_max: options.pixels_max,
        avi: track.avi.clone(),
        send,
    });
    let pipeline = gst::Pipeline::new();
    let file = parameter_sets::source(file, format.element, &shared);
    let file = file.map_err(|e| io_error(&e))?;
    let file: gst::Element = file.upcast();
    if let Some(output) = file.static_pad("src") {
        packets::patch_file(&output, track.clone(), &shared);
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
    pipeline.add_many(elements).map_err(machine)?;
    file.link(&reader).map_err(machine)?;
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
    // The decoder has decoded before it asks for memory, and its output still has no format.
    let has_no_format = error
        .src()
        .and_then(|s| s.downcast_ref::<gst::Element>())
        .and_then(|decoder| decoder.static_pad("src"))
        .is_some_and(|output| output.current_caps().is_none());
    if is_final && has_no_format && error.error().matches(gst::ResourceError::Failed) {
        let reason =
            "GStreamer does not know the pixel format; re-encode the clip as yuv420p".into();
        return PipelineItem::Error {
            error: SourceError::Clip(reason),
            is_final,
        };
    }
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
    PipelineItem::Error {
        error: SourceError::Clip(reason),
        is_final,
    }
}
