//! The state of the live view, and the effect of keys.

use crate::fleet::devices::Fleet;
use crate::fleet::fleet_table;
use std::time::Duration;

/// The meaning of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAction {
    /// End.
    Quit,
    /// The device above.
    Up,
    /// The device below.
    Down,
    /// Show more or less of the selected device.
    Details,
}

/// The connection to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerLink {
    /// Not established yet.
    Connecting,
    /// Established.
    Connected,
    /// Lost, or the last attempt failed.
    Lost {
        /// Human-readable reason.
        reason: String,
        /// Time of the loss.
        since: Duration,
    },
}

/// Everything that is drawn, except the time.
#[derive(Clone, Debug)]
pub struct FleetView {
    /// The broker's address.
    pub broker: String,
    /// The connection to it.
    pub link: BrokerLink,
    /// The devices.
    pub fleet: Fleet,
    /// The device that the user selected.
    pub chosen: Option<String>,
    /// Whether all details of that device are shown.
    pub has_details: bool,
}

impl FleetView {
    /// The view before the first message.
    #[must_use]
    pub fn new(broker: String) -> Self {
        Self {
            broker,
            link: BrokerLink::Connecting,
            fleet: Fleet::default(),
            chosen: None,
            has_details: false,
        }
    }

    /// Notes that the connection is established.
    pub fn join(&mut self, now: Duration) {
        self.fleet.rejoin(now);
        self.link = BrokerLink::Connected;
    }

    /// Notes that the connection is lost.
    pub fn lose(&mut self, reason: String, now: Duration) {
        let since = self.clock(now);
        self.link = BrokerLink::Lost { reason, since };
    }

    /// The time for silence and age: it stops while the connection is lost.
    #[must_use]
    pub fn clock(&self, now: Duration) -> Duration {
        match &self.link {
            BrokerLink::Lost { since, .. } => *since,
            _ => now,
        }
    }

    /// Row of the selected device. Until the user selects one it is the first of those that need a person most.
    #[must_use]
    pub fn selected(&self, now: Duration) -> Option<usize> {
        let now = self.clock(now);
        let chosen = self.chosen.as_deref();
        let at = chosen.and_then(|chosen| self.fleet.devices().position(|(id, _)| id == chosen));
        at.or_else(|| {
            let devices = self.fleet.devices().enumerate();
            let needs =
                devices.map(|(at, (_, device))| (fleet_table::attention(device, now).0, at));
            // The first of those with equal attention.
            let worst = needs.max_by_key(|(attention, at)| (*attention, std::cmp::Reverse(*at)));
            worst.map(|(_, at)| at)
        })
    }

    /// Applies `key`; the caller handles `Quit`.
    pub fn press(&mut self, key: KeyAction, now: Duration) {
        let to = match (key, self.selected(now)) {
            (KeyAction::Details, _) => {
                self.has_details = !self.has_details;
                // The selection stays.
                self.selected(now)
            }
            (KeyAction::Up, Some(at)) => Some(at.saturating_sub(1)),
            (KeyAction::Down, Some(at)) => {
                Some((at + 1).min(self.fleet.devices().len().saturating_sub(1)))
            }
            _ => None,
        };
        if let Some((id, _)) = to.and_then(|at| self.fleet.devices().nth(at)) {
            self.chosen = Some(id.to_owned());
        }
    }
}
