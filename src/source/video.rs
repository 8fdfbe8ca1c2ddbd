//! A video file as a [`FrameSource`]: one GStreamer pipeline a clip, from the first frame on, never seeking.
//!
//! `filesrc ! parsebin ! decoder ! appsink`. The decoder hands over its planes as they are; conversion to RGB is
//! ours ([`crate::colour`]), because GStreamer's differs by up to 20 grey levels from what the notebook saw.

use super::container::{self, Edits};
use super::decoder::{self, Choice};
use crate::colour::{self, Converter, Exactness};
use crate::frame::{FrameSource, RgbFrame, SourceError};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Decoded frames that wait for the worker; each holds a picture's memory.
const FRAMES_AHEAD: usize = 2;
/// After an error upstream, frames that are still on their way get this long.
const GRACE: Duration = Duration::from_secs(2);
/// Larger pictures are refused: nothing in sign language video comes near, and a lying header must not take the memory.
const PIXELS_MAX: i64 = 8192 * 8192;

/// How to decode.
#[derive(Clone, Debug)]
pub struct VideoOptions {
    /// Software, hardware or a decoder by name.
    pub decoder: Choice,
    /// Longest total time to wait for the decoder in one clip.
    pub timeout: Duration,
}

/// An open clip.
pub struct VideoClip {
    pipeline: gst::Pipeline,
    items: Receiver<Item>,
    shared: Arc<Shared>,
    budget: Duration,
    frames: u64,
    quarter_turns: u8,
    edits: Edits,
    is_cut_off: bool,
    started: bool,
    ended: bool,
    late_error: Option<String>,
    current: Option<gst::Sample>,
    converter: Converter,
    upright: RgbFrame,
    turned: RgbFrame,
    approximate: bool,
}

/// What the pipeline's threads send to the worker.
enum Item {
    Frame { sample: gst::Sample, drained: bool },
    End,
    Error(String),
}

/// What the pipeline's threads know of each other.
#[derive(Default)]
struct Shared {
    /// The file has ended; what the decoder still gives was held back for reordering.
    drained: AtomicBool,
    stream: Mutex<Option<Stream>>,
}

/// What is decoded, and by what.
#[derive(Clone, Debug)]
struct Stream {
    codec: decoder::Codec,
    decoder: String,
}

/// Starts GStreamer once a process.
///
/// # Errors
/// When GStreamer cannot start.
pub fn init() -> Result<(), SourceError> {
    static STARTED: OnceLock<Result<(), SourceError>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            gst::init().map_err(|e| SourceError(format!("GStreamer does not start: {e}")))
        })
        .clone()
}

impl VideoClip {
    /// Opens `path` and waits for its first frame.
    ///
    /// # Errors
    /// With the decoder's reason, when no frame can be had.
    pub fn open(path: &Path, options: &VideoOptions) -> Result<Self, SourceError> {
        init()?;
        let mut file = File::open(path).map_err(|e| SourceError(e.to_string()))?;
        let length = file
            .metadata()
            .map_err(|e| SourceError(e.to_string()))?
            .len();
        if length == 0 {
            return Err(SourceError("the file is empty (0 bytes)".into()));
        }
        let track =
            container::first_video_track(&mut file).map_err(|e| SourceError(e.to_string()))?;
        drop(file);
        let edits = track.map_or(Edits::None, |t| t.edits);

        let (send, items) = bounded(FRAMES_AHEAD);
        let shared = Arc::new(Shared::default());
        let pipeline = build(
            path,
            &options.decoder,
            edits != Edits::Several,
            &send,
            &shared,
        )
        .map_err(|e| SourceError(e.to_string()))?;
        let mut clip = Self {
            pipeline,
            items,
            shared,
            budget: options.timeout,
            frames: track.map_or(0, |t| t.frames),
            quarter_turns: track.map_or(0, |t| t.quarter_turns),
            edits,
            is_cut_off: track.is_some_and(|t| t.is_cut_off),
            started: false,
            ended: false,
            late_error: None,
            current: None,
            converter: Converter::default(),
            upright: RgbFrame::default(),
            turned: RgbFrame::default(),
            approximate: false,
        };
        clip.pipeline
            .set_state(gst::State::Playing)
            .map_err(|e| SourceError(e.to_string()))?;
        if !clip.advance()? {
            return Err(SourceError(clip.late_error.take().unwrap_or_else(|| {
                "the file holds no frame that can be decoded".into()
            })));
        }
        clip.started = false;
        if clip.frames == 0 {
            clip.frames = clip.frames_by_duration();
        }
        Ok(clip)
    }

