//! Chooses the GStreamer element that decodes a stream.

mod stream_names;

use super::frame_size::{self, Framing};
use crate::color::{ChromaLayout, Packing, RgbLayout};
use crate::frame::{DecoderChoice, SourceError};
use gstreamer as gst;
use gstreamer::ElementFactory;
use gstreamer::glib::Value;
use gstreamer::prelude::*;
use gstreamer_video::VideoFormat;
pub use stream_names::renamed;
use stream_names::stream_name;

/// A stream's codec, as far as [`crate::color`] depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamCodec {
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// JPEG images.
    Jpeg,
    /// DNxHD and DNxHR.
    Dnxhd,
    /// Apple ProRes 4444: GStreamer decodes it to 10 bits, FFmpeg for OpenCV to 12.
    ProRes4444,
    /// Images without compression.
    Raw,
    /// Anything else.
    Other,
}

impl StreamCodec {
    /// The codec of a stream of `caps`.
    #[must_use]
    pub fn of(caps: &gst::CapsRef) -> Self {
        let structure = caps.structure(0);
        let variant = structure.and_then(|s| s.get::<&str>("variant").ok());
        match structure.map(|s| s.name().as_str()) {
            Some("video/x-h264") => Self::H264,
            Some("video/x-h265") => Self::H265,
            Some("image/jpeg") => Self::Jpeg,
            Some("video/x-dnxhd") => Self::Dnxhd,
            Some("video/x-prores") if variant.is_some_and(|v| v.starts_with("4444")) => {
                Self::ProRes4444
            }
            Some("video/x-raw") => Self::Raw,
            _ => Self::Other,
        }
    }

    /// Width and height before cropping: OpenCV converts that many columns and rows, and their parity selects the
    /// rule.
    #[must_use]
    pub fn coded_size(self, width: usize, height: usize) -> (usize, usize) {
        let block = match self {
            Self::H264 | Self::Dnxhd => 16,
            Self::H265 => 8,
            Self::Jpeg | Self::ProRes4444 | Self::Raw | Self::Other => 1,
        };
        (
            width.next_multiple_of(block),
            height.next_multiple_of(block),
        )
    }

    /// Whether FFmpeg hides pictures outside of an edit. Its JPEG decoder shows every picture that it decodes.
    #[must_use]
    pub fn hides(self) -> bool {
        self != Self::Jpeg
    }

    /// Whether FFmpeg marks full-range frames of this codec (`yuvj…`). OpenCV uses no other mark.
    #[must_use]
    pub fn reports_range(self) -> bool {
        matches!(self, Self::H264 | Self::H265 | Self::Jpeg)
    }
}

/// Makes a decoder for a stream of `caps`; it is not in a pipeline yet.
///
/// # Errors
/// A message for the user when no such decoder is installed or it does not load.
pub fn make(caps: &gst::Caps, choice: &DecoderChoice) -> Result<gst::Element, SourceError> {
    let factory = find(caps, choice).ok_or_else(|| match choice {
        DecoderChoice::Named(name) => {
            format!("the decoder {name} is not installed (see `gst-inspect-1.0 | grep -i dec`)")
        }
        DecoderChoice::Software | DecoderChoice::Hardware => no_decoder(caps),
    })?;
    // An installed plugin that does not load would fail for every clip.
    let decoder = factory.create().build().map_err(|e| {
        SourceError::Machine(format!("the decoder {} does not load: {e}", factory.name()))
    })?;
    // Clips run in parallel; threads within one only add memory and delay.
    set_if_present(&decoder, "max-threads", 1_i32);
    // Like OpenCV: the first packet that cannot be decoded ends the clip, and frames without their references are
    // dropped.
    set_if_present(&decoder, "max-errors", 0_i32);
    set_if_present(&decoder, "output-corrupt", false);
    set_if_present(&decoder, "qos", false);
    Ok(decoder)
}

/// Why no decoder takes a stream of `caps`. A package is named only where it has one that is not installed.
fn no_decoder(caps: &gst::Caps) -> String {
    let Some(fields) = caps.structure(0) else {
        return "the video stream has no format".to_owned();
    };
    let name = fields.name().as_str();
    let stream = stream_name(caps).unwrap_or_default();
    let package = match name {
        "video/x-av1" => Some(("dav1ddec", "gstreamer1.0-plugins-bad")),
        "video/x-vp8" => Some(("vp8dec", "gstreamer1.0-plugins-good")),
        "video/x-vp9" => Some(("vp9dec", "gstreamer1.0-plugins-good")),
        "video/x-theora" => Some(("theoradec", "gstreamer1.0-plugins-base")),
        _ => Some(("avdec_h264", "gstreamer1.0-libav")),
    };
    match package.filter(|(element, _)| ElementFactory::find(element).is_none()) {
        Some((_, package)) => {
            format!("no decoder for {stream} is installed; on Debian: apt-get install {package}")
        }
        None => {
            format!("GStreamer has no decoder for the codec {stream}; re-encode the clip as H.264")
        }
    }
}

