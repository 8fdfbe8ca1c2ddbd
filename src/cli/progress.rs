//! The output of a command: text with a progress bar or a status line on a terminal, JSON lines elsewhere.

use crate::untrusted;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::Value;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// A bar on a terminal, JSON lines elsewhere
    Auto,
    /// A bar and a closing table
    Bar,
    /// One JSON object a line on stdout
    Json,
}

/// Writes to stdout: text for people, or JSON lines for programs.
#[derive(Clone)]
pub struct Console {
    is_human: bool,
    /// The last line of the terminal, which changes.
    bar: Option<ProgressBar>,
}

impl Console {
    /// A console of this kind.
    #[must_use]
    pub fn new(kind: ProgressKind) -> Self {
        let is_human = match kind {
            ProgressKind::Auto => std::io::stdout().is_terminal(),
            ProgressKind::Bar => true,
            ProgressKind::Json => false,
        };
        Self {
            is_human,
            bar: None,
        }
    }

    /// Whether people read the output, not a program.
    #[must_use]
    pub fn is_human(&self) -> bool {
        self.is_human
    }

    /// Prints `text` for people, or `event` for programs.
    pub fn report(&self, text: &str, event: &Value) {
        if self.is_human {
            self.above_bar(|| print_line(text));
        } else {
            print_line(&event.to_string());
        }
    }

    /// Logs a warning that does not stop the command.
    pub fn warn(&self, text: &str) {
        self.above_bar(|| tracing::warn!("{text}"));
    }

    fn above_bar(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Shows people a bar of `clips` clips, of which `known` are done.
    pub fn start_bar(&mut self, clips: usize, known: usize) {
        if !self.is_human {
            return;
        }
        // Within 80 columns: what does not fit of the states is cut off.
        let template = "{bar:20} {pos}/{len} clips  {per_sec}  ETA {eta}  {wide_msg}";
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // A failing bar is no reason to stop a job.
            write!(out, "{:.0}/min", state.per_sec() * 60.0).ok();
        };
        let bar = ProgressBar::new(clips as u64).with_style(style.with_key("per_sec", rate));
        bar.set_position(known as u64);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        self.bar = Some(bar);
    }

    /// Moves the bar to `done` clips.
    pub fn update_bar(&self, done: usize, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(untrusted::escape(message).into_owned());
            bar.set_position(done as u64);
        }
    }

    /// Replaces the status line of a terminal; programs get `event`.
    pub fn show_status(&mut self, text: &str, event: &Value) {
        if !self.is_human {
            return print_line(&event.to_string());
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        bar.set_message(untrusted::escape(text).into_owned());
        bar.tick();
    }

    /// Removes the bar or the status line.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It would be drawn over an error message.
        self.clear();
    }
}

/// Prints to stdout, with what a terminal would obey escaped. A closed stdout must not end a job.
pub fn print_line(text: &str) {
    let shown = untrusted::escape(text.trim_end_matches('\n'));
    writeln!(std::io::stdout().lock(), "{shown}").ok();
}
