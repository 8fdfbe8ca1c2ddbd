//! Whether the broker can be had.

use super::Finding;
use crate::config::{BrokerUrl, Config};
use crate::exit::Exit;
use std::fs::File;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for the broker's name and port together.
const LIMIT: Duration = Duration::from_secs(5);

/// The broker and what is needed to be let in.
pub(super) fn broker(config: &Config) -> Vec<Finding> {
    let mqtt = &config.mqtt;
    let Some(url) = &mqtt.url else {
        return vec![Finding::fine("broker", "none: mqtt.url is not set")];
    };
    for (key, path) in [
        ("mqtt.ca_file", &mqtt.ca_file),
        ("mqtt.cert_file", &mqtt.cert_file),
        ("mqtt.key_file", &mqtt.key_file),
    ] {
        if let Some(path) = path
            && let Err(error) = File::open(path)
        {
            let detail = format!(
                "{}: {error}; correct {key} or the file's permissions",
                path.display()
            );
            return vec![Finding::bad(Exit::NoInput, "broker", detail)];
        }
    }
    vec![match reach(url) {
        Ok(address) => Finding::fine("broker", format!("{url} answers at {address}")),
        Err(reason) => Finding::bad(
            Exit::Unavailable,
            "broker",
            format!(
                "{url}: {reason}; start the broker, or correct mqtt.url (the job runs all the same, messages wait)"
            ),
        ),
    }]
}

/// Opens a connection and closes it again; nothing is said over it.
fn reach(url: &BrokerUrl) -> Result<SocketAddr, String> {
    let began = Instant::now();
    let (host, port) = url.host_and_port();
    let name = host.to_owned();
    let (answer, answers) = mpsc::sync_channel(1);
    // Looking up a name knows no time limit; a thread that is late ends with the program.
    thread::Builder::new()
        .name("lookup".to_owned())
        .spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs();
            // Nobody waits for a late answer.
            answer.send(found.map(Iterator::collect::<Vec<_>>)).ok();
        })
        .map_err(|error| error.to_string())?;
    let addresses = answers
        .recv_timeout(LIMIT)
        .map_err(|_| format!("no answer to the name {host} within {} s", LIMIT.as_secs()))?
        .map_err(|error| format!("the name {host} is not known: {error}"))?;
    let mut reason = format!("the name {host} has no address");
    for address in addresses {
        let left = LIMIT.saturating_sub(began.elapsed());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(_) => return Ok(address),
            Err(error) => reason = format!("{address} does not answer: {error}"),
        }
    }
    Err(reason)
}
