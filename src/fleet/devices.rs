//! The model of a fleet, from the broker's messages alone, with bounded memory. Anybody who can publish can send anything,
//! so nothing is trusted: neither the size of a message nor its form, its order or its characters.

use crate::fleet::sequence_gaps::{Numbering, SequenceGaps, SequenceStatus};
use crate::messages::payloads::{
    Batch, ClipName, Envelope, Fault, Health, PAYLOAD_MAX, Progress, Reply, StateReport, Status,
    StatusName, VERSION,
};
use crate::messages::topics;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Devices that are kept; what others say is counted in `ignored`.
pub const DEVICES_MAX: usize = 1000;
/// Faults that are kept of a device.
pub const FAULTS_MAX: usize = 20;
/// Silence after which an online device counts as stale; it publishes `health` every 10 s.
pub const STALE_AFTER: Duration = Duration::from_mins(1);
/// Characters that are kept of a text, and of a name.
const TEXT_MAX: usize = 400;
const NAME_MAX: usize = 64;
/// Entries that are kept of the counts per state; there are seven states.
const STATES_MAX: usize = 16;

/// All devices with a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    devices: BTreeMap<String, FleetDevice>,
    ignored: u64,
}

/// What is known of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetDevice {
    /// Its last `status`.
    pub status: Option<Status>,
    /// Its last `state`.
    pub state: Option<StateReport>,
    /// Its last `progress`.
    pub progress: Option<Progress>,
    /// Its last `health`.
    pub health: Option<Health>,
    /// The newest first, each once, at most [`FAULTS_MAX`].
    pub faults: VecDeque<SeenFault>,
    /// Batch files that were announced since the view began.
    pub batches: u64,
    /// Messages that cannot be parsed.
    pub unreadable: u64,
    /// Whether it uses a newer schema version than this program.
    pub is_newer: bool,
    since: Duration,
    last_seen: Option<Duration>,
    channels: BTreeMap<&'static str, SequenceGaps>,
}

/// A fault with what its envelope says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenFault {
    /// Its number, within the ledger that it comes from.
    pub seq: u64,
    /// When it happened, by the device's clock.
    pub ts: String,
    /// Whether that clock was synchronised.
    pub clock_synced: bool,
    /// The fault.
    pub fault: Fault,
    generation: u32,
}

/// Why a payload cannot be used.
enum PayloadError {
    Newer,
    Garbage,
}

impl Fleet {
    /// No device.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Processes a live message. `now` is monotonic, from any origin.
    pub fn take(&mut self, now: Duration, topic: &str, payload: &[u8]) {
        self.fold(now, topic, payload, true);
    }

    /// Processes a retained message: it may be of any age, so it does not show that the device is alive.
    pub fn take_retained(&mut self, now: Duration, topic: &str, payload: &[u8]) {
        self.fold(now, topic, payload, false);
    }

    /// The connection was lost until now: messages of that time do not count as missing, and its silence not as the
    /// devices'.
    pub fn rejoin(&mut self, now: Duration) {
        for device in self.devices.values_mut() {
            device.since = device.since.max(now);
            device.channels.values_mut().for_each(SequenceGaps::rejoin);
        }
    }

    /// Sorted by name.
    #[must_use]
    pub fn devices(&self) -> impl ExactSizeIterator<Item = (&str, &FleetDevice)> {
        self.devices
            .iter()
            .map(|(id, device)| (id.as_str(), device))
    }

    /// The device `id`.
    #[must_use]
    pub fn device(&self, id: &str) -> Option<&FleetDevice> {
        self.devices.get(id)
    }

    /// Devices that are online and not silent.
    #[must_use]
    pub fn online(&self, now: Duration) -> usize {
        let devices = self.devices.values();
        devices
            .filter(|d| d.is_online() && !d.is_stale(now))
            .count()
    }

