//! The preview: a page that shows the camera as an MJPEG stream over HTTP, for the person who sets it up.
//!
//! It serves a few viewers, keeps only the newest frame and never blocks the thread that provides frames. It answers
//! requests for its page and its frames only.

mod request;

use crate::untrusted::LOG_TARGET;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Maximum number of viewers; a further one gets status 503.
pub const VIEWERS_MAX: usize = 4;
/// Default of [`PreviewShared::io_timeout`].
const IO_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a wait for a frame checks whether the server ends.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Delay after an error of the listener.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The preview cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the preview on {address}: {source}")]
pub struct PreviewError {
    address: SocketAddr,
    source: io::Error,
}

#[derive(Debug, Default)]
struct LatestFrame {
    /// Counts frames, so that each is sent once.
    number: u64,
    jpeg: Arc<Vec<u8>>,
}

#[derive(Debug)]
struct PreviewShared {
    latest: Mutex<LatestFrame>,
    came: Condvar,
    /// Open connections, viewers and refused ones.
    connections: AtomicUsize,
    /// Open connections that were not refused.
    viewers: AtomicUsize,
    is_stopped: AtomicBool,
    /// Longest time for reading a request, or for writing one frame.
    io_timeout: Duration,
}

impl PreviewShared {
    fn new(io_timeout: Duration) -> Self {
        Self {
            latest: Mutex::default(),
            came: Condvar::new(),
            connections: AtomicUsize::new(0),
            viewers: AtomicUsize::new(0),
            is_stopped: AtomicBool::new(false),
            io_timeout,
        }
    }

    /// A panic elsewhere leaves it valid: a number and a frame.
    fn latest(&self) -> MutexGuard<'_, LatestFrame> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    fn connected(&self, is_refused: bool) {
        self.connections.fetch_add(1, Ordering::AcqRel);
        self.viewers
            .fetch_add(usize::from(!is_refused), Ordering::AcqRel);
    }

    fn disconnected(&self, is_refused: bool) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
        self.viewers
            .fetch_sub(usize::from(!is_refused), Ordering::AcqRel);
    }

    /// A frame that is newer than number `than`, if one comes within [`POLL_INTERVAL`].
    fn next(&self, than: u64) -> Option<(u64, Arc<Vec<u8>>)> {
        let mut latest = self.latest();
        if latest.number <= than && !self.is_stopped() {
            let waited = self.came.wait_timeout(latest, POLL_INTERVAL);
            latest = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        (latest.number > than).then(|| (latest.number, Arc::clone(&latest.jpeg)))
    }
}

/// A running preview; it ends when it is dropped.
#[derive(Debug)]
pub struct Preview {
    shared: Arc<PreviewShared>,
    address: SocketAddr,
    listener: Option<JoinHandle<()>>,
}

impl Preview {
    /// Serves on `address`; port 0 selects a free port.
    ///
    /// # Errors
    /// Fails when the address cannot be listened on.
    pub fn start(address: SocketAddr) -> Result<Self, PreviewError> {
        Self::start_with(address, IO_TIMEOUT)
    }

    fn start_with(address: SocketAddr, io_timeout: Duration) -> Result<Self, PreviewError> {
        let wrap = |source| PreviewError { address, source };
        let listener = TcpListener::bind(address).map_err(wrap)?;
        let bound = listener.local_addr().map_err(wrap)?;
        let shared = Arc::new(PreviewShared::new(io_timeout));
        let theirs = Arc::clone(&shared);
        let thread = Builder::new().name("preview".into());
        let thread = thread
            .spawn(move || accept_loop(&listener, &theirs, bound))
            .map_err(wrap)?;
        Ok(Self {
            shared,
            address: bound,
            listener: Some(thread),
        })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether there is a viewer, so that a frame is worth encoding.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.shared.viewers.load(Ordering::Acquire) > 0
    }

    /// Replaces the frame that viewers get.
    pub fn show(&self, jpeg: Vec<u8>) {
        let mut latest = self.shared.latest();
        latest.number += 1;
        latest.jpeg = Arc::new(jpeg);
        drop(latest);
        self.shared.came.notify_all();
    }
}

