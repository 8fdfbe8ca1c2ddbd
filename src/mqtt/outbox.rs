//! What the caller implements: where outbox messages are kept, and where commands go.

pub use crate::messages::payloads::PendingMessage;

/// Where messages wait for the broker. Calls may block: they are made on a thread of their own. The two may overlap.
pub trait Outbox: Send + Sync + 'static {
    /// The oldest messages with an id greater than `id`, at most `limit`, in order.
    ///
    /// # Errors
    /// When they cannot be read; the call is repeated seconds later.
    fn after(&self, id: i64, limit: usize) -> Result<Vec<PendingMessage>, String>;

    /// Deletes messages that the broker has acknowledged.
    ///
    /// # Errors
    /// When they cannot be deleted; the call is repeated seconds later, and the messages are sent again in the next
    /// connection.
    fn delivered(&self, ids: &[i64]) -> Result<(), String>;
}

/// Where commands go. Calls may block: they are made on a thread of their own, one after the other.
pub trait Inbox: Send + Sync + 'static {
    /// Accepts the command called `command`. The broker forgets it once this has returned `Ok`, so it must be durable by
    /// then. The same command may come again, a `retained` one in every connection.
    ///
    /// # Errors
    /// When it cannot be accepted; the broker sends it again in the next connection.
    fn receive(&self, command: &str, payload: &[u8], retained: bool) -> Result<(), String>;
}
