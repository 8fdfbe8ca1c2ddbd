//! Chooses the video stream of a file and links a decoder to it.

use super::{PipelineShared, StreamInfo, packets, parameter_sets, raw, size_limit};
use crate::frame::SourceError;
use crate::video::container::AviFrameFormat;
use crate::video::decoder::{self, StreamCodec};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::sync::Arc;

/// Connects the first video stream of `reader` with `sink`: at once when the reader is a parser of `stream`, else
/// when the demuxer has found it.
///
/// # Errors
/// Fails when no decoder fits a `stream`.
pub(super) fn connect(
    pipeline: &gst::Pipeline,
    reader: &gst::Element,
    sink: &gst_app::AppSink,
    stream: Option<&gst::Caps>,
    shared: &Arc<PipelineShared>,
) -> Result<(), SourceError> {
    let sink_pad = sink.static_pad("sink").ok_or("the sink has no input")?;
    if let (Some(caps), Some(output)) = (stream, reader.static_pad("src")) {
        let connection = Connection {
            caps,
            is_renamed: false,
            parser: None,
        };
        return connection.make(pipeline, &output, &sink_pad, shared);
    }
    let (weak, on_pad, stream) = (pipeline.downgrade(), Arc::clone(shared), stream.cloned());
    reader.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else {
            return;
        };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps.structure(0).map_or("", |s| s.name().as_str());
        if !name.starts_with("video/") && !name.starts_with("image/") {
            on_pad.record_other_stream(name);
            return;
        }
        // Like OpenCV, only the first video stream is used.
        if sink_pad.is_linked() {
            return;
        }
        let mut renamed = stream.clone().or_else(|| decoder::renamed(&caps));
        if let (Some(renamed), Some(avi)) = (&mut renamed, &on_pad.avi) {
            complete(renamed.make_mut(), avi);
        }
        let parser = decoder::parser(renamed.as_ref().unwrap_or(&caps));
        let connection = Connection {
            caps: renamed.as_ref().unwrap_or(&caps),
            is_renamed: renamed.is_some(),
            parser,
        };
        if let Err(error) = connection.make(&pipeline, pad, &sink_pad, &on_pad) {
            on_pad.fail(error);
        }
    });
    let on_all = Arc::clone(shared);
    reader.connect_no_more_pads(move |_| {
        if on_all.stream.get().is_none() {
            on_all.fail(on_all.no_video().into());
        }
    });
    Ok(())
}

/// Adds to `caps` the format in the file's header, unless it has a size.
fn complete(caps: &mut gst::CapsRef, avi: &AviFrameFormat) {
    for fields in caps.iter_mut().filter(|fields| !fields.has_field("width")) {
        fields.set("width", avi.width);
        fields.set("height", avi.height);
        // FFmpeg's decoders need a rate.
        fields.set("framerate", gst::Fraction::new(25, 1));
        if !avi.codec_data.is_empty() {
            let header = gst::Buffer::from_slice(avi.codec_data.clone());
            fields.set("codec_data", header);
        }
    }
}

/// The elements between a reader's output and the sink.
struct Connection<'a> {
    /// Format of the stream.
    caps: &'a gst::Caps,
    /// Whether the demuxer has another name for the stream.
    is_renamed: bool,
    /// Finds the pictures, where the packets do not fit the decoder.
    parser: Option<gst::Element>,
}

impl Connection<'_> {
    /// Links `pad`, the parser where it is needed, a decoder, and the sink. Raw video needs no decoder.
    fn make(
        self,
        pipeline: &gst::Pipeline,
        pad: &gst::Pad,
        sink_pad: &gst::Pad,
        shared: &Arc<PipelineShared>,
    ) -> Result<(), SourceError> {
        let caps = self.caps;
        size_limit::check_caps(caps, shared.pixels_max)?;
        let mut checks = gst::PadLinkCheck::DEFAULT;
        if self.is_renamed {
            rename(pad, caps);
            // The parser and the decoder do not know the demuxer's name for the stream.
            checks = gst::PadLinkCheck::HIERARCHY;
        }
        let fields = caps.structure(0).ok_or("a stream without format")?;
        if fields.name() == "video/x-raw" {
            shared.stream.get_or_init(|| StreamInfo {
                codec: StreamCodec::of(caps),
                decoder: "none (raw video)".to_owned(),
            });
            raw::describe_packed(pad);
            size_limit::guard_output(pad, shared);
            return join(pad, sink_pad, checks);
        }
        let decoder = decoder::make(caps, &shared.choice)?;
        pipeline.add(&decoder).map_err(|e| e.to_string())?;
        let input = decoder.static_pad("sink");
        let input = input.ok_or("the decoder has no input")?;
        let output = decoder.static_pad("src");
        let output = output.ok_or("the decoder has no output")?;
        size_limit::guard_input(&input, shared);
        packets::cut_packets(pad, caps, shared);
        packets::follow_edits(pad, caps, &decoder, shared);
        packets::adjust_packets(&input, &decoder, shared);
        size_limit::guard_output(&output, shared);
        join(&output, sink_pad, gst::PadLinkCheck::DEFAULT)?;
        shared.stream.get_or_init(|| StreamInfo {
            codec: StreamCodec::of(caps),
            decoder: decoder
                .factory()
                .map_or_else(String::new, |f| f.name().to_string()),
        });
        start(&decoder)?;
        // Units between start codes need not be whole pictures.
        let is_framed =
            shared.format.is_framed && fields.get::<&str>("stream-format") != Ok("byte-stream");
        match self.parser {
            Some(parser) if !(is_framed && caps.is_fixed() && input.query_accept_caps(caps)) => {
                pipeline.add(&parser).map_err(|e| e.to_string())?;
                parameter_sets::put_first(pad, caps, &parser, shared);
                parser.link(&decoder).map_err(|e| e.to_string())?;
                start(&parser)?;
                let input = parser.static_pad("sink");
                join(pad, &input.ok_or("the parser has no input")?, checks)
            }
            _ => join(pad, &input, checks),
        }
    }
}

/// Renames the stream that leaves a demuxer.
fn rename(pad: &gst::Pad, caps: &gst::Caps) {
    let caps = caps.clone();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &mut info.data
            && event.type_() == gst::EventType::Caps
        {
            let seqnum = event.seqnum();
            *event = gst::event::Caps::builder(&caps).seqnum(seqnum).build();
        }
        gst::PadProbeReturn::Ok
    });
}

fn join(output: &gst::Pad, input: &gst::Pad, checks: gst::PadLinkCheck) -> Result<(), SourceError> {
    let linked = output.link_full(input, checks);
    linked.map(|_| ()).map_err(|e| {
        let name = |pad: &gst::Pad| {
            let element = pad.parent_element().and_then(|e| e.factory());
            element.map_or_else(String::new, |factory| factory.name().to_string())
        };
        format!("{} and {} do not fit: {e:?}", name(output), name(input)).into()
    })
}

fn start(element: &gst::Element) -> Result<(), SourceError> {
    element
        .sync_state_with_parent()
        .map_err(|e| format!("{} does not start: {e}", element.name()).into())
}