    /// The GStreamer element that decodes.
    #[must_use]
    pub fn decoder(&self) -> Option<String> {
        self.stream().map(|s| s.decoder)
    }

    fn stream(&self) -> Option<Stream> {
        self.shared.stream.lock().ok().and_then(|s| s.clone())
    }

    /// Whether a picture was converted by a rule that is not proven equal to the notebook's.
    #[must_use]
    pub fn is_approximate(&self) -> bool {
        self.approximate
    }

    /// Why decoding stopped before the end of the file, if it did.
    #[must_use]
    pub fn stopped_early(&self) -> Option<&str> {
        self.late_error.as_deref()
    }

    /// Where the container has no count, OpenCV takes duration × rate.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "as OpenCV"
    )]
    fn frames_by_duration(&self) -> u64 {
        let rate = self.current.as_ref().and_then(|s| s.caps()).and_then(|c| {
            let f = c.structure(0)?.get::<gst::Fraction>("framerate").ok()?;
            (f.denom() > 0).then(|| f64::from(f.numer()) / f64::from(f.denom()))
        });
        let duration = self.pipeline.query_duration::<gst::ClockTime>();
        match (duration, rate) {
            (Some(d), Some(r)) => (d.nseconds() as f64 / 1e9 * r + 0.5) as u64,
            _ => 0,
        }
    }

    /// The next item, or an error when the clip's time is used up.
    fn wait(&mut self, at_most: Duration) -> Result<Option<Item>, SourceError> {
        let limit = at_most.min(self.budget);
        let from = Instant::now();
        let got = self.items.recv_timeout(limit);
        self.budget = self.budget.saturating_sub(from.elapsed());
        match got {
            Ok(item) => Ok(Some(item)),
            Err(RecvTimeoutError::Disconnected) => Ok(Some(Item::End)),
            Err(RecvTimeoutError::Timeout) if self.budget.is_zero() => {
                self.ended = true;
                Err(SourceError(
                    "the decoder gave no frame within the clip's time limit (--clip-timeout)"
                        .into(),
                ))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }
}

impl FrameSource for VideoClip {
    fn advance(&mut self) -> Result<bool, SourceError> {
        if self.ended {
            return Ok(false);
        }
        if !self.started && self.current.is_some() {
            // Opening has already stepped to the first frame.
            self.started = true;
            return Ok(true);
        }
        loop {
            let patience = if self.late_error.is_some() {
                GRACE
            } else {
                self.budget
            };
            match self.wait(patience)? {
                Some(Item::Frame { sample, drained }) => {
                    // A packet that is cut off makes OpenCV stop at once: it never sees what the decoder holds back.
                    if drained && self.is_cut_off {
                        continue;
                    }
                    let time = sample
                        .buffer()
                        .and_then(gst::BufferRef::pts)
                        .map(gst::ClockTime::nseconds);
                    if let (Edits::One(edit), Some(time)) = (self.edits, time)
                        && !edit.shows(time)
                    {
                        continue;
                    }
                    self.current = Some(sample);
                    self.started = true;
                    return Ok(true);
                }
                Some(Item::Error(reason)) => {
                    let reachable = self.stream().is_some();
                    self.late_error.get_or_insert(reason);
                    if reachable {
                        continue;
                    }
                }
                Some(Item::End) | None => {}
            }
            self.ended = true;
            self.current = None;
            return Ok(false);
        }
    }

    fn picture(&mut self) -> Result<&RgbFrame, SourceError> {
        let sample = self
            .current
            .as_ref()
            .ok_or_else(|| SourceError("no current frame".into()))?;
        let codec = self.stream().map_or(decoder::Codec::Other, |s| s.codec);
        let exactness = convert(sample, codec, &mut self.converter, &mut self.upright)?;
        self.approximate |= matches!(exactness, Exactness::Approximate);
        if self.quarter_turns == 0 {
            return Ok(&self.upright);
        }
        colour::rotate(&self.upright, self.quarter_turns, &mut self.turned);
        Ok(&self.turned)
    }

    fn declared_frames(&self) -> u64 {
        self.frames
    }
}

impl Drop for VideoClip {
    fn drop(&mut self) {
        // Closing the channel first lets a streaming thread that waits to hand over a frame go.
        let (_, closed) = bounded(0);
        self.items = closed;
        let pipeline = self.pipeline.clone();
        if let Some(bus) = pipeline.bus() {
            bus.unset_sync_handler();
        }
        let stop = move || pipeline.set_state(gst::State::Null).is_ok();
        if self.budget.is_zero() {
            // A decoder that hangs would hang this too: it gets a thread of its own, which may never end.
            if let Err(error) = std::thread::Builder::new()
                .name("stop-decoder".into())
                .spawn(stop)
            {
                tracing::warn!(%error, "no thread to stop a hanging decoder");
            }
        } else if !stop() {
            tracing::warn!("a decoder did not stop cleanly");
        }
    }
}

fn build(
    path: &Path,
    choice: &Choice,
    open_segment: bool,
    send: &Sender<Item>,
    shared: &Arc<Shared>,
) -> Result<gst::Pipeline, gst::glib::BoolError> {
    let pipeline = gst::Pipeline::new();
    let file = gst::ElementFactory::make("filesrc")
        .property("location", path)
        .build()?;
    let parse = gst::ElementFactory::make("parsebin").build()?;
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .max_buffers(1)
        .caps(&gst::Caps::new_empty_simple("video/x-raw"))
        .build();
    sink.set_callbacks(callbacks(send, shared));
    pipeline.add_many([&file, &parse, sink.upcast_ref()])?;
    file.link(&parse)?;

    let (weak, sink_pad) = (pipeline.downgrade(), sink.static_pad("sink"));
    let (choice, on_pad, known) = (choice.clone(), send.clone(), Arc::clone(shared));
    parse.connect_pad_added(move |_, pad| {
        let (Some(pipeline), Some(sink_pad)) = (weak.upgrade(), sink_pad.as_ref()) else {
            return;
        };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let is_video = caps
            .structure(0)
            .is_some_and(|s| s.name().starts_with("video/") || s.name().starts_with("image/"));
        if !is_video || sink_pad.is_linked() {
            return;
        }
        if let Err(reason) = attach(
            &pipeline,
            pad,
            &caps,
            sink_pad,
            &choice,
            open_segment,
            &known,
        ) {
            send_item(&on_pad, Item::Error(reason));
        }
    });
    let (done, known) = (send.clone(), Arc::clone(shared));
    parse.connect_no_more_pads(move |_| {
        if known.stream.lock().is_ok_and(|s| s.is_none()) {
            send_item(&done, Item::Error("the file has no video stream".into()));
        }
    });
    let on_message = send.clone();
    if let Some(bus) = pipeline.bus() {
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(e) = message.view() {
                send_item(&on_message, Item::Error(describe(e)));
            }
            gst::BusSyncReply::Drop
        });
    }
    Ok(pipeline)
}

