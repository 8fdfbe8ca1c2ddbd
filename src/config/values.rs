//! Values that must not be seen, and how every value is written in TOML.

use crate::cli::Profile;
use crate::source::decoder::Choice;
use std::fmt::{Debug, Display, Formatter};
use std::num::NonZeroU64;
use std::path::PathBuf;

/// What is shown in place of a secret.
pub(super) const HIDDEN: &str = "***";

/// Room for any host name, user and password.
const URL_BYTES_MAX: usize = 4_096;

/// Text that is neither printed nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one who must send it.
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

/// Where the broker is. Shown without the password that it may hold.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl(String);

impl BrokerUrl {
    /// Takes `url` when its syntax is right.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn new(url: &str) -> Result<Self, String> {
        check_url(url).map(|()| Self(url.to_owned()))
    }

    /// The whole URL, a password included.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it asks for TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("mqtts://")
    }

    /// Whether it names a user, and whether it holds a password.
    #[must_use]
    pub fn credentials(&self) -> (bool, bool) {
        match Parts::of(&self.0).and_then(|p| p.user) {
            Some(user) => (true, user.contains(':')),
            None => (false, false),
        }
    }

    /// Host name or address, without brackets, and port.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, u16) {
        let default = if self.is_tls() { 8883 } else { 1883 };
        match Parts::of(&self.0) {
            Some(parts) => (
                parts.host.trim_start_matches('[').trim_end_matches(']'),
                parts.port.and_then(|p| p.parse().ok()).unwrap_or(default),
            ),
            None => ("", default),
        }
    }
}

impl Display for BrokerUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

impl Debug for BrokerUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, f)
    }
}

/// `url` with its password hidden; of what is no URL, nothing that stands before an `@`.
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

/// A URL taken apart, unchecked.
struct Parts<'a> {
    user: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let rest = url
            .strip_prefix("mqtt://")
            .or_else(|| url.strip_prefix("mqtts://"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        // The colons of an IPv6 address stand in brackets.
        let end = place.rfind(']').map_or(0, |n| n + 1);
        let (host, port) = match place[end..].find(':') {
            Some(n) => (&place[..end + n], Some(&place[end + n + 1..])),
            None => (place, None),
        };
        Some(Self { user, host, port })
    }
}

/// Whether `url` has the syntax of a broker's.
fn check_url(url: &str) -> Result<(), String> {
    let parts = Parts::of(url).ok_or("it begins with neither mqtt:// nor mqtts://")?;
    if url.len() > URL_BYTES_MAX {
        return Err(format!("it has more than {URL_BYTES_MAX} bytes"));
    }
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it holds a blank".to_owned());
    }
    let name = parts.host.trim_start_matches('[').trim_end_matches(']');
    let brackets = "an IPv6 address goes into [brackets]";
    if parts.port.is_some_and(|port| port.contains(':')) {
        return Err(brackets.to_owned());
    }
    if name.is_empty() {
        return Err("it names no host".to_owned());
    }
    if parts.user.is_some_and(|u| u.split(':').next() == Some("")) {
        return Err("it names no user before the @".to_owned());
    }
    let is_address = name.contains(':');
    if is_address != parts.host.starts_with('[') || (is_address && !parts.host.ends_with(']')) {
        return Err(brackets.to_owned());
    }
    if parts.host.contains(['/', '?', '#', '\\']) {
        return Err("nothing may follow the host and port".to_owned());
    }
    match parts.port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(_) => Err("its port is no number from 1 to 65535".to_owned()),
    }
}

/// How a value is written in TOML.
pub(super) trait Shown {
    /// The literal, a secret hidden; `None` when unset.
    fn shown(&self) -> Option<String>;
}

/// `text` in quotes.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

macro_rules! shown_as_written {
    ($($number:ty),*) => {$(
        impl Shown for $number {
            fn shown(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
shown_as_written!(bool, usize, u64, NonZeroU64, f32, f64);

impl Shown for String {
    fn shown(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl Shown for Secret {
    fn shown(&self) -> Option<String> {
        Some(quoted(HIDDEN))
    }
}

impl Shown for BrokerUrl {
    fn shown(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Shown for Choice {
    fn shown(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Shown for Profile {
    fn shown(&self) -> Option<String> {
        Some(quoted(self.name()))
    }
}

impl Shown for Vec<String> {
    fn shown(&self) -> Option<String> {
        let items: Vec<String> = self.iter().map(|item| quoted(item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(Shown::shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let check = |url: &str, host: &str, port: u16, credentials: (bool, bool)| {
            let parsed = BrokerUrl::new(url).unwrap();
            assert_eq!(parsed.host_and_port(), (host, port), "{url}");
            assert_eq!(parsed.credentials(), credentials, "{url}");
        };
        check("mqtt://broker.local", "broker.local", 1883, (false, false));
        check("mqtts://broker/", "broker", 8883, (false, false));
        check("mqtt://[::1]:1884", "::1", 1884, (false, false));
        check("mqtts://u@h", "h", 8883, (true, false));
        check("mqtt://u:p:@x@h:1", "h", 1, (true, true));
        for (bad, says) in [
            ("", "mqtt://"),
            ("broker:1883", "mqtt://"),
            ("http://h", "mqtt://"),
            ("MQTT://h", "mqtt://"),
            ("mqtt://", "no host"),
            ("mqtt://:1883", "no host"),
            ("mqtt://[]:1", "no host"),
            ("mqtt://@h", "no user"),
            ("mqtt://::1", "brackets"),
            ("mqtt://[::1", "brackets"),
            ("mqtt://h:0", "port"),
            ("mqtt://h:70000", "port"),
            ("mqtt://h:", "port"),
            ("mqtt://h:1883/topic", "port"),
            ("mqtt://h/topic", "follow"),
            ("mqtt://a b", "blank"),
        ] {
            let reason = BrokerUrl::new(bad).unwrap_err();
            assert!(reason.contains(says), "{bad}: {reason}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = BrokerUrl::new("mqtt://me:geheim@h").unwrap();
        let secret = Secret::new("geheim".to_owned());
        for text in [
            format!("{url} {url:?} {secret:?}"),
            format!("{:?} {:?}", url.shown(), secret.shown()),
            without_password("me:geheim@h"),
        ] {
            assert!(!text.contains("geheim") && text.contains(HIDDEN), "{text}");
        }
        assert_eq!(url.to_string(), "mqtt://me:***@h");
        assert_eq!(without_password("mqtt://me@h"), "mqtt://me@h");
    }
}