/// Sets a property that some decoders have with this type.
fn set_if_present<T: Into<Value> + StaticType>(decoder: &gst::Element, name: &str, value: T) {
    let property = decoder.find_property(name);
    if property.is_some_and(|p| p.value_type() == T::static_type()) {
        decoder.set_property(name, value);
    }
}

/// Makes a decoder continue after packets that it cannot decode.
pub fn tolerate_errors(decoder: &gst::Element) {
    set_if_present(decoder, "max-errors", -1_i32);
}

/// Whether an H.264 packet (NAL units after four-byte lengths or start codes) holds a picture that is not an IDR
/// picture, such as the first packet of a clip that was cut at an open group of pictures. FFmpeg fills in the missing
/// references; GStreamer's wrapper of its decoder reports an error that OpenCV does not see. `None` for a packet
/// without a picture.
#[must_use]
pub fn lacks_idr(packet: &[u8]) -> Option<bool> {
    let is_start_coded = packet.starts_with(&[0, 0, 1]) || packet.starts_with(&[0, 0, 0, 1]);
    let framing = if is_start_coded {
        Framing::StartCodes
    } else {
        Framing::Lengths(4)
    };
    let kinds = frame_size::units(packet, framing).into_iter();
    let kinds: Vec<u8> = kinds
        .filter_map(|unit| Some(unit.first()? & 0x1f))
        .collect();
    let has_frame = kinds.contains(&1) || kinds.contains(&5);
    has_frame.then(|| !kinds.contains(&5))
}

/// Why no clip can be decoded on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecoderError {
    /// No MP4 demuxer.
    #[error("GStreamer cannot read MP4; on Debian: apt-get install gstreamer1.0-plugins-good")]
    NoReader,
    /// No H.264 decoder.
    #[error("no H.264 decoder is installed; on Debian: apt-get install gstreamer1.0-libav")]
    NoDecoder,
    /// No decoder with the requested name.
    #[error(
        "{name}: no such GStreamer decoder; give software, hardware or a name from `gst-inspect-1.0`"
    )]
    Unknown {
        /// The requested name.
        name: String,
    },
}

/// Checks that this machine can decode clips with `choice`, once before a job starts.
///
/// # Errors
/// Returns what to install, or which decoder to request instead.
pub fn check(choice: &DecoderChoice) -> Result<(), DecoderError> {
    if ElementFactory::find("qtdemux").is_none() {
        return Err(DecoderError::NoReader);
    }
    let caps = gst::Caps::new_empty_simple("video/x-h264");
    let found = find(&caps, choice);
    match choice {
        DecoderChoice::Named(name) => found
            .filter(|f| f.has_type(gst::ElementFactoryType::DECODER))
            .map(|_| ())
            .ok_or_else(|| DecoderError::Unknown { name: name.clone() }),
        DecoderChoice::Software | DecoderChoice::Hardware => {
            found.map(|_| ()).ok_or(DecoderError::NoDecoder)
        }
    }
}

/// The decoder that `choice` selects for a stream of `caps`: a named one or the best.
fn find(caps: &gst::Caps, choice: &DecoderChoice) -> Option<ElementFactory> {
    match choice {
        DecoderChoice::Named(name) => ElementFactory::find(name),
        DecoderChoice::Software => best_decoder(caps, false),
        DecoderChoice::Hardware => best_decoder(caps, true),
    }
}

/// The best decoder: hardware before software if `hardware`, FFmpeg's before others, then by GStreamer's rank.
///
/// The layout of packets does not count, because a parser changes it. Of FFmpeg's decoders, one that accepts every
/// such stream comes before one that needs a variant.
fn best_decoder(caps: &gst::Caps, hardware: bool) -> Option<ElementFactory> {
    let caps = &codec_of(caps);
    let kind = gst::ElementFactoryType::DECODER
        | gst::ElementFactoryType::MEDIA_VIDEO
        | gst::ElementFactoryType::MEDIA_IMAGE;
    let all = ElementFactory::factories_with_type(kind, gst::Rank::MARGINAL);
    all.into_iter()
        .filter(|f| f.can_sink_any_caps(caps))
        .filter(|f| hardware || !is_hardware(f))
        .max_by_key(|f| {
            let takes_all = f.can_sink_all_caps(caps);
            (is_hardware(f), is_ffmpegs(f), takes_all, f.rank())
        })
}

