//! SIGHUP: reads the config again. What a running daemon can take over is put into force, what needs a restart is
//! named, and a config with errors changes nothing.

use crate::config::{self, Sources};
use crate::daemon::control::BrokerSettings;
use crate::daemon::job_gate::JobGate;
use crate::daemon::live_config::LiveConfig;
use crate::daemon::outbox_writer::OutboxWriter;
use crate::logging;
use crate::system::notify;
use std::sync::Arc;

/// What a reload reads and changes.
pub(super) struct ConfigReloader {
    pub(super) sources: Sources,
    pub(super) config: LiveConfig,
    /// Worker threads that the job has at most; more need a restart.
    pub(super) threads: usize,
    pub(super) gate: Arc<JobGate>,
    pub(super) outbox: Arc<OutboxWriter>,
    pub(super) broker: BrokerSettings,
}

impl ConfigReloader {
    pub(super) fn reload(&self) {
        notify::reloading();
        match config::load(&self.sources) {
            Err(error) => self.outbox.fault(
                "config",
                error.to_string(),
                "the config in force stays; fix the file and reload again",
            ),
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!("{warning}");
                }
                self.apply(loaded.config);
            }
        }
        notify::ready();
    }

    fn apply(&self, mut new: config::Config) {
        let old = self.config.get();
        let changes = old.changes(&new);
        let (mut restart, mut live) = (changes.restart, changes.live);
        // A daemon that began without a broker has no connection to change, and the other way round.
        if old.mqtt.url.is_some() != new.mqtt.url.is_some() {
            new.mqtt = old.mqtt.clone();
            restart.extend(live.extract_if(.., |key| key.starts_with("mqtt.")));
        }
        logging::set_level(&new.log.level);
        let new = old.with_live_of(&new);
        self.outbox.set_limits(super::outbox_limits(&new));
        self.gate.set_workers_max(new.workers().min(self.threads));
        self.broker.change(new.broker());
        self.config.set(new);
        tracing::info!(changed = live.join(", "), "config reloaded");
        if !restart.is_empty() {
            let reason = format!(
                "changed, but in force only after a restart: {}",
                restart.join(", ")
            );
            let action = "the old values stay in force until then: restart the service";
            self.outbox.fault("config", reason, action);
        }
    }
}
