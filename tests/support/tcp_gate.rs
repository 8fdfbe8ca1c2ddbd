//! A TCP relay between a client and a broker. A test can close it to cut the network.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

#[derive(Default)]
struct Shared {
    open: AtomicBool,
    over: AtomicBool,
    /// Connection attempts, relayed or refused.
    attempts: AtomicUsize,
    /// Both ends of every relayed connection.
    streams: Mutex<Vec<TcpStream>>,
}

/// Relays until it is dropped.
pub struct TcpGate {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl TcpGate {
    /// Starts an open relay to a port of this machine.
    pub fn to(target: u16) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        shared.open.store(true, Ordering::SeqCst);
        let listener = {
            let shared = shared.clone();
            thread::spawn(move || {
                for near in socket.incoming() {
                    if shared.over.load(Ordering::SeqCst) {
                        break;
                    }
                    shared.attempts.fetch_add(1, Ordering::SeqCst);
                    let mut streams = shared.streams.lock().unwrap();
                    // A refused connection is closed at once.
                    if shared.open.load(Ordering::SeqCst)
                        && let (Ok(near), Ok(far)) =
                            (near, TcpStream::connect(("127.0.0.1", target)))
                    {
                        relay(&near, &far);
                        relay(&far, &near);
                        streams.extend([near, far]);
                    }
                }
            })
        };
        Self {
            port,
            shared,
            listener: Some(listener),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts all connections and refuses new ones.
    pub fn close(&self) {
        let mut streams = self.shared.streams.lock().unwrap();
        self.shared.open.store(false, Ordering::SeqCst);
        for stream in streams.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Connection attempts so far, relayed or refused.
    pub fn attempts(&self) -> usize {
        self.shared.attempts.load(Ordering::SeqCst)
    }

    pub fn open(&self) {
        self.shared.open.store(true, Ordering::SeqCst);
    }
}

impl Drop for TcpGate {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.close();
        // Wakes the listener.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

/// Copies bytes until either end is shut, then shuts both.
fn relay(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let mut piece = [0; 16384];
        while let Ok(n @ 1..) = from.read(&mut piece) {
            if to.write_all(&piece[..n]).is_err() {
                break;
            }
        }
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    });
}
