//! Names of streams whose codec a demuxer does not know.

use gstreamer as gst;

/// GStreamer's MP4 demuxer names an unknown codec by this prefix and the file's four characters.
const FOURCC: &str = "video/x-gst-fourcc-";

/// Names of streams that GStreamer's demuxers do not know: the demuxers' names, and the name that decoders accept.
const RENAMED: &[(&[&str], &str)] = &[
    (&["AVdh"], "video/x-dnxhd"),
    (&["FFV1"], "video/x-ffv, ffvversion=(int)1"),
    (&["yuvs"], "video/x-raw, format=(string)YUY2"),
    (&["24BG"], "video/x-raw, format=(string)BGR"),
    (&["FFVH"], "video/x-gst-av-ffvhuff"),
    (&["H261", "h261", "M261"], "video/x-h261"),
    (&["LJPG"], "image/jpeg"),
    (&["FSV1"], "video/x-flash-screen"),
    (&["mjp2", "MJ2C", "LJ2C", "LJ2K", "IPJ2"], "image/x-jpc"),
    (&["VP90"], "video/x-vp9"),
    (&["AV01"], "video/x-av1"),
    (&["svq1", "SVQ1"], "video/x-svq, svqversion=(int)1"),
    (&["svq3", "SVQ3"], "video/x-svq, svqversion=(int)3"),
    (
        &["m1v_", "m1v1"],
        "video/mpeg, mpegversion=(int)1, systemstream=(boolean)false",
    ),
];

/// The name that decoders accept for a stream that GStreamer's demuxer does not know; `None` for all others.
#[must_use]
pub fn renamed(caps: &gst::Caps) -> Option<gst::Caps> {
    let name = stream_name(caps)?;
    let (_, new) = RENAMED.iter().find(|(names, _)| names.contains(&&*name))?;
    let new: gst::Caps = new.parse().ok()?;
    let (old, mut new) = (caps.structure(0)?, new.structure(0)?.to_owned());
    for (field, value) in old {
        // Fields that only describe the old name do not fit the decoder.
        if !matches!(field.as_str(), "fourcc" | "codec-id" | "format") && !new.has_field(field) {
            new.set_value(field, value.clone());
        }
    }
    Some(new.into())
}

/// The demuxer's name for a stream that it does not know: the four characters of the file, or Matroska's name.
pub(super) fn stream_name(caps: &gst::CapsRef) -> Option<String> {
    let fields = caps.structure(0)?;
    let name = fields.name().as_str();
    if let Some(fourcc) = name.strip_prefix(FOURCC) {
        return Some(fourcc.to_owned());
    }
    let number = fields.get::<i32>("fourcc").map(i32::to_le_bytes);
    let number = number.or_else(|_| fields.get::<u32>("fourcc").map(u32::to_le_bytes));
    match (number, name) {
        (Ok(fourcc), _) => Some(String::from_utf8_lossy(&fourcc).into_owned()),
        (_, "video/x-unknown") => ["fourcc", "codec-id"]
            .iter()
            .find_map(|field| fields.get::<String>(*field).ok()),
        _ => Some(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_its_four_characters() {
        gst::init().unwrap();
        let check = |caps: &str, expected: Option<&str>| {
            let found = renamed(&caps.parse().unwrap());
            let expected = expected.map(|caps| caps.parse::<gst::Caps>().unwrap());
            assert_eq!(found, expected, "{caps}");
        };
        let number = |name: &[u8; 4]| i32::from_le_bytes(*name);
        check(
            &format!("video/x-avi-unknown, fourcc=(int){}", number(b"H261")),
            Some("video/x-h261"),
        );
        check(
            &format!(
                "video/x-asf-unknown, fourcc=(uint){}, width=8",
                number(b"VP90")
            ),
            Some("video/x-vp9, width=8"),
        );
        check(
            "video/x-gst-fourcc-FFV1, width=8, codec_data=(buffer)01",
            Some("video/x-ffv, ffvversion=1, width=8, codec_data=(buffer)01"),
        );
        check(
            "video/x-unknown, codec-id=V_MS/VFW/FOURCC, fourcc=mjp2",
            Some("image/x-jpc"),
        );
        check("video/x-gst-fourcc-none, width=8", None);
        check("video/x-h264, width=8", None);
    }
}