/// Whether a decoder is FFmpeg's and gives the same frames as to OpenCV. The PNG decoder does not: its wrapper marks
/// no packet as a key frame, so it adds each image to the one before.
fn is_ffmpegs(factory: &ElementFactory) -> bool {
    factory.name().starts_with("avdec_") && factory.name() != "avdec_png"
}

/// `caps` without the fields that a parser changes.
fn codec_of(caps: &gst::Caps) -> gst::Caps {
    let mut caps = caps.clone();
    for fields in caps.make_mut().iter_mut() {
        for field in [
            "stream-format",
            "alignment",
            "parsed",
            "framed",
            "header-format",
            "codec_data",
        ] {
            fields.remove_field(field);
        }
    }
    caps
}

/// All elements that decode a stream of `caps`, best first.
#[must_use]
pub fn installed(caps: &str) -> Vec<String> {
    let Ok(caps) = caps.parse::<gst::Caps>() else {
        return Vec::new();
    };
    let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    let all = ElementFactory::factories_with_type(kind, gst::Rank::NONE);
    let mut all: Vec<_> = all
        .into_iter()
        .filter(|f| f.can_sink_any_caps(&caps))
        .map(|f| (is_hardware(&f), f.rank(), f.name().to_string()))
        .collect();
    all.sort_by(|a, b| b.cmp(a));
    all.into_iter().map(|(_, _, name)| name).collect()
}

/// The element that decodes a stream of `caps` by default.
#[must_use]
pub fn usual(caps: &str) -> Option<String> {
    let caps = caps.parse::<gst::Caps>().ok()?;
    best_decoder(&caps, false).map(|factory| factory.name().to_string())
}

/// The parser for each kind of stream.
const PARSERS: &[(&str, &str)] = &[
    ("video/x-h264", "h264parse"),
    ("video/x-h265", "h265parse"),
    (
        "video/mpeg, mpegversion=(int)[1,2], systemstream=(boolean)false",
        "mpegvideoparse",
    ),
    (
        "video/mpeg, mpegversion=(int)4, systemstream=(boolean)false",
        "mpeg4videoparse",
    ),
    ("video/x-divx", "mpeg4videoparse"),
    ("video/x-h263, variant=(string)itu", "h263parse"),
    ("video/x-vp9", "vp9parse"),
    ("video/x-av1", "av1parse"),
    ("image/jpeg", "jpegparse"),
    ("image/png", "pngparse"),
    ("image/x-jpc", "jpeg2000parse"),
];

/// A parser that finds the pictures of a stream of `caps`, and converts them for decoders of another stream format.
/// `None` when no parser is listed or installed.
#[must_use]
pub fn parser(caps: &gst::Caps) -> Option<gst::Element> {
    let is_of = |listed: &str| {
        let listed = listed.parse::<gst::Caps>();
        listed.is_ok_and(|listed| listed.can_intersect(caps))
    };
    let (_, name) = PARSERS.iter().find(|(listed, _)| is_of(listed))?;
    ElementFactory::make(name).build().ok()
}

fn is_hardware(factory: &ElementFactory) -> bool {
    factory
        .metadata("klass")
        .is_some_and(|k| k.contains("Hardware"))
}

/// How a decoded picture lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelLayout {
    /// Luma and chroma: subsampling, bits per sample, and where the samples are.
    Yuv(ChromaLayout, u8, Packing),
    /// Red, green and blue.
    Rgb(RgbLayout),
}

