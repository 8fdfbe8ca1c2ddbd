//! One connection, from connecting to its end.
//!
//! The library's event loop is polled to the end of each step, never cancelled in the middle of one: a message that it
//! has begun to write would be lost from its account. What is to be sent is handed over between its steps, never more
//! than its queue holds, so that handing over never waits for the polling that would make room.

use super::client::{Counters, Delivery, Desk, Loose, any_changed, changing, next_loose, stopping};
use super::flight::{Flight, Kind};
use super::outbox::Letter;
use super::settings::Settings;
use super::tls;
use super::trouble::Trouble;
use crate::telemetry::{StatusName, discovery, topics};
use rumqttc::{
    AsyncClient, ConnAck, ConnectionError, Event, EventLoop, Incoming, LastWill, MqttOptions,
    Outgoing, Publish, QoS, SubscribeReasonCode, TlsConfiguration, Transport,
};
use std::collections::VecDeque;
use std::future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::select;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};

/// Letters under way at most.
const LETTERS_MAX: usize = 32;
/// The outbox is asked when there is room for so many, not for each single one.
const LETTERS_ASKED_MIN: usize = LETTERS_MAX / 2;
/// Loose messages under way at most.
const LOOSE_MAX: usize = 16;
/// Commands that wait for the inbox at most.
const COMMANDS_MAX: usize = 64;
/// Room in the library's queue: all of the above, the retained channels and the announcements.
const QUEUE: usize = 256;
/// Packet ids to go round. Those under way are far fewer, so that one is free again when its turn comes.
const PACKET_IDS: u16 = 1024;

/// Largest payload of a command.
const COMMAND_BYTES_MAX: usize = 64 * 1024;
/// Largest packet that is read at all, to be thrown away.
const INCOMING_BYTES_MAX: usize = 1024 * 1024;
/// Largest packet that is sent.
const OUTGOING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of that, for topic and header.
const HEADER_BYTES_MAX: usize = 1024;

/// `online` is said again after this: the broker may have sent an earlier connection's will after our first one.
const ASSERT_AFTER: Duration = super::backoff::HELD;
/// Pause after the outbox failed.
const OUTBOX_PAUSE: Duration = Duration::from_secs(5);
/// PUBACKs may take so many times the settings' patience.
const PUBACK_PATIENCE: u32 = 3;
/// At the end, for an attempt under way to become a connection.
const CONNECT_LAST: Duration = Duration::from_secs(2);
/// At the end: for letters and the latest of all channels, for the farewell's PUBACK, for the broker to hang up.
const FLUSH: Duration = Duration::from_secs(2);
const PART: Duration = Duration::from_secs(2);
const LEAVE: Duration = Duration::from_secs(1);

/// How it ended.
pub(super) enum Outcome {
    /// As the caller wanted.
    Stopped,
    /// The settings are others now.
    Changed,
    /// By itself.
    Lost {
        /// Why.
        trouble: Trouble,
        /// How long there was a connection.
        held: Duration,
    },
}

/// Whether commands are listened to. One that is too large to be read breaks every connection: the session that keeps
/// it is given up, and if it is retained, too, commands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ears {
    /// As it should be.
    Open,
    /// With a fresh session, for once.
    Emptied,
    /// No more, until the settings change.
    Shut,
}

impl Ears {
    /// For the next connection.
    pub(super) fn after(self, trouble: &Trouble, held: Duration) -> Self {
        match (self, trouble) {
            (Self::Open, Trouble::TooLarge { .. }) => Self::Emptied,
            (Self::Emptied, Trouble::TooLarge { .. }) => {
                tracing::error!("commands are off until a restart: one too large is retained");
                Self::Shut
            }
            (Self::Emptied, _) if held >= super::backoff::HELD => Self::Open,
            _ => self,
        }
    }
}

