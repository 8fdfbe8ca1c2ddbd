//! Raw video without padding.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use std::sync::{Mutex, PoisonError};

/// Declares where the planes are in frames whose rows are not padded to four bytes, as GStreamer's rule would have
/// them.
pub(super) fn describe_packed(output: &gst::Pad) {
    let info = Mutex::new(None);
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    output.add_probe(kinds, move |_, probe| {
        let mut info = info.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut probe.data {
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view() {
                    *info = gst_video::VideoInfo::from_caps(caps.caps()).ok();
                }
            }
            Some(gst::PadProbeData::Buffer(buffer)) => {
                if let Some(info) = &*info {
                    describe(buffer, info);
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

fn describe(buffer: &mut gst::Buffer, info: &gst_video::VideoInfo) {
    if buffer.meta::<gst_video::VideoMeta>().is_some() || buffer.size() >= info.size() {
        return;
    }
    let (offsets, strides, size) = packed(info);
    if buffer.size() < size {
        return;
    }
    // The planes lie inside the buffer: what can fail is only a number of planes that the format does not have.
    let meta = gst_video::VideoMeta::add_full(
        buffer.make_mut(),
        gst_video::VideoFrameFlags::empty(),
        info.format(),
        info.width(),
        info.height(),
        &offsets,
        &strides,
    );
    if let Err(error) = meta {
        tracing::debug!(%error, "a raw frame cannot be described");
    }
}

/// Offsets and strides of the planes of a frame without padding, and its size in bytes.
fn packed(info: &gst_video::VideoInfo) -> (Vec<usize>, Vec<i32>, usize) {
    let format = info.format_info();
    let (mut offsets, mut strides, mut size) = (Vec::new(), Vec::new(), 0);
    for plane in 0..format.n_planes() {
        let components =
            (0..format.n_components()).filter(|n| format.plane()[*n as usize] == plane);
        let (mut row, mut rows) = (0, 0);
        for component in components {
            let at = u8::try_from(component).unwrap_or(u8::MAX);
            let bytes = format.scale_width(at, info.width())
                * format.pixel_stride()[component as usize].unsigned_abs();
            row = row.max(bytes);
            rows = rows.max(format.scale_height(at, info.height()));
        }
        offsets.push(size);
        strides.push(i32::try_from(row).unwrap_or(i32::MAX));
        size += row as usize * rows as usize;
    }
    (offsets, strides, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_without_padding_follow_one_another() {
        gst::init().unwrap();
        let check = |format, expected: (Vec<usize>, Vec<i32>, usize)| {
            let info = gst_video::VideoInfo::builder(format, 10, 6)
                .build()
                .unwrap();
            assert_eq!(packed(&info), expected, "{format}");
        };
        check(
            gst_video::VideoFormat::I420,
            (vec![0, 60, 75], vec![10, 5, 5], 90),
        );
        check(
            gst_video::VideoFormat::Nv12,
            (vec![0, 60], vec![10, 10], 90),
        );
        check(gst_video::VideoFormat::Gray8, (vec![0], vec![10], 60));
        check(gst_video::VideoFormat::Rgb, (vec![0], vec![30], 180));
    }
}
