//! The GStreamer elements that decode one clip, and what their threads send to the worker.
//!
//! MP4 files go `filesrc ! qtdemux ! decoder ! appsink`, packets as FFmpeg's own demuxer would give them; other
//! containers go through `parsebin`. Nothing converts or scales.

use super::decoder::{self, Choice, Codec};
use crossbeam_channel::{Receiver, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Decoded frames that wait for the worker; each holds a picture's memory.
const FRAMES_AHEAD: usize = 1;

/// Larger pictures are refused: no sign language video comes near, and a lying header must not take the memory.
const PIXELS_MAX: i64 = 8192 * 8192;

/// What the pipeline's threads send to the worker.
pub(super) enum Item {
    /// A decoded frame. `is_held_back`: the decoder gave it only after the end of the file.
    Frame {
        /// The planes.
        sample: gst::Sample,
        /// It waited in the decoder for its turn when the file ended.
        is_held_back: bool,
    },
    /// No frame will follow.
    End,
    /// An element gave up; frames may still be on their way.
    Error(String),
}

/// What is decoded, and by what.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) codec: Codec,
    pub(super) decoder: String,
}

/// A pipeline that is not yet playing.
pub(super) struct Chain {
    pub(super) pipeline: gst::Pipeline,
    pub(super) items: Receiver<Item>,
    pub(super) link: Arc<Link>,
}

/// What the callbacks in GStreamer's threads share.
pub(super) struct Link {
    choice: Choice,
    opens_segment: bool,
    has_ended: AtomicBool,
    stream: Mutex<Option<Stream>>,
    send: Sender<Item>,
}

impl Link {
    /// What is decoded; `None` until a decoder was found.
    pub(super) fn stream(&self) -> Option<Stream> {
        self.stream.lock().ok().and_then(|s| s.clone())
    }

    /// Waits until the worker takes the item; `false` when the worker has left.
    fn send(&self, item: Item) -> bool {
        self.send.send(item).is_ok()
    }
}

/// Builds the elements for `path`. With `opens_segment` frames are not cut to the file's edit list.
///
/// # Errors
/// When an element is not installed.
pub(super) fn build(
    path: &Path,
    is_mp4: bool,
    choice: &Choice,
    opens_segment: bool,
) -> Result<Chain, gst::glib::BoolError> {
    let (send, items) = bounded(FRAMES_AHEAD);
    let link = Arc::new(Link {
        choice: choice.clone(),
        opens_segment,
        has_ended: AtomicBool::new(false),
        stream: Mutex::new(None),
        send,
    });
    let pipeline = gst::Pipeline::new();
    let file = gst::ElementFactory::make("filesrc")
        .property("location", path)
        .build()?;
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
            on_pad.send(Item::Error(reason));
        }
    });
    let on_all = Arc::clone(&link);
    demux.connect_no_more_pads(move |_| {
        if on_all.stream().is_none() {
            on_all.send(Item::Error("the file has no video stream".into()));
        }
    });
    let on_message = Arc::clone(&link);
    if let Some(bus) = pipeline.bus() {
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(e) = message.view() {
                on_message.send(Item::Error(describe(e)));
            }
            gst::BusSyncReply::Drop
        });
    }
    Ok(Chain {
        pipeline,
        items,
        link,
    })
}

fn callbacks(link: &Arc<Link>) -> gst_app::AppSinkCallbacks {
    let (frames, ends) = (Arc::clone(link), Arc::clone(link));
    gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let is_held_back = frames.has_ended.load(Ordering::Acquire);
            if frames.send(Item::Frame {
                sample,
                is_held_back,
            }) {
                Ok(gst::FlowSuccess::Ok)
            } else {
                Err(gst::FlowError::Flushing)
            }
        })
        .eos(move |_| {
            ends.send(Item::End);
        })
        .build()
}

/// Puts a decoder, and a parser where the decoder needs one, between `pad` and the sink.
fn attach(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    caps: &gst::Caps,
    sink_pad: &gst::Pad,
    link: &Arc<Link>,
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
    watch(&input, link);
    output
        .link(sink_pad)
        .map_err(|e| format!("decoder and sink do not fit: {e:?}"))?;
    if let Ok(mut stream) = link.stream.lock() {
        let name = decoder
            .factory()
            .map_or_else(String::new, |f| f.name().to_string());
        *stream = Some(Stream {
            codec: Codec::of(caps),
            decoder: name,
        });
    }
    let start = |element: &gst::Element| {
        element
            .sync_state_with_parent()
            .map_err(|e| format!("{} does not start: {e}", element.name()))
    };
    start(&decoder)?;
    if pad.can_link(&input) && input.query_accept_caps(caps) {
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

/// Watches and mends what comes to the decoder: notes the end of the file; takes colour tags of the container away,
/// since FFmpeg believes the stream itself; and opens the segment, which comes from the file's edit list: the decoder
/// would cut frames to it in rounded nanoseconds, the clip does it in exact ticks.
fn watch(input: &gst::Pad, link: &Arc<Link>) {
    let link = Arc::clone(link);
    input.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let Some(event) = info.event() else {
            return gst::PadProbeReturn::Ok;
        };
        let mended = match event.view() {
            gst::EventView::Eos(_) => {
                link.has_ended.store(true, Ordering::Release);
                None
            }
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
            gst::EventView::Segment(s) if link.opens_segment => {
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
pub(super) fn check_size(width: i64, height: i64) -> Result<(), String> {
    if width.saturating_mul(height) > PIXELS_MAX {
        return Err(format!(
            "{width}x{height} pixels are more than the {PIXELS_MAX} that are taken"
        ));
    }
    Ok(())
}

/// The element's own words; the last line of the debug detail names the cause more closely.
fn describe(error: &gst::message::Error) -> String {
    // The kind of element, not its name, which is numbered and would differ from run to run.
    let kind = error
        .src()
        .and_then(|s| s.downcast_ref::<gst::Element>())
        .and_then(ElementExt::factory);
    let from = kind.map_or_else(String::new, |f| format!("{}: ", f.name()));
    let text = error.debug();
    let detail = text
        .as_deref()
        .and_then(|d| d.lines().skip(1).last())
        .map_or_else(String::new, |l| format!(" ({})", l.trim()));
    format!("{from}{}{detail}", error.error())
}
