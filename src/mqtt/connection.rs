//! One connection, from its CONNACK to its end.
//!
//! The library's event loop is polled to the end of each step, never cancelled in the middle of one: a message that it
//! has begun to write would be lost from its account. What is to be sent is handed over between its steps, never more
//! than its queue holds, so that handing over never waits for the polling that would make room.

mod sending;
mod shutdown;

use super::backoff::HELD;
use super::client::{Counters, Desk, Loose, any_changed, changing, next_loose, stopping};
use super::settings::Settings;
use crate::messages::{StatusName, discovery, topics};
use crate::mqtt::command_receiver::{Fate, Orders};
use crate::mqtt::error::Trouble;
use crate::mqtt::inflight::{Flight, Kind};
use crate::mqtt::outbox_publisher::{Done, Letters};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, Outgoing, Publish, QoS,
    SubscribeReasonCode,
};
use std::future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::select;
use tokio::time::{Instant, sleep_until};

pub(super) use crate::mqtt::connection::shutdown::Outcome;
use crate::mqtt::connection::shutdown::{End, Phase};
pub(super) use sending::OUTGOING_BYTES_MAX;

/// `online` is said again after this: the broker may have sent an earlier connection's will after our first one.
const ASSERT_AFTER: Duration = HELD;
/// PUBACKs may take so many times the settings' patience.
const PUBACK_PATIENCE: u32 = 3;

/// What a wait ended with.
enum Happened {
    Polled(Result<Event, ConnectionError>),
    Ended(End),
    Valued(usize, bool),
    Loosed(Loose),
    Woken,
    Outbox(Done),
    Inbox(Result<(), String>),
    Due,
}