impl Drop for Preview {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.came.notify_all();
        // Wakes the listener; where that fails its thread ends with the process.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let woken = TcpStream::connect_timeout(&address, IO_TIMEOUT).is_ok();
        if let Some(thread) = self.listener.take()
            && woken
            && thread.join().is_err()
        {
            tracing::error!("the preview's thread has panicked");
        }
    }
}

/// Accepts viewers until the end, then waits for their threads.
fn accept_loop(listener: &TcpListener, shared: &Arc<PreviewShared>, address: SocketAddr) {
    let mut viewers: Vec<(JoinHandle<()>, TcpStream)> = Vec::new();
    loop {
        let accepted = listener.accept();
        if shared.is_stopped() {
            break;
        }
        viewers.retain(|(thread, _)| !thread.is_finished());
        let accepted = accepted.and_then(|(stream, _)| Ok((stream.try_clone()?, stream)));
        let (stream, ours) = match accepted {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(target: LOG_TARGET, %error, "cannot accept a viewer");
                std::thread::sleep(RETRY_DELAY);
                continue;
            }
        };
        let theirs = Arc::clone(shared);
        // A viewer beyond the limit is refused on a thread as well. Their number is limited, too.
        if shared.connections.load(Ordering::Acquire) > 2 * VIEWERS_MAX {
            continue;
        }
        let is_full = shared.viewers.load(Ordering::Acquire) >= VIEWERS_MAX;
        shared.connected(is_full);
        let serve = move || {
            let served = serve(&stream, &theirs, address, is_full);
            // Before the connection is closed: a client that sees the end may connect again at once.
            theirs.disconnected(is_full);
            // The other copy of the connection must not keep it open.
            let closed = stream.shutdown(Shutdown::Both);
            // A viewer that disconnects is no error.
            if let Err(error) = served.and(closed) {
                tracing::debug!(target: LOG_TARGET, %error, "a viewer disconnected");
            }
        };
        match Builder::new().name("viewer".into()).spawn(serve) {
            Ok(thread) => viewers.push((thread, ours)),
            Err(error) => {
                shared.disconnected(is_full);
                tracing::warn!(target: LOG_TARGET, %error, "no thread for a viewer");
            }
        }
    }
    for (thread, stream) in viewers {
        // Ends whatever the thread waits for; the viewer may have disconnected already.
        stream.shutdown(Shutdown::Both).ok();
        if thread.join().is_err() {
            tracing::error!("a viewer's thread has panicked");
        }
    }
}

fn serve(
    stream: &TcpStream,
    shared: &PreviewShared,
    address: SocketAddr,
    is_full: bool,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let timed = || request::DeadlineStream::new(stream, shared.io_timeout);
    let answer =
        |status: &str, kind: &str, body: &[u8]| request::answer(&mut timed(), status, kind, body);
    let unavailable = |body: &[u8]| answer("503 Service Unavailable", "text/plain", body);
    let request = request::read(&mut timed())?;
    if is_full {
        return unavailable(b"too many viewers\n");
    }
    match request::route(&request, address) {
        request::Route::Page => answer("200 OK", "text/html; charset=utf-8", request::PAGE),
        request::Route::Frame => {
            let since = Instant::now();
            while since.elapsed() < shared.io_timeout && !shared.is_stopped() {
                if let Some((_, jpeg)) = shared.next(0) {
                    return answer("200 OK", "image/jpeg", &jpeg);
                }
            }
            unavailable(b"no picture yet\n")
        }
        request::Route::Stream => {
            timed().write_all(request::STREAM_HEAD)?;
            let mut last = 0;
            while !shared.is_stopped() {
                if let Some((number, jpeg)) = shared.next(last) {
                    last = number;
                    request::part(&mut timed(), &jpeg)?;
                }
            }
            Ok(())
        }
        request::Route::Refused(status) => {
            answer(status, "text/plain", format!("{status}\n").as_bytes())
        }
    }
}