/// Connects, and serves the connection to its end.
pub(super) async fn connect_and_serve(desk: &mut Desk, settings: &Settings, ears: Ears) -> Outcome {
    Counters::add(&desk.counters.attempts);
    let lost = |trouble| Outcome::Lost {
        trouble,
        held: Duration::ZERO,
    };
    let transport = match desk.meanwhile(settings, transport(settings)).await {
        Ok(Ok(transport)) => transport,
        Ok(Err(trouble)) => return lost(trouble),
        Err(end) => return end,
    };
    let will = (desk.status)(StatusName::Offline);
    let (client, mut line) = AsyncClient::new(options(settings, will, transport, ears), QUEUE);
    line.network_options
        .set_connection_timeout(settings.patience.as_secs().max(1));
    let first = {
        let mut polling = pin!(line.poll());
        match desk.meanwhile(settings, polling.as_mut()).await {
            // Nearly there: for the last letters and the farewell it is worth a moment.
            Err(Outcome::Stopped) => timeout(CONNECT_LAST, polling).await.ok(),
            Err(end) => return end,
            Ok(polled) => Some(polled),
        }
    };
    let connack = match first {
        Some(Ok(Event::Incoming(Incoming::ConnAck(connack)))) => connack,
        Some(Ok(other)) => return lost(Trouble::Protocol(format!("{other:?} came first"))),
        Some(Err(error)) => {
            let trouble = Trouble::from(error);
            if matches!(trouble, Trouble::Refused(_)) {
                Counters::add(&desk.counters.refused);
            }
            return lost(trouble);
        }
        None => return Outcome::Stopped,
    };
    let counters = Arc::clone(&desk.counters);
    Counters::add(&counters.connects);
    counters.connected.store(true, Ordering::Relaxed);
    let mut connection = Connection::new(desk, settings, client);
    let end = match connection.announce(&connack, ears) {
        Ok(()) => connection.serve(&mut line).await,
        Err(end) => end,
    };
    counters.connected.store(false, Ordering::Relaxed);
    // The line is cut before the outbox is waited for.
    drop(line);
    connection.close().await;
    end
}

/// Reads certificates, if there are any to read.
async fn transport(settings: &Settings) -> Result<Transport, Trouble> {
    let Some(files) = settings.tls.clone() else {
        return Ok(Transport::Tcp);
    };
    let connector = match spawn_blocking(move || tls::connector(&files)).await {
        Ok(connector) => connector?,
        Err(error) => return Err(Trouble::Handshake(broken(&error))),
    };
    let config = TlsConfiguration::NativeConnector(connector);
    Ok(Transport::tls_with_config(config))
}

fn options(settings: &Settings, will: Vec<u8>, transport: Transport, ears: Ears) -> MqttOptions {
    // The library panics at an empty name, and at less than a second.
    let id = match settings.client_id.as_str() {
        "" => format!("handloom-{}", settings.device),
        id => id.to_owned(),
    };
    let keep_alive = settings.keep_alive.as_secs().clamp(1, u16::MAX.into());
    let will = LastWill::new(
        topics::topic(&settings.device, topics::STATUS),
        will,
        QoS::AtLeastOnce,
        true,
    );
    let mut options = MqttOptions::new(id, &settings.host, settings.port);
    options
        .set_transport(transport)
        .set_clean_session(ears != Ears::Open)
        .set_keep_alive(Duration::from_secs(keep_alive))
        .set_manual_acks(true)
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(INCOMING_BYTES_MAX, OUTGOING_BYTES_MAX)
        .set_last_will(will);
    if let Some(name) = &settings.username {
        options.set_credentials(name, settings.password.as_deref().unwrap_or_default());
    }
    options
}

/// How far the end is.
enum Phase {
    Serving,
    /// Letters and latest values go out, until this at the latest; then, as in the following, the given end.
    Flushing(Instant, End),
    /// `stopped` is said and waits for its PUBACK.
    Parting(Instant, End),
    /// DISCONNECT is said.
    Leaving(Instant, End),
}

/// An end that was asked for.
#[derive(Clone, Copy)]
enum End {
    Stop,
    Change,
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        match end {
            End::Stop => Self::Stopped,
            End::Change => Self::Changed,
        }
    }
}

/// What a wait ended with.
enum Happened {
    Polled(Result<Event, ConnectionError>),
    Ended(End),
    Valued(usize, bool),
    Loosed(Loose),
    Woken,
    Fetched(Result<Result<Vec<Letter>, String>, JoinError>),
    Erased(Result<Result<(), String>, JoinError>),
    Received(Result<Result<(), String>, JoinError>),
    Due,
}

