//! Converts a decoded frame to RGB: reads its format and geometry; [`crate::color`] converts its colors.

use super::decoder::{self, PixelLayout, StreamCodec};
use crate::color::{Converter, Exactness, Planes, RgbPlanes, YuvFrame};
use crate::frame::RgbFrame;
use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

/// Converts the frames of a clip; keeps its memory from one to the next.
#[derive(Debug, Default)]
pub(super) struct FrameConverter {
    converter: Converter,
    planes: Planes,
    scratch: [Vec<u8>; 3],
}

impl FrameConverter {
    /// Writes the frame in `sample`, from a decoder of `codec`, into `out`.
    pub(super) fn convert(
        &mut self,
        sample: &gst::Sample,
        codec: StreamCodec,
        out: &mut RgbFrame,
    ) -> Result<Exactness, String> {
        let caps = sample.caps().ok_or("a frame without format")?;
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|e| e.to_string())?;
        let buffer = sample.buffer().ok_or("a frame without data")?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)
            .map_err(|e| e.to_string())?;
        let layout = decoder::layout(info.format(), codec).ok_or_else(|| {
            format!(
                "pixel format {} is not supported; re-encode the clip as yuv420p",
                info.format()
            )
        })?;
        let mut planes: [&[u8]; 3] = [&[]; 3];
        let mut strides = [0_usize; 3];
        for (plane, &stride) in (0_u32..3).zip(frame.plane_stride()) {
            let at = plane as usize;
            planes[at] = frame.plane_data(plane).map_err(|e| e.to_string())?;
            strides[at] = usize::try_from(stride).map_err(|e| e.to_string())?;
        }
        if matches!(
            info.format(),
            gst_video::VideoFormat::Yv12 | gst_video::VideoFormat::Yvu9
        ) {
            planes.swap(1, 2);
            strides.swap(1, 2);
        }
        let (width, height) = (info.width() as usize, info.height() as usize);
        let (layout, bit_depth, packing) = match layout {
            PixelLayout::Yuv(layout, bits, packing) => (layout, bits, packing),
            PixelLayout::Rgb(layout) => {
                let image = RgbPlanes {
                    width,
                    height,
                    layout,
                    planes,
                    strides,
                };
                let (converter, scratch) = (&mut self.converter, &mut self.scratch);
                return image
                    .to_rgb(converter, scratch, out)
                    .map_err(|e| e.to_string());
            }
        };
        let (coded_width, coded_height) = codec.coded_size(width, height);
        // `VideoInfo` loses the range when the colour matrix is unknown.
        let tags = caps
            .structure(0)
            .and_then(|s| s.get::<&str>("colorimetry").ok());
        let is_full = info.colorimetry().range() == gst_video::VideoColorRange::Range0_255
            || tags.is_some_and(|t| t.starts_with("1:"));
        let image = YuvFrame {
            width,
            height,
            coded_width,
            coded_height,
            layout,
            is_planar: true,
            bit_depth,
            full_range: is_full && codec.reports_range(),
            planes,
            strides,
        };
        let image = self
            .planes
            .unpack(image, packing)
            .map_err(|e| e.to_string())?;
        self.converter
            .to_rgb(&image, out)
            .map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::clip::init;

    #[test]
    fn nv12_is_i420_with_its_chroma_in_pairs() {
        init().unwrap();
        let (width, height) = (64_u32, 48_u32);
        let sample = |format: gst_video::VideoFormat, bytes: Vec<u8>| {
            let info = gst_video::VideoInfo::builder(format, width, height)
                .build()
                .unwrap();
            assert_eq!(info.size(), bytes.len());
            let buffer = gst::Buffer::from_mut_slice(bytes);
            gst::Sample::builder()
                .buffer(&buffer)
                .caps(&info.to_caps().unwrap())
                .build()
        };
        let luma: Vec<u8> = (0..64 * 48).map(|i| (i * 7 % 251) as u8).collect();
        let u: Vec<u8> = (0..32 * 24).map(|i| (i * 5 % 253) as u8).collect();
        let v: Vec<u8> = (0..32 * 24).map(|i| (i * 3 % 241) as u8).collect();
        let pairs: Vec<u8> = u.iter().zip(&v).flat_map(|(u, v)| [*u, *v]).collect();
        let planar = sample(gst_video::VideoFormat::I420, [luma.clone(), u, v].concat());
        let paired = sample(gst_video::VideoFormat::Nv12, [luma, pairs].concat());
        let (mut a, mut b) = (RgbFrame::default(), RgbFrame::default());
        let mut converter = FrameConverter::default();
        converter
            .convert(&planar, StreamCodec::H264, &mut a)
            .unwrap();
        converter
            .convert(&paired, StreamCodec::H264, &mut b)
            .unwrap();
        assert_eq!(a.pixels().len(), 64 * 48 * 3);
        assert!(a == b);
    }
}