/// The worker may have left already; then nobody needs the item.
fn send_item(to: &Sender<Item>, item: Item) -> bool {
    to.send(item).is_ok()
}

fn callbacks(send: &Sender<Item>, shared: &Arc<Shared>) -> gst_app::AppSinkCallbacks {
    let (frames, ends, known) = (send.clone(), send.clone(), Arc::clone(shared));
    gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let drained = known.drained.load(Ordering::Acquire);
            if send_item(&frames, Item::Frame { sample, drained }) {
                Ok(gst::FlowSuccess::Ok)
            } else {
                Err(gst::FlowError::Flushing)
            }
        })
        .eos(move |_| {
            send_item(&ends, Item::End);
        })
        .build()
}

/// Puts a decoder between `pad` and the sink.
fn attach(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    caps: &gst::Caps,
    sink_pad: &gst::Pad,
    choice: &Choice,
    open_segment: bool,
    shared: &Arc<Shared>,
) -> Result<(), String> {
    if let Some(s) = caps.structure(0) {
        let side = |name| i64::from(s.get::<i32>(name).unwrap_or(0));
        check_size(side("width"), side("height"))?;
    }
    let decoder = decoder::make(caps, choice)?;
    pipeline.add(&decoder).map_err(|e| e.to_string())?;
    let input = decoder
        .static_pad("sink")
        .ok_or("the decoder has no input")?;
    let output = decoder
        .static_pad("src")
        .ok_or("the decoder has no output")?;
    watch_end(&input, open_segment, shared);
    output.link(sink_pad).map_err(|e| format!("{e:?}"))?;
    if let Ok(mut stream) = shared.stream.lock() {
        let name = decoder
            .factory()
            .map_or_else(String::new, |f| f.name().to_string());
        *stream = Some(Stream {
            codec: decoder::Codec::of(caps),
            decoder: name,
        });
    }
    decoder
        .sync_state_with_parent()
        .map_err(|e| format!("the decoder does not start: {e}"))?;
    pad.link(&input).map_err(|e| format!("{e:?}"))?;
    Ok(())
}

