//! One connection, from its CONNACK to its end.
//!
//! Every step of the library's event loop is polled to its end and never cancelled: the loop would lose track of a
//! message that it has begun to write. Messages are handed over between two steps, and never more than the library's
//! queue holds, so that handing over never waits for the polling that would make room.

mod sending;
mod shutdown;

use super::client::{
    ClientState, Counters, STABLE_AFTER, TransientMessage, any_changed, changing, next_transient,
    stopping,
};
use super::settings::Settings;
use crate::messages::{StatusName, discovery, topics};
use crate::mqtt::command_receiver::{CommandReceiver, Disposition};
use crate::mqtt::error::MqttError;
use crate::mqtt::inflight::{InFlight, MessageKind};
use crate::mqtt::outbox_publisher::OutboxPublisher;
use crate::mqtt::{ConnectionNotice, PendingMessage};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, Outgoing, Publish, QoS,
    SubscribeReasonCode,
};
use std::convert::Infallible;
use std::future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::select;
use tokio::time::{Instant, sleep_until};

pub(super) use crate::mqtt::connection::shutdown::{CloseReason, ConnectionEnd};
use crate::mqtt::connection::shutdown::{Closing, ClosingStep};
use sending::HeldMessage;
pub(super) use sending::OUTGOING_BYTES_MAX;
use std::collections::VecDeque;

/// `online` is published again after this time: the broker may have sent the previous connection's will after the first
/// one.
const REASSERT_ONLINE_AFTER: Duration = STABLE_AFTER;
/// Commands that were switched off are subscribed to again after this time.
const COMMANDS_RETRY: Duration = Duration::from_mins(10);
/// A PUBACK may take this many times the settings' connect timeout.
const PUBACK_TIMEOUT_FACTOR: u32 = 3;

/// What ended a wait.
enum LoopEvent {
    Polled(Result<Event, ConnectionError>),
    CloseRequested(CloseReason),
    RetainedChanged(usize),
    Transient(TransientMessage),
    OutboxNotified,
    Fetched(Vec<PendingMessage>),
    /// The inbox has accepted this command; `None`: it failed.
    Accepted(Option<Publish>),
    Due,
}