    /// Messages that were ignored: of invalid device ids, and of devices beyond [`DEVICES_MAX`].
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    fn fold(&mut self, now: Duration, topic: &str, payload: &[u8], is_live: bool) {
        // Commands, and foreign messages below the root topic.
        let Some((id, channel)) = topics::split(topic) else {
            return;
        };
        let is_known = self.devices.contains_key(id);
        if !topics::is_device_id(id) || (!is_known && self.devices.len() >= DEVICES_MAX) {
            self.ignored = self.ignored.saturating_add(1);
            return;
        }
        // An empty message clears a retained one; it does not create a device.
        if payload.is_empty() && !is_known {
            return;
        }
        let device = self
            .devices
            .entry(id.to_owned())
            .or_insert_with(|| FleetDevice::new(now));
        if payload.is_empty() {
            device.forget(channel);
            if device.is_blank() {
                self.devices.remove(id);
            }
            return;
        }
        let is_sign = match device.fold(channel, payload) {
            Ok(arrival) => arrival == SequenceStatus::New,
            Err(PayloadError::Newer) => {
                device.is_newer = true;
                true
            }
            Err(PayloadError::Garbage) => {
                device.unreadable = device.unreadable.saturating_add(1);
                false
            }
        };
        if is_live && is_sign {
            device.last_seen = device.last_seen.max(Some(now));
        }
    }
}

impl FleetDevice {
    fn new(now: Duration) -> Self {
        Self {
            status: None,
            state: None,
            progress: None,
            health: None,
            faults: VecDeque::new(),
            batches: 0,
            unreadable: 0,
            is_newer: false,
            since: now,
            last_seen: None,
            channels: BTreeMap::new(),
        }
    }

    /// Whether its last `status` is online.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|s| s.status == StatusName::Online)
    }

    /// Time since its last live message; `None` while only retained messages are known.
    #[must_use]
    pub fn age(&self, now: Duration) -> Option<Duration> {
        self.last_seen
            .map(|last_seen| now.saturating_sub(last_seen))
    }

    /// Whether it is online and has been silent for longer than [`STALE_AFTER`].
    #[must_use]
    pub fn is_stale(&self, now: Duration) -> bool {
        self.is_online() && self.silence(now) > STALE_AFTER
    }

    /// Time without a message while the connection existed.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since.max(self.last_seen.unwrap_or_default()))
    }

    /// Messages that never arrived, by their numbers.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let counts = self.channels.values().map(|gaps| gaps.missing);
        counts.fold(0, u64::saturating_add)
    }

    fn fold(&mut self, channel: &str, payload: &[u8]) -> Result<SequenceStatus, PayloadError> {
        match channel {
            topics::STATUS => Ok(self.fold_status(read(payload)?)),
            topics::STATE => {
                let (arrival, _, body) = self.number(topics::STATE, read::<StateReport>(payload)?);
                if arrival == SequenceStatus::New {
                    self.state = Some(sanitize_state(body));
                }
                Ok(arrival)
            }
            topics::PROGRESS => {
                let (arrival, _, body) = self.number(topics::PROGRESS, read::<Progress>(payload)?);
                if arrival == SequenceStatus::New {
                    self.progress = Some(sanitize_progress(body));
                }
                Ok(arrival)
            }
            topics::HEALTH => {
                let (arrival, _, body) = self.number(topics::HEALTH, read::<Health>(payload)?);
                if arrival == SequenceStatus::New {
                    self.health = Some(body);
                }
                Ok(arrival)
            }
            topics::BATCH => {
                let (arrival, ..) = self.number(topics::BATCH, read::<Batch>(payload)?);
                self.batches += u64::from(arrival == SequenceStatus::New);
                Ok(arrival)
            }
            topics::REPLY => Ok(self.number(topics::REPLY, read::<Reply>(payload)?).0),
            topics::FAULT => Ok(self.fold_fault(read(payload)?)),
            // An image: it shows that the device is alive, and is not kept.
            topics::SNAPSHOT => Ok(SequenceStatus::New),
            _ => Err(PayloadError::Garbage),
        }
    }

    /// The last `status` counts, whatever its number: that of a last will was assigned when the connection began. The
    /// broker publishes the will, so it does not show that the device is alive.
    fn fold_status(&mut self, message: Envelope<Status>) -> SequenceStatus {
        let mut status = message.body;
        status.version = sanitize(&status.version, NAME_MAX);
        let is_sign = status.status != StatusName::Offline && self.status.as_ref() != Some(&status);
        self.status = Some(status);
        if is_sign {
            SequenceStatus::New
        } else {
            SequenceStatus::Old
        }
    }

    fn fold_fault(&mut self, message: Envelope<Fault>) -> SequenceStatus {
        let (seq, clock_synced) = (message.seq, message.clock_synced);
        let (arrival, ts, body) = self.number(topics::FAULT, message);
        let generation = self.channels.get(topics::FAULT).map_or(0, |g| g.generation);
        // A late fault is inserted at its position.
        let key = (generation, seq);
        let place = self
            .faults
            .iter()
            .position(|f| (f.generation, f.seq) <= key)
            .unwrap_or(self.faults.len());
        let there = self.faults.get(place);
        if there.is_none_or(|f| (f.generation, f.seq) != key) {
            let seen = SeenFault {
                seq,
                ts,
                clock_synced,
                fault: sanitize_fault(body),
                generation,
            };
            self.faults.insert(place, seen);
            self.faults.truncate(FAULTS_MAX);
        }
        arrival
    }

    /// Notes the message's number on its channel.
    fn number<T>(
        &mut self,
        channel: &'static str,
        message: Envelope<T>,
    ) -> (SequenceStatus, String, T) {
        let numbering = match channel {
            topics::BATCH | topics::FAULT | topics::REPLY => Numbering::Durable,
            _ => Numbering::PerStart,
        };
        let ts = sanitize(&message.ts, NAME_MAX);
        let gaps = self
            .channels
            .entry(channel)
            .or_insert_with(|| SequenceGaps::new(numbering));
        (gaps.note(message.seq, &ts), ts, message.body)
    }

    /// The retained message of this channel was cleared.
    fn forget(&mut self, channel: &str) {
        match channel {
            topics::STATUS => self.status = None,
            topics::STATE => self.state = None,
            topics::PROGRESS => self.progress = None,
            topics::HEALTH => self.health = None,
            _ => {}
        }
    }

    /// Whether nothing but the id is known.
    fn is_blank(&self) -> bool {
        self.status.is_none()
            && self.state.is_none()
            && self.progress.is_none()
            && self.health.is_none()
            && self.faults.is_empty()
    }
}

