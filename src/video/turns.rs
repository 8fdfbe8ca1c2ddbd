//! Turns for decoding: some clips must be decoded while no other is.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Lets the workers of a process decode at the same time, or one of them alone.
#[derive(Debug, Default)]
pub struct DecodeTurns(RwLock<()>);

/// The right to decode, until it is dropped.
#[derive(Debug)]
pub enum DecodeTurn<'a> {
    /// Together with others.
    Shared(RwLockReadGuard<'a, ()>),
    /// While no other worker decodes.
    Alone(RwLockWriteGuard<'a, ()>),
}

impl DecodeTurns {
    /// Waits until no worker decodes alone.
    #[must_use]
    pub fn shared(&self) -> DecodeTurn<'_> {
        DecodeTurn::Shared(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until no other worker decodes. The calling thread must hold no turn.
    #[must_use]
    pub fn alone(&self) -> DecodeTurn<'_> {
        DecodeTurn::Alone(self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a worker decodes alone.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.try_read().is_err()
    }
}
