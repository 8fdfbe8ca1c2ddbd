//! What `process` and `resequence` show of a job while it runs.

use super::tables;
use crate::cli::progress::{Console, print_line};
use crate::inference::BackendEvent;
use crate::job::{ClipEvent, JobObserver};
use crate::selection::with_precision;
use serde_json::json;
use std::time::Instant;

/// Reports the job on the terminal, or as JSON lines on stdout.
pub(in crate::cli) struct ConsoleObserver {
    pub(super) console: Console,
    is_resumed: bool,
    started: Instant,
    /// Planned clips.
    pub(super) total: usize,
    /// Planned clips with a result of an earlier process.
    known: usize,
    /// Planned clips with a result, the known ones included.
    pub(super) done: usize,
}

impl ConsoleObserver {
    /// Reports to `console`. `is_resumed`: an earlier process may have recorded clips.
    pub(in crate::cli) fn new(console: Console, is_resumed: bool) -> Self {
        Self {
            console,
            is_resumed,
            started: Instant::now(),
            total: 0,
            known: 0,
            done: 0,
        }
    }

    /// Removes the bar.
    pub(in crate::cli) fn finish(&mut self) {
        self.console.clear();
    }

    /// Clips that this process has processed.
    pub(super) fn processed(&self) -> usize {
        self.done - self.known
    }
}

impl JobObserver for ConsoleObserver {
    fn job_started(&mut self, _run: &str, total: usize, known: usize) {
        if self.is_resumed && known > 0 {
            self.console.report(
                &format!("Resuming: {known} of {total} planned clips were done before"),
                &json!({"event": "resume", "done": known, "of": total}),
            );
        }
        (self.total, self.known, self.done) = (total, known, known);
        self.started = Instant::now();
        self.console.start_bar(total, known);
    }

    fn clip_recorded(&mut self, event: &ClipEvent<'_>) {
        self.done += 1;
        if self.console.is_human() {
            let counts = tables::counts_text(event.counts);
            return self.console.update_bar(self.done, &counts);
        }
        let rate = tables::clips_per_min(self.processed(), self.started.elapsed());
        #[expect(clippy::cast_precision_loss, reason = "counts of clips")]
        let left = self.total.saturating_sub(self.done) as f64;
        let round = |v: f64| (v * 10.0).round() / 10.0;
        let event = json!({
            "event": "clip", "gloss": event.gloss, "video_id": event.video_id, "state": event.state.name(),
            "reason": event.reason, "done": self.done, "of": self.total,
            "clips_per_min": rate.map(round), "eta_s": rate.map(|rate| round(left / rate * 60.0)),
        });
        print_line(&event.to_string());
    }

    fn backend_event(&mut self, event: &BackendEvent) {
        let BackendEvent::Chosen {
            name,
            reason,
            is_second_best,
        } = event
        else {
            return self.console.warn(&format!("{event}; {}", event.action()));
        };
        let json = json!({"event": "backend", "name": name, "reason": reason});
        let json = with_precision(json, name);
        self.console.report(&event.to_string(), &json);
        if *is_second_best {
            self.console.warn(&format!("{reason}; {name} runs instead"));
        }
    }

    fn warn(&mut self, text: &str) {
        self.console.warn(text);
    }
}