/// The message in `payload`.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<Envelope<T>, PayloadError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    if payload.len() > PAYLOAD_MAX {
        return Err(PayloadError::Garbage);
    }
    let version: Version = serde_json::from_slice(payload).map_err(|_| PayloadError::Garbage)?;
    match version.v {
        0 => Err(PayloadError::Garbage),
        v if v > VERSION => Err(PayloadError::Newer),
        _ => serde_json::from_slice(payload).map_err(|_| PayloadError::Garbage),
    }
}

/// At most `max` characters of `text`, without control characters and characters that change the text's direction.
fn sanitize(text: &str, max: usize) -> String {
    let steers = |c: &char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let plain = text.chars().filter(|c| !steers(c));
    plain
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(max)
        .collect()
}

fn sanitize_state(mut state: StateReport) -> StateReport {
    state.reason = state.reason.map(|t| sanitize(&t, TEXT_MAX));
    state.run = state.run.map(|t| sanitize(&t, NAME_MAX));
    state.backend = sanitize(&state.backend, NAME_MAX);
    state.backend_reason = sanitize(&state.backend_reason, TEXT_MAX);
    state
}

fn sanitize_progress(mut progress: Progress) -> Progress {
    let states = std::mem::take(&mut progress.states).into_iter();
    let states = states.take(STATES_MAX);
    progress.states = states.map(|(s, n)| (sanitize(&s, NAME_MAX), n)).collect();
    progress.run = sanitize(&progress.run, NAME_MAX);
    progress.clip = progress.clip.as_ref().map(sanitize_clip);
    progress
}

fn sanitize_fault(mut fault: Fault) -> Fault {
    fault.run = fault.run.map(|t| sanitize(&t, NAME_MAX));
    fault.component = sanitize(&fault.component, NAME_MAX);
    fault.clip = fault.clip.as_ref().map(sanitize_clip);
    fault.reason = sanitize(&fault.reason, TEXT_MAX);
    fault.action = sanitize(&fault.action, TEXT_MAX);
    fault
}

fn sanitize_clip(clip: &ClipName) -> ClipName {
    ClipName {
        gloss: sanitize(&clip.gloss, NAME_MAX),
        video_id: sanitize(&clip.video_id, NAME_MAX),
    }
}

#[cfg(test)]
mod tests;