/// One connection.
pub(super) struct Connection<'a> {
    state: &'a mut ClientState,
    settings: &'a Settings,
    client: AsyncClient,
    since: Instant,
    /// How far its shutdown is; `None` while it serves.
    closing: Option<Closing>,
    in_flight: InFlight,
    /// Messages that wait until nothing is in flight.
    held: VecDeque<HeldMessage>,
    is_online_acknowledged: bool,
    /// Whether commands are subscribed to.
    is_listening: bool,
    outbox: OutboxPublisher,
    commands: CommandReceiver,
    /// Time since when a PUBACK is due and none has come.
    puback_due_since: Option<Instant>,
    reassert_online_at: Option<Instant>,
    /// When to connect again, so that the broker repeats commands that were not accepted.
    reconnect_at: Option<Instant>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        state: &'a mut ClientState,
        settings: &'a Settings,
        client: AsyncClient,
    ) -> Self {
        let now = Instant::now();
        for channel in &mut state.inputs.retained {
            channel.dirty = true;
            channel.waiting = false;
        }
        Self {
            outbox: OutboxPublisher::new(Arc::clone(&state.outbox)),
            commands: CommandReceiver::new(Arc::clone(&state.inbox), &settings.device),
            state,
            settings,
            client,
            since: now,
            closing: None,
            in_flight: InFlight::default(),
            held: VecDeque::new(),
            is_online_acknowledged: false,
            is_listening: false,
            puback_due_since: None,
            reassert_online_at: Some(now + REASSERT_ONLINE_AFTER),
            reconnect_at: None,
        }
    }

    /// Publishes after every CONNACK what the broker may have forgotten.
    pub(super) fn announce(&mut self, is_listening: bool) -> Result<(), ConnectionEnd> {
        self.is_listening = is_listening;
        if is_listening {
            let filter = topics::command_filter(&self.settings.device);
            let subscribed = self.client.try_subscribe(filter, QoS::AtLeastOnce);
            subscribed.map_err(|_| self.lost(MqttError::QueueFull))?;
        } else {
            self.reconnect_at = Some(later(self.since, COMMANDS_RETRY));
        }
        // After the subscription: a reader of `online` may send commands at once.
        self.publish_status(StatusName::Online, MessageKind::Online)?;
        if self.settings.discovery {
            let device = &self.settings.device;
            let topic = discovery::config_topic(device);
            let config = discovery::config(device, env!("CARGO_PKG_VERSION")).to_string();
            let kind = MessageKind::Discovery;
            self.publish(kind, &topic, QoS::AtLeastOnce, config.into())?;
        }
        Ok(())
    }

    /// Serves the connection until it ends.
    pub(super) async fn serve(
        &mut self,
        line: &mut EventLoop,
    ) -> Result<Infallible, ConnectionEnd> {
        loop {
            let polled = {
                let mut polling = pin!(line.poll());
                loop {
                    self.start_due_work()?;
                    match self.next_event(&mut polling).await {
                        LoopEvent::Polled(polled) => break polled,
                        other => self.handle(other)?,
                    }
                }
            };
            match polled {
                Ok(event) => self.handle_mqtt_event(event)?,
                Err(error) => {
                    let error = MqttError::from(error);
                    if matches!(error, MqttError::ConnectionLost(_)) {
                        self.state.limit.note_closed(self.in_flight.sizes());
                        let refused = self.state.limit.refused().unwrap_or_default();
                        let counters = &self.state.counters;
                        counters
                            .packet_limit
                            .store(refused as u64, Ordering::Relaxed);
                    }
                    return Err(self.lost(error));
                }
            }
        }
    }

    /// Waits for the calls to inbox and outbox that are under way.
    pub(super) async fn close(self) {
        for _ in 0..self.commands.close().await {
            Counters::add(&self.state.counters.dropped);
        }
        self.outbox.close().await;
    }

    /// Waits for whatever happens first.
    async fn next_event(
        &mut self,
        polling: &mut (impl Future<Output = Result<Event, ConnectionError>> + Unpin),
    ) -> LoopEvent {
        let due = self.due();
        let serving = self.closing.is_none();
        let settings = self.settings;
        let state = &mut *self.state;
        select! {
            polled = polling => LoopEvent::Polled(polled),
            () = stopping(&mut state.stop), if serving => LoopEvent::CloseRequested(CloseReason::Stopped),
            () = changing(&mut state.settings, settings), if serving => LoopEvent::CloseRequested(CloseReason::Changed),
            at = any_changed(&mut state.inputs.retained) => LoopEvent::RetainedChanged(at),
            transient = next_transient(&mut state.inputs.transient) => LoopEvent::Transient(transient),
            () = state.inputs.wake.notified() => LoopEvent::OutboxNotified,
            messages = self.outbox.next_messages() => LoopEvent::Fetched(messages),
            command = self.commands.next_accepted() => LoopEvent::Accepted(command),
            () = until(due) => LoopEvent::Due,
        }
    }

    /// When [`Self::start_due_work`] is due next without another event.
    fn due(&self) -> Option<Instant> {
        let channels = self.state.inputs.retained.iter();
        let values = channels.filter(|c| c.dirty && !c.waiting).map(|c| c.next);
        let sending = self.is_sending().then(|| {
            let messages = self.outbox.due(self.outbox_messages());
            values.chain(messages).min()
        });
        [
            self.closing.map(|closing| closing.until),
            sending.flatten(),
            self.puback_deadline(),
            self.reassert_online_at,
            self.reconnect_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Starts everything that is due now.
    fn start_due_work(&mut self) -> Result<(), ConnectionEnd> {
        let now = Instant::now();
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_over(self.puback_deadline()) {
            return Err(self.lost(MqttError::Unacknowledged(self.puback_timeout())));
        }
        if is_over(self.reconnect_at) {
            return Err(self.lost(MqttError::Reconnecting));
        }
        if is_over(self.reassert_online_at) {
            self.reassert_online_at = None;
            self.publish_status(StatusName::Online, MessageKind::Online)?;
            if self.is_listening && std::mem::take(&mut self.state.are_commands_off) {
                self.state.report(ConnectionNotice::CommandsOn);
            }
        }
        if self.is_sending() {
            self.send_held()?;
        }
        let is_idle = self.held.is_empty() && self.in_flight.is_empty() && self.outbox.is_idle();
        if is_idle && self.since.elapsed() >= STABLE_AFTER {
            self.state.limit.end_care();
        }
        if self.is_sending() {
            self.send_values(now)?;
            self.outbox.start_due_work(now, self.outbox_messages());
            self.commands.start_next();
        }
        self.advance_shutdown(now)
    }

    /// Handles an event that is not the library's.
    fn handle(&mut self, event: LoopEvent) -> Result<(), ConnectionEnd> {
        match event {
            LoopEvent::Polled(_) | LoopEvent::Due => {}
            LoopEvent::OutboxNotified => self.outbox.notify(),
            LoopEvent::CloseRequested(reason) => self.begin_shutdown(reason),
            LoopEvent::RetainedChanged(at) => self.state.inputs.retained[at].dirty = true,
            LoopEvent::Transient(transient) => self.send_transient(transient)?,
            LoopEvent::Fetched(messages) => {
                for message in messages {
                    self.send_outbox_message(message)?;
                }
            }
            LoopEvent::Accepted(Some(command)) => {
                Counters::add(&self.state.counters.received);
                self.ack(&command)?;
            }
            LoopEvent::Accepted(None) => self.request_reconnect(),
        }
        Ok(())
    }

    /// Handles an event of the library.
    fn handle_mqtt_event(&mut self, event: Event) -> Result<(), ConnectionEnd> {
        match event {
            Event::Outgoing(Outgoing::Publish(packet)) => {
                let is_owed = self.in_flight.written(packet);
                if is_owed {
                    self.puback_due_since.get_or_insert_with(Instant::now);
                }
            }
            Event::Incoming(Incoming::PubAck(ack)) => {
                let message = self.in_flight.acknowledged(ack.pkid);
                self.puback_due_since = self.in_flight.is_puback_due().then(Instant::now);
                if let Some(message) = &message {
                    self.state.limit.note_taken(message.size.bytes);
                }
                self.acknowledged(message.map(|message| message.kind))?;
            }
            Event::Incoming(Incoming::Publish(message)) => self.on_publish(&message)?,
            Event::Incoming(Incoming::SubAck(ack))
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) =>
            {
                let filter = topics::command_filter(&self.settings.device);
                tracing::warn!(
                    filter,
                    "the broker refuses the subscription to commands; allow this device to read the filter there"
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn acknowledged(&mut self, kind: Option<MessageKind>) -> Result<(), ConnectionEnd> {
        match kind {
            Some(MessageKind::OutboxMessage(id)) => {
                Counters::add(&self.state.counters.delivered);
                self.outbox.delivered(id);
            }
            Some(MessageKind::Channel(at)) => self.state.inputs.retained[at].waiting = false,
            Some(MessageKind::Online) => self.is_online_acknowledged = true,
            Some(MessageKind::Stopped) => {
                if let Some(closing) = self.closing
                    && closing.step == ClosingStep::AwaitingStoppedAck
                {
                    self.disconnect(closing.reason)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Handles a message from the broker; only commands are subscribed to.
    fn on_publish(&mut self, message: &Publish) -> Result<(), ConnectionEnd> {
        if !self.is_sending() {
            // Not acknowledged: the broker sends it again in the next connection.
            return Ok(());
        }
        match self.commands.arrived(message) {
            Disposition::Queued => {}
            Disposition::Ignored => self.ack(message)?,
            Disposition::KeptByBroker => self.request_reconnect(),
            Disposition::Dropped => Counters::add(&self.state.counters.dropped),
        }
        Ok(())
    }

    /// Plans to connect again: only then the broker repeats messages that were not acknowledged.
    fn request_reconnect(&mut self) {
        if self.closing.is_none() {
            let at = later(Instant::now(), self.settings.reconnect_max);
            self.reconnect_at.get_or_insert(at);
        }
    }

    /// Outbox messages that are fetched and not acknowledged.
    fn outbox_messages(&self) -> usize {
        let is_of_outbox = |held: &&HeldMessage| matches!(held.kind, MessageKind::OutboxMessage(_));
        self.in_flight.outbox_messages() + self.held.iter().filter(is_of_outbox).count()
    }

    /// Transient messages that are not acknowledged.
    fn transient(&self) -> usize {
        let is_transient = |held: &&HeldMessage| held.kind == MessageKind::TransientMessage;
        self.in_flight.transient() + self.held.iter().filter(is_transient).count()
    }

    fn puback_timeout(&self) -> Duration {
        self.settings
            .connect_timeout
            .saturating_mul(PUBACK_TIMEOUT_FACTOR)
    }

    fn puback_deadline(&self) -> Option<Instant> {
        self.puback_due_since
            .map(|since| later(since, self.puback_timeout()))
    }
}

/// `now + wait`, at most a day where that would overflow.
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
