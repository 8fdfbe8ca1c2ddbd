//! Where the broker is and how this device introduces itself.

use super::tls::Tls;
use crate::messages::broker_address::BrokerAddress;
use std::time::Duration;

/// All that a connection needs to know. It holds a password, so it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `None`: plain TCP.
    pub tls: Option<Tls>,
    /// Names the session at the broker, which keeps commands under it; no two devices may share one.
    pub client_id: String,
    /// For brokers that require a login.
    pub username: Option<String>,
    /// Sent with a user name only.
    pub password: Option<String>,
    /// Second level of every topic.
    pub device: String,
    /// Longest silence, whole seconds, at least one; a dead peer is noticed within two of these.
    pub keep_alive: Duration,
    /// Shortest pause before an attempt to connect.
    pub reconnect_min: Duration,
    /// Longest pause before an attempt to connect.
    pub reconnect_max: Duration,
    /// How long a broker may take to accept a connection, whole seconds. A PUBACK may take three times as long.
    pub connect_timeout: Duration,
    /// Whether to introduce the device to Home Assistant.
    pub discovery: bool,
}

impl Settings {
    /// Plain TCP, no login, no discovery.
    #[must_use]
    pub fn new(device: &str, host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            tls: None,
            client_id: format!("handloom-{device}"),
            username: None,
            password: None,
            device: device.to_owned(),
            keep_alive: Duration::from_secs(30),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(10),
            discovery: false,
        }
    }

    /// The broker of a URL, with the files of `tls` where the URL requires TLS; the rest as in [`Self::new`].
    #[must_use]
    pub fn at(device: &str, address: BrokerAddress, tls: Tls) -> Self {
        Self {
            tls: address.tls.then_some(tls),
            username: address.username,
            password: address.password,
            ..Self::new(device, &address.host, address.port)
        }
    }

    /// The broker as a URL without the login, for people.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}", self.broker())
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn broker(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_login() {
        let check = |url: &str, shown: &str| {
            let address = BrokerAddress::parse(url).unwrap();
            let settings = Settings::at("pi", address.clone(), Tls::default());
            assert_eq!(settings.url(), shown);
            assert_eq!(settings.tls.is_some(), address.tls);
            assert_eq!(settings.username, address.username);
            assert_eq!(settings.password, address.password);
        };
        check("mqtt://u:p@b", "mqtt://b:1883");
        check("ssl://b/", "mqtts://b:8883");
        check("mqtts://u@[::1]:99", "mqtts://[::1]:99");
    }

    #[test]
    fn a_password_is_not_printed() {
        let settings = Settings::new("pi", "::1", 1883);
        let address = BrokerAddress::parse("mqtt://u:secret@b").unwrap();
        let text = format!("{address:?} {}", settings.broker());
        assert!(!text.contains("secret"), "{text}");
        assert!(text.ends_with("[::1]:1883"), "{text}");
    }
}
