//! Listens to a fleet and never speaks: a thread of its own that keeps a connection and passes on what comes.
//!
//! It subscribes to the channels one by one, not to `handloom/+/#`: commands are nobody's business here, and snapshots
//! are large pictures of people.

use crate::telemetry::fleet::PAYLOAD_MAX;
use crate::telemetry::topics;
use crossbeam_channel::{Receiver, Sender, bounded};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, MqttOptions, Packet, QoS, StateError,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// Messages that wait for the reader; when they are that many, the connection waits.
const WAITING_MAX: usize = 1024;
/// Larger messages end the connection. Ours are far smaller, and a stranger's must neither fill the memory nor, kept
/// by the broker, throw us out again and again.
const PACKET_MAX: usize = 16 * 1024 * 1024;
/// First and longest wait between two attempts to connect.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The subscriber cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SubscriberError {
    /// Not an address of a broker.
    #[error(
        "{url} is no broker: {reason}; give mqtt://[user[:password]@]host[:port], or mqtts:// for TLS"
    )]
    Url {
        /// As given, without the login.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A password without a name.
    #[error("a password needs a user name: give --username too")]
    Nameless,
    /// A CA file for a connection without TLS.
    #[error("a CA file is for TLS: give mqtts:// with it, or leave it out")]
    NotTls,
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No certificates.
    #[error("{path} holds no certificate: {reason}; give a PEM file")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system gives no thread or no event queue.
    #[error("cannot start the subscriber: {0}")]
    Start(#[from] io::Error),
}

/// Where the broker is, and who we are there.
pub struct Broker {
    host: String,
    port: u16,
    login: Option<(String, String)>,
    tls: Option<TlsConfiguration>,
}

/// What the subscriber tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Connected, and the broker agreed to the subscription.
    Connected,
    /// Not connected, and why; it tries again.
    Disconnected(String),
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// Its content.
        payload: Vec<u8>,
        /// Whether the broker kept it for us, rather than a device sending it now.
        is_retained: bool,
    },
}

/// The thread that listens; it ends with this value.
pub struct Subscriber {
    events: Receiver<Event>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// The broker at `mqtt://[user[:password]@]host[:port]`; `mqtts://` with the system's certificates.
    ///
    /// # Errors
    /// When `url` is none.
    pub fn at(url: &str) -> Result<Self, SubscriberError> {
        parse_url(url).map_err(|reason| SubscriberError::Url {
            url: without_login(url),
            reason,
        })
    }

    /// With a user name, and a password that is the first line of a file; each in place of what the URL has.
    ///
    /// # Errors
    /// When the file cannot be read, or holds a password for nobody.
    pub fn with_login(
        mut self,
        username: Option<&str>,
        password_file: Option<&Path>,
    ) -> Result<Self, SubscriberError> {
        if let Some(username) = username {
            let password = self.login.take().map(|(_, password)| password);
            self.login = Some((username.to_owned(), password.unwrap_or_default()));
        }
        if let Some(path) = password_file {
            let text = read(path, |path| std::fs::read_to_string(path))?;
            let password = text.lines().next().unwrap_or_default();
            let (_, place) = self.login.as_mut().ok_or(SubscriberError::Nameless)?;
            password.clone_into(place);
        }
        Ok(self)
    }

    /// Trusting the certificates in `ca_file`, PEM, and no others.
    ///
    /// # Errors
    /// When there are none, or the connection has no TLS.
    pub fn trusting(mut self, ca_file: &Path) -> Result<Self, SubscriberError> {
        if self.tls.is_none() {
            return Err(SubscriberError::NotTls);
        }
        let bad = |reason: String| SubscriberError::Certificate {
            path: ca_file.to_path_buf(),
            reason,
        };
        let pem = read(ca_file, |path| std::fs::read(path))?;
        let stack =
            native_tls::Certificate::stack_from_pem(&pem).map_err(|e| bad(e.to_string()))?;
        if stack.is_empty() {
            return Err(bad("no PEM block in it".to_owned()));
        }
        let mut builder = native_tls::TlsConnector::builder();
        builder.disable_built_in_roots(true);
        for certificate in stack {
            builder.add_root_certificate(certificate);
        }
        let connector = builder.build().map_err(|e| bad(e.to_string()))?;
        self.tls = Some(TlsConfiguration::NativeConnector(connector));
        Ok(self)
    }

    /// The address without the login, to show.
    #[must_use]
    pub fn label(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    fn options(&self) -> MqttOptions {
        // 22 characters: a broker may refuse more than 23.
        let id = format!("watch-{:016x}", random());
        let mut options = MqttOptions::new(id, &self.host, self.port);
        options.set_clean_session(true);
        options.set_keep_alive(Duration::from_secs(30));
        options.set_max_packet_size(PACKET_MAX, PACKET_MAX);
        if let Some((username, password)) = &self.login {
            options.set_credentials(username, password);
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::tls_with_config(tls.clone()));
        }
        options
    }
}