/// The layout of a format that [`crate::color`] supports, from a decoder of `codec`.
#[must_use]
pub fn layout(format: VideoFormat, codec: StreamCodec) -> Option<PixelLayout> {
    use ChromaLayout::{Gray, Yuv410, Yuv411, Yuv420, Yuv422, Yuv444};
    use Packing::{BigEndian, Planar, Quads};
    let pairs = |is_v_first| Packing::Pairs {
        is_v_first,
        // Hardware decoders give interleaved chroma where FFmpeg gives planes.
        is_raw: codec == StreamCodec::Raw,
    };
    let bytes = |size, places| PixelLayout::Rgb(RgbLayout::Bytes { size, places });
    let planes = |bit_depth, is_big_endian| {
        PixelLayout::Rgb(RgbLayout::Planes {
            bit_depth,
            is_big_endian,
        })
    };
    let (chroma, bits, packing) = match format {
        VideoFormat::I420 | VideoFormat::Yv12 | VideoFormat::A420 => (Yuv420, 8, Planar),
        VideoFormat::Nv12 => (Yuv420, 8, pairs(false)),
        VideoFormat::Nv21 => (Yuv420, 8, pairs(true)),
        VideoFormat::Y42b => (Yuv422, 8, Planar),
        VideoFormat::Yuy2 => (Yuv422, 8, Quads([0, 1, 2, 3])),
        VideoFormat::Uyvy => (Yuv422, 8, Quads([1, 0, 3, 2])),
        VideoFormat::Yvyu => (Yuv422, 8, Quads([0, 3, 2, 1])),
        VideoFormat::Y444 => (Yuv444, 8, Planar),
        VideoFormat::Y41b => (Yuv411, 8, Planar),
        VideoFormat::Yuv9 | VideoFormat::Yvu9 => (Yuv410, 8, Planar),
        VideoFormat::Gray8 => (Gray, 8, Planar),
        VideoFormat::Gray16Le => (Gray, 16, Planar),
        VideoFormat::Gray16Be => (Gray, 16, BigEndian),
        VideoFormat::I42010le | VideoFormat::A42010le => (Yuv420, 10, Planar),
        VideoFormat::I42010be | VideoFormat::A42010be => (Yuv420, 10, BigEndian),
        VideoFormat::I42210le | VideoFormat::A42210le => (Yuv422, 10, Planar),
        VideoFormat::I42210be | VideoFormat::A42210be => (Yuv422, 10, BigEndian),
        VideoFormat::Y44410le | VideoFormat::A44410le => (Yuv444, 10, Planar),
        VideoFormat::Y44410be | VideoFormat::A44410be => (Yuv444, 10, BigEndian),
        VideoFormat::I42012le => (Yuv420, 12, Planar),
        VideoFormat::I42012be => (Yuv420, 12, BigEndian),
        VideoFormat::I42212le => (Yuv422, 12, Planar),
        VideoFormat::I42212be => (Yuv422, 12, BigEndian),
        VideoFormat::Y44412le => (Yuv444, 12, Planar),
        VideoFormat::Y44412be => (Yuv444, 12, BigEndian),
        VideoFormat::Rgb => return Some(bytes(3, [0, 1, 2])),
        VideoFormat::Bgr => return Some(bytes(3, [2, 1, 0])),
        VideoFormat::Rgba | VideoFormat::Rgbx => return Some(bytes(4, [0, 1, 2])),
        VideoFormat::Bgra | VideoFormat::Bgrx => return Some(bytes(4, [2, 1, 0])),
        VideoFormat::Argb | VideoFormat::Xrgb => return Some(bytes(4, [1, 2, 3])),
        VideoFormat::Abgr | VideoFormat::Xbgr => return Some(bytes(4, [3, 2, 1])),
        VideoFormat::Rgb15 => return Some(PixelLayout::Rgb(RgbLayout::Packed { green_bits: 5 })),
        VideoFormat::Rgb16 => return Some(PixelLayout::Rgb(RgbLayout::Packed { green_bits: 6 })),
        VideoFormat::Rgb8p => return Some(PixelLayout::Rgb(RgbLayout::Palette)),
        VideoFormat::Gbr | VideoFormat::Gbra => return Some(planes(8, false)),
        VideoFormat::Gbr10le | VideoFormat::Gbra10le => return Some(planes(10, false)),
        VideoFormat::Gbr10be | VideoFormat::Gbra10be => return Some(planes(10, true)),
        VideoFormat::Gbr12le | VideoFormat::Gbra12le => return Some(planes(12, false)),
        VideoFormat::Gbr12be | VideoFormat::Gbra12be => return Some(planes(12, true)),
        _ => return None,
    };
    Some(PixelLayout::Yuv(chroma, bits, packing))
}

#[cfg(test)]
mod tests {
    use super::lacks_idr;

    #[test]
    fn only_a_frame_that_is_not_idr_begins_open() {
        let packet = |kinds: &[u8]| {
            let units = kinds.iter().map(|kind| [0, 0, 0, 2, 0x60 | kind, 0x80]);
            units.flatten().collect::<Vec<u8>>()
        };
        for (packet, expected) in [
            (packet(&[6, 1]), Some(true)),
            (packet(&[7, 8, 5, 5]), Some(false)),
            (packet(&[9, 6]), None),
            (vec![0xff; 3], None),
            (vec![0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x41, 1], Some(true)),
            (vec![0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 1], Some(false)),
        ] {
            assert_eq!(lacks_idr(&packet), expected, "{packet:?}");
        }
    }
}
