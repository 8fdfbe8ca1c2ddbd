//! The log on stderr: for a terminal, with time for a file, with priority prefixes for the journal. The level can change
//! while the program runs. A line holds nothing that a terminal would obey, and lines that outsiders cause are limited.

mod outsider_limit;

use crate::logging::outsider_limit::{LineWriter, OutsiderLimit};
use crate::system::journal;
use crate::untrusted;
use std::io::{IsTerminal, Write as _};
use std::sync::OnceLock;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

static LEVEL: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sets up the log at `level`: `error`, `warn`, `info`, `debug`, `trace`, or a filter of `tracing`. A level is Handloom's
/// own: of libraries it shows warnings and errors only. With `has_times` each line begins with the time (UTC), except in
/// the journal, which adds it. Call it once.
///
/// # Errors
/// Fails when `level` is not a level or filter.
pub fn init(level: &str, has_times: bool) -> Result<(), String> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let has_colors = std::io::stderr().is_terminal();
    let limit = OutsiderLimit::default();
    let lines = fmt::layer()
        .with_writer(LineWriter {
            inner: std::io::stderr,
            limit: limit.clone(),
            has_colors,
        })
        .with_target(false)
        .with_ansi(has_colors);
    let lines = if journal::is_journal() {
        lines.event_format(JournalLine).boxed()
    } else if has_times {
        lines.boxed()
    } else {
        lines.without_time().boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines.with_filter(limit))
        .try_init()
        .map_err(|e| e.to_string())?;
    // A second call has failed above.
    LEVEL.set(handle).ok();
    Ok(())
}

/// The filter of a level, or the given filter.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let is_above_warn = level
        .parse()
        .is_ok_and(|level: LevelFilter| level > LevelFilter::WARN);
    let filter = if is_above_warn {
        EnvFilter::try_new(format!("warn,handloom={level}"))
    } else {
        EnvFilter::try_new(level)
    };
    filter.map_err(|e| e.to_string())
}

/// The priority of an error in sd-daemon(3).
const ERROR: u8 = 3;

/// Prints the error that the program ends with on stderr, for the journal with the priority of an error. It is no event of
/// the log, so no level hides it. A failing stderr is ignored.
pub fn print_fatal(text: &str) {
    let text = untrusted::escape(text);
    let words = if journal::is_journal() {
        for_journal(&text)
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
    let changed = filter(level).and_then(|filter| handle.reload(filter).map_err(|e| e.to_string()));
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
    fn final_errors_are_errors_to_their_last_line() {
        assert_eq!(
            for_journal("no dataset\n  found a"),
            "<3>no dataset\n<3>  found a\n"
        );
    }

    /// The lines that `log` writes under the filter of `level`.
    fn logged(level: &str, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let limit = OutsiderLimit::default();
        let lines = fmt::layer()
            .with_ansi(false)
            .event_format(JournalLine)
            .with_writer(LineWriter {
                inner: move || writer.clone(),
                limit: limit.clone(),
                has_colors: false,
            });
        let lines = tracing_subscriber::registry()
            .with(filter(level).unwrap())
            .with(lines.with_filter(limit));
        tracing::subscriber::with_default(lines, log);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_level_shows_only_warnings_of_libraries() {
        let check = |level: &str, expected: &str| {
            let found = logged(level, || {
                tracing::debug!(target: "rumqttc::state", "ping");
                tracing::warn!(target: "rumqttc::state", "lost");
                tracing::debug!(target: "handloom::mqtt", "sent");
                tracing::trace!("step");
            });
            assert_eq!(found, expected, "{level}");
        };
        check("debug", "<4>lost\n<7>sent\n");
        check("TRACE", "<4>lost\n<7>sent\n<7>step\n");
        check("info", "<4>lost\n");
        check("error", "");
        check("warn,rumqttc=debug", "<7>ping\n<4>lost\n");
        check("off", "");
        assert!(filter("x=loud").is_err());
    }

    #[test]
    fn a_line_for_the_journal_is_one_line() {
        let text = logged("debug", || {
            tracing::error!(reason = "no\nroom", "fault");
            tracing::warn!(clips = 3, "late");
            tracing::info!("ready");
            tracing::debug!("begun");
        });
        let expected = "<3>fault reason=\"no\\nroom\"\n<4>late clips=3\n<6>ready\n<7>begun\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_outsiders_write_neither_steers_nor_floods_the_log() {
        let evil = "\u{1b}[2J\u{9b}31m\u{202e}\n<0>forged\r";
        let text = logged("info", || {
            tracing::warn!("a {evil} b");
            tracing::warn!(reason = evil, shown = %evil, "c");
            for n in 0..50 {
                tracing::warn!(target: untrusted::LOG_TARGET, n, "flood");
            }
            tracing::warn!("last");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            !text
                .replace('\n', "")
                .contains(untrusted::is_terminal_control),
            "{text:?}"
        );
        assert!(lines.iter().all(|line| line.starts_with("<4>")), "{text}");
        let flood = lines.iter().filter(|line| line.contains("flood")).count();
        assert_eq!((flood, lines.len()), (20, 23), "{text}");
    }
}
