//! Tells those who wait for a device that the process shuts down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once the process shuts down. A device that is being opened is then abandoned. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct ShutdownFlag(Arc<AtomicBool>);

impl ShutdownFlag {
    /// Sets the flag for all clones.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the flag is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
