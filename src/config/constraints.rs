//! What each setting may be. One rule a setting, for the command line, the config file and the environment alike.

use crate::frame::DecoderChoice;
use crate::frame::{CameraAddress, PixelFormat};
use crate::messages::request::CommandName;
use crate::messages::topics;
use crate::sequence::Profile;
use std::num::NonZeroU64;
use std::path::PathBuf;

use super::values::{BrokerUrl, Secret};
use crate::config::value_parsers::{OneOf, Range, Rule, real, whole};

/// Numbers of clips, glosses or frames that are counted, none included.
pub const COUNT: Range<usize> = whole(0, 1_000_000_000);
/// The same, at least one.
pub const AT_LEAST_ONE: Range<usize> = whole(1, 1_000_000_000);
/// Frames in a sequence.
pub const LENGTH: Range<usize> = whole(1, 10_000);
/// Look at every Nth frame.
pub const STRIDE: Range<NonZeroU64> =
    whole(NonZeroU64::MIN, NonZeroU64::MIN.saturating_add(999_999));
/// Hands in a frame.
pub const HANDS: Range<usize> = whole(1, 2);
/// Clips at a time.
pub const WORKERS: Range<usize> = whole(1, 256);
/// Planned clips in a batch file.
pub const BATCH_SIZE: Range<usize> = whole(1, 65_536);
/// MediaPipe's thresholds.
pub const PROBABILITY: Range<f32> = real(0.0, 1.0);
/// Seconds to wait for a decoder.
pub const TIMEOUT_S: Range<f64> = real(0.1, 86_400.0);
/// Frames a second of a camera or a dataset.
pub const FPS: Range<f64> = real(1.0, 240.0);
/// Sides of a camera's frames, pixels.
pub const SIDE: Range<u32> = whole(16, 8192);
/// Frames that begin or end a sign.
pub const FRAMES: Range<u32> = whole(1, 1000);
/// Seconds of a pause between two takes, or of the shortest sign.
pub const PAUSE_S: Range<f64> = real(0.0, 3_600.0);
/// Seconds of the longest sign.
pub const SIGN_S: Range<f64> = real(0.1, 60.0);
/// Seconds between two signs of life, as MQTT allows and firewalls bear.
pub const KEEP_ALIVE_S: Range<u64> = whole(5, 3_600);
/// Longest pause between two attempts to connect.
pub const RECONNECT_S: Range<u64> = whole(1, 3_600);
/// Messages that wait for the broker.
pub const OUTBOX_MESSAGES: Range<u64> = whole(1, 1_000_000);
/// Their greatest age: up to a year.
pub const OUTBOX_AGE_H: Range<u64> = whole(1, 8_760);
/// Temperatures that a board may have, °C.
pub const TEMPERATURE_C: Range<f64> = real(20.0, 125.0);
/// Memory or disk: up to a tebibyte.
pub const MIB: Range<u64> = whole(1, 1_048_576);
/// The same where 0 switches a limit off.
pub const MIB_OR_OFF: Range<u64> = whole(0, 1_048_576);
/// How far a landmark may be from the CPU's.
pub const TOLERANCE: Range<f32> = real(0.0, 0.1);
/// Seconds between two looks at the machine.
pub const INTERVAL_S: Range<f64> = real(0.1, 3_600.0);
/// Levels of the log.
pub const LEVEL: OneOf = OneOf(&["error", "warn", "info", "debug", "trace"]);
/// Commands that can be allowed.
pub const COMMAND: OneOf = OneOf(&CommandName::NAMES);

/// MQTT counts the bytes of its strings in 16 bits.
pub(super) const TEXT_BYTES_MAX: usize = 65_535;

/// Text on one line, no longer than MQTT's strings.
#[derive(Clone, Copy, Debug)]
pub struct Text;

impl Rule for Text {
    type Value = String;

    fn allowed(&self) -> String {
        format!("one line of text that is not empty, up to {TEXT_BYTES_MAX} bytes")
    }

    fn accept(&self, text: &str) -> Option<String> {
        let is_good = !text.trim().is_empty()
            && text.len() <= TEXT_BYTES_MAX
            && !text.contains(char::is_control);
        is_good.then(|| text.to_owned())
    }
}

/// A file or folder.
#[derive(Clone, Copy, Debug)]
pub struct FilePath;

impl Rule for FilePath {
    type Value = PathBuf;

    fn allowed(&self) -> String {
        "paths on one line, not empty".to_owned()
    }

    fn accept(&self, text: &str) -> Option<PathBuf> {
        Text.accept(text).map(PathBuf::from)
    }
}

/// A password.
#[derive(Clone, Copy, Debug)]
pub struct Password;

impl Rule for Password {
    type Value = Secret;

    fn allowed(&self) -> String {
        format!("passwords of 1 to {TEXT_BYTES_MAX} bytes")
    }

