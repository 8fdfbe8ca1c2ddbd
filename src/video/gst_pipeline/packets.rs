//! Changes the demuxer's input and the decoder's packets, so that both match FFmpeg's.

use super::PipelineShared;
use crate::dataset::clip_note::ClipNote;
use crate::video::container::VideoTrack;
use crate::video::decoder::{self, StreamCodec};
use crate::video::packet_order::{self, Mark};
use gstreamer as gst;
use gstreamer::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Largest packet, in bytes, that is filled up at the end of the file.
const PACKET_BYTES_MAX: usize = 32 << 20;

/// Shorter reads are headers in front of packets, which are not filled up.
const HEADER_BYTES_MAX: usize = 9;

/// Changes the demuxer's input. It hides edits that begin inside the media, which would make the demuxer stop too
/// early or never start. The demuxer would also drop a packet that the end of the file cuts off: here it is filled
/// up, and cut to its length again before the decoder.
pub(super) fn patch_file(output: &gst::Pad, track: VideoTrack, shared: &Arc<PipelineShared>) {
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
            && (HEADER_BYTES_MAX..=PACKET_BYTES_MAX).contains(&wanted)
            && track.cut_off_from.is_some_and(|from| at >= from);
        if is_cut_off {
            let rest = gst::Memory::from_slice(vec![0_u8; wanted - have]);
            buffer.make_mut().append_memory(rest);
        }
        let missing = if is_cut_off { wanted - have } else { 0 };
        shared.missing.store(missing, Ordering::Release);
        gst::PadProbeReturn::Ok
    });
}

/// Cuts a packet that was filled up to the bytes that the file has.
pub(super) fn cut_packets(output: &gst::Pad, caps: &gst::Caps, shared: &Arc<PipelineShared>) {
    let shared = Arc::clone(shared);
    // A parser then stands before the decoder and changes a packet whose end is missing.
    let is_parsed = caps
        .structure(0)
        .is_some_and(|s| s.name() == "video/x-h264" && !s.has_field("codec_data"));
    output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let missing = shared.missing.load(Ordering::Acquire);
        let missing = missing.saturating_sub(shared.trailer);
        if missing > 0
            && let Some(buffer) = info.buffer_mut()
        {
            let have = buffer.size().saturating_sub(missing);
            if have == 0 {
                return gst::PadProbeReturn::Drop;
            }
            buffer.make_mut().set_size(have);
            Mark::CutOff.put(buffer);
            if is_parsed {
                shared.notes().insert(ClipNote::CutOffFrame);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Reorders the packets that leave `output` by the track's edit list.
pub(super) fn follow_edits(
    output: &gst::Pad,
    caps: &gst::Caps,
    decoder: &gst::Element,
    shared: &Arc<PipelineShared>,
) {
    if let Some(packets) = &shared.packets {
        let (weak, on_jump) = (decoder.downgrade(), Arc::clone(shared));
        let is_h264 = StreamCodec::of(caps) == StreamCodec::H264;
        packet_order::follow(output, Arc::clone(packets), move |packet| {
            // References are missing behind a jump to a picture that is not IDR. FFmpeg makes them up in another way.
            if is_h264
                && packet
                    .map_readable()
                    .is_ok_and(|b| decoder::lacks_idr(&b) == Some(true))
            {
                on_jump.notes().insert(ClipNote::MissingReferences);
                if let Some(decoder) = weak.upgrade() {
                    decoder::tolerate_errors(&decoder);
                }
            }
        });
    }
}

/// Changes what the decoder receives:
/// * A stream that begins with a picture whose references are missing may have errors.
/// * The container's colour tags are removed: FFmpeg uses those of the stream.
/// * The segment is opened: the decoder would cut frames to it in rounded nanoseconds.
pub(super) fn adjust_packets(
    input: &gst::Pad,
    decoder: &gst::Element,
    shared: &Arc<PipelineShared>,
) {
    let shared = Arc::clone(shared);
    let decoder = decoder.downgrade();
    input.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let stream = shared.stream.get();
        if stream.is_some_and(|s| s.codec == StreamCodec::H264)
            && let Some(bytes) = info.buffer().and_then(|b| b.map_readable().ok())
        {
            match decoder::lacks_idr(&bytes) {
                // The rest of a frame that was cut.
                None => return gst::PadProbeReturn::Ok,
                Some(true) => {
                    if let Some(decoder) = decoder.upgrade() {
                        decoder::tolerate_errors(&decoder);
                    }
                }
                Some(false) => {}
            }
        }
        // Only the first packet with a frame is examined.
        gst::PadProbeReturn::Remove
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
