//! What each setting may be. One rule a setting, for the command line, the config file and the environment alike.

use crate::cli::Profile;
use crate::source::camera::{PixelFormat, Place};
use crate::source::decoder::Choice;
use crate::telemetry::request::Command;
use crate::telemetry::topics;
use clap::ValueEnum;
use std::fmt::Display;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;

use super::layers::list_of;
use super::values::{BrokerUrl, Secret};

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
pub const LEVEL: Word = Word(&["error", "warn", "info", "debug", "trace"]);
/// Commands that can be allowed.
pub const COMMAND: Word = Word(&Command::NAMES);

/// MQTT counts the bytes of its strings in 16 bits.
pub(super) const TEXT_BYTES_MAX: usize = 65_535;

/// What a layer gives for a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Text without a type: from the environment or a flag.
    Bare(String),
    /// A value of a file, in its own spelling.
    Typed(Kind, String),
    /// A list of a file.
    List(Vec<Self>),
}

/// Types that a file tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In quotes.
    Text,
    /// Digits.
    Whole,
    /// With a point or an exponent, `inf` and `nan`.
    Real,
    /// `true` or `false`.
    Switch,
    /// A date or a section: nothing of ours.
    Other,
}

/// Reads a setting.
pub trait Rule {
    /// What it is read into.
    type Value;

    /// What is allowed, to be put behind "allowed are".
    fn allowed(&self) -> String;

    /// The types of a file that it takes.
    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Text]
    }

    /// The value of `text`; `None` when it is not allowed.
    fn accept(&self, text: &str) -> Option<Self::Value>;

    /// The value of `text`.
    ///
    /// # Errors
    /// With what is allowed.
    fn parse(&self, text: &str) -> Result<Self::Value, String> {
        self.accept(text)
            .ok_or_else(|| format!("allowed are {}", self.allowed()))
    }

    /// The value of what a layer gives.
    ///
    /// # Errors
    /// With what is allowed.
    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        match given {
            Given::Bare(text) => self.parse(text),
            Given::Typed(kind, text) if self.kinds().contains(kind) => self.parse(text),
            _ => Err(format!("allowed are {}", self.allowed())),
        }
    }
}

/// Numbers from `min` to `max`, both included.
#[derive(Clone, Copy, Debug)]
pub struct Range<T> {
    min: T,
    max: T,
    is_whole: bool,
}

const fn whole<T: Copy>(min: T, max: T) -> Range<T> {
    Range {
        min,
        max,
        is_whole: true,
    }
}

const fn real<T: Copy>(min: T, max: T) -> Range<T> {
    Range {
        min,
        max,
        is_whole: false,
    }
}

impl<T: Copy + Display + FromStr + PartialOrd> Rule for Range<T> {
    type Value = T;

    fn allowed(&self) -> String {
        let what = if self.is_whole {
            "whole numbers"
        } else {
            "numbers"
        };
        format!("{what} from {} to {}", self.min, self.max)
    }

    fn kinds(&self) -> &'static [Kind] {
        if self.is_whole {
            &[Kind::Whole]
        } else {
            &[Kind::Whole, Kind::Real]
        }
    }

    fn accept(&self, text: &str) -> Option<T> {
        let number = text.parse().ok()?;
        (self.min..=self.max).contains(&number).then_some(number)
    }
}

/// One of a few words.
#[derive(Clone, Copy, Debug)]
pub struct Word(pub &'static [&'static str]);

impl Rule for Word {
    type Value = String;

    fn allowed(&self) -> String {
        self.0.join(", ")
    }

    fn accept(&self, text: &str) -> Option<String> {
        let lower = text.to_ascii_lowercase();
        self.0.contains(&lower.as_str()).then_some(lower)
    }
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug)]
pub struct Switch;

impl Rule for Switch {
    type Value = bool;

    fn allowed(&self) -> String {
        "true and false".to_owned()
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Switch]
    }

    fn accept(&self, text: &str) -> Option<bool> {
        text.parse().ok()
    }
}

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
    type Value = Place;

    fn allowed(&self) -> String {
        "devices (/dev/v4l/by-id/..., /dev/video0 or 0), file:CLIP.mp4, file:STILL.png and gst:ELEMENTS".to_owned()
    }

    fn accept(&self, text: &str) -> Option<Place> {
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
        let names: Vec<&str> = Profile::value_variants().iter().map(|p| p.name()).collect();
        names.join(", ")
    }

    fn accept(&self, text: &str) -> Option<Profile> {
        Profile::from_str(text, false).ok()
    }
}

