//! How a connection ends: what is left is said, then `stopped`, then DISCONNECT, each within its time.

use super::Connection;
use crate::messages::StatusName;
use crate::mqtt::error::Trouble;
use crate::mqtt::inflight::Kind;
use std::time::Duration;
use tokio::time::Instant;

/// At the end: for letters and the latest of all channels, for the farewell's PUBACK, for the broker to hang up.
const FLUSH: Duration = Duration::from_secs(2);
const PART: Duration = Duration::from_secs(2);
const LEAVE: Duration = Duration::from_secs(1);

/// How it ended.
pub(in crate::mqtt) enum Outcome {
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

/// How far the end is.
pub(super) enum Phase {
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
pub(super) enum End {
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

impl Connection<'_> {
    pub(super) fn begin_leaving(&mut self, end: End) {
        let now = Instant::now();
        self.letters.look();
        self.assert_at = None;
        self.renew_at = None;
        for channel in &mut self.desk.channels {
            // The last word, perhaps not noticed yet, is not to wait for its turn.
            channel.dirty |= channel.value.has_changed().unwrap_or(true);
            channel.next = now;
        }
        self.phase = Phase::Flushing(now + FLUSH, end);
    }

    pub(super) fn go_on_leaving(&mut self, now: Instant) -> Result<(), Outcome> {
        match self.phase {
            Phase::Flushing(until, end) => {
                let idle = self.letters.is_idle()
                    && self.orders.is_idle()
                    && self.flight.is_empty()
                    && !self.desk.channels.iter().any(|c| c.dirty);
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

    pub(super) fn leave(&mut self, end: End) -> Result<(), Outcome> {
        self.phase = Phase::Leaving(Instant::now() + LEAVE, end);
        self.client.try_disconnect().map_err(|_| end.into())
    }

    pub(super) fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Flushing(..))
    }

    /// While leaving, a broken line is as good as a closed one.
    pub(super) fn lost(&self, trouble: Trouble) -> Outcome {
        match self.phase {
            Phase::Serving => Outcome::Lost {
                trouble,
                held: self.since.elapsed(),
            },
            Phase::Flushing(_, end) | Phase::Parting(_, end) | Phase::Leaving(_, end) => end.into(),
        }
    }
}
