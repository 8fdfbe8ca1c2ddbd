//! What a job tells people: a bar and a table on a terminal, JSON lines elsewhere.

use crate::dataset::acceptance::{Judge, State, StateCounts};
use crate::dataset::plan::Plan;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A rate of less time than this is chance.
const RATE_DELAY: Duration = Duration::from_secs(1);

/// Reports the progress of one job.
pub struct Reporter {
    bar: Option<ProgressBar>,
    is_human: bool,
    started: Instant,
    total: usize,
    done: usize,
    known: usize,
}

impl Reporter {
    /// For people when `human`, or when it is `None` and stdout is a terminal; else JSON lines.
    #[must_use]
    pub fn new(human: Option<bool>) -> Self {
        let is_human = human.unwrap_or_else(|| std::io::stdout().is_terminal());
        Self {
            bar: None,
            is_human,
            started: Instant::now(),
            total: 0,
            done: 0,
            known: 0,
        }
    }

    /// Text for people; `event` in its place for programs.
    pub fn say(&self, text: &str, event: &Value) {
        if self.is_human {
            line(text);
        } else {
            line(&event.to_string());
        }
    }

    /// The job begins with so many clips, `known` of them done before.
    pub fn begin(&mut self, clips: usize, known: usize) {
        self.total = clips;
        (self.done, self.known) = (known, known);
        self.started = Instant::now();
        if !self.is_human {
            return;
        }
        // Within 80 columns: what does not fit of the states is cut off.
        let template = "{bar:20} {pos}/{len} clips  {per_sec}  ETA {eta}  {wide_msg}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let style = style.with_key(
            "per_sec",
            |s: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
                // A failing bar is no reason to stop a job.
                write!(w, "{:.0}/min", s.per_sec() * 60.0).ok();
            },
        );
        let bar = ProgressBar::new(clips as u64).with_style(style);
        bar.set_position(known as u64);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        self.bar = Some(bar);
    }

    /// A clip is judged.
    pub fn clip(
        &mut self,
        gloss: &str,
        video_id: &str,
        state: State,
        reason: Option<&str>,
        tally: &StateCounts,
    ) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            let counts: Vec<String> = tally
                .iter()
                .map(|(s, n)| format!("{} {n}", s.name()))
                .collect();
            bar.set_message(counts.join(", "));
            bar.set_position(self.done as u64);
        }
        if !self.is_human {
            let rate = clips_per_min(self.clips_done(), self.started.elapsed());
            #[expect(clippy::cast_precision_loss, reason = "counts of clips")]
            let left = self.total.saturating_sub(self.done) as f64;
            let round = |v: f64| (v * 10.0).round() / 10.0;
            let event = json!({
                "event": "clip", "gloss": gloss, "video_id": video_id, "state": state.name(), "reason": reason,
                "done": self.done, "of": self.total,
                "clips_per_min": rate.map(round), "eta_s": rate.map(|rate| round(left / rate * 60.0)),
            });
            line(&event.to_string());
        }
    }

    /// Whether people read the output, not a program.
    #[must_use]
    pub fn is_human(&self) -> bool {
        self.is_human
    }

    /// Planned clips that have a result, those of earlier processes included.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done
    }

    /// Clips that this process has processed.
    #[must_use]
    pub fn clips_done(&self) -> usize {
        self.done - self.known
    }

    /// A warning for the user that does not stop the job.
    pub fn warn(&self, text: &str) {
        let show = || tracing::warn!("{text}");
        match &self.bar {
            Some(bar) => bar.suspend(show),
            None => show(),
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        // An error message must not be drawn over.
        self.end();
    }
}

/// Tells what a camera sees: one line that changes on a terminal, JSON lines elsewhere.
pub struct Live {
    is_human: bool,
    bar: Option<ProgressBar>,
}

impl Live {
    /// For people when `human`, or when it is `None` and stdout is a terminal; else JSON lines.
    #[must_use]
    pub fn new(human: Option<bool>) -> Self {
        Self {
            is_human: human.unwrap_or_else(|| std::io::stdout().is_terminal()),
            bar: None,
        }
    }