/// Who decodes. Whether a named element is there is asked when GStreamer runs.
#[derive(Clone, Copy, Debug)]
pub struct DecoderName;

impl Rule for DecoderName {
    type Value = Choice;

    fn allowed(&self) -> String {
        "software, hardware and names from `gst-inspect-1.0`".to_owned()
    }

    fn accept(&self, text: &str) -> Option<Choice> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_-+.".contains(&b);
        let is_good = (1..=256).contains(&text.len()) && text.bytes().all(is_name);
        if is_good { text.parse().ok() } else { None }
    }
}

/// A setting that may be unset; empty text without a type unsets it.
#[derive(Clone, Copy, Debug)]
pub struct Maybe<R>(pub R);

impl<R: Rule> Rule for Maybe<R> {
    type Value = Option<R::Value>;

    fn allowed(&self) -> String {
        self.0.allowed()
    }

    fn accept(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            Some(None)
        } else {
            self.0.accept(text).map(Some)
        }
    }

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        match given {
            Given::Bare(text) if text.is_empty() => Ok(None),
            _ => self.0.read(given).map(Some),
        }
    }
}

/// A list; where it comes without a type separated by commas, or as a file spells it: `["a", "b"]`.
#[derive(Clone, Copy, Debug)]
pub struct Each<R>(pub R);

impl<R: Rule> Rule for Each<R> {
    type Value = Vec<R::Value>;

    fn allowed(&self) -> String {
        format!("lists of {}", self.0.allowed())
    }

    fn accept(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        text.split(',').map(|t| self.0.accept(t.trim())).collect()
    }

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        let refused = |_| format!("allowed are {}", self.allowed());
        match given {
            Given::Bare(text) => match list_of(text) {
                Some(list) => self.read(&list),
                None => self.parse(text),
            },
            Given::List(items) => items
                .iter()
                .map(|item| self.0.read(item).map_err(refused))
                .collect(),
            Given::Typed(..) => Err(refused(String::new())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        check(&Switch, &["true", "false"], &["yes", "1", ""]);
        check(&Text, &["a", "with space"], &["", "  ", "two\nlines", "\0"]);
        check(&DeviceId, &["pi-lab_3.local"], &["", "a/b", "ä"]);
        check(
            &DecoderName,
            &["software", "avdec_h264"],
            &["", "a b", "x!y"],
        );
        check(&ProfileName, &["notebook"], &["Notebook", "corrected"]);
        check(
            &Each(COMMAND),
            &["", "pause", "pause, resume"],
            &["pause,", "explode"],
        );
        check(&Maybe(WORKERS), &["", "4"], &["0", "999"]);
    }

    #[test]
    fn types_of_a_file_are_held_against_the_rule() {
        let typed = |kind, text: &str| Given::Typed(kind, text.to_owned());
        assert_eq!(HANDS.read(&typed(Kind::Whole, "2")), Ok(2));
        assert!(HANDS.read(&typed(Kind::Text, "2")).is_err());
        assert_eq!(PROBABILITY.read(&typed(Kind::Whole, "1")), Ok(1.0));
        assert!(Switch.read(&typed(Kind::Text, "true")).is_err());
        assert!(Maybe(Text).read(&typed(Kind::Text, "")).is_err());
        assert_eq!(Maybe(Text).read(&Given::Bare(String::new())), Ok(None));
        let list = |kind| Given::List(vec![typed(kind, "pause")]);
        let bare = |text: &str| Each(Text).read(&Given::Bare(text.to_owned()));
        assert_eq!(bare(r#"["a,b", 'c']"#).unwrap(), ["a,b", "c"]);
        assert_eq!(bare("a, b").unwrap(), ["a", "b"]);
        assert_eq!(bare("[]").unwrap(), [""; 0]);
        assert_eq!(bare("[a").unwrap(), ["[a"]);
        assert!(Each(COMMAND).read(&Given::Bare("[1]".into())).is_err());
        assert_eq!(
            Each(COMMAND).read(&list(Kind::Text)),
            Ok(vec!["pause".to_owned()])
        );
        assert!(Each(COMMAND).read(&list(Kind::Switch)).is_err());
        assert!(Each(COMMAND).read(&typed(Kind::Text, "pause")).is_err());
    }
}