/// The state of a connection.
struct Connection<'a> {
    desk: &'a mut Desk,
    settings: &'a Settings,
    client: AsyncClient,
    since: Instant,
    phase: Phase,
    flight: Flight,
    /// The last letter that was sent.
    cursor: i64,
    /// The outbox may have more.
    look: bool,
    look_at: Instant,
    asked: usize,
    fetch: Option<JoinHandle<Result<Vec<Letter>, String>>>,
    /// Acknowledged and still in the outbox.
    acked: Vec<i64>,
    erase_at: Instant,
    erasing: Vec<i64>,
    erase: Option<JoinHandle<Result<(), String>>>,
    commands: VecDeque<Publish>,
    receiving: Option<Publish>,
    receive: Option<JoinHandle<Result<(), String>>>,
    /// Since when the broker owes a PUBACK and has sent none.
    owed_since: Option<Instant>,
    assert_at: Option<Instant>,
    /// When to connect anew for the sake of commands that were not taken.
    renew_at: Option<Instant>,
}

impl<'a> Connection<'a> {
    fn new(desk: &'a mut Desk, settings: &'a Settings, client: AsyncClient) -> Self {
        let now = Instant::now();
        for channel in &mut desk.channels {
            channel.dirty = true;
            channel.waiting = false;
        }
        Self {
            desk,
            settings,
            client,
            since: now,
            phase: Phase::Serving,
            flight: Flight::default(),
            cursor: i64::MIN,
            look: true,
            look_at: now,
            asked: 0,
            fetch: None,
            acked: Vec::new(),
            erase_at: now,
            erasing: Vec::new(),
            erase: None,
            commands: VecDeque::new(),
            receiving: None,
            receive: None,
            owed_since: None,
            assert_at: Some(now + ASSERT_AFTER),
            renew_at: None,
        }
    }

    /// Says at every CONNACK what the broker may have forgotten.
    fn announce(&mut self, connack: &ConnAck, ears: Ears) -> Result<(), Outcome> {
        tracing::info!(
            broker = self.settings.broker(),
            session = connack.session_present,
            "connected to the broker"
        );
        self.say(StatusName::Online, Kind::Announcement)?;
        if ears != Ears::Shut {
            let filter = topics::command_filter(&self.settings.device);
            if self.client.try_subscribe(filter, QoS::AtLeastOnce).is_err() {
                return Err(self.lost(Trouble::Full));
            }
        }
        if self.settings.discovery {
            let device = &self.settings.device;
            let topic = discovery::config_topic(device);
            let config = discovery::config(device, &self.settings.version).to_string();
            self.publish(
                Kind::Announcement,
                topic,
                QoS::AtLeastOnce,
                true,
                config.into(),
            )?;
        }
        Ok(())
    }

