//! What the live view shows, and what keys do to it.

use crate::fleet::devices::Fleet;
use crate::fleet::fleet_table;
use crate::fleet::fleet_table::Attention;
use std::time::Duration;

/// What a person can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAction {
    /// End.
    Quit,
    /// The device above.
    Up,
    /// The device below.
    Down,
    /// More or less of the device.
    Details,
}

/// The connection to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerLink {
    /// Not there yet.
    Connecting,
    /// There.
    Connected,
    /// Not there.
    Lost {
        /// Why.
        reason: String,
        /// Since when.
        since: Duration,
    },
}

/// All that a frame is drawn from, but the time.
#[derive(Clone, Debug)]
pub struct FleetView {
    /// The broker's address.
    pub broker: String,
    /// The connection to it.
    pub link: BrokerLink,
    /// The devices.
    pub fleet: Fleet,
    /// The device that a person chose.
    pub chosen: Option<String>,
    /// Whether all of that device is shown.
    pub has_details: bool,
}

impl FleetView {
    /// Nothing yet from this broker.
    #[must_use]
    pub fn new(broker: String) -> Self {
        Self {
            broker,
            link: BrokerLink::Connecting,
            fleet: Fleet::new(),
            chosen: None,
            has_details: false,
        }
    }

    /// The connection is there, from now on.
    pub fn join(&mut self, now: Duration) {
        self.fleet.rejoin(now);
        self.link = BrokerLink::Connected;
    }

    /// The connection is not there.
    pub fn lose(&mut self, reason: String, now: Duration) {
        let since = self.clock(now);
        self.link = BrokerLink::Lost { reason, since };
    }

    /// The time by which silence is judged: it stands while we are away ourselves.
    #[must_use]
    pub fn clock(&self, now: Duration) -> Duration {
        match &self.link {
            BrokerLink::Lost { since, .. } => *since,
            _ => now,
        }
    }

    /// Line of the selected device: the chosen one; until one is chosen, the first of those that need a person most.
    #[must_use]
    pub fn selected(&self, now: Duration) -> Option<usize> {
        let now = self.clock(now);
        let chosen = self.chosen.as_deref();
        let at = chosen.and_then(|chosen| self.fleet.devices().position(|(id, _)| id == chosen));
        at.or_else(|| {
            let devices = self.fleet.devices().enumerate();
            let needs =
                devices.map(|(at, (_, device))| (fleet_table::attention(device, now).0, at));
            // Of equal needs the first.
            let worst = needs.max_by_key(|(attention, at)| (*attention, std::cmp::Reverse(*at)));
            worst.map(|(_, at)| at)
        })
    }

    /// Does what `key` asks; `Quit` is the caller's.
    pub fn press(&mut self, key: KeyAction, now: Duration) {
        let to = match (key, self.selected(now)) {
            (KeyAction::Details, _) => {
                self.has_details = !self.has_details;
                // What is looked into stays.
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

    /// Who needs a person, the worst first.
    #[must_use]
    pub fn needing_attention(&self, now: Duration) -> Vec<(&str, Attention)> {
        let now = self.clock(now);
        let devices = self.fleet.devices();
        let needs = devices.map(|(id, device)| (id, fleet_table::attention(device, now).0));
        let mut needing_attention: Vec<_> = needs
            .filter(|(_, attention)| *attention > Attention::None)
            .collect();
        needing_attention.sort_by_key(|(_, attention)| std::cmp::Reverse(*attention));
        needing_attention
    }
}
