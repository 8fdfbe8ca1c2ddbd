//! A broker that a test controls packet by packet, for faults that a real broker does not show on demand.
//!
//! Its MQTT 3.1.1 follows the standard and does not use the library under test.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a waiting thread checks whether the test is over.
const TICK: Duration = Duration::from_millis(20);

/// A packet that a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect {
        client: String,
        clean: bool,
        keep_alive: u16,
        /// Topic, payload, retained, `QoS`.
        will: Option<(String, Vec<u8>, bool, u8)>,
        user: Option<String>,
        password: Option<String>,
    },
    Publish {
        topic: String,
        payload: Vec<u8>,
        retained: bool,
        qos: u8,
        id: u16,
    },
    PubAck(u16),
    Subscribe {
        id: u16,
        filters: Vec<(String, u8)>,
    },
    Ping,
    Disconnect,
}

/// A packet, its connection (counted from 0), and the time when it arrived.
#[derive(Clone, Debug)]
pub struct ReceivedPacket {
    pub connection: usize,
    pub packet: Packet,
    pub at: Instant,
}

#[derive(Default)]
struct Record {
    connects: Vec<Instant>,
    seen: Vec<ReceivedPacket>,
}

/// Listens until it is dropped.
pub struct StubBroker {
    port: u16,
    record: Arc<Mutex<Record>>,
    over: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl StubBroker {
    /// Calls `behave` for each connection, in a separate thread. The connection closes when `behave` returns.
    pub fn start(behave: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let record = Arc::new(Mutex::new(Record::default()));
        let over = Arc::new(AtomicBool::new(false));
        let listener = {
            let (record, over, behave) = (record.clone(), over.clone(), Arc::new(behave));
            thread::spawn(move || {
                let mut peers = Vec::new();
                for (number, stream) in socket.incoming().enumerate() {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    record.lock().unwrap().connects.push(Instant::now());
                    let stream = stream.unwrap();
                    stream.set_read_timeout(Some(TICK)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut peer = Peer {
                        number,
                        stream,
                        buffer: Vec::new(),
                        record: record.clone(),
                        over: over.clone(),
                    };
                    let behave = behave.clone();
                    peers.push(thread::spawn(move || behave(&mut peer)));
                }
                // A failed assertion of a peer shows in the packets that the test then misses.
                for peer in peers {
                    drop(peer.join());
                }
            })
        };
        Self {
            port,
            record,
            over,
            listener: Some(listener),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The time of each TCP connection.
    pub fn connects(&self) -> Vec<Instant> {
        self.record.lock().unwrap().connects.clone()
    }

    /// All packets received so far.
    pub fn seen(&self) -> Vec<ReceivedPacket> {
        self.record.lock().unwrap().seen.clone()
    }

    /// The packets received over one connection.
    pub fn packets(&self, connection: usize) -> Vec<Packet> {
        let seen = self.seen().into_iter();
        seen.filter(|s| s.connection == connection)
            .map(|s| s.packet)
            .collect()
    }
}

impl Drop for StubBroker {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

/// One connection, seen from the broker.
pub struct Peer {
    /// Counted from 0.
    pub number: usize,
    stream: TcpStream,
    buffer: Vec<u8>,
    record: Arc<Mutex<Record>>,
    over: Arc<AtomicBool>,
}

impl Peer {
    /// The next packet; `None` when the client or the test has ended.
    pub fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, used)) = decode(&self.buffer) {
                self.buffer.drain(..used);
                self.record.lock().unwrap().seen.push(ReceivedPacket {
                    connection: self.number,
                    packet: packet.clone(),
                    at: Instant::now(),
                });
                return Some(packet);
            }
            let mut piece = [0; 16384];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.over.load(Ordering::Relaxed) {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
    }

    /// Keeps the connection open and sends nothing for `time`, or until the test is over.
    pub fn idle(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.over.load(Ordering::Relaxed) {
            thread::sleep(TICK.min(time));
        }
    }

    /// Sends bytes unchanged. A closed connection is no error.
    pub fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// Waits for CONNECT and answers it; `false` when another packet or none came.
    pub fn accept(&mut self, session: bool, code: u8) -> bool {
        let connected = matches!(self.read(), Some(Packet::Connect { .. }));
        if connected {
            self.send(&[0x20, 2, u8::from(session), code]);
        }
        connected
    }

    pub fn puback(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x40, 2, high, low]);
    }

    /// `codes` has one code for each filter: its `QoS`, or 0x80 to refuse it.
    pub fn suback(&mut self, id: u16, codes: &[u8]) {
        let [high, low] = id.to_be_bytes();
        let count = u8::try_from(codes.len()).unwrap();
        self.send(&[&[0x90, 2 + count, high, low], codes].concat());
    }

    /// Accepts a client, refuses its subscription, and returns its filters.
    pub fn refuse_reading(&mut self) -> Vec<String> {
        assert!(self.accept(false, 0));
        let Some(Packet::Subscribe { id, filters }) = self.read() else {
            panic!("expected SUBSCRIBE")
        };
        self.suback(id, &vec![0x80; filters.len()]);
        filters.into_iter().map(|(filter, _)| filter).collect()
    }

    /// Publishes at `QoS` 0 when `id` is 0, otherwise at `QoS` 1.
    pub fn publish(&mut self, topic: &str, payload: &[u8], id: u16, retained: bool) {
        let mut body = string(topic);
        if id != 0 {
            body.extend_from_slice(&id.to_be_bytes());
        }
        body.extend_from_slice(payload);
        let head = 0x30 | (u8::from(id != 0) << 1) | u8::from(retained);
        let mut packet = vec![head];
        let mut length = body.len();
        loop {
            let more = u8::from(length > 127) << 7;
            packet.push(u8::try_from(length % 128).unwrap() | more);
            length /= 128;
            if length == 0 {
                break;
            }
        }
        packet.extend(body);
        self.send(&packet);
    }

    /// Answers a packet as the standard requires, but sends PUBACK only if `acks`.
    pub fn answer(&mut self, packet: &Packet, acks: bool) {
        match packet {
            Packet::Publish { qos: 1, id, .. } if acks => self.puback(*id),
            Packet::Subscribe { id, filters } => {
                let codes: Vec<u8> = filters.iter().map(|(_, qos)| *qos).collect();
                self.suback(*id, &codes);
            }
            Packet::Ping => self.send(&[0xd0, 0]),
            _ => {}
        }
    }

    /// Acts as an ordinary broker until the client disconnects.
    pub fn serve(&mut self) {
        while let Some(packet) = self.read() {
            if packet == Packet::Disconnect {
                return;
            }
            self.answer(&packet, true);
        }
    }
}

fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&length, text.as_bytes()].concat()
}

