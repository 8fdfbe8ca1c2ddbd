//! The constraints of values: one function a kind of value. It parses the text of a config file, a variable or a flag, or
//! returns what is allowed. clap calls it for flags, [`super::keys`] for everything else.

use super::values::{BrokerUrl, Secret};
use crate::frame::{CameraAddress, DecoderChoice, PixelFormat};
use crate::messages::topics;
use crate::selection::{BACKENDS, BackendPreference, CUSTOM, DELEGATE_RECIPES};
use crate::sequence::options::NamedChoice;
use crate::shard::{ShardError, ShardRequest};
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// MQTT counts the bytes of its strings in 16 bits.
pub(super) const TEXT_BYTES_MAX: usize = 65_535;

/// `value`, or what is allowed instead.
fn allowed<T>(value: Option<T>, what: impl Display) -> Result<T, String> {
    value.ok_or_else(|| format!("allowed are {what}"))
}

/// Whole numbers from `min` to `max`.
pub(crate) fn whole<T>(min: T, max: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: Clone + Display + FromStr + PartialOrd,
{
    number("whole numbers", min, max)
}

/// Numbers from `min` to `max`.
pub(crate) fn real<T>(min: T, max: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: Clone + Display + FromStr + PartialOrd,
{
    number("numbers", min, max)
}

fn number<T>(kind: &'static str, min: T, max: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: Clone + Display + FromStr + PartialOrd,
{
    move |text| {
        let number = text.parse().ok().filter(|n| min <= *n && *n <= max);
        allowed(number, format!("{kind} from {min} to {max}"))
    }
}

/// Seconds that a command waits or runs.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    real(0.1, 86_400.0)(text).map(Duration::from_secs_f64)
}

/// One of `names`.
pub(crate) fn one_of(
    names: &'static [&'static str],
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync {
    move |text| {
        let name = names.iter().find(|name| **name == text);
        allowed(name.map(|name| (*name).to_owned()), names.join(", "))
    }
}

/// A level of the log, in any case.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    one_of(&["error", "warn", "info", "debug", "trace"])(&text.to_ascii_lowercase())
}

fn is_line(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control)
}

/// Text on one line, no longer than MQTT's strings.
pub(crate) fn line(text: &str) -> Result<String, String> {
    let is_good = is_line(text) && !text.trim().is_empty();
    let what = format!("one line of text that is not empty, up to {TEXT_BYTES_MAX} bytes");
    allowed(is_good.then(|| text.to_owned()), what)
}

/// A file or folder; on the command line any name that the system allows.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|text| readable_path(text, false))
}

/// A file or folder; empty text leaves it unset.
pub(super) fn path_or_unset() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|text| readable_path(text, true))
}

fn readable_path(text: OsString, may_be_unset: bool) -> Result<PathBuf, String> {
    let has_text = |text: &OsStr| !text.to_string_lossy().trim().is_empty();
    let is_good = text.to_str().is_none_or(is_line) && (may_be_unset || has_text(&text));
    let path = is_good.then(|| PathBuf::from(text));
    allowed(path, "paths on one line, not empty")
}

/// A password.
pub(super) fn secret(text: &str) -> Result<Secret, String> {
    let is_good = (1..=TEXT_BYTES_MAX).contains(&text.len());
    let what = format!("passwords of 1 to {TEXT_BYTES_MAX} bytes");
    allowed(is_good.then(|| Secret::new(text.to_owned())), what)
}

/// One level of a topic.
pub(crate) fn device_id(text: &str) -> Result<String, String> {
    let id = topics::is_device_id(text).then(|| text.to_owned());
    allowed(id, "1 to 64 of A-Z a-z 0-9 . _ -")
}

/// The URL of a broker.
pub(super) fn broker_url(text: &str) -> Result<BrokerUrl, String> {
    BrokerUrl::new(text).map_err(|error| error.to_string())
}

/// A camera. Whether it exists is known when it is opened.
pub(crate) fn camera_address(text: &str) -> Result<CameraAddress, String> {
    let address = line(text).ok().and_then(|text| CameraAddress::parse(&text));
    let what = "devices (/dev/v4l/by-id/..., /dev/video0 or 0), file:CLIP.mp4, file:STILL.png and gst:ELEMENTS";
    let hint = match text {
        "gpu" | "cuda" => "; the accelerator of the models is set with --accelerator",
        _ => "",
    };
    allowed(address, format!("{what}{hint}"))
}

/// The layout of a camera's pixels.
pub(super) fn pixel_format(text: &str) -> Result<PixelFormat, String> {
    let names = PixelFormat::ALL.map(PixelFormat::name).join(", ");
    allowed(PixelFormat::from_name(text), names)
}

/// One of the named values of `T`.
pub(crate) fn choice<T: NamedChoice>() -> impl TypedValueParser<Value = T> {
    let names = T::NAMED.iter().map(|(_, name)| *name);
    PossibleValuesParser::new(names)
        .try_map(|name| allowed(T::from_name(&name), "the names that are listed"))
}

/// A decoder. Whether a named element exists is known when GStreamer runs.
pub(super) fn decoder(text: &str) -> Result<DecoderChoice, String> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_-+.".contains(&b);
    let is_good = (1..=256).contains(&text.len()) && text.bytes().all(is_name);
    let choice = is_good.then(|| DecoderChoice::from(text));
    allowed(
        choice,
        "software, hardware and names from `gst-inspect-1.0`",
    )
}