    /// Until the end.
    async fn serve(&mut self, line: &mut EventLoop) -> Outcome {
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
            done = finished(&mut self.fetch) => Happened::Fetched(done),
            done = finished(&mut self.erase) => Happened::Erased(done),
            done = finished(&mut self.receive) => Happened::Received(done),
            () = until(due) => Happened::Due,
        }
    }

    /// The next instant at which [`Self::work`] has something to do by itself.
    fn due(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Serving => None,
            Phase::Flushing(until, _) | Phase::Parting(until, _) | Phase::Leaving(until, _) => {
                Some(until)
            }
        };
        let channels = self.desk.channels.iter();
        let values = channels
            .filter(|c| c.dirty && !c.waiting && self.is_sending())
            .map(|c| c.next)
            .min();
        let look = (self.wants_letters() && self.is_sending()).then_some(self.look_at);
        let erase = (!self.acked.is_empty() && self.erase.is_none()).then_some(self.erase_at);
        let owed = self
            .owed_since
            .map(|since| later(since, self.puback_patience()));
        [
            phase,
            values,
            look,
            erase,
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
        if self
            .owed_since
            .is_some_and(|since| later(since, self.puback_patience()) <= now)
        {
            return Err(self.lost(Trouble::Unacknowledged(self.puback_patience())));
        }
        if self.renew_at.is_some_and(|at| at <= now) {
            return Err(self.lost(Trouble::Renewed));
        }
        if self.assert_at.is_some_and(|at| at <= now) {
            self.assert_at = None;
            self.say(StatusName::Online, Kind::Announcement)?;
        }
        if self.is_sending() {
            self.send_values(now)?;
            self.fetch_letters(now);
            self.hand_in();
        }
        self.erase_letters(now);
        self.go_on_leaving(now)
    }

    fn send_values(&mut self, now: Instant) -> Result<(), Outcome> {
        for at in 0..self.desk.channels.len() {
            let channel = &mut self.desk.channels[at];
            if !channel.dirty || channel.waiting || channel.next > now {
                continue;
            }
            channel.dirty = false;
            let Some(payload) = channel.value.borrow_and_update().clone() else {
                continue;
            };
            channel.waiting = true;
            channel.next = later(now, channel.least);
            let topic = topics::topic(&self.settings.device, channel.name);
            self.publish(Kind::Channel(at), topic, QoS::AtLeastOnce, true, payload)?;
        }
        Ok(())
    }

    fn room(&self) -> usize {
        LETTERS_MAX.saturating_sub(self.flight.letters())
    }

    fn wants_letters(&self) -> bool {
        self.look && self.fetch.is_none() && self.room() >= LETTERS_ASKED_MIN
    }

    fn fetch_letters(&mut self, now: Instant) {
        if !self.wants_letters() || self.look_at > now {
            return;
        }
        let (room, cursor) = (self.room(), self.cursor);
        self.look = false;
        self.asked = room;
        let outbox = Arc::clone(&self.desk.outbox);
        self.fetch = Some(spawn_blocking(move || outbox.after(cursor, room)));
    }

    fn erase_letters(&mut self, now: Instant) {
        if self.acked.is_empty() || self.erase.is_some() || self.erase_at > now {
            return;
        }
        self.erasing = std::mem::take(&mut self.acked);
        let (outbox, ids) = (Arc::clone(&self.desk.outbox), self.erasing.clone());
        self.erase = Some(spawn_blocking(move || outbox.delivered(&ids)));
    }

    /// Gives the inbox the next command.
    fn hand_in(&mut self) {
        if self.receiving.is_some() {
            return;
        }
        let Some(command) = self.commands.pop_front() else {
            return;
        };
        let inbox = Arc::clone(&self.desk.inbox);
        let name = topics::command_name(&self.settings.device, &command.topic)
            .unwrap_or_default()
            .to_owned();
        let (payload, retained) = (command.payload.clone(), command.retain);
        self.receiving = Some(command);
        self.receive = Some(spawn_blocking(move || {
            inbox.receive(&name, &payload, retained)
        }));
    }

    fn go_on_leaving(&mut self, now: Instant) -> Result<(), Outcome> {
        match self.phase {
            Phase::Flushing(until, end) => {
                let channels = &self.desk.channels;
                let idle = !self.look
                    && self.fetch.is_none()
                    && self.receiving.is_none()
                    && self.commands.is_empty()
                    && self.flight.is_empty()
                    && !channels.iter().any(|c| c.dirty);
                if idle || until <= now {
                    self.say(StatusName::Stopped, Kind::Farewell)?;
                    self.phase = Phase::Parting(now + PART, end);
                }
            }
            Phase::Parting(until, end) if until <= now => self.leave(end)?,
            Phase::Leaving(until, end) if until <= now => return Err(end.into()),
            _ => {}
        }
        Ok(())
    }

    fn leave(&mut self, end: End) -> Result<(), Outcome> {
        self.phase = Phase::Leaving(Instant::now() + LEAVE, end);
        self.client.try_disconnect().map_err(|_| end.into())
    }

    /// Takes in what happened beside the line.
    fn take(&mut self, happened: Happened) -> Result<(), Outcome> {
        let now = Instant::now();
        match happened {
            Happened::Polled(_) | Happened::Due => {}
            Happened::Woken => self.look = true,
            Happened::Ended(end) => {
                self.look = true;
                self.assert_at = None;
                self.renew_at = None;
                for channel in &mut self.desk.channels {
                    // The last word, perhaps not noticed yet, is not to wait for its turn.
                    channel.dirty |= channel.value.has_changed().unwrap_or(true);
                    channel.next = now;
                }
                self.phase = Phase::Flushing(now + FLUSH, end);
            }
            Happened::Valued(at, more) => {
                let channel = &mut self.desk.channels[at];
                channel.open = more;
                channel.dirty |= more;
            }
            Happened::Loosed(loose) => self.send_loose(loose)?,
            Happened::Fetched(done) => match flat(done) {
                Ok(letters) => {
                    self.look |= letters.len() >= self.asked;
                    self.send_letters(letters)?;
                }
                Err(reason) => {
                    tracing::error!(reason, "cannot read the outbox; trying again");
                    self.look = true;
                    self.look_at = now + OUTBOX_PAUSE;
                }
            },
            Happened::Erased(done) => {
                let ids = std::mem::take(&mut self.erasing);
                if let Err(reason) = flat(done) {
                    tracing::error!(reason, "cannot clear the outbox; trying again");
                    self.acked.extend(ids);
                    self.erase_at = now + OUTBOX_PAUSE;
                }
            }
            Happened::Received(done) => self.acknowledge(flat(done))?,
        }
        Ok(())
    }

    fn send_letters(&mut self, letters: Vec<Letter>) -> Result<(), Outcome> {
        for letter in letters {
            self.cursor = letter.id;
            let topic = topics::topic(&self.settings.device, &letter.channel);
            if letter.payload.len() + HEADER_BYTES_MAX > OUTGOING_BYTES_MAX {
                let bytes = letter.payload.len();
                tracing::error!(topic, bytes, "a message is too large to be sent: dropped");
                Counters::add(&self.desk.counters.dropped);
                self.acked.push(letter.id);
                continue;
            }
            self.publish(
                Kind::Letter(letter.id),
                topic,
                QoS::AtLeastOnce,
                false,
                letter.payload,
            )?;
        }
        Ok(())
    }

    fn send_loose(&mut self, loose: Loose) -> Result<(), Outcome> {
        let fits = loose.payload.len() + HEADER_BYTES_MAX <= OUTGOING_BYTES_MAX;
        if !fits || self.flight.loose() >= LOOSE_MAX || !self.is_sending() {
            Counters::add(&self.desk.counters.dropped);
            return Ok(());
        }
        let qos = match loose.delivery {
            Delivery::AtMostOnce => QoS::AtMostOnce,
            Delivery::AtLeastOnce => QoS::AtLeastOnce,
        };
        let topic = topics::topic(&self.settings.device, loose.channel);
        self.publish(Kind::Loose, topic, qos, false, loose.payload)
    }

    /// Sends the PUBACK of the command that the inbox has taken, or has not.
    fn acknowledge(&mut self, taken: Result<(), String>) -> Result<(), Outcome> {
        let Some(command) = self.receiving.take() else {
            return Ok(());
        };
        match taken {
            Ok(()) => {
                Counters::add(&self.desk.counters.received);
                self.ack(&command)
            }
            Err(reason) => {
                tracing::error!(topic = command.topic, reason, "cannot take a command");
                self.renew();
                Ok(())
            }
        }
    }

    fn ack(&mut self, publish: &Publish) -> Result<(), Outcome> {
        self.client
            .try_ack(publish)
            .map_err(|_| self.lost(Trouble::Full))
    }

    /// The broker sends again what it got no PUBACK for, but only at the next connection.
    fn renew(&mut self) {
        if matches!(self.phase, Phase::Serving) {
            let at = later(Instant::now(), self.settings.reconnect_max);
            self.renew_at.get_or_insert(at);
        }
    }

    /// Takes in what happened on the line.
    fn see(&mut self, event: Event) -> Result<(), Outcome> {
        match event {
            Event::Outgoing(Outgoing::Publish(packet)) => {
                if self.flight.written(packet) {
                    self.owed_since.get_or_insert_with(Instant::now);
                }
            }
            Event::Incoming(Incoming::PubAck(ack)) => {
                let kind = self.flight.acknowledged(ack.pkid);
                self.owed_since = self.flight.is_owed().then(Instant::now);
                match kind {
                    Some(Kind::Letter(id)) => {
                        Counters::add(&self.desk.counters.delivered);
                        self.acked.push(id);
                    }
                    Some(Kind::Channel(at)) => self.desk.channels[at].waiting = false,
                    Some(Kind::Farewell) => {
                        if let Phase::Parting(_, end) = self.phase {
                            self.leave(end)?;
                        }
                    }
                    Some(Kind::Announcement | Kind::Loose) | None => {}
                }
            }
            Event::Incoming(Incoming::Publish(publish)) => self.arrived(publish)?,
            Event::Incoming(Incoming::SubAck(ack))
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) =>
            {
                let filter = topics::command_filter(&self.settings.device);
                tracing::warn!(
                    filter,
                    "the broker does not let this device listen to commands; allow it there to read the filter"
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// A message came in; only commands are subscribed to.
    fn arrived(&mut self, publish: Publish) -> Result<(), Outcome> {
        let (topic, bytes) = (publish.topic.as_str(), publish.payload.len());
        if topics::command_name(&self.settings.device, topic).is_none() {
            tracing::debug!(topic, "a message that is no command is ignored");
            return self.ack(&publish);
        }
        if bytes > COMMAND_BYTES_MAX {
            tracing::warn!(topic, bytes, "a command larger than 64 KiB is ignored");
            return self.ack(&publish);
        }
        if self.commands.len() >= COMMANDS_MAX || !self.is_sending() {
            tracing::warn!(topic, "too many commands at once: one is left for later");
            if publish.qos == QoS::AtMostOnce {
                Counters::add(&self.desk.counters.dropped);
            } else {
                self.renew();
            }
            return Ok(());
        }
        self.commands.push_back(publish);
        Ok(())
    }

    fn say(&mut self, status: StatusName, kind: Kind) -> Result<(), Outcome> {
        let topic = topics::topic(&self.settings.device, topics::STATUS);
        let payload = (self.desk.status)(status);
        self.publish(kind, topic, QoS::AtLeastOnce, true, payload)
    }

    fn publish(
        &mut self,
        kind: Kind,
        topic: String,
        qos: QoS,
        retain: bool,
        payload: Vec<u8>,
    ) -> Result<(), Outcome> {
        if self
            .client
            .try_publish(topic, qos, retain, payload)
            .is_err()
        {
            return Err(self.lost(Trouble::Full));
        }
        self.flight.queue(kind);
        Ok(())
    }

    fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Flushing(..))
    }

    fn puback_patience(&self) -> Duration {
        self.settings.patience.saturating_mul(PUBACK_PATIENCE)
    }

    /// While leaving, a broken line is as good as a closed one.
    fn lost(&self, trouble: Trouble) -> Outcome {
        match self.phase {
            Phase::Serving => Outcome::Lost {
                trouble,
                held: self.since.elapsed(),
            },
            Phase::Flushing(_, end) | Phase::Parting(_, end) | Phase::Leaving(_, end) => end.into(),
        }
    }

    /// Lets what was begun come to its end, so that nothing overlaps with the next connection.
    async fn close(mut self) {
        let unread = self.commands.iter().filter(|c| c.qos == QoS::AtMostOnce);
        for _ in unread {
            Counters::add(&self.desk.counters.dropped);
        }
        if let Some(fetch) = self.fetch.take() {
            // They are fetched again.
            drop(fetch.await);
        }
        if let Some(receive) = self.receive.take()
            && let Err(reason) = flat(receive.await)
        {
            tracing::error!(reason, "cannot take a command");
        }
        if let Some(erase) = self.erase.take()
            && flat(erase.await).is_err()
        {
            self.acked.append(&mut self.erasing);
        }
        if self.acked.is_empty() {
            return;
        }
        let (outbox, ids) = (Arc::clone(&self.desk.outbox), self.acked);
        if let Err(reason) = flat(spawn_blocking(move || outbox.delivered(&ids)).await) {
            tracing::error!(
                reason,
                "cannot clear the outbox: its messages are sent again"
            );
        }
    }
}

/// The end of a task, if there is one; it is then gone.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(running) => {
            let done = running.await;
            *task = None;
            done
        }
        None => future::pending().await,
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

fn flat<T>(done: Result<Result<T, String>, JoinError>) -> Result<T, String> {
    done.unwrap_or_else(|error| Err(broken(&error)))
}

fn broken(error: &JoinError) -> String {
    format!("a bug: {error}")
}