/// The packet at the start of `bytes` and its length; `None` while it is incomplete.
fn decode(bytes: &[u8]) -> Option<(Packet, usize)> {
    let (&head, rest) = bytes.split_first()?;
    let mut length = 0;
    let mut size = 1;
    for (place, byte) in rest.iter().enumerate() {
        length |= usize::from(byte & 127) << (7 * place);
        size += 1;
        if byte & 128 == 0 {
            break;
        }
        if place + 1 == rest.len() {
            return None;
        }
    }
    if size == 1 {
        return None;
    }
    let mut body = Body(bytes.get(size..size + length)?);
    let packet = match head >> 4 {
        1 => {
            assert_eq!(body.bytes(), b"MQTT");
            assert_eq!(body.byte(), 4, "version 3.1.1");
            let flags = body.byte();
            let keep_alive = body.number();
            let client = body.text();
            let will = (flags & 4 != 0).then(|| {
                let (topic, payload) = (body.text(), body.bytes().to_vec());
                (topic, payload, flags & 32 != 0, flags >> 3 & 3)
            });
            Packet::Connect {
                client,
                clean: flags & 2 != 0,
                keep_alive,
                will,
                user: (flags & 128 != 0).then(|| body.text()),
                password: (flags & 64 != 0).then(|| body.text()),
            }
        }
        3 => {
            let qos = head >> 1 & 3;
            let topic = body.text();
            let id = if qos > 0 { body.number() } else { 0 };
            Packet::Publish {
                topic,
                payload: body.0.to_vec(),
                retained: head & 1 != 0,
                qos,
                id,
            }
        }
        4 => Packet::PubAck(body.number()),
        8 => {
            let id = body.number();
            let mut filters = Vec::new();
            while !body.0.is_empty() {
                filters.push((body.text(), body.byte()));
            }
            Packet::Subscribe { id, filters }
        }
        12 => Packet::Ping,
        14 => Packet::Disconnect,
        other => panic!("unexpected packet type {other} from a client"),
    };
    Some((packet, size + length))
}

/// The unread rest of a packet.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn number(&mut self) -> u16 {
        let two = self.take(2);
        u16::from_be_bytes([two[0], two[1]])
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.number();
        self.take(length.into())
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }
}
