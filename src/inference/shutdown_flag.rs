//! The word that the process ends, for those who wait for a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the process ends: a device that is being opened is left as it is then, and what waits for it put aside.
#[derive(Clone, Debug, Default)]
pub struct ShutdownFlag(Arc<AtomicBool>);

impl ShutdownFlag {
    /// From here on it does, for all who have a clone of this.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it does.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
