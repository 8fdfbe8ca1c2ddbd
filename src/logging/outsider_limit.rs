//! Lines that an outsider can cause are limited, each kind by itself; what is left out is counted in the next line.

use crate::untrusted::{LOG_TARGET, escape_line};
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter};

/// Lines of a kind within [`WINDOW`].
const LINES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_mins(1);

/// What was logged of a kind of line.
#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    suppressed: u64,
}

/// Counts the lines by the place in the source that logs them.
#[derive(Clone, Debug, Default)]
pub(super) struct OutsiderLimit(Arc<Mutex<HashMap<Identifier, Window>>>);

impl OutsiderLimit {
    /// Whether a line of this kind may be logged at `now`; one that may not is counted.
    fn allow(&self, kind: Identifier, now: Instant) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(kind).or_insert(Window {
            began: now,
            lines: 0,
            suppressed: 0,
        });
        if now.duration_since(window.began) >= WINDOW {
            (window.began, window.lines) = (now, 0);
        }
        let is_allowed = window.lines < LINES_MAX;
        if is_allowed {
            window.lines += 1;
        } else {
            window.suppressed += 1;
        }
        is_allowed
    }

    /// Lines of this kind that were left out since the last call.
    fn take_suppressed(&self, kind: &Identifier) -> u64 {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows
            .get_mut(kind)
            .map_or(0, |window| std::mem::take(&mut window.suppressed))
    }
}

impl<S> Filter<S> for OutsiderLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        metadata.target() != LOG_TARGET || self.allow(metadata.callsite(), Instant::now())
    }
}

/// Writes lines without what a terminal would obey, and with the count of those that were left out.
#[derive(Debug)]
pub(super) struct LineWriter<W> {
    /// Makes the writer of a line.
    pub(super) inner: W,
    pub(super) limit: OutsiderLimit,
    pub(super) has_colors: bool,
}

/// One line of the log.
#[derive(Debug)]
pub(super) struct LogLine<W> {
    inner: W,
    suppressed: u64,
    has_colors: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for LineWriter<W> {
    type Writer = LogLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine {
            inner: self.inner.make_writer(),
            suppressed: 0,
            has_colors: self.has_colors,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        LogLine {
            suppressed: self.limit.take_suppressed(&metadata.callsite()),
            ..self.make_writer()
        }
    }
}

impl<W: Write> Write for LogLine<W> {
    /// `line` is whole: the formatter writes it at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut shown = escape_line(text.trim_end_matches('\n'), self.has_colors).into_owned();
        if self.suppressed > 0 {
            shown = format!("{shown} ({} more suppressed)", self.suppressed);
        }
        shown.push('\n');
        self.inner.write_all(shown.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Callsite as _;

    #[test]
    fn omitted_lines_are_counted_until_reported() {
        let limit = OutsiderLimit::default();
        let kind = || {
            tracing::callsite!(name: "test", kind: tracing::metadata::Kind::EVENT, fields: message)
                .metadata()
                .callsite()
        };
        let (kind, now) = (kind(), Instant::now());
        let allowed = (0..100).filter(|_| limit.allow(kind.clone(), now)).count();
        assert_eq!(allowed, LINES_MAX as usize);
        assert!(limit.allow(kind.clone(), now + WINDOW));
        assert_eq!(limit.take_suppressed(&kind), 80);
        assert_eq!(limit.take_suppressed(&kind), 0);
    }
}
