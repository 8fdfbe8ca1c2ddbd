//! Finds out what speaks at the broker's port when it is not the configured protocol. It runs after an unexplained
//! failure and makes one connection, without a login.

use super::settings::Settings;
use native_tls::{HandshakeError, TlsConnector};
use std::io::{self, Read, Write};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for the connection, and for each answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What speaks at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PortProtocol {
    /// The port speaks TLS, and the settings say plain TCP.
    #[error(
        "the port speaks TLS, and the broker's URL says mqtt://; write mqtts://, or give the port for plain MQTT, which is 1883 as a rule"
    )]
    Tls,
    /// The port speaks MQTT without TLS, and the settings say TLS.
    #[error(
        "the port speaks MQTT without TLS, and the broker's URL says mqtts://; write mqtt://, or give the port for TLS, which is 8883 as a rule"
    )]
    PlainMqtt,
    /// A web server.
    #[error(
        "a web server answers at that port (HTTP); give the port of the MQTT broker, which is 1883 as a rule, or 8883 for TLS"
    )]
    Http,
    /// A login server.
    #[error(
        "an SSH server answers at that port; give the port of the MQTT broker, which is 1883 as a rule, or 8883 for TLS"
    )]
    Ssh,
}

/// Returns what speaks at the port of `settings`, if it is a known protocol other than the configured one.
pub(super) async fn identify(settings: &Settings) -> Option<PortProtocol> {
    let hello = match settings.tls {
        Some(_) => mqtt_hello(),
        None => tls_hello(&settings.host)?,
    };
    let to = (settings.host.as_str(), settings.port);
    let stream = timeout(ANSWER_TIMEOUT, TcpStream::connect(to))
        .await
        .ok()?
        .ok()?;
    let mut answer = exchange(&stream, &hello).await;
    if answer.is_empty() {
        // A web server waits for the end of a line.
        answer = exchange(&stream, b"\r\n\r\n").await;
    }
    match answer.as_slice() {
        [b'H', b'T', b'T', b'P', b'/', ..] => Some(PortProtocol::Http),
        [b'S', b'S', b'H', b'-', ..] => Some(PortProtocol::Ssh),
        [0x20, 2, ..] if settings.tls.is_some() => Some(PortProtocol::PlainMqtt),
        [0x15 | 0x16, 3, ..] if settings.tls.is_none() => Some(PortProtocol::Tls),
        _ => None,
    }
}

/// Sends `words` and returns up to 8 bytes of the answer; empty when none comes in time.
async fn exchange(stream: &TcpStream, words: &[u8]) -> Vec<u8> {
    let mut answer = vec![0; 8];
    let talk = async {
        stream.writable().await?;
        stream.try_write(words)?;
        loop {
            stream.readable().await?;
            match stream.try_read(&mut answer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    };
    let read = timeout(ANSWER_TIMEOUT, talk).await;
    answer.truncate(read.ok().and_then(Result::ok).unwrap_or(0));
    answer
}

/// CONNECT of MQTT 3.1.1 with a clean session and a client id of its own.
fn mqtt_hello() -> Vec<u8> {
    let id = format!("probe-{:016x}", fastrand::u64(..));
    let mut packet = vec![0x10, 0, 0, 4];
    packet.extend(b"MQTT\x04\x02\x00\x0a\x00");
    // 22 characters.
    packet.extend([22]);
    packet.extend(id.as_bytes());
    packet[1] = 34;
    packet
}

/// The first bytes of a TLS handshake with `host`.
fn tls_hello(host: &str) -> Option<Vec<u8>> {
    let connector = TlsConnector::builder()
        .disable_built_in_roots(true)
        .build()
        .ok()?;
    match connector.connect(host, HelloSink::default()) {
        Err(HandshakeError::WouldBlock(handshake)) => Some(handshake.get_ref().0.clone()),
        _ => None,
    }
}

/// Keeps what is written, and has nothing to read.
#[derive(Debug, Default)]
struct HelloSink(Vec<u8>);

impl Read for HelloSink {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for HelloSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_greetings_are_whole() {
        let hello = tls_hello("localhost").unwrap();
        assert_eq!(hello[..2], [0x16, 3]);
        assert_eq!(
            usize::from(u16::from_be_bytes([hello[3], hello[4]])),
            hello.len() - 5
        );
        let connect = mqtt_hello();
        assert_eq!(usize::from(connect[1]), connect.len() - 2);
    }
}
