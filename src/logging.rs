//! The log: stderr for people, journald with its fields when systemd reads our stderr. The level can change while
//! the program runs.

use crate::service::journal;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

static LEVEL: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sets the log up at `level`: `error`, `warn`, `info`, `debug`, `trace`, or a filter of `tracing`'s; on stderr each line
/// begins with the time (UTC) when it `has_times`, the journal knows it anyway. To be called once.
///
/// # Errors
/// When the level is none.
pub fn init(level: &str, has_times: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|e| e.to_string())?;
    let (filter, handle) = reload::Layer::new(filter);
    let to_journal = journal::is_journal()
        .then(tracing_journald::layer)
        .and_then(Result::ok);
    let to_stderr = to_journal.is_none().then(|| {
        let lines = fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal());
        if has_times {
            lines.boxed()
        } else {
            lines.without_time().boxed()
        }
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(to_journal)
        .with(to_stderr)
        .try_init()
        .map_err(|e| e.to_string())?;
    // A second call has failed above.
    LEVEL.set(handle).ok();
    Ok(())
}

/// Changes the level; one that is none changes nothing and is said.
pub fn set_level(level: &str) {
    let Some(handle) = LEVEL.get() else {
        return;
    };
    let changed = EnvFilter::try_new(level)
        .map_err(|e| e.to_string())
        .and_then(|filter| handle.reload(filter).map_err(|e| e.to_string()));
    if let Err(error) = changed {
        tracing::warn!(level, error, "the log level stays as it is");
    }
}
