//! Chooses the GStreamer element that decodes a stream.

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

    /// Whether FFmpeg hides pictures outside of an edit: its JPEG decoder shows all that it decodes.
    #[must_use]
    pub fn hides(self) -> bool {
        self != Self::Jpeg
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
        DecoderChoice::Software | DecoderChoice::Hardware => {
            let stream = caps.structure(0).map_or("", |s| s.name().as_str());
            format!("no decoder for {stream} is installed; on Debian: apt-get install gstreamer1.0-libav")
        }
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

/// Whether an H.264 packet (NAL units after four-byte lengths) holds a picture that is not an IDR picture: as the first
/// packet of a clip that was cut at an open group of pictures. FFmpeg fills in the missing references; GStreamer's wrapper
/// of its decoder reports an error that OpenCV does not see.
#[must_use]
pub fn begins_open(mut packet: &[u8]) -> bool {
    let mut has_slice = false;
    while let [a, b, c, d, rest @ ..] = packet {
        match rest.first().map(|header| header & 0x1f) {
            Some(5) => return false,
            Some(1) => has_slice = true,
            _ => {}
        }
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        packet = rest.get(length..).unwrap_or(&[]);
    }
    has_slice
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
fn best_decoder(caps: &gst::Caps, hardware: bool) -> Option<ElementFactory> {
    let kind = gst::ElementFactoryType::DECODER
        | gst::ElementFactoryType::MEDIA_VIDEO
        | gst::ElementFactoryType::MEDIA_IMAGE;
    let all = ElementFactory::factories_with_type(kind, gst::Rank::MARGINAL);
    all.into_iter()
        .filter(|f| f.can_sink_any_caps(caps))
        .filter(|f| hardware || !is_hardware(f))
        .max_by_key(|f| (is_hardware(f), f.name().starts_with("avdec_"), f.rank()))
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

/// A parser that converts a stream of `caps` for decoders of another stream format, such as hardware decoders.
#[must_use]
pub fn parser(caps: &gst::Caps) -> Option<gst::Element> {
    let all =
        ElementFactory::factories_with_type(gst::ElementFactoryType::PARSER, gst::Rank::MARGINAL);
    let best = all
        .into_iter()
        .filter(|f| f.can_sink_any_caps(caps))
        .max_by_key(ElementFactory::rank)?;
    best.create().build().ok()
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
        assert!(begins_open(&[0xff, 0xff, 0xff, 0xff, 0x61]));
    }
}
