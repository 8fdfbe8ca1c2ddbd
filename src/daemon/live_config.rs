//! The config in force.

use crate::config::Config;
use crate::system::lock_ignoring_poison;
use std::sync::{Arc, Mutex};

/// Clones share one config, which a reload replaces.
#[derive(Clone)]
pub(super) struct LiveConfig(Arc<Mutex<Arc<Config>>>);

impl LiveConfig {
    pub(super) fn new(config: Config) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(config))))
    }

    /// The config as it is now.
    pub(super) fn get(&self) -> Arc<Config> {
        Arc::clone(&lock_ignoring_poison(&self.0))
    }

    pub(super) fn set(&self, config: Config) {
        *lock_ignoring_poison(&self.0) = Arc::new(config);
    }
}