/// Reads a request's head as the preview does, for `tests/fuzz`.
#[cfg(fuzzing)]
pub fn fuzz_head(mut bytes: &[u8]) {
    if let Ok(head) = request::read(&mut bytes) {
        request::route(&head, SocketAddr::from(([127, 0, 0, 1], 8088)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::Ipv4Addr;

    /// Longest time that an event takes on a busy machine.
    const TIMEOUT: Duration = Duration::from_mins(1);

    fn start() -> Preview {
        Preview::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
    }

    fn send_request(preview: &Preview, line: &str, host: &str) -> TcpStream {
        let mut stream = TcpStream::connect(preview.address()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        write!(stream, "{line} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        stream
    }

    fn all(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn the_page_and_a_frame_are_served() {
        let preview = start();
        let host = preview.address().to_string();
        let page = all(send_request(&preview, "GET /", &host));
        assert!(
            page.starts_with("HTTP/1.1 200 OK") && page.contains("stream.mjpg"),
            "{page}"
        );
        preview.show(b"first".to_vec());
        preview.show(b"second".to_vec());
        let jpeg_response = all(send_request(&preview, "GET /frame.jpg", &host));
        assert!(jpeg_response.ends_with("\r\n\r\nsecond"), "{jpeg_response}");
        for (line, host, status) in [
            ("GET /etc/passwd", host.as_str(), "404"),
            ("POST /", host.as_str(), "405"),
            ("GET /frame.jpg", "evil.example", "403"),
        ] {
            let answer = all(send_request(&preview, line, host));
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
    }

    #[test]
    fn a_stream_shows_the_newest_and_viewers_are_few() {
        let preview = start();
        let host = preview.address().to_string();
        let mut streams: Vec<TcpStream> = (0..VIEWERS_MAX)
            .map(|_| send_request(&preview, "GET /stream.mjpg", &host))
            .collect();
        let mut byte = [0];
        for stream in &mut streams {
            stream.read_exact(&mut byte).unwrap();
        }
        assert!(preview.is_watched());
        assert!(all(send_request(&preview, "GET /", &host)).starts_with("HTTP/1.1 503"));
        preview.show(b"JPEG-7".to_vec());
        for stream in &mut streams {
            let mut seen = Vec::new();
            while !seen.ends_with(b"JPEG-7") {
                stream.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
        }
        // Ends all of them and itself.
        drop(preview);
        for mut stream in streams {
            stream.read_to_end(&mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn a_slow_viewer_keeps_neither_its_place_nor_the_end() {
        let preview = start();
        let host = preview.address().to_string();
        // Sends a byte at a time until the server closes the connection. Returns whether it does.
        let dribble = |mut stream: TcpStream| {
            let since = Instant::now();
            while since.elapsed() < TIMEOUT {
                if stream.write_all(b"x").is_err() {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            false
        };
        std::thread::scope(|scope| {
            let slow: Vec<_> = (0..=2 * VIEWERS_MAX)
                .map(|_| TcpStream::connect(preview.address()).unwrap())
                .map(|stream| scope.spawn(|| dribble(stream)))
                .collect();
            for slow in slow {
                assert!(slow.join().unwrap(), "a slow viewer kept its place");
            }
        });
        let page = all(send_request(&preview, "GET /", &host));
        assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
        // A client whose request never ends, and one that reads nothing of its stream. The end waits for neither.
        let preview = Preview::start_with((Ipv4Addr::LOCALHOST, 0).into(), 2 * TIMEOUT).unwrap();
        let host = preview.address().to_string();
        let slow = TcpStream::connect(preview.address()).unwrap();
        let mut idle = send_request(&preview, "GET /stream.mjpg", &host);
        idle.read_exact(&mut [0]).unwrap();
        preview.show(vec![0; 64 << 20]);
        std::thread::scope(|scope| {
            scope.spawn(|| dribble(slow));
            std::thread::sleep(RETRY_DELAY);
            let since = Instant::now();
            drop(preview);
            let took = since.elapsed();
            assert!(took < TIMEOUT, "the end took {took:?}");
        });
    }
}
