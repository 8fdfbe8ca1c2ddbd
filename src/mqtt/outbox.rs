//! The two sides of the line that outlive it: letters waiting to go out, commands that came in.

/// A message that is kept until the broker has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Grows with every letter and is never used twice.
    pub id: i64,
    /// Last level of its topic.
    pub channel: String,
    /// As it is published.
    pub payload: Vec<u8>,
}

/// Where letters wait. Calls may block, they are made off the tasks that serve the line; the two may overlap.
pub trait Outbox: Send + Sync + 'static {
    /// The oldest letters with an id greater than `id`, at most `limit`, in order.
    ///
    /// # Errors
    /// When they cannot be read; asked again seconds later.
    fn after(&self, id: i64, limit: usize) -> Result<Vec<OutboxMessage>, String>;

    /// The broker has these: they need not be kept any longer.
    ///
    /// # Errors
    /// When they cannot be removed; tried again seconds later, and sent again at the next connection.
    fn delivered(&self, ids: &[i64]) -> Result<(), String>;
}

/// Where commands go. Calls may block, they are made off the tasks that serve the line, one after the other.
pub trait Inbox: Send + Sync + 'static {
    /// Takes the command called `command`. The broker forgets it when this has returned `Ok` and not before, so it is
    /// to be durable by then. The same command may come again, a `retained` one at every connection.
    ///
    /// # Errors
    /// When it cannot be taken; the broker then sends it again at the next connection.
    fn receive(&self, command: &str, payload: &[u8], retained: bool) -> Result<(), String>;
}
