//! The part of HTTP that a page with an MJPEG stream needs.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest request head, bytes.
const REQUEST_MAX: usize = 8 << 10;

/// Separates the frames of a stream, as [`STREAM_HEAD`] announces.
const BOUNDARY: &str = "handloom";

/// The page.
pub(super) const PAGE: &[u8] = b"<!doctype html><meta charset=utf-8><title>handloom camera</title>\
<style>body{margin:0;background:#111;display:grid;place-items:center;height:100vh}img{max-width:100%;max-height:100vh}</style>\
<img src=stream.mjpg alt=\"what the camera sees, with the hands that were found\">";

/// The head of a stream's response.
pub(super) const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=handloom\r\n\
Cache-Control: no-store\r\nConnection: close\r\n\r\n";

/// A connection with one deadline for all its reads and writes, however small each is.
pub(super) struct DeadlineStream<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl<'a> DeadlineStream<'a> {
    /// A stream whose deadline is `time` from now.
    pub(super) fn new(stream: &'a TcpStream, time: Duration) -> Self {
        let until = Instant::now() + time;
        Self { stream, until }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }
}

impl Read for DeadlineStream<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(to)
    }
}

impl Write for DeadlineStream<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Page,
    Frame,
    Stream,
    /// Another request, which is answered with this status.
    Refused(&'static str),
}

/// Reads the head of a request.
pub(super) fn read(from: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut chunk = [0; 512];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let count = from.read(&mut chunk)?;
        if count == 0 || head.len() + count > REQUEST_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no request"));
        }
        head.extend_from_slice(&chunk[..count]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The route of a request to a server on `address`.
pub(super) fn route(request: &str, address: SocketAddr) -> Route {
    let mut lines = request.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    if !host.is_some_and(|host| is_ours(host, address)) {
        return Route::Refused("403 Forbidden");
    }
    if method != Some("GET") {
        return Route::Refused("405 Method Not Allowed");
    }
    match target.split('?').next().unwrap_or_default() {
        "/" => Route::Page,
        "/frame.jpg" => Route::Frame,
        "/stream.mjpg" => Route::Stream,
        _ => Route::Refused("404 Not Found"),
    }
}

/// Whether `host` may name this server. On loopback it must be a loopback name, which stops a foreign page that points its
/// own name at this address to read the frames (DNS rebinding). On other addresses any name is accepted.
fn is_ours(host: &str, address: SocketAddr) -> bool {
    if !address.ip().is_loopback() {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Writes a complete response.
pub(super) fn answer(to: &mut impl Write, status: &str, kind: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(
        to,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n"
    )?;
    to.write_all(body)?;
    to.flush()
}

/// Writes one frame of a stream.
pub(super) fn part(to: &mut impl Write, jpeg: &[u8]) -> io::Result<()> {
    let length = jpeg.len();
    write!(
        to,
        "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
    )?;
    to.write_all(jpeg)?;
    to.write_all(b"\r\n")?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood_or_refused() {
        let check = |target: &str, host: &str, address: &str, expected: Route| {
            let request = format!("GET {target} HTTP/1.1\r\naccept: */*\r\nhOsT: {host}\r\n\r\n");
            assert_eq!(
                route(&request, address.parse().unwrap()),
                expected,
                "{host}"
            );
        };
        let loopback = "127.0.0.1:8088";
        check("/", "localhost:8088", loopback, Route::Page);
        check("/?x=1", "127.0.0.1", loopback, Route::Page);
        check("/frame.jpg", "[::1]:8088", loopback, Route::Frame);
        check("/stream.mjpg", "pi.local", "0.0.0.0:8088", Route::Stream);
        for host in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""] {
            check("/", host, loopback, Route::Refused("403 Forbidden"));
        }
        check(
            "/../x",
            "localhost",
            loopback,
            Route::Refused("404 Not Found"),
        );
        let bare = route("GET / HTTP/1.1\r\n\r\n", loopback.parse().unwrap());
        assert_eq!(bare, Route::Refused("403 Forbidden"));
        assert!(read(&mut vec![b'x'; 20_000].as_slice()).is_err());
        assert!(read(&mut b"GET / HT".as_slice()).is_err());
    }
}
