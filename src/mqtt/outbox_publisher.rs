//! The outbox's letters in one connection: fetched in order, sent once, removed when acknowledged.
//!
//! The outbox is asked and told off the task that serves the line, which waits for neither.

use super::outbox::{Letter, Outbox};
use std::future;
use std::mem;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// Letters under way at most.
const LETTERS_MAX: usize = 32;
/// The outbox is asked when there is room for so many, not for each single one.
const ASKED_MIN: usize = LETTERS_MAX / 2;
/// Pause after the outbox failed.
const PAUSE: Duration = Duration::from_secs(5);

/// A call that runs, and fails in words.
pub(super) type Call<T> = JoinHandle<Result<T, String>>;

/// The account of one connection.
pub(super) struct Letters {
    outbox: Arc<dyn Outbox>,
    /// The last one that was fetched.
    cursor: i64,
    /// The outbox may have more.
    look: bool,
    look_at: Instant,
    asked: usize,
    fetch: Option<Call<Vec<Letter>>>,
    /// Acknowledged and still in the outbox.
    acked: Vec<i64>,
    erase_at: Instant,
    erasing: Vec<i64>,
    erase: Option<Call<()>>,
}

/// What a call ended with.
pub(super) enum Done {
    Fetched(Result<Vec<Letter>, String>),
    Erased(Result<(), String>),
}

impl Letters {
    /// From the oldest.
    pub(super) fn new(outbox: Arc<dyn Outbox>) -> Self {
        let now = Instant::now();
        Self {
            outbox,
            cursor: i64::MIN,
            look: true,
            look_at: now,
            asked: 0,
            fetch: None,
            acked: Vec::new(),
            erase_at: now,
            erasing: Vec::new(),
            erase: None,
        }
    }

    /// The outbox has something new.
    pub(super) fn look(&mut self) {
        self.look = true;
    }

    /// This one need not be kept any longer.
    pub(super) fn delivered(&mut self, id: i64) {
        self.acked.push(id);
    }

    /// Begins what can be begun, with so many letters under way.
    pub(super) fn work(&mut self, now: Instant, under_way: usize) {
        if self.wants_some(under_way) && self.look_at <= now {
            self.look = false;
            self.asked = LETTERS_MAX.saturating_sub(under_way);
            let (outbox, cursor, asked) = (Arc::clone(&self.outbox), self.cursor, self.asked);
            self.fetch = Some(spawn_blocking(move || outbox.after(cursor, asked)));
        }
        if self.wants_erasing() && self.erase_at <= now {
            self.erasing = mem::take(&mut self.acked);
            let (outbox, ids) = (Arc::clone(&self.outbox), self.erasing.clone());
            self.erase = Some(spawn_blocking(move || outbox.delivered(&ids)));
        }
    }

    /// When [`Self::work`] has something to do by itself.
    pub(super) fn due(&self, under_way: usize) -> Option<Instant> {
        let look = self.wants_some(under_way).then_some(self.look_at);
        let erase = self.wants_erasing().then_some(self.erase_at);
        look.into_iter().chain(erase).min()
    }

    /// The end of a call; never ends while none runs. May be given up and called again.
    pub(super) async fn done(&mut self) -> Done {
        tokio::select! {
            done = finished(&mut self.fetch) => Done::Fetched(done),
            done = finished(&mut self.erase) => Done::Erased(done),
        }
    }

    /// Takes in the end of a call; the letters to send now.
    pub(super) fn take(&mut self, done: Done) -> Vec<Letter> {
        match done {
            Done::Fetched(Ok(letters)) => {
                self.look |= letters.len() >= self.asked;
                self.cursor = letters.last().map_or(self.cursor, |l| l.id);
                return letters;
            }
            Done::Fetched(Err(reason)) => {
                tracing::error!(reason, "cannot read the outbox; trying again");
                self.look = true;
                self.look_at = Instant::now() + PAUSE;
            }
            Done::Erased(Ok(())) => self.erasing.clear(),
            Done::Erased(Err(reason)) => {
                tracing::error!(reason, "cannot clear the outbox; trying again");
                self.acked.append(&mut self.erasing);
                self.erase_at = Instant::now() + PAUSE;
            }
        }
        Vec::new()
    }

    /// Whether the outbox has nothing more to send.
    pub(super) fn is_idle(&self) -> bool {
        !self.look && self.fetch.is_none()
    }

    /// Lets what was begun come to its end, so that nothing overlaps with the next connection.
    pub(super) async fn close(mut self) {
        if self.fetch.is_some() {
            // They are fetched again.
            drop(finished(&mut self.fetch).await);
        }
        if self.erase.is_some() && finished(&mut self.erase).await.is_err() {
            self.acked.append(&mut self.erasing);
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

    fn wants_some(&self, under_way: usize) -> bool {
        self.look && self.fetch.is_none() && under_way + ASKED_MIN <= LETTERS_MAX
    }

    fn wants_erasing(&self) -> bool {
        !self.acked.is_empty() && self.erase.is_none()
    }
}

/// The end of a call, which is then gone; never ends while there is none.
pub(super) async fn finished<T>(call: &mut Option<Call<T>>) -> Result<T, String> {
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