impl Subscriber {
    /// Begins to listen to `device`, or to all.
    ///
    /// # Errors
    /// When the system refuses a thread or an event queue.
    pub fn start(broker: &Broker, device: Option<&str>) -> Result<Self, SubscriberError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (sender, events) = bounded(WAITING_MAX);
        let (stop, stopped) = oneshot::channel();
        let options = broker.options();
        let filters = filters(device);
        let thread = thread::Builder::new()
            .name("subscriber".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = listen(options, &filters, &sender) => {}
                        // Either word is the end: asked for, or nobody there to ask.
                        _ = stopped => {}
                    }
                });
                // A name server that does not answer must not hold us.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            events,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What comes, in order.
    #[must_use]
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // Frees a thread that waits for room.
        self.events = crossbeam_channel::never();
        // Dropping the sender is the word to stop.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its hook; there is nothing to add.
            thread.join().ok();
        }
    }
}

/// Connects, passes on, waits, again; ends when nobody reads.
async fn listen(options: MqttOptions, filters: &[SubscribeFilter], sender: &Sender<Event>) {
    let mut wait = WAIT_MIN;
    loop {
        let Some((reason, was_connected)) = session(options.clone(), filters, sender).await else {
            return;
        };
        if sender.send(Event::Disconnected(reason)).is_err() {
            return;
        }
        if was_connected {
            wait = WAIT_MIN;
        }
        // Jitter, lest a room of viewers falls upon a broker that comes back.
        let [jitter, ..] = random().to_le_bytes();
        tokio::time::sleep(wait.mul_f64(1.0 + f64::from(jitter) / 512.0)).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// One connection to its end: why it ended and whether it was one. `None` when nobody reads.
async fn session(
    options: MqttOptions,
    filters: &[SubscribeFilter],
    sender: &Sender<Event>,
) -> Option<(String, bool)> {
    let (client, mut connection) = AsyncClient::new(options, 10);
    let mut is_connected = false;
    loop {
        let event = match connection.poll().await {
            Ok(rumqttc::Event::Incoming(Packet::ConnAck(_))) => {
                if let Err(error) = client.try_subscribe_many(filters.iter().cloned()) {
                    return Some((error.to_string(), false));
                }
                continue;
            }
            Ok(rumqttc::Event::Incoming(Packet::SubAck(ack))) => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    let reason = "the broker does not let this user read handloom/#: change its access list, or give another --username";
                    return Some((reason.to_owned(), false));
                }
                is_connected = true;
                Event::Connected
            }
            Ok(rumqttc::Event::Incoming(Packet::Publish(publish))) => {
                // The rest of one that is too long to be read need not wait in the channel.
                let length = publish.payload.len().min(PAYLOAD_MAX + 1);
                Event::Message {
                    topic: publish.topic,
                    payload: publish.payload[..length].to_vec(),
                    is_retained: publish.retain,
                }
            }
            Ok(_) => continue,
            Err(error) => return Some((reason(&error), is_connected)),
        };
        sender.send(event).ok()?;
    }
}

/// The channels of `device`, or of all, but the pictures.
fn filters(device: Option<&str>) -> Vec<SubscribeFilter> {
    let channels = topics::CHANNELS.iter().filter(|c| **c != topics::SNAPSHOT);
    channels
        .map(|channel| {
            let topic = topics::topic(device.unwrap_or("+"), channel);
            SubscribeFilter::new(topic, QoS::AtLeastOnce)
        })
        .collect()
}

/// Why there is no connection, and the way out.
fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::Io(error) => format!("{error}; is a broker running there?"),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            "it does not answer; check address, port and network".to_owned()
        }
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "it refuses the login; give --username and --password-file".to_owned(),
        ConnectionError::ConnectionRefused(code) => format!("it refuses the connection: {code:?}"),
        ConnectionError::Tls(error) => {
            format!("{error}; is it a TLS port, and does --ca-file fit its certificate?")
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            "it closed the connection".to_owned()
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => "it no longer answers".to_owned(),
        ConnectionError::MqttState(StateError::Io(error)) => error.to_string(),
        other => other.to_string(),
    }
}