    /// How it stands: replaces the line that was there; `event` in its place for programs.
    pub fn status(&mut self, text: String, event: &Value) {
        if !self.is_human {
            return line(&event.to_string());
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        bar.set_message(text);
        bar.tick();
    }

    /// What happened: stays; `event` in its place for programs.
    pub fn say(&self, text: &str, event: &Value) {
        match &self.bar {
            _ if !self.is_human => line(&event.to_string()),
            Some(bar) => bar.suspend(|| line(text)),
            None => line(text),
        }
    }

    /// Takes the changing line away.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // An error message must not be drawn over.
        self.end();
    }
}

/// Clips a minute; `None` without a clip or within the first second, when a rate would be chance.
#[must_use]
pub fn clips_per_min(clips: usize, elapsed: Duration) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts of clips")]
    let rate = clips as f64 / elapsed.as_secs_f64() * 60.0;
    (clips > 0 && elapsed >= RATE_DELAY).then_some(rate)
}

/// The closing table, in the notebook's order: processed, skipped, by reason, per gloss. `clips` of them were processed
/// by this process, within `elapsed`.
#[must_use]
pub fn closing_table(
    tally: &StateCounts,
    judge: &Judge,
    clips: usize,
    elapsed: Duration,
) -> String {
    let count = |s: State| tally.get(&s).copied().unwrap_or(0);
    let skipped = [State::TooShort, State::Empty, State::Unreadable];
    let aside = [State::Missing, State::OverLimit, State::NotSelected];
    let skipped_clips: usize = skipped.into_iter().map(count).sum();
    let mut out = format!(
        "\nProcessing complete!\n  Total processed: {}\n  Total skipped: {skipped_clips}\n",
        count(State::Accepted)
    );
    let mut put = |text: String| out.push_str(&text);
    let row = |s: State| format!("    {:<13}{:>7}  {}\n", s.name(), count(s), explain(s));
    let seen = |s: &State| count(*s) > 0;
    skipped.into_iter().filter(seen).for_each(|s| put(row(s)));
    let aside_clips: usize = aside.into_iter().map(count).sum();
    if aside_clips > 0 {
        put(format!("  Not opened: {aside_clips}\n"));
        aside.into_iter().filter(seen).for_each(|s| put(row(s)));
    }
    if clips > 0 {
        let rate = clips_per_min(clips, elapsed);
        let rate = rate.map_or_else(String::new, |rate| format!(", {rate:.0} clips/min"));
        put(format!(
            "  {clips} clips in {:.1} s{rate}\n",
            elapsed.as_secs_f64()
        ));
    }
    put("\n  Sample distribution:\n".to_owned());
    for (gloss, n) in judge.per_gloss() {
        put(format!("    {gloss}: {n}\n"));
    }
    out
}

fn explain(state: State) -> &'static str {
    match state {
        State::Accepted => "in the npz file",
        State::TooShort => "a hand in too few frames",
        State::Empty => "no frame in the frame range",
        State::Missing => "no clip on disk",
        State::Unreadable => "the clip or its metadata cannot be read, see manifest.jsonl",
        State::OverLimit => "gloss has enough clips",
        State::NotSelected => "gloss not processed",
    }
}

/// The plan as a list for people: one line a record.
#[must_use]
pub fn plan_table(
    plan: &Plan,
    describe: impl Fn(&crate::dataset::plan::PlanRecord) -> (State, String),
) -> String {
    let mut out = String::new();
    for record in &plan.records {
        let (state, reason) = describe(record);
        let what = if state == State::Accepted {
            "process"
        } else {
            state.name()
        };
        let id = record.video_id.as_deref().unwrap_or("-");
        // Writing to a String cannot fail.
        writeln!(out, "{what:<13} {id:<8} {:<20} {reason}", record.gloss).ok();
    }
    out
}

/// Prints to stdout; a reader that went away must not kill the job.
#[expect(clippy::let_underscore_must_use, reason = "nobody is left to tell")]
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end_matches('\n'));
}
