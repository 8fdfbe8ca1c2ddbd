//! The outbox's messages in one connection: fetched in order, published once, deleted when acknowledged.
//!
//! Calls to the outbox run on a thread of their own; the task that serves the connection does not wait for them.

use super::{Outbox, PendingMessage};
use std::future;
use std::mem;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// Maximum number of outbox messages in flight.
const INFLIGHT_MAX: usize = 32;
/// Messages are fetched when there is room for this many, not one by one.
const FETCH_MIN: usize = INFLIGHT_MAX / 2;
/// Delay after a failed call.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// A call under way on another thread; it fails with a reason.
pub(super) type BlockingCall<T> = JoinHandle<Result<T, String>>;

/// The outbox messages of one connection.
pub(super) struct OutboxPublisher {
    outbox: Arc<dyn Outbox>,
    /// Id of the last message that was fetched.
    cursor: i64,
    /// Whether the outbox may have more messages.
    may_have_more: bool,
    fetch_at: Instant,
    requested: usize,
    fetch: Option<BlockingCall<Vec<PendingMessage>>>,
    /// Acknowledged messages that are still in the outbox.
    acked: Vec<i64>,
    delete_at: Instant,
    deleting: Vec<i64>,
    deletion: Option<BlockingCall<()>>,
}

impl OutboxPublisher {
    /// Begins with the oldest message.
    pub(super) fn new(outbox: Arc<dyn Outbox>) -> Self {
        let now = Instant::now();
        Self {
            outbox,
            cursor: i64::MIN,
            may_have_more: true,
            fetch_at: now,
            requested: 0,
            fetch: None,
            acked: Vec::new(),
            delete_at: now,
            deleting: Vec::new(),
            deletion: None,
        }
    }

    /// Notes that the outbox has a new message.
    pub(super) fn notify(&mut self) {
        self.may_have_more = true;
    }

    /// Notes that the broker has acknowledged a message.
    pub(super) fn delivered(&mut self, id: i64) {
        self.acked.push(id);
    }

    /// Starts the calls that are due, with `in_flight` messages in flight.
    pub(super) fn start_due_work(&mut self, now: Instant, in_flight: usize) {
        if self.can_fetch(in_flight) && self.fetch_at <= now {
            self.may_have_more = false;
            self.requested = INFLIGHT_MAX.saturating_sub(in_flight);
            let (outbox, cursor, requested) =
                (Arc::clone(&self.outbox), self.cursor, self.requested);
            self.fetch = Some(spawn_blocking(move || outbox.after(cursor, requested)));
        }
        if self.has_deletions() && self.delete_at <= now {
            self.deleting = mem::take(&mut self.acked);
            let (outbox, ids) = (Arc::clone(&self.outbox), self.deleting.clone());
            self.deletion = Some(spawn_blocking(move || outbox.delivered(&ids)));
        }
    }

    /// When [`Self::start_due_work`] is due without another event.
    pub(super) fn due(&self, in_flight: usize) -> Option<Instant> {
        let fetch = self.can_fetch(in_flight).then_some(self.fetch_at);
        let deletion = self.has_deletions().then_some(self.delete_at);
        fetch.into_iter().chain(deletion).min()
    }

    /// The messages to publish now, after a call has ended; never returns while none is under way. Cancel-safe.
    pub(super) async fn next_messages(&mut self) -> Vec<PendingMessage> {
        tokio::select! {
            fetched = finished(&mut self.fetch) => match fetched {
                Ok(messages) => {
                    self.may_have_more |= messages.len() >= self.requested;
                    self.cursor = messages.last().map_or(self.cursor, |l| l.id);
                    return messages;
                }
                Err(reason) => {
                    tracing::error!(reason, "cannot read the outbox; it is tried again");
                    self.may_have_more = true;
                    self.fetch_at = Instant::now() + RETRY_DELAY;
                }
            },
            deleted = finished(&mut self.deletion) => match deleted {
                Ok(()) => self.deleting.clear(),
                Err(reason) => {
                    tracing::error!(reason, "cannot delete messages from the outbox; it is tried again");
                    self.acked.append(&mut self.deleting);
                    self.delete_at = Instant::now() + RETRY_DELAY;
                }
            },
        }
        Vec::new()
    }

    /// Whether the outbox has nothing more to send.
    pub(super) fn is_idle(&self) -> bool {
        !self.may_have_more && self.fetch.is_none()
    }

    /// Waits for the calls under way, so that none overlaps with the next connection, and deletes what is acknowledged.
    pub(super) async fn close(mut self) {
        while self.fetch.is_some() || self.deletion.is_some() {
            // The next connection fetches these messages again.
            self.next_messages().await;
        }
        if self.acked.is_empty() {
            return;
        }
        let (outbox, ids) = (self.outbox, self.acked);
        if let Err(reason) = flat(spawn_blocking(move || outbox.delivered(&ids)).await) {
            tracing::error!(
                reason,
                "cannot delete messages from the outbox: they are sent again"
            );
        }
    }

    fn can_fetch(&self, in_flight: usize) -> bool {
        self.may_have_more && self.fetch.is_none() && in_flight + FETCH_MIN <= INFLIGHT_MAX
    }

    fn has_deletions(&self) -> bool {
        !self.acked.is_empty() && self.deletion.is_none()
    }
}

/// The result of `call`, which is then `None`; never returns while there is none.
pub(super) async fn finished<T>(call: &mut Option<BlockingCall<T>>) -> Result<T, String> {
    match call {
        Some(running) => {
            let done = running.await;
            *call = None;
            flat(done)
        }
        None => future::pending().await,
    }
}

fn flat<T>(done: Result<Result<T, String>, JoinError>) -> Result<T, String> {
    done.unwrap_or_else(|error| Err(format!("a bug: {error}")))
}
