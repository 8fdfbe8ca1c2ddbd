//! The URL of a broker.

use std::fmt;

/// Longest URL that is accepted: room for any host name, user and password.
const URL_BYTES_MAX: usize = 4_096;

const NO_SCHEME: &str =
    "the broker's URL has no scheme; write mqtt://HOST or, for TLS, mqtts://HOST";
const CONTROL_CHARACTER: &str = "the broker's URL holds a control character; write it on one line, such a character in user name or password as %0A";
const NO_USER: &str = "the broker's URL has no user name before its @; write mqtt://USER@HOST, and keep the password in a file";
const BAD_ESCAPE: &str = "user name or password in the broker's URL has a % that begins no escape of UTF-8; write %25 for a percent sign, %40 for @, %3A for :";

/// The parts of a broker's URL.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Name or address, without brackets.
    pub host: String,
    /// As given, or 1883 for plain TCP and 8883 for TLS.
    pub port: u16,
    /// Whether to use TLS.
    pub tls: bool,
    /// `None` when the URL has none.
    pub username: Option<String>,
    /// `None` when the URL has none.
    pub password: Option<String>,
}

/// A URL that names no broker: why, and what to write instead. Nothing that stands before an `@` is repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

impl From<&str> for UrlError {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl BrokerAddress {
    /// Takes apart what users write: `mqtt://host`, `mqtts://user:password@host:port`; `tcp` and `ssl` mean the same.
    ///
    /// # Errors
    /// Fails when it is no such URL.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        if url.len() > URL_BYTES_MAX {
            return Err(UrlError(format!(
                "the broker's URL is too long; allowed are up to {URL_BYTES_MAX} bytes"
            )));
        }
        if url.contains(char::is_control) {
            return Err(CONTROL_CHARACTER.into());
        }
        // What holds an @ may be a login.
        let scheme = url.split_once("://").filter(|(s, _)| !s.contains('@'));
        let (scheme, rest) = scheme.ok_or(NO_SCHEME)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" => true,
            _ => {
                return Err(UrlError(format!(
                    "the broker's URL begins with {scheme}://; allowed are mqtt:// and tcp:// (port 1883), mqtts:// and ssl:// (TLS, port 8883)"
                )));
            }
        };
        // The last one: a password may hold another.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let (place, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(tail, "" | "/") {
            return Err(UrlError(format!(
                "the broker's URL ends with {tail:?}; nothing may follow host and port"
            )));
        }
        let (host, port) = host_and_port(place)?;
        let port = match port {
            None if tls => 8883,
            None => 1883,
            Some(port) => port.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                UrlError(format!(
                    "the port {port:?} in the broker's URL is no number from 1 to 65535"
                ))
            })?,
        };
        let (username, password) = match user.map(|u| u.split_once(':').unwrap_or((u, ""))) {
            None => (None, None),
            Some(("", _)) => return Err(NO_USER.into()),
            Some((name, "")) => (Some(unescape(name)?), None),
            Some((name, password)) => (Some(unescape(name)?), Some(unescape(password)?)),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            tls,
            username,
            password,
        })
    }
}

impl BrokerAddress {
    /// The warning that a password would be readable on its way: there is no TLS, and the host is not this machine.
    #[must_use]
    pub fn plain_password_warning(&self) -> Option<String> {
        let host = self.host.to_ascii_lowercase();
        let is_name = host == "localhost" || host.ends_with(".localhost");
        let is_v4 = host
            .parse()
            .is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback());
        let is_v6 = host
            .parse()
            .is_ok_and(|ip: std::net::Ipv6Addr| ip.is_loopback());
        let is_here = is_name || is_v4 || is_v6;
        (!self.tls && !is_here).then(|| {
            format!(
                "the password goes to {} as plain text, which others in the network can read; use mqtts://",
                self.host
            )
        })
    }
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        write!(out, "{scheme}://{}:{}", self.host, self.port)
    }
}

fn host_and_port(place: &str) -> Result<(&str, Option<&str>), UrlError> {
    let ambiguous = || {
        UrlError(format!(
            "{place:?} in the broker's URL is ambiguous; an IPv6 address stands in brackets: mqtt://[::1]:1883"
        ))
    };
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(ambiguous)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(ambiguous());
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(ambiguous()),
        };
    }
    let (host, port) = match place.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err(ambiguous()),
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "[]%\\".contains(c);
    if host.is_empty() || host.contains(odd) {
        return Err(UrlError(format!(
            "the broker's URL names no host but {host:?}; write mqtt://HOST or mqtt://HOST:PORT"
        )));
    }
    Ok((host, port))
}

