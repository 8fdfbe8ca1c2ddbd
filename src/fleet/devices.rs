//! The model of a fleet, from the broker's messages alone, with bounded memory. Anybody who can publish can send anything,
//! so no message is trusted: its size, form, order and characters are checked.

use crate::fleet::sequence_gaps::{Numbering, SequenceGaps, SequenceStatus};
use crate::messages::payloads::{
    Batch, Envelope, Fault, Health, PAYLOAD_MAX, Progress, Reply, StateReport, Status, StatusName,
    VERSION,
};
use crate::messages::topics;
use crate::untrusted::is_terminal_control;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Maximum number of devices; messages of further ones are counted in `ignored`.
pub const DEVICES_MAX: usize = 1000;
/// Maximum number of faults that are kept of a device.
pub const FAULTS_MAX: usize = 20;
/// Silence after which an online device counts as stale; it publishes `health` every 10 s.
pub const STALE_AFTER: Duration = Duration::from_mins(1);
/// Maximum number of characters that are kept of a text, and of a name.
const TEXT_MAX: usize = 400;
const NAME_MAX: usize = 64;
/// Maximum number of entries that are kept of the counts per state; there are seven states.
const STATES_MAX: usize = 16;

/// All devices that have published a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    devices: BTreeMap<String, FleetDevice>,
    ignored: u64,
}

/// What is known of a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FleetDevice {
    /// Its last `status`.
    pub status: Option<Status>,
    /// Its last `state`.
    pub state: Option<StateReport>,
    /// Its last `progress`.
    pub progress: Option<Progress>,
    /// Its last `health`.
    pub health: Option<Health>,
    /// Faults, the newest first, each once, at most [`FAULTS_MAX`].
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

/// A fault of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenFault {
    /// The message.
    pub message: Envelope<Fault>,
    /// The ledger that numbers it, as [`SequenceGaps::generation`].
    generation: u32,
}

/// Why a payload cannot be used.
enum PayloadError {
    Newer,
    Garbage,
}

impl Fleet {
    /// Notes that the lost connection is back. Messages of the time without it do not count as missing, and that time
    /// does not count as silence of the devices.
    pub fn rejoin(&mut self, now: Duration) {
        for device in self.devices.values_mut() {
            device.since = device.since.max(now);
            device.channels.values_mut().for_each(SequenceGaps::rejoin);
        }
    }

    /// The devices, sorted by name.
    #[must_use]
    pub fn devices(&self) -> impl ExactSizeIterator<Item = (&str, &FleetDevice)> {
        self.devices
            .iter()
            .map(|(id, device)| (id.as_str(), device))
    }

    /// Number of devices that are online and not silent.
    #[must_use]
    pub fn online(&self, now: Duration) -> usize {
        let devices = self.devices.values();
        devices
            .filter(|d| d.is_online() && !d.is_stale(now))
            .count()
    }

    /// Number of messages that were ignored: of invalid device ids, and of devices beyond [`DEVICES_MAX`].
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Processes a message. `now` is monotonic, from any origin. A retained message may be of any age, so it does not
    /// show that the device is alive.
    pub fn take(&mut self, now: Duration, topic: &str, payload: &[u8], is_retained: bool) {
        // Commands, and foreign messages below the root topic, are ignored.
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
            .or_insert_with(|| FleetDevice {
                since: now,
                ..FleetDevice::default()
            });
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
        if is_sign && !is_retained {
            device.last_seen = device.last_seen.max(Some(now));
        }
    }
}

impl FleetDevice {
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