/// Takes a URL apart.
fn parse_url(url: &str) -> Result<Broker, &'static str> {
    let (is_tls, rest) = if let Some(rest) = url.strip_prefix("mqtt://") {
        (false, rest)
    } else if let Some(rest) = url.strip_prefix("mqtts://") {
        (true, rest)
    } else {
        return Err("it begins with neither mqtt:// nor mqtts://");
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    let has_port = place
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let (host, port) = match has_port {
        Some((host, port)) => (host, port.parse().map_err(|_| "the port is no number")?),
        None => (place, if is_tls { 8883 } else { 1883 }),
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
    if host.is_empty() || host.contains(is_odd) {
        return Err("it names no host");
    }
    if port == 0 {
        return Err("port 0 is none");
    }
    if host.contains(':') && !is_bracketed {
        return Err("an IPv6 address stands in brackets");
    }
    let login = login.map(|login| {
        let (name, password) = login.split_once(':').unwrap_or((login, ""));
        (name.to_owned(), password.to_owned())
    });
    if login.as_ref().is_some_and(|(name, _)| name.is_empty()) {
        return Err("the user name is empty");
    }
    Ok(Broker {
        host: host.to_owned(),
        port,
        login,
        tls: is_tls.then_some(TlsConfiguration::Native),
    })
}

/// `url` as it may be shown.
fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        (None, Some((_, place))) => format!("…@{place}"),
        _ => url.to_owned(),
    }
}

fn read<T>(path: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, SubscriberError> {
    with(path).map_err(|source| SubscriberError::Read {
        path: path.to_path_buf(),
        source,
    })
}

/// A number that nobody foresees; the standard library seeds its maps from the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let check = |url: &str, label: &str, login: Option<(&str, &str)>| {
            let broker = Broker::at(url).unwrap_or_else(|e| panic!("{e}"));
            let found = broker.login.as_ref();
            let found = found.map(|(n, p)| (n.as_str(), p.as_str()));
            assert_eq!((broker.label().as_str(), found), (label, login), "{url}");
        };
        check("mqtt://localhost", "mqtt://localhost:1883", None);
        check("mqtts://b.local/", "mqtts://b.local:8883", None);
        check("mqtt://b:99", "mqtt://b:99", None);
        check("mqtt://u@b", "mqtt://b:1883", Some(("u", "")));
        check("mqtt://u:p@q:r@b:9", "mqtt://b:9", Some(("u", "p@q:r")));
        check("mqtt://[::1]", "mqtt://[::1]:1883", None);
        check("mqtts://u:p@[::1]:99", "mqtts://[::1]:99", Some(("u", "p")));
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_the_login() {
        for (url, says) in [
            ("localhost:1883", "neither mqtt:// nor"),
            ("http://u:secret@x", "neither mqtt:// nor"),
            ("u:secret@x", "neither mqtt:// nor"),
            ("mqtt://", "no host"),
            ("mqtt://u:secret@", "no host"),
            ("mqtt://:secret@x", "user name is empty"),
            ("mqtt://x/path", "no host"),
            ("mqtt://a b", "no host"),
            ("mqtt://x:port", "port is no number"),
            ("mqtt://x:70000", "port is no number"),
            ("mqtt://x:0", "port 0"),
            ("mqtt://::1", "brackets"),
        ] {
            let error = Broker::at(url).err().unwrap().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn logins_come_from_flags_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "s e\nnext").unwrap();
        let login = |url, name, file: Option<&Path>| {
            let broker = Broker::at(url).unwrap().with_login(name, file);
            broker.map(|b| b.login).map_err(|e| e.to_string())
        };
        let pair = |n: &str, p: &str| Ok(Some((n.to_owned(), p.to_owned())));
        assert_eq!(login("mqtt://x", None, None), Ok(None));
        assert_eq!(login("mqtt://u:p@x", None, None), pair("u", "p"));
        assert_eq!(login("mqtt://u:p@x", Some("v"), None), pair("v", "p"));
        assert_eq!(login("mqtt://u:p@x", None, Some(&file)), pair("u", "s e"));
        assert_eq!(login("mqtt://x", Some("v"), Some(&file)), pair("v", "s e"));
        let nameless = login("mqtt://x", None, Some(&file)).unwrap_err();
        assert!(nameless.contains("--username"), "{nameless}");
        let missing = login("mqtt://u@x", None, Some(&dir.path().join("none"))).unwrap_err();
        assert!(missing.contains("none"), "{missing}");
        let no_tls = Broker::at("mqtt://x")
            .unwrap()
            .trusting(&file)
            .err()
            .unwrap();
        assert!(matches!(no_tls, SubscriberError::NotTls));
        let no_pem = Broker::at("mqtts://x")
            .unwrap()
            .trusting(&file)
            .err()
            .unwrap();
        assert!(
            matches!(no_pem, SubscriberError::Certificate { .. }),
            "{no_pem}"
        );
    }

    #[test]
    fn pictures_and_commands_are_not_asked_for() {
        let topics: Vec<String> = filters(None).into_iter().map(|f| f.path).collect();
        assert_eq!(topics.len(), topics::CHANNELS.len() - 1);
        assert!(
            topics
                .iter()
                .all(|t| t.starts_with("handloom/+/") && !t.ends_with("snapshot"))
        );
        assert_eq!(filters(Some("pi"))[0].path, "handloom/pi/status");
    }
}