/// Resolves `%40` and its like.
fn unescape(text: &str) -> Result<String, UrlError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = bytes.next().and_then(|b| char::from(b).to_digit(16));
            digit.and_then(|d| u8::try_from(d).ok()).ok_or(BAD_ESCAPE)
        };
        out.push(digit()? * 16 + digit()?);
    }
    String::from_utf8(out).map_err(|_| BAD_ESCAPE.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn reads(url: &str, host: &str, port: u16, tls: bool, user: Option<(&str, Option<&str>)>) {
        let got = BrokerAddress::parse(url).unwrap();
        assert_eq!(
            (got.host.as_str(), got.port, got.tls),
            (host, port, tls),
            "{url}"
        );
        let name = got.username.as_deref();
        assert_eq!(name.map(|n| (n, got.password.as_deref())), user, "{url}");
    }

    #[test]
    fn a_password_is_plain_only_on_the_way_to_another_machine() {
        let warns = |url: &str| {
            let address = BrokerAddress::parse(url).unwrap();
            address.plain_password_warning().is_some()
        };
        for url in [
            "mqtt://u:p@broker.local",
            "mqtt://u:p@10.0.0.1",
            "tcp://u:p@[fe80::1]",
        ] {
            assert!(warns(url), "{url}");
        }
        for url in [
            "mqtts://u:p@b",
            "mqtt://u:p@localhost",
            "mqtt://u:p@127.9.9.9",
            "mqtt://u:p@[::1]",
            "mqtt://LOCALHOST",
        ] {
            assert!(!warns(url), "{url}");
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        reads("mqtt://broker.local", "broker.local", 1883, false, None);
        reads("tcp://10.0.0.1:1884/", "10.0.0.1", 1884, false, None);
        reads("mqtts://b", "b", 8883, true, None);
        reads("SSL://b:1", "b", 1, true, None);
        reads("mqtt://[::1]", "::1", 1883, false, None);
        reads("mqtts://[fe80::2]:99", "fe80::2", 99, true, None);
        reads("mqtt://u@b", "b", 1883, false, Some(("u", None)));
        let both = Some(("u", Some("p:@1")));
        reads("mqtt://u:p:%401@b:2", "b", 2, false, both);
        reads("mqtt://u:p:@1@b:2", "b", 2, false, both);
        let grün = Some(("ü", Some("%")));
        reads("mqtt://%c3%BC:%25@[::1]:2", "::1", 2, false, grün);
    }

    #[test]
    fn a_bad_url_names_what_is_allowed() {
        for (url, words) in [
            ("", "mqtt://HOST"),
            ("broker:1883", "mqtt://HOST"),
            ("http://b", "http://; allowed are mqtt://"),
            ("mqtt://", "names no host"),
            ("mqtt://:1883", "names no host"),
            ("mqtt://a b", "\"a b\""),
            ("mqtt://::1", "brackets"),
            ("mqtt://[::1", "brackets"),
            ("mqtt://[b]", "brackets"),
            ("mqtt://[::1]9", "brackets"),
            ("mqtt://b:", "1 to 65535"),
            ("mqtt://b:0", "1 to 65535"),
            ("mqtt://b:65536", "1 to 65535"),
            ("mqtt://b:1883/topic", "\"/topic\""),
            ("mqtt://b?x", "\"?x\""),
            ("mqtt://:secret@b", "no user name"),
            ("mqtt://@b", "no user name"),
            ("u:secret@b", "mqtt://HOST"),
            ("u:secret@mqtt://b", "mqtt://HOST"),
            ("http://u:secret@b", "http://; allowed"),
            ("mqtt://u:secret@", "names no host"),
            ("mqtt://u:secret\n@b", "one line"),
            ("mqtt://u:secret%@b", "%25"),
            ("mqtt://u:secret%ff@b", "%25"),
            ("mqtt://u:secret@b:x", "\"x\""),
        ] {
            let message = BrokerAddress::parse(url).unwrap_err().to_string();
            assert!(message.contains(words), "{url}: {message}");
            assert!(!message.contains("secret"), "{url}: {message}");
        }
    }

    #[test]
    fn a_long_url_is_refused() {
        let long = format!("mqtt://{}", "b".repeat(URL_BYTES_MAX));
        let refused = BrokerAddress::parse(&long).unwrap_err().to_string();
        assert!(refused.contains("too long"), "{refused}");
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(url in "(mqtts?://)?\\PC{0,40}") {
            if let Ok(address) = BrokerAddress::parse(&url) {
                prop_assert!(!address.host.is_empty() && address.port > 0);
            }
        }
    }
}
