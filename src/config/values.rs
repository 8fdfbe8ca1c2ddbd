//! Values that hold secrets, and how values are printed.

use super::constraints::TEXT_BYTES_MAX;
use crate::dataset::class_list::Subset;
use crate::dataset::format::FormatName;
use crate::frame::DecoderChoice;
use crate::frame::{CameraAddress, PixelFormat};
use crate::messages::broker_address::{BrokerAddress, UrlError};
use crate::selection::BackendPreference;
use crate::sequence::options::{
    FrameRange, Mirroring, Missing, NamedChoice, Profile, Sampling, Slots, ZScale,
};
use crate::shard::ShardRequest;
use serde::{Serialize, Serializer};
use std::fmt::{Debug, Display, Formatter};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What is shown in place of a secret.
pub(super) const HIDDEN: &str = "***";

/// Text that is neither printed nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The first line of a file, without the line's end. Blocks on the file.
    ///
    /// # Errors
    /// Fails when it cannot be read, is empty or longer than MQTT allows.
    pub fn in_file(path: &Path) -> io::Result<Self> {
        let bad = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let mut text = String::new();
        let mut start = File::open(path)?.take(TEXT_BYTES_MAX as u64 + 3);
        start.read_to_string(&mut text)?;
        let line = text.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        match line.len() {
            0 => Err(bad("it is empty".to_owned())),
            1..=TEXT_BYTES_MAX => Ok(Self::new(line.to_owned())),
            _ => Err(bad(format!(
                "its first line has more than {TEXT_BYTES_MAX} bytes"
            ))),
        }
    }

    /// The text, for the code that must send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The URL of a broker. Displayed without the password that it may hold.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    text: String,
    address: BrokerAddress,
}

impl BrokerUrl {
    /// Parses `url`.
    ///
    /// # Errors
    /// Fails when `url` is not the URL of a broker.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        BrokerAddress::parse(url).map(|address| Self {
            text: url.to_owned(),
            address,
        })
    }

    /// The parts of the URL, including a password.
    #[must_use]
    pub fn address(&self) -> &BrokerAddress {
        &self.address
    }
}

impl Display for BrokerUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&without_password(&self.text))
    }
}

impl Debug for BrokerUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, f)
    }
}

/// `url` with its password hidden, also if it is not a valid URL.
#[must_use]
pub(super) fn without_password(url: &str) -> String {
    let Some((before, after)) = url.rsplit_once('@') else {
        return url.to_owned();
    };
    let (scheme, user) = match before.split_once("://") {
        Some((scheme, user)) => (format!("{scheme}://"), user),
        None => (String::new(), before),
    };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}{name}:{HIDDEN}@{after}"),
        None => url.to_owned(),
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// Values that are printed as they are displayed; of a [`BrokerUrl`] without the password.
macro_rules! serialize_as_displayed {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
serialize_as_displayed!(
    BrokerUrl,
    CameraAddress,
    DecoderChoice,
    PixelFormat,
    BackendPreference,
    ShardRequest
);

/// Choices that are printed as they are named.
macro_rules! serialize_as_named {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    )*};
}
serialize_as_named!(
    FormatName, FrameRange, Mirroring, Missing, Profile, Sampling, Slots, Subset, ZScale
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let check = |content: &[u8], expected: Result<&str, &str>| {
            std::fs::write(&path, content).unwrap();
            let read = Secret::in_file(&path).map_err(|e| e.to_string());
            let read = read.as_ref().map(Secret::reveal).map_err(String::as_str);
            assert_eq!(read, expected, "{content:?}");
        };
        check(b"s e", Ok("s e"));
        check(b" s e \r\nnext", Ok(" s e "));
        check(b"", Err("it is empty"));
        check(b"\ns", Err("it is empty"));
        let most = "x".repeat(TEXT_BYTES_MAX);
        check(most.as_bytes(), Ok(&most));
        let long = Err("its first line has more than 65535 bytes");
        check(format!("{most}x").as_bytes(), long);
        check(most.repeat(2).as_bytes(), long);
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = BrokerUrl::new("mqtt://me:geheim@h").unwrap();
        let secret = Secret::new("geheim".to_owned());
        for text in [
            format!("{url} {url:?} {secret:?}"),
            format!("{:?}", toml::Value::try_from(&url)),
            format!("{:?}", toml::Value::try_from(&secret)),
            without_password("me:geheim@h"),
        ] {
            assert!(!text.contains("geheim") && text.contains(HIDDEN), "{text}");
        }
        assert_eq!(url.to_string(), "mqtt://me:***@h");
        assert_eq!(without_password("mqtt://me@h"), "mqtt://me@h");
    }
}