/// Its state.
pub(super) struct Connection<'a> {
    desk: &'a mut Desk,
    settings: &'a Settings,
    client: AsyncClient,
    since: Instant,
    phase: Phase,
    flight: Flight,
    letters: Letters,
    orders: Orders,
    /// Since when the broker owes a PUBACK and has sent none.
    owed_since: Option<Instant>,
    assert_at: Option<Instant>,
    /// When to connect anew for the sake of commands that were not taken.
    renew_at: Option<Instant>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(desk: &'a mut Desk, settings: &'a Settings, client: AsyncClient) -> Self {
        let now = Instant::now();
        for channel in &mut desk.channels {
            channel.dirty = true;
            channel.waiting = false;
        }
        Self {
            letters: Letters::new(Arc::clone(&desk.outbox)),
            orders: Orders::new(Arc::clone(&desk.inbox), &settings.device),
            desk,
            settings,
            client,
            since: now,
            phase: Phase::Serving,
            flight: Flight::default(),
            owed_since: None,
            assert_at: Some(now + ASSERT_AFTER),
            renew_at: None,
        }
    }

    /// Says at every CONNACK what the broker may have forgotten.
    pub(super) fn announce(&mut self, listening: bool) -> Result<(), Outcome> {
        if listening {
            let filter = topics::command_filter(&self.settings.device);
            let asked = self.client.try_subscribe(filter, QoS::AtLeastOnce);
            asked.map_err(|_| self.lost(Trouble::Full))?;
        }
        // After it: whoever reads `online` may command.
        self.say(StatusName::Online, Kind::Announcement)?;
        if self.settings.discovery {
            let device = &self.settings.device;
            let topic = discovery::config_topic(device);
            let config = discovery::config(device, &self.settings.version).to_string();
            let kind = Kind::Announcement;
            self.publish(kind, topic, QoS::AtLeastOnce, true, config.into())?;
        }
        Ok(())
    }

    /// Until the end.
    pub(super) async fn serve(&mut self, line: &mut EventLoop) -> Outcome {
        loop {
            let polled = {
                let mut polling = pin!(line.poll());
                loop {
                    if let Err(end) = self.work() {
                        return end;
                    }
                    match self.wait(&mut polling).await {
                        Happened::Polled(polled) => break polled,
                        other => {
                            if let Err(end) = self.take(other) {
                                return end;
                            }
                        }
                    }
                }
            };
            let end = match polled {
                Ok(event) => self.see(event),
                Err(error) => Err(self.lost(error.into())),
            };
            if let Err(end) = end {
                return end;
            }
        }
    }

    /// Lets what was begun come to its end.
    pub(super) async fn close(self) {
        for _ in 0..self.orders.close().await {
            Counters::add(&self.desk.counters.dropped);
        }
        self.letters.close().await;
    }

    /// For whatever comes first.
    async fn wait(
        &mut self,
        polling: &mut (impl Future<Output = Result<Event, ConnectionError>> + Unpin),
    ) -> Happened {
        let due = self.due();
        let serving = matches!(self.phase, Phase::Serving);
        let settings = self.settings;
        let desk = &mut *self.desk;
        select! {
            polled = polling => Happened::Polled(polled),
            () = stopping(&mut desk.stop), if serving => Happened::Ended(End::Stop),
            () = changing(&mut desk.settings, settings), if serving => Happened::Ended(End::Change),
            (at, more) = any_changed(&mut desk.channels) => Happened::Valued(at, more),
            loose = next_loose(&mut desk.loose) => Happened::Loosed(loose),
            () = desk.wake.notified() => Happened::Woken,
            done = self.letters.done() => Happened::Outbox(done),
            done = self.orders.done() => Happened::Inbox(done),
            () = until(due) => Happened::Due,
        }
    }

    /// The next instant at which [`Self::work`] has something to do by itself.
    fn due(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Serving => None,
            Phase::Flushing(at, _) | Phase::Parting(at, _) | Phase::Leaving(at, _) => Some(at),
        };
        let channels = self.desk.channels.iter();
        let values = channels.filter(|c| c.dirty && !c.waiting).map(|c| c.next);
        let sending = self.is_sending().then(|| {
            let letters = self.letters.due(self.flight.letters());
            values.chain(letters).min()
        });
        let owed = self.owed_at();
        [
            phase,
            sending.flatten(),
            owed,
            self.assert_at,
            self.renew_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what can be done now.
    fn work(&mut self) -> Result<(), Outcome> {
        let now = Instant::now();
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_over(self.owed_at()) {
            return Err(self.lost(Trouble::Unacknowledged(self.puback_patience())));
        }
        if is_over(self.renew_at) {
            return Err(self.lost(Trouble::Renewed));
        }
        if is_over(self.assert_at) {
            self.assert_at = None;
            self.say(StatusName::Online, Kind::Announcement)?;
        }
        if self.is_sending() {
            self.send_values(now)?;
            self.letters.work(now, self.flight.letters());
            self.orders.work();
        }
        self.go_on_leaving(now)
    }

    /// Takes in what happened beside the line.
    fn take(&mut self, happened: Happened) -> Result<(), Outcome> {
        match happened {
            Happened::Polled(_) | Happened::Due => Ok(()),
            Happened::Woken => {
                self.letters.look();
                Ok(())
            }
            Happened::Ended(end) => {
                self.begin_leaving(end);
                Ok(())
            }
            Happened::Valued(at, more) => {
                let channel = &mut self.desk.channels[at];
                channel.open = more;
                channel.dirty |= more;
                Ok(())
            }
            Happened::Loosed(loose) => self.send_loose(loose),
            Happened::Outbox(done) => {
                let letters = self.letters.take(done);
                letters.into_iter().try_for_each(|l| self.send_letter(l))
            }
            Happened::Inbox(done) => {
                let Some(command) = self.orders.take(done) else {
                    self.renew();
                    return Ok(());
                };
                Counters::add(&self.desk.counters.received);
                self.ack(&command)
            }
        }
    }

    /// Takes in what happened on the line.
    fn see(&mut self, event: Event) -> Result<(), Outcome> {
        match event {
            Event::Outgoing(Outgoing::Publish(packet)) => {
                let is_owed = self.flight.written(packet);
                if is_owed && self.owed_since.is_none() {
                    self.owed_since = Some(Instant::now());
                }
                Ok(())
            }
            Event::Incoming(Incoming::PubAck(ack)) => {
                let kind = self.flight.acknowledged(ack.pkid);
                self.owed_since = self.flight.is_owed().then(Instant::now);
                self.acknowledged(kind)
            }
            Event::Incoming(Incoming::Publish(message)) => self.arrived(&message),
            Event::Incoming(Incoming::SubAck(ack)) => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    let filter = topics::command_filter(&self.settings.device);
                    tracing::warn!(
                        filter,
                        "the broker does not let this device listen to commands; allow it there to read the filter"
                    );
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn acknowledged(&mut self, kind: Option<Kind>) -> Result<(), Outcome> {
        match (kind, &self.phase) {
            (Some(Kind::Letter(id)), _) => {
                Counters::add(&self.desk.counters.delivered);
                self.letters.delivered(id);
            }
            (Some(Kind::Channel(at)), _) => self.desk.channels[at].waiting = false,
            (Some(Kind::Farewell), Phase::Parting(_, end)) => self.leave(*end)?,
            _ => {}
        }
        Ok(())
    }

    /// A message came in; only commands are subscribed to.
    fn arrived(&mut self, message: &Publish) -> Result<(), Outcome> {
        if !self.is_sending() {
            // Unacknowledged, so that it comes again after the end that is near.
            return Ok(());
        }
        match self.orders.arrived(message) {
            Fate::Waits => {}
            Fate::Ignored => self.ack(message)?,
            Fate::Left => self.renew(),
            Fate::Dropped => Counters::add(&self.desk.counters.dropped),
        }
        Ok(())
    }

    /// The broker sends again what it got no PUBACK for, but only at the next connection.
    fn renew(&mut self) {
        if matches!(self.phase, Phase::Serving) {
            let at = later(Instant::now(), self.settings.reconnect_max);
            self.renew_at.get_or_insert(at);
        }
    }

    fn puback_patience(&self) -> Duration {
        self.settings.patience.saturating_mul(PUBACK_PATIENCE)
    }

    fn owed_at(&self) -> Option<Instant> {
        self.owed_since
            .map(|since| later(since, self.puback_patience()))
    }
}

/// `now + wait`, which an absurd setting does not overflow.
fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait)
        .unwrap_or(now + Duration::from_hours(24))
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => future::pending().await,
    }
}
