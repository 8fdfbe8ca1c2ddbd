//! The outbox's letters in one connection: fetched in order, sent once, removed when acknowledged.
//!
//! The outbox is asked and told off the task that serves the line, which waits for neither.

use super::outbox::{Outbox, OutboxMessage};
use std::future;
use std::mem;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// Letters under way at most.
const INFLIGHT_MAX: usize = 32;
/// The outbox is asked when there is room for so many, not for each single one.
const FETCH_MIN: usize = INFLIGHT_MAX / 2;
/// Pause after the outbox failed.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// A call that runs, and fails in words.
pub(super) type BlockingCall<T> = JoinHandle<Result<T, String>>;

/// The account of one connection.
pub(super) struct OutboxPublisher {
    outbox: Arc<dyn Outbox>,
    /// The last one that was fetched.
    cursor: i64,
    /// The outbox may have more.
    may_have_more: bool,
    fetch_at: Instant,
    requested: usize,
    fetch: Option<BlockingCall<Vec<OutboxMessage>>>,
    /// Acknowledged and still in the outbox.
    acked: Vec<i64>,
    delete_at: Instant,
    deleting: Vec<i64>,
    deletion: Option<BlockingCall<()>>,
}

/// What a call ended with.
pub(super) enum CallResult {
    Fetched(Result<Vec<OutboxMessage>, String>),
    Deleted(Result<(), String>),
}

impl OutboxPublisher {
    /// From the oldest.
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

    /// The outbox has something new.
    pub(super) fn notify(&mut self) {
        self.may_have_more = true;
    }

    /// This one need not be kept any longer.
    pub(super) fn delivered(&mut self, id: i64) {
        self.acked.push(id);
    }

    /// Begins what can be begun, with so many letters under way.
    pub(super) fn start_due_work(&mut self, now: Instant, under_way: usize) {
        if self.can_fetch(under_way) && self.fetch_at <= now {
            self.may_have_more = false;
            self.requested = INFLIGHT_MAX.saturating_sub(under_way);
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

    /// When [`Self::start_due_work`] has something to do by itself.
    pub(super) fn due(&self, under_way: usize) -> Option<Instant> {
        let look = self.can_fetch(under_way).then_some(self.fetch_at);
        let deletion = self.has_deletions().then_some(self.delete_at);
        look.into_iter().chain(deletion).min()
    }

    /// The end of a call; never ends while none runs. May be given up and called again.
    pub(super) async fn done(&mut self) -> CallResult {
        tokio::select! {
            done = finished(&mut self.fetch) => CallResult::Fetched(done),
            done = finished(&mut self.deletion) => CallResult::Deleted(done),
        }
    }

    /// Takes in the end of a call; the letters to send now.
    pub(super) fn handle(&mut self, done: CallResult) -> Vec<OutboxMessage> {
        match done {
            CallResult::Fetched(Ok(letters)) => {
                self.may_have_more |= letters.len() >= self.requested;
                self.cursor = letters.last().map_or(self.cursor, |l| l.id);
                return letters;
            }
            CallResult::Fetched(Err(reason)) => {
                tracing::error!(reason, "cannot read the outbox; trying again");
                self.may_have_more = true;
                self.fetch_at = Instant::now() + RETRY_DELAY;
            }
            CallResult::Deleted(Ok(())) => self.deleting.clear(),
            CallResult::Deleted(Err(reason)) => {
                tracing::error!(reason, "cannot clear the outbox; trying again");
                self.acked.append(&mut self.deleting);
                self.delete_at = Instant::now() + RETRY_DELAY;
            }
        }
        Vec::new()
    }

    /// Whether the outbox has nothing more to send.
    pub(super) fn is_idle(&self) -> bool {
        !self.may_have_more && self.fetch.is_none()
    }

    /// Lets what was begun come to its end, so that nothing overlaps with the next connection.
    pub(super) async fn close(mut self) {
        if self.fetch.is_some() {
            // They are fetched again.
            drop(finished(&mut self.fetch).await);
        }
        if self.deletion.is_some() && finished(&mut self.deletion).await.is_err() {
            self.acked.append(&mut self.deleting);
        }
        if self.acked.is_empty() {
            return;
        }
        let (outbox, ids) = (self.outbox, self.acked);
        if let Err(reason) = flat(spawn_blocking(move || outbox.delivered(&ids)).await) {
            tracing::error!(
                reason,
                "cannot clear the outbox: its messages are sent again"
            );
        }
    }

    fn can_fetch(&self, under_way: usize) -> bool {
        self.may_have_more && self.fetch.is_none() && under_way + FETCH_MIN <= INFLIGHT_MAX
    }

    fn has_deletions(&self) -> bool {
        !self.acked.is_empty() && self.deletion.is_none()
    }
}

/// The end of a call, which is then gone; never ends while there is none.
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