/// Notes the end of the file before the decoder drains. With `open_segment` also opens the segment, which comes from
/// the file's edit list: the decoder would clip frames to it in rounded nanoseconds, we do it in exact ticks.
fn watch_end(input: &gst::Pad, open_segment: bool, shared: &Arc<Shared>) {
    let known = Arc::clone(shared);
    input.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(event) = info.event() {
            match event.view() {
                gst::EventView::Eos(_) => known.drained.store(true, Ordering::Release),
                gst::EventView::Segment(s) if open_segment => {
                    let mut segment = s.segment().clone();
                    if let Some(time) = segment.downcast_mut::<gst::ClockTime>() {
                        time.set_start(gst::ClockTime::ZERO);
                        time.set_stop(gst::ClockTime::NONE);
                        let open = gst::event::Segment::builder(time)
                            .seqnum(event.seqnum())
                            .build();
                        info.data = Some(gst::PadProbeData::Event(open));
                    }
                }
                _ => {}
            }
        }
        gst::PadProbeReturn::Ok
    });
}

fn check_size(width: i64, height: i64) -> Result<(), String> {
    if width.saturating_mul(height) > PIXELS_MAX {
        return Err(format!(
            "{width}x{height} pixels are more than the {PIXELS_MAX} that are taken"
        ));
    }
    Ok(())
}

/// The element's own words; the debug detail names the cause more closely.
fn describe(error: &gst::message::Error) -> String {
    let from = error
        .src()
        .map_or_else(String::new, |s| format!("{}: ", s.name()));
    let detail = error.debug().map_or_else(String::new, |d| {
        let last = d.lines().last().unwrap_or("").trim().to_owned();
        if last.is_empty() {
            String::new()
        } else {
            format!(" ({last})")
        }
    });
    format!("{from}{}{detail}", error.error())
}

fn convert(
    sample: &gst::Sample,
    codec: decoder::Codec,
    converter: &mut Converter,
    out: &mut RgbFrame,
) -> Result<Exactness, SourceError> {
    let fail = |what: &str| SourceError(what.to_owned());
    let caps = sample
        .caps()
        .ok_or_else(|| fail("a frame without format"))?;
    let info = gst_video::VideoInfo::from_caps(caps).map_err(|e| SourceError(e.to_string()))?;
    check_size(i64::from(info.width()), i64::from(info.height())).map_err(SourceError)?;
    let buffer = sample
        .buffer()
        .ok_or_else(|| fail("a frame without data"))?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)
        .map_err(|e| SourceError(e.to_string()))?;
    let (layout, bit_depth) = decoder::layout(info.format()).ok_or_else(|| {
        SourceError(format!(
            "pixel format {} is not supported; re-encode the clip as yuv420p",
            info.format()
        ))
    })?;
    let planes = usize::min(frame.n_planes() as usize, 3);
    let mut data: [&[u8]; 3] = [&[]; 3];
    let mut strides = [0_usize; 3];
    for (i, plane) in (0_u32..).zip(0..planes) {
        data[plane] = frame
            .plane_data(i)
            .map_err(|e| SourceError(e.to_string()))?;
        strides[plane] =
            usize::try_from(frame.plane_stride()[plane]).map_err(|e| SourceError(e.to_string()))?;
    }
    let (width, height) = (info.width() as usize, info.height() as usize);
    let (coded_width, coded_height) = codec.coded_size(width, height);
    let is_full = info.colorimetry().range() == gst_video::VideoColorRange::Range0_255;
    let picture = colour::Picture {
        width,
        height,
        coded_width,
        coded_height,
        layout,
        bit_depth,
        full_range: is_full && codec.tells_range(),
        planes: data,
        strides,
    };
    converter
        .to_rgb(&picture, out)
        .map_err(|e| SourceError(e.to_string()))
}

/// GStreamer's version, for the record.
#[must_use]
pub fn version() -> String {
    let (major, minor, micro, _) = gst::version();
    format!("{major}.{minor}.{micro}")
}