/// A shard.
pub(super) fn shard(text: &str) -> Result<ShardRequest, String> {
    text.parse().map_err(|error: ShardError| error.to_string())
}

/// What runs the models.
pub(super) fn backend(text: &str) -> Result<BackendPreference, String> {
    BackendPreference::parse(text).map_err(|_| {
        let name = text.rsplit(':').next().unwrap_or_default();
        let name = match name.to_ascii_lowercase().as_str() {
            "cuda" | "nvidia" | "vulkan" | "opencl" | "metal" => "gpu".to_owned(),
            name => name.to_owned(),
        };
        if DELEGATE_RECIPES.contains(&name.as_str()) {
            return recipe(&name);
        }
        let is_meant = |known: &&&str| known.rsplit(':').next() == Some(&name);
        let exact = BACKENDS.iter().find(|known| **known == text);
        let hint = exact.or_else(|| BACKENDS.iter().find(is_meant));
        let hint = hint.map_or_else(String::new, |n| format!("; did you mean require:{n}?"));
        let names = BACKENDS.join(", ");
        format!("allowed are auto, cpu, fastest, fast, require:NAME and prefer:NAME, where NAME is one of {names}{hint}")
    })
}

/// The error for an accelerator that a recipe describes.
fn recipe(name: &str) -> String {
    format!("{name} runs as {CUSTOM}: models/README.md has its library and options")
}

/// The name of a delegate.
pub(super) fn delegate_name(text: &str) -> Result<String, String> {
    if DELEGATE_RECIPES.contains(&text) {
        return Err(recipe(text));
    }
    one_of(&[CUSTOM])(text)
}

/// An option of a delegate.
pub(super) fn key_value(text: &str) -> Result<String, String> {
    let has_key = text
        .split_once('=')
        .is_some_and(|(key, _)| !key.trim().is_empty());
    allowed(
        (is_line(text) && has_key).then(|| text.to_owned()),
        "KEY=VALUE",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(
        read: impl Fn(&str) -> Result<T, String>,
        what: &str,
        good: &[&str],
        bad: &[&str],
    ) {
        for text in good {
            assert!(read(text).is_ok(), "{text}: {:?}", read(text));
        }
        for text in bad {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(what), "{text}: {refused}");
        }
    }

    #[test]
    fn values_are_read_or_answered_with_what_is_allowed() {
        let bad = ["0", "3", "-1", "1.0", "", "two"];
        check(
            whole(1_usize, 2),
            "whole numbers from 1 to 2",
            &["1", "2"],
            &bad,
        );
        let bad = ["99999999999999999999999999", "0", "nan"];
        check(whole(1_u64, 9), "from 1 to 9", &["1"], &bad);
        let (good, bad) = (
            ["0", "1", "0.5", "1e-3"],
            ["NaN", "inf", "1.1", "-0.1", "1e999"],
        );
        check(real(0.0_f32, 1.0), "numbers from 0 to 1", &good, &bad);
        check(
            log_level,
            "error, warn",
            &["info", "DEBUG"],
            &["loud", "info,x=debug"],
        );
        check(
            line,
            "one line",
            &["a", "with space"],
            &["", "  ", "two\nlines", "\0"],
        );
        check(device_id, "1 to 64", &["pi-lab_3.local"], &["", "a/b", "ä"]);
        check(
            decoder,
            "software, hardware",
            &["software", "avdec_h264"],
            &["", "a b", "x!y"],
        );
        check(seconds, "0.1 to 86400", &["0.1", "5"], &["0", "x"]);
        let bad = ["device", "=usb", " =", "a=b\0c", ""];
        check(key_value, "KEY=VALUE", &["device=usb", "a=", "a=b=c"], &bad);
        check(delegate_name, "custom", &["custom"], &["cpu", ""]);
        check(delegate_name, "models/README.md", &[], &["coral", "vx"]);
    }

    #[test]
    fn only_known_backends_are_accepted_and_others_get_the_nearest() {
        let good = [
            "auto",
            "fastest",
            "fast",
            "cpu",
            "require:cpu:int8",
            "require:litert:gpu",
            "prefer:litert:cpu",
            "require:custom",
        ];
        check(
            backend,
            "litert:cpu, litert:gpu, cpu:fp16,",
            &good,
            &["prefer:", "best", ""],
        );
        for text in ["gpu", "require:gpu", "cuda", "require:cuda", "litert:gpu"] {
            let refused = backend(text).unwrap_err();
            assert!(
                refused.ends_with("did you mean require:litert:gpu?"),
                "{refused}"
            );
        }
        for (text, meant) in [
            ("int8", "cpu:int8"),
            ("cpu:int8", "cpu:int8"),
            ("litert:cpu:fp16", "litert:cpu:fp16"),
        ] {
            let refused = backend(text).unwrap_err();
            assert!(
                refused.ends_with(&format!("mean require:{meant}?")),
                "{refused}"
            );
        }
        let recipe = ["coral", "require:coral", "prefer:tflite-gpu"];
        check(backend, "models/README.md", &[], &recipe);
    }
}
