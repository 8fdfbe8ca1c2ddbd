//! SIGHUP: reads the config again; what can be swapped is, what cannot is named, and a config that cannot be used
//! changes nothing.

use crate::config::{self, Sources};
use crate::daemon::state::Daemon;
use crate::logging;
use crate::system::notify;

/// Reads the config again.
pub(super) fn reload(daemon: &Daemon, sources: &Sources) {
    notify::reloading();
    let old = daemon.config();
    match config::load(sources) {
        Err(error) => daemon.fault(
            "config",
            error.to_string(),
            "the config in force stays; mend the file and reload again",
        ),
        Ok(loaded) => {
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            let changes = old.changes(&loaded.config);
            // Without a broker at the start there is no connection to change, and the other way round.
            let mut next = loaded.config;
            let mut restart = changes.restart.clone();
            let mut live = changes.live.clone();
            if old.mqtt.url.is_some() != next.mqtt.url.is_some() {
                next.mqtt = old.mqtt.clone();
                restart.extend(live.extract_if(.., |key| key.starts_with("mqtt.")));
            }
            logging::set_level(&next.log.level);
            daemon.set_config(old.with_live_of(&next));
            tracing::info!(changed = live.join(", "), "config read again");
            if !restart.is_empty() {
                daemon.fault(
                    "config",
                    format!(
                        "changed, but in force only after a restart: {}",
                        restart.join(", ")
                    ),
                    "the old values stay until then: restart the service",
                );
            }
        }
    }
    notify::ready();
}
