//! Chooses the video stream of a file and links a decoder to it.

use super::{PipelineShared, StreamInfo, packets, size_limit};
use crate::frame::SourceError;
use crate::video::decoder::{self, StreamCodec};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::sync::Arc;

/// Connects the first video stream of `reader` with `sink`: at once when the reader is a parser of `stream`, else when the
/// demuxer has found it.
///
/// # Errors
/// When no decoder fits a `stream`.
pub(super) fn connect(
    pipeline: &gst::Pipeline,
    reader: &gst::Element,
    sink: &gst_app::AppSink,
    stream: Option<&gst::Caps>,
    shared: &Arc<PipelineShared>,
) -> Result<(), SourceError> {
    let sink_pad = sink.static_pad("sink").ok_or("the sink has no input")?;
    if let (Some(caps), Some(output)) = (stream, reader.static_pad("src")) {
        return link(pipeline, &output, caps, &sink_pad, shared, None);
    }
    let (weak, on_pad) = (pipeline.downgrade(), Arc::clone(shared));
    reader.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else {
            return;
        };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps.structure(0).map_or("", |s| s.name().as_str());
        let is_video = name.starts_with("video/") || name.starts_with("image/");
        if !is_video {
            on_pad.pass_over(name);
        } else if !sink_pad.is_linked()
            // The first video stream is the one, as for OpenCV.
            && let Err(error) = attach(&pipeline, pad, &caps, &sink_pad, &on_pad)
        {
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

/// Links a demuxer's stream with the sink, with a parser where the packets need one.
fn attach(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    caps: &gst::Caps,
    sink_pad: &gst::Pad,
    shared: &Arc<PipelineShared>,
) -> Result<(), SourceError> {
    let parser = decoder::parser(caps);
    link(pipeline, pad, caps, sink_pad, shared, parser)
}

/// Links `pad`, `parser` where there is one and it is needed, a decoder, and the sink.
fn link(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    caps: &gst::Caps,
    sink_pad: &gst::Pad,
    shared: &Arc<PipelineShared>,
    parser: Option<gst::Element>,
) -> Result<(), SourceError> {
    size_limit::check_caps(caps, shared.pixels_max)?;
    if caps.structure(0).is_some_and(|s| s.name() == "video/x-raw") {
        shared.stream.get_or_init(|| StreamInfo {
            codec: StreamCodec::of(caps),
            decoder: "none (raw video)".to_owned(),
        });
        size_limit::guard_output(pad, shared);
        return join(pad, sink_pad);
    }
    let decoder = decoder::make(caps, &shared.choice)?;
    pipeline.add(&decoder).map_err(|e| e.to_string())?;
    let input = decoder
        .static_pad("sink")
        .ok_or("the decoder has no input")?;
    let output = decoder
        .static_pad("src")
        .ok_or("the decoder has no output")?;
    size_limit::guard_input(&input, shared);
    packets::cut_packets(pad, caps, shared);
    packets::follow_edits(pad, caps, &decoder, shared);
    packets::adjust_packets(&input, &decoder, shared);
    size_limit::guard_output(&output, shared);
    join(&output, sink_pad)?;
    shared.stream.get_or_init(|| StreamInfo {
        codec: StreamCodec::of(caps),
        decoder: decoder
            .factory()
            .map_or_else(String::new, |f| f.name().to_string()),
    });
    start(&decoder)?;
    let fits = caps.is_fixed() && pad.can_link(&input) && input.query_accept_caps(caps);
    match parser {
        Some(parser) if !(fits && shared.format.is_framed) => {
            pipeline.add(&parser).map_err(|e| e.to_string())?;
            parser.link(&decoder).map_err(|e| e.to_string())?;
            start(&parser)?;
            join(
                pad,
                &parser.static_pad("sink").ok_or("the parser has no input")?,
            )
        }
        _ => join(pad, &input),
    }
}

fn join(output: &gst::Pad, input: &gst::Pad) -> Result<(), SourceError> {
    output.link(input).map(|_| ()).map_err(|e| {
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