    fn accept(&self, text: &str) -> Option<Secret> {
        (1..=TEXT_BYTES_MAX)
            .contains(&text.len())
            .then(|| Secret::new(text.to_owned()))
    }
}

/// One level of a topic.
#[derive(Clone, Copy, Debug)]
pub struct DeviceId;

impl Rule for DeviceId {
    type Value = String;

    fn allowed(&self) -> String {
        "1 to 64 of A-Z a-z 0-9 . _ -".to_owned()
    }

    fn accept(&self, text: &str) -> Option<String> {
        topics::is_device_id(text).then(|| text.to_owned())
    }
}

/// Where the broker is.
#[derive(Clone, Copy, Debug)]
pub struct Url;

impl Rule for Url {
    type Value = BrokerUrl;

    fn allowed(&self) -> String {
        "mqtt://HOST:PORT and mqtts://HOST:PORT".to_owned()
    }

    fn accept(&self, text: &str) -> Option<BrokerUrl> {
        BrokerUrl::new(text).ok()
    }

    fn parse(&self, text: &str) -> Result<BrokerUrl, String> {
        BrokerUrl::new(text).map_err(|error| error.to_string())
    }
}

/// What is filmed. Whether it is there is asked when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct CameraPlace;

impl Rule for CameraPlace {
    type Value = CameraAddress;

    fn allowed(&self) -> String {
        "devices (/dev/v4l/by-id/..., /dev/video0 or 0), file:CLIP.mp4, file:STILL.png and gst:ELEMENTS".to_owned()
    }

    fn accept(&self, text: &str) -> Option<CameraAddress> {
        Text.accept(text).and_then(|text| text.parse().ok())
    }
}

/// How a camera lays out its pixels.
#[derive(Clone, Copy, Debug)]
pub struct Pixels;

impl Rule for Pixels {
    type Value = PixelFormat;

    fn allowed(&self) -> String {
        PixelFormat::ALL.map(PixelFormat::name).join(", ")
    }

    fn accept(&self, text: &str) -> Option<PixelFormat> {
        PixelFormat::ALL.into_iter().find(|f| f.name() == text)
    }
}

/// How numbers are made.
#[derive(Clone, Copy, Debug)]
pub struct ProfileName;

impl Rule for ProfileName {
    type Value = Profile;

    fn allowed(&self) -> String {
        Profile::ALL.map(Profile::name).join(", ")
    }

    fn accept(&self, text: &str) -> Option<Profile> {
        text.parse().ok()
    }
}

/// Who decodes. Whether a named element is there is asked when GStreamer runs.
#[derive(Clone, Copy, Debug)]
pub struct DecoderName;

impl Rule for DecoderName {
    type Value = DecoderChoice;

    fn allowed(&self) -> String {
        "software, hardware and names from `gst-inspect-1.0`".to_owned()
    }

    fn accept(&self, text: &str) -> Option<DecoderChoice> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_-+.".contains(&b);
        let is_good = (1..=256).contains(&text.len()) && text.bytes().all(is_name);
        if is_good { text.parse().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value_parsers::{Bool, List, Optional};

    fn check<R: Rule>(rule: &R, good: &[&str], bad: &[&str])
    where
        R::Value: std::fmt::Debug,
    {
        for text in good {
            assert!(rule.parse(text).is_ok(), "{text}: {:?}", rule.parse(text));
        }
        for text in bad {
            let refused = rule.parse(text).unwrap_err();
            assert!(refused.contains(&rule.allowed()), "{text}: {refused}");
        }
    }

    #[test]
    fn rules_take_what_is_allowed_and_nothing_else() {
        check(&HANDS, &["1", "2"], &["0", "3", "-1", "1.0", "", "two"]);
        check(&STRIDE, &["1", "1000000"], &["0", "1000001"]);
        check(
            &PROBABILITY,
            &["0", "1", "0.5", "1e-3"],
            &["NaN", "inf", "1.1", "-0.1", "1e999"],
        );
        check(&MIB, &["1"], &["99999999999999999999999999", "0"]);
        check(&MIB_OR_OFF, &["0", "1"], &["1048577", "-1"]);
        check(&LEVEL, &["info", "DEBUG"], &["loud", "info,x=debug"]);
        check(&Bool, &["true", "false"], &["yes", "1", ""]);
        check(&Text, &["a", "with space"], &["", "  ", "two\nlines", "\0"]);
        check(&DeviceId, &["pi-lab_3.local"], &["", "a/b", "ä"]);
        check(
            &DecoderName,
            &["software", "avdec_h264"],
            &["", "a b", "x!y"],
        );
        check(&ProfileName, &["notebook"], &["Notebook", "corrected"]);
        check(
            &List(COMMAND),
            &["", "pause", "pause, resume"],
            &["pause,", "explode"],
        );
        check(&Optional(WORKERS), &["", "4"], &["0", "999"]);
    }
}