    /// Number of messages that never arrived, from the gaps in their sequence numbers.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let counts = self.channels.values().map(|gaps| gaps.missing);
        counts.fold(0, u64::saturating_add)
    }

    fn fold(&mut self, channel: &str, payload: &[u8]) -> Result<SequenceStatus, PayloadError> {
        match channel {
            topics::STATUS => Ok(self.fold_status(read(payload)?.body)),
            topics::STATE => self.fold_last(topics::STATE, payload, |device| &mut device.state),
            topics::PROGRESS => {
                self.fold_last(topics::PROGRESS, payload, |device| &mut device.progress)
            }
            topics::HEALTH => self.fold_last(topics::HEALTH, payload, |device| &mut device.health),
            topics::BATCH => {
                let status = self.number(topics::BATCH, &read::<Batch>(payload)?);
                self.batches += u64::from(status == SequenceStatus::New);
                Ok(status)
            }
            topics::REPLY => Ok(self.number(topics::REPLY, &read::<Reply>(payload)?)),
            topics::FAULT => Ok(self.fold_fault(read(payload)?)),
            // An image: it shows that the device is alive, and is not kept.
            topics::SNAPSHOT => Ok(SequenceStatus::New),
            _ => Err(PayloadError::Garbage),
        }
    }

    /// The last `status` counts, whatever its number: that of a last will was assigned when the connection began. The
    /// broker publishes the will, so it does not show that the device is alive.
    fn fold_status(&mut self, status: Status) -> SequenceStatus {
        let is_sign = status.status != StatusName::Offline && self.status.as_ref() != Some(&status);
        self.status = Some(status);
        if is_sign {
            SequenceStatus::New
        } else {
            SequenceStatus::Old
        }
    }

    /// Keeps the message in `slot` if it is new.
    fn fold_last<T: DeserializeOwned>(
        &mut self,
        channel: &'static str,
        payload: &[u8],
        slot: fn(&mut Self) -> &mut Option<T>,
    ) -> Result<SequenceStatus, PayloadError> {
        let message = read(payload)?;
        let status = self.number(channel, &message);
        if status == SequenceStatus::New {
            *slot(self) = Some(message.body);
        }
        Ok(status)
    }

    fn fold_fault(&mut self, message: Envelope<Fault>) -> SequenceStatus {
        let status = self.number(topics::FAULT, &message);
        let generation = self.channels.get(topics::FAULT).map_or(0, |g| g.generation);
        // A late fault is inserted at its position.
        let key = (generation, message.seq);
        let key_of = |fault: &SeenFault| (fault.generation, fault.message.seq);
        let place = self.faults.iter().position(|fault| key_of(fault) <= key);
        let place = place.unwrap_or(self.faults.len());
        if self.faults.get(place).map(key_of) != Some(key) {
            let fault = SeenFault {
                message,
                generation,
            };
            self.faults.insert(place, fault);
            self.faults.truncate(FAULTS_MAX);
        }
        status
    }

    /// Notes the message's number on its channel.
    fn number<T>(&mut self, channel: &'static str, message: &Envelope<T>) -> SequenceStatus {
        let numbering = match channel {
            topics::BATCH | topics::FAULT | topics::REPLY => Numbering::Durable,
            _ => Numbering::PerStart,
        };
        let gaps = self.channels.entry(channel);
        let gaps = gaps.or_insert_with(|| SequenceGaps::new(numbering));
        gaps.note(message.seq, &message.ts)
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

/// The message in `payload`, its texts sanitized.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<Envelope<T>, PayloadError> {
    if payload.len() > PAYLOAD_MAX {
        return Err(PayloadError::Garbage);
    }
    let mut message: Value = serde_json::from_slice(payload).map_err(|_| PayloadError::Garbage)?;
    match message["v"].as_u64() {
        None | Some(0) => return Err(PayloadError::Garbage),
        Some(version) if version > u64::from(VERSION) => return Err(PayloadError::Newer),
        Some(_) => {}
    }
    sanitize_texts(&mut message, NAME_MAX);
    serde_json::from_value(message).map_err(|_| PayloadError::Garbage)
}

/// Sanitizes every text in `value`. It keeps `max` characters of a text without a key.
fn sanitize_texts(value: &mut Value, max: usize) {
    match value {
        Value::String(text) => *text = sanitize(text, max),
        Value::Object(members) => {
            if let Some(Value::Object(states)) = members.get_mut("states") {
                let kept = std::mem::take(states).into_iter().take(STATES_MAX);
                *states = kept.map(|(s, n)| (sanitize(&s, NAME_MAX), n)).collect();
            }
            for (key, member) in members {
                let is_sentence = ["reason", "backend_reason", "action"].contains(&key.as_str());
                sanitize_texts(member, if is_sentence { TEXT_MAX } else { NAME_MAX });
            }
        }
        // Texts in arrays stay as they are: none of them is kept.
        _ => {}
    }
}

/// At most `max` characters of `text`, without control characters and characters that change the text's direction.
fn sanitize(text: &str, max: usize) -> String {
    let is_hidden = |c: &char| {
        is_terminal_control(*c) && !c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let plain = text.chars().filter(|c| !is_hidden(c));
    plain
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(max)
        .collect()
}

#[cfg(test)]
mod tests;
