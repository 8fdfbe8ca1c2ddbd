//! Refuses pictures with too many pixels before their decoder gets memory for them.

use super::{PipelineItem, PipelineShared};
use crate::video::frame_size::{Framing, PacketFormat};
use gstreamer as gst;
use gstreamer::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Fails for a picture of more than `pixels_max` pixels.
fn check_size(width: u64, height: u64, pixels_max: u64) -> Result<(), String> {
    if width.saturating_mul(height) > pixels_max {
        return Err(format!(
            "{width}x{height} pixels exceed the limit of {pixels_max} (max_pixels)"
        ));
    }
    Ok(())
}

/// Checks the size in `caps`.
pub(super) fn check_caps(caps: &gst::CapsRef, pixels_max: u64) -> Result<(), String> {
    let Some(fields) = caps.structure(0) else {
        return Ok(());
    };
    let side = |name| u64::try_from(fields.get::<i32>(name).unwrap_or(0)).unwrap_or(0);
    check_size(side("width"), side("height"), pixels_max)
}

/// Checks every packet and format that a decoder receives. After the first that is too large, the decoder receives
/// nothing.
pub(super) fn guard_input(input: &gst::Pad, shared: &Arc<PipelineShared>) {
    let shared = Arc::clone(shared);
    let format = Mutex::new(PacketFormat::default());
    let is_refused = AtomicBool::new(false);
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    input.add_probe(kinds, move |_, info| {
        let mut format = format.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = shared.pixels_max;
        let sized = |size: Option<(u64, u64)>| {
            let (width, height) = size.unwrap_or((0, 0));
            // A stream declares whole blocks: up to 15 columns and, with fields, 31 rows more than are shown.
            check_size(width.saturating_sub(15), height.saturating_sub(31), limit)
                .or_else(|_| check_size(width, height, limit))
        };
        let checked = match &info.data {
            Some(gst::PadProbeData::Event(event)) => match event.view() {
                gst::EventView::Caps(caps) => {
                    let caps = caps.caps();
                    *format = packet_format(caps);
                    check_caps(caps, limit).and_then(|()| {
                        let header = caps
                            .structure(0)
                            .and_then(|s| s.get::<gst::Buffer>("codec_data").ok());
                        let header =
                            header.and_then(|buffer| buffer.into_mapped_buffer_readable().ok());
                        sized(header.and_then(|bytes| format.size_of_header(&bytes)))
                    })
                }
                _ => Ok(()),
            },
            Some(gst::PadProbeData::Buffer(_)) if is_refused.load(Ordering::Acquire) => {
                return gst::PadProbeReturn::Handled;
            }
            // A packet without data repeats a picture; FFmpeg gives none for it.
            Some(gst::PadProbeData::Buffer(buffer)) if buffer.size() == 0 => {
                return gst::PadProbeReturn::Handled;
            }
            Some(gst::PadProbeData::Buffer(buffer)) => match buffer.map_readable() {
                Ok(bytes) => sized(format.size_of_packet(&bytes)),
                Err(_) => Ok(()),
            },
            _ => Ok(()),
        };
        refuse(checked, info, &is_refused, &shared)
    });
}

/// Checks the formats of the frames that leave a decoder, or a demuxer of raw video.
pub(super) fn guard_output(output: &gst::Pad, shared: &Arc<PipelineShared>) {
    let shared = Arc::clone(shared);
    let is_refused = AtomicBool::new(false);
    output.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let checked = match info.event().map(|event| event.view()) {
            Some(gst::EventView::Caps(caps)) => check_caps(caps.caps(), shared.pixels_max),
            _ => Ok(()),
        };
        refuse(checked, info, &is_refused, &shared)
    });
}

/// Reports a refusal once. The checked object does not reach the decoder. GStreamer reports a dropped object on
/// stderr, so a packet is marked as handled and a format is replaced by an event without meaning.
fn refuse(
    checked: Result<(), String>,
    info: &mut gst::PadProbeInfo<'_>,
    is_refused: &AtomicBool,
    shared: &PipelineShared,
) -> gst::PadProbeReturn {
    let Err(reason) = checked else {
        return gst::PadProbeReturn::Ok;
    };
    if !is_refused.swap(true, Ordering::AcqRel) {
        shared.send(PipelineItem::Refused(reason));
    }
    if let Some(gst::PadProbeData::Event(event)) = &mut info.data {
        let nothing = gst::Structure::new_empty("refused");
        *event = gst::event::CustomDownstream::new(nothing);
        return gst::PadProbeReturn::Ok;
    }
    gst::PadProbeReturn::Handled
}

/// How the packets of a stream of `caps` are written.
fn packet_format(caps: &gst::CapsRef) -> PacketFormat {
    let Some(fields) = caps.structure(0) else {
        return PacketFormat::Other;
    };
    let is_start_coded = fields.get::<&str>("stream-format") == Ok("byte-stream");
    let framing = if is_start_coded {
        Framing::StartCodes
    } else {
        Framing::Lengths(4)
    };
    match (fields.name().as_str(), fields.get::<i32>("mpegversion")) {
        ("video/x-h264", _) => PacketFormat::H264(framing),
        ("video/x-h265", _) => PacketFormat::H265(framing),
        ("video/mpeg", Ok(1 | 2)) => PacketFormat::Mpeg2,
        ("video/mpeg", Ok(4)) | ("video/x-divx", _) => PacketFormat::Mpeg4,
        ("video/x-flash-video", _) => PacketFormat::Sorenson,
        ("video/x-vp8", _) => PacketFormat::Vp8,
        ("video/x-vp9", _) => PacketFormat::Vp9,
        ("video/x-av1", _) => PacketFormat::Av1,
        ("image/jpeg", _) => PacketFormat::Jpeg,
        ("image/x-j2c" | "image/x-jpc" | "image/jp2", _) => PacketFormat::Jpeg2000,
        ("image/png", _) => PacketFormat::Png,
        ("video/x-theora", _) => PacketFormat::Theora,
        ("video/x-prores", _) => PacketFormat::ProRes,
        ("video/x-dnxhd", _) => PacketFormat::DnxHd,
        ("video/x-wmv", _) => PacketFormat::Vc1,
        _ => PacketFormat::Other,
    }
}
