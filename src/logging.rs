//! The log on stderr: for a terminal, with time for a file, with priority prefixes for the journal. The level can change
//! while the program runs.

use crate::system::journal;
use std::io::{IsTerminal, Write as _};
use std::sync::OnceLock;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

static LEVEL: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sets up the log at `level`: `error`, `warn`, `info`, `debug`, `trace`, or a filter of `tracing`. With `has_times` each
/// line begins with the time (UTC), except in the journal, which adds it. Call it once.
///
/// # Errors
/// When `level` is not a level or filter.
pub fn init(level: &str, has_times: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|e| e.to_string())?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = if journal::is_journal() {
        lines.event_format(JournalLine).boxed()
    } else if has_times {
        lines.boxed()
    } else {
        lines.without_time().boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|e| e.to_string())?;
    // A second call has failed above.
    LEVEL.set(handle).ok();
    Ok(())
}

/// The priority of an error in sd-daemon(3).
const ERROR: u8 = 3;

/// Prints the error that the program ends with on stderr, for the journal with the priority of an error. It is no event of
/// the log, so no level hides it. A failing stderr is ignored.
pub fn print_fatal(text: &str) {
    let words = if journal::is_journal() {
        for_journal(text)
    } else {
        format!("{text}\n")
    };
    std::io::stderr().write_all(words.as_bytes()).ok();
}

/// The journal stores every line as one message and reads the priority from its beginning.
fn for_journal(text: &str) -> String {
    format!("<{ERROR}>{}\n", text.replace('\n', &format!("\n<{ERROR}>")))
}

/// A line for the journal, which adds the time: priority prefix, message, fields.
struct JournalLine;

impl<S, N> FormatEvent<S, N> for JournalLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => ERROR,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(out, "<{priority}>")?;
        context.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// Changes the level. An invalid level changes nothing and is logged.
pub fn set_level(level: &str) {
    let Some(handle) = LEVEL.get() else {
        return;
    };
    let changed = EnvFilter::try_new(level)
        .map_err(|e| e.to_string())
        .and_then(|filter| handle.reload(filter).map_err(|e| e.to_string()));
    if let Err(error) = changed {
        tracing::warn!(level, error, "invalid log level; it is not changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn last_words_are_errors_to_their_last_line() {
        assert_eq!(
            for_journal("no dataset\n  found a"),
            "<3>no dataset\n<3>  found a\n"
        );
    }

    #[test]
    fn a_line_for_the_journal_says_all_on_one_line() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = fmt::layer()
            .with_ansi(false)
            .event_format(JournalLine)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::error!(reason = "no\nroom", "fault");
            tracing::warn!(clips = 3, "late");
            tracing::info!("ready");
            tracing::debug!("begun");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let expected = "<3>fault reason=\"no\\nroom\"\n<4>late clips=3\n<6>ready\n<7>begun\n";
        assert_eq!(text, expected);
    }
}
