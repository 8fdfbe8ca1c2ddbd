//! Chooses the GStreamer element that decodes a stream.

use super::frame_size::{self, Framing};
use crate::color::ChromaLayout;
use crate::frame::DecoderChoice;
use gstreamer as gst;
use gstreamer::ElementFactory;
use gstreamer::glib::Value;
use gstreamer::prelude::*;
use gstreamer_video::VideoFormat;

/// A stream's codec, as far as [`crate::color`] depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamCodec {
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// JPEG images.
    Jpeg,
    /// Anything else.
    Other,
}

impl StreamCodec {
    /// The codec of a stream of `caps`.
    #[must_use]
    pub fn of(caps: &gst::CapsRef) -> Self {
        match caps.structure(0).map(|s| s.name().as_str()) {
            Some("video/x-h264") => Self::H264,
            Some("video/x-h265") => Self::H265,
            Some("image/jpeg") => Self::Jpeg,
            _ => Self::Other,
        }
    }

    /// Width and height before cropping: OpenCV converts that many columns and rows, and their parity selects the rule.
    #[must_use]
    pub fn coded_size(self, width: usize, height: usize) -> (usize, usize) {
        let block = match self {
            Self::H264 => 16,
            Self::H265 => 8,
            Self::Jpeg | Self::Other => 1,
        };
        (
            width.next_multiple_of(block),
            height.next_multiple_of(block),
        )
    }

    /// Whether FFmpeg marks full-range frames of this codec (`yuvj…`), the only mark that OpenCV uses.
    #[must_use]
    pub fn reports_range(self) -> bool {
        self != Self::Other
    }
}

/// A decoder for a stream of `caps`, not yet in a pipeline.
///
/// # Errors
/// A message for the user when there is no such decoder.
pub fn make(caps: &gst::Caps, choice: &DecoderChoice) -> Result<gst::Element, String> {
    let factory = find(caps, choice).ok_or_else(|| match choice {
        DecoderChoice::Named(name) => {
            format!("the decoder {name} is not installed (see `gst-inspect-1.0 | grep -i dec`)")
        }
        DecoderChoice::Software | DecoderChoice::Hardware => no_decoder(caps),
    })?;
    let decoder = factory
        .create()
        .build()
        .map_err(|e| format!("the decoder {} cannot be made: {e}", factory.name()))?;
    // Clips run in parallel; threads within one only add memory and delay.
    set_if_present(&decoder, "max-threads", 1_i32);
    // As OpenCV: the first packet that cannot be decoded ends the clip, and frames without their references are dropped.
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
    let fourcc = fields.get::<i32>("fourcc").map(i32::to_le_bytes).ok();
    let fourcc = fourcc
        .as_ref()
        .and_then(|fourcc| str::from_utf8(fourcc).ok());
    let stream = fourcc.or_else(|| name.strip_prefix(FOURCC)).unwrap_or(name);
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

/// How GStreamer's MP4 demuxer names a codec that it does not know: this and the four characters of the file.
const FOURCC: &str = "video/x-gst-fourcc-";

/// The name that decoders have for a stream that GStreamer's demuxer does not know; `None` for all others.
#[must_use]
pub fn renamed(caps: &gst::Caps) -> Option<gst::Caps> {
    let mut caps = caps.clone();
    let fields = caps.make_mut().structure_mut(0)?;
    let fourcc = fields.name().as_str().strip_prefix(FOURCC)?.to_owned();
    match &*fourcc {
        "AVdh" => fields.set_name("video/x-dnxhd"),
        "FFV1" => {
            fields.set_name("video/x-ffv");
            fields.set("ffvversion", 1_i32);
        }
        "yuvs" => {
            fields.set_name("video/x-raw");
            fields.set("format", "YUY2");
        }
        _ => return None,
    }
    Some(caps)
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

/// Whether an H.264 packet (NAL units after four-byte lengths or start codes) holds a picture that is not an IDR picture: as
/// the first packet of a clip that was cut at an open group of pictures. FFmpeg fills in the missing references; GStreamer's
/// wrapper of its decoder reports an error that OpenCV does not see.
#[must_use]
pub fn begins_open(packet: &[u8]) -> bool {
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
    kinds.contains(&1) && !kinds.contains(&5)
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
/// With what to install or to request instead.
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

/// The decoder that `choice` names, or the best for a stream of `caps`.
fn find(caps: &gst::Caps, choice: &DecoderChoice) -> Option<ElementFactory> {
    match choice {
        DecoderChoice::Named(name) => ElementFactory::find(name),
        DecoderChoice::Software => best_decoder(caps, false),
        DecoderChoice::Hardware => best_decoder(caps, true),
    }
}

/// The best decoder: hardware before software if `hardware`, FFmpeg's before others, then by rank.
///
/// Only what the stream is counts, not how its packets are laid out: a parser changes that. Of FFmpeg's decoders one that
/// takes every such stream comes before one that needs a variant.
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
            (
                is_hardware(f),
                f.name().starts_with("avdec_"),
                takes_all,
                f.rank(),
            )
        })
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

/// The parsers that are plugged, by what they read.
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

/// A parser that finds the pictures of a stream of `caps`, and converts them for decoders of another stream format. `None`
/// where none is listed or installed.
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

/// Plane layout and bits per sample of a format that [`crate::color`] supports.
#[must_use]
pub fn layout(format: VideoFormat) -> Option<(ChromaLayout, u8)> {
    Some(match format {
        // Hardware decoders give NV12; the clip splits its chroma plane.
        VideoFormat::I420 | VideoFormat::Nv12 => (ChromaLayout::Yuv420, 8),
        VideoFormat::Y42b => (ChromaLayout::Yuv422, 8),
        VideoFormat::Y444 => (ChromaLayout::Yuv444, 8),
        VideoFormat::Gray8 => (ChromaLayout::Gray, 8),
        VideoFormat::I42010le => (ChromaLayout::Yuv420, 10),
        VideoFormat::I42210le => (ChromaLayout::Yuv422, 10),
        VideoFormat::Y44410le => (ChromaLayout::Yuv444, 10),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::begins_open;

    #[test]
    fn only_a_picture_that_is_not_idr_begins_open() {
        let packet = |kinds: &[u8]| {
            let units = kinds.iter().map(|kind| [0, 0, 0, 2, 0x60 | kind, 0x80]);
            units.flatten().collect::<Vec<u8>>()
        };
        assert!(begins_open(&packet(&[6, 1])));
        assert!(!begins_open(&packet(&[7, 8, 5, 5])));
        assert!(!begins_open(&packet(&[9, 6])));
        assert!(!begins_open(&[0xff; 3]));
        assert!(begins_open(&[0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x41, 1]));
        assert!(!begins_open(&[0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 1]));
    }
}
