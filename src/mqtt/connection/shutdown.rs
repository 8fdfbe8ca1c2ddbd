//! How a connection ends: the messages that are left, then `stopped`, then DISCONNECT, each within its time limit.

use super::Connection;
use crate::messages::StatusName;
use crate::mqtt::error::MqttError;
use crate::mqtt::inflight::MessageKind;
use std::time::Duration;
use tokio::time::Instant;

/// Time limits: for the messages that are left, for the PUBACK of `stopped`, for the broker to close the connection.
const FLUSH: Duration = Duration::from_secs(2);
const STOPPED_ACK: Duration = Duration::from_secs(2);
const DISCONNECT: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(in crate::mqtt) enum ConnectionEnd {
    Closed(CloseReason),
    /// It was lost.
    Lost {
        /// The reason.
        error: MqttError,
        /// How long it lasted; zero for an attempt that led to none.
        connected_for: Duration,
        /// Whether the broker had acknowledged all that was sent.
        is_settled: bool,
    },
}

/// Why a connection is closed.
#[derive(Clone, Copy)]
pub(in crate::mqtt) enum CloseReason {
    /// The client was stopped.
    Stopped,
    /// The settings have changed.
    Changed,
}

impl From<CloseReason> for ConnectionEnd {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// An attempt that led to no connection.
impl From<MqttError> for ConnectionEnd {
    fn from(error: MqttError) -> Self {
        Self::Lost {
            error,
            connected_for: Duration::ZERO,
            is_settled: false,
        }
    }
}

/// A connection that is being closed.
#[derive(Clone, Copy)]
pub(super) struct Closing {
    pub(super) step: ClosingStep,
    /// When the next step follows in any case.
    pub(super) until: Instant,
    pub(super) reason: CloseReason,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClosingStep {
    /// Outbox messages and latest values are published.
    Flushing,
    /// `stopped` is published and not acknowledged yet.
    AwaitingStoppedAck,
    /// DISCONNECT is sent.
    Disconnecting,
}

impl Connection<'_> {
    pub(super) fn begin_shutdown(&mut self, reason: CloseReason) {
        let now = Instant::now();
        self.outbox.notify();
        self.reassert_online_at = None;
        self.reconnect_at = None;
        for channel in &mut self.state.inputs.retained {
            // The latest value, perhaps not noticed yet, does not wait for its interval.
            channel.dirty |= channel.value.has_changed().unwrap_or(true);
            channel.next = now;
        }
        self.close_by(ClosingStep::Flushing, now + FLUSH, reason);
    }

    pub(super) fn advance_shutdown(&mut self, now: Instant) -> Result<(), ConnectionEnd> {
        let Some(Closing {
            step,
            until,
            reason,
        }) = self.closing
        else {
            return Ok(());
        };
        let is_flushed = || {
            self.outbox.is_idle()
                && self.commands.is_idle()
                && self.in_flight.is_empty()
                && self.held.is_empty()
                && !self.state.inputs.retained.iter().any(|c| c.dirty)
        };
        match step {
            ClosingStep::Flushing if until <= now || is_flushed() => {
                self.publish_status(StatusName::Stopped, MessageKind::Stopped)?;
                self.close_by(ClosingStep::AwaitingStoppedAck, now + STOPPED_ACK, reason);
            }
            ClosingStep::AwaitingStoppedAck if until <= now => self.disconnect(reason)?,
            ClosingStep::Disconnecting if until <= now => return Err(reason.into()),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn disconnect(&mut self, reason: CloseReason) -> Result<(), ConnectionEnd> {
        let until = Instant::now() + DISCONNECT;
        self.close_by(ClosingStep::Disconnecting, until, reason);
        self.client.try_disconnect().map_err(|_| reason.into())
    }

    fn close_by(&mut self, step: ClosingStep, until: Instant, reason: CloseReason) {
        self.closing = Some(Closing {
            step,
            until,
            reason,
        });
    }

    pub(super) fn is_sending(&self) -> bool {
        self.closing
            .is_none_or(|closing| closing.step == ClosingStep::Flushing)
    }

    /// The end of a connection with `error`. During the shutdown a lost connection counts as a closed one.
    pub(super) fn lost(&self, error: MqttError) -> ConnectionEnd {
        match self.closing {
            Some(closing) => closing.reason.into(),
            None => ConnectionEnd::Lost {
                error,
                connected_for: self.since.elapsed(),
                is_settled: self.is_online_acknowledged && self.in_flight.is_empty(),
            },
        }
    }
}
