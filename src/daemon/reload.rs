//! SIGHUP: reads the config again. What a running daemon can take over is put into force, what needs a restart is
//! named, and a config with errors changes nothing.

use crate::config::{self, Sources};
use crate::daemon::Daemon;
use crate::logging;
use crate::system::{lock_ignoring_poison, notify};
use std::sync::Arc;

impl Daemon {
    pub(super) fn reload(&self, sources: &Sources) {
        notify::reloading();
        match config::load(sources) {
            Err(error) => self.outbox.fault(
                "config",
                error.to_string(),
                "the config in force stays; fix the file and reload again",
            ),
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!("{warning}");
                }
                self.apply_config(loaded.config);
            }
        }
        notify::ready();
    }

    fn apply_config(&self, mut new: config::Config) {
        let old = self.config();
        if old.run.shard.is_some() && new.run.shard.is_some() {
            // The running daemon writes to the folder of the shard, not to the configured folder.
            new.output.path.clone_from(&old.output.path);
            new.run.shard = old.run.shard;
        }
        let changes = old.changes(&new);
        let (mut restart, mut live) = (changes.restart, changes.live);
        // Adding or removing the broker needs a restart: the connection is made at the start only.
        if old.mqtt.url.is_some() != new.mqtt.url.is_some() {
            new.mqtt = old.mqtt.clone();
            restart.extend(live.extract_if(.., |key| key.starts_with("mqtt.")));
        }
        logging::set_level(&new.log.level);
        let new = old.with_live_of(&new);
        let limits = super::outbox_limits(&new);
        self.ledger.lock().set_outbox_limits(limits);
        self.gate.set_workers_max(new.workers().min(self.threads));
        if let (Some(sender), Some(settings)) = (&self.broker, new.broker()) {
            // The connection is made again where the settings differ.
            sender.send_replace(settings);
        }
        *lock_ignoring_poison(&self.config) = Arc::new(new);
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
