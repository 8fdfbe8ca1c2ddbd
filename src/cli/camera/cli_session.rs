//! One camera session at a terminal or in a script: commands from stdin, a status line, takes into the store.

use crate::camera::{CameraAddress, CameraError, CameraEvent};
use crate::cli::camera::preview_encoder::PreviewEncoder;
use crate::cli::camera::stdin_commands::StdinCommand;
use crate::cli::progress::Console;
use crate::error::{CliError, Exit};
use crate::inference::{BackendEvent, ShutdownFlag};
use crate::recording::fallback_detector::FallbackDetector;
use crate::recording::latency_stats::LatencyStats;
use crate::recording::session::{RecordingSession, SessionEvent, SessionStatus};
use crate::recording::take_store::{ACCEPTED, StoredTake, TOO_SHORT, TakeStore};
use crate::selection::with_precision;
use crate::sequence::recording_plan::RecordingPhase;
use crate::sequence::sign_recorder::Sign;
use anyhow::anyhow;
use serde_json::{Value, json};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Time from one status line to the next.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// State of a camera that has not worked yet.
pub(super) const OPENING: &str = "opening";
/// State of a file that has ended.
const ENDED: &str = "ended";

/// Runs one session.
pub(super) struct CliSession<'a> {
    pub(super) session: RecordingSession<FallbackDetector<'a>>,
    pub(super) console: Console,
    /// `None` when no take is kept.
    pub(super) store: Option<TakeStore>,
    pub(super) preview: Option<PreviewEncoder>,
    pub(super) commands: Receiver<Result<StdinCommand, String>>,
    pub(super) device: &'a CameraAddress,
    pub(super) stop: ShutdownFlag,
    pub(super) started: Instant,
    /// The session ends after this time.
    pub(super) time_limit: Option<Duration>,
    /// Whether the session ends when the request is complete.
    pub(super) ends_with_request: bool,
    /// The camera's state, as it is reported.
    pub(super) state: &'static str,
    pub(super) progress: SessionProgress,
}

/// What happened in a session so far.
#[derive(Default)]
pub(super) struct SessionProgress {
    last_status: Option<Instant>,
    signs: usize,
    taken: usize,
    too_short: u64,
}

impl CliSession<'_> {
    /// Runs the session to its end and closes the camera.
    ///
    /// # Errors
    /// Fails when the camera cannot be opened, a model fails or a take cannot be written.
    pub(super) fn run(&mut self) -> Result<(), CliError> {
        let ended = self.handle_events();
        self.session.close_camera();
        ended
    }

    fn handle_events(&mut self) -> Result<(), CliError> {
        loop {
            match self.session.next_event()? {
                SessionEvent::Camera(event) => self.report_camera(event)?,
                SessionEvent::Backend(event) => report_backend(&self.console, &event),
                SessionEvent::Frame => {
                    if let Some(preview) = &self.preview {
                        preview.show(&self.session.view());
                    }
                }
                SessionEvent::Sign { sign, backend } => self.store_sign(&sign, &backend)?,
                SessionEvent::Tick => self.tick()?,
                SessionEvent::Ended => return Ok(()),
            }
        }
    }

    /// Carries out commands, reports the status and ends the session when it is time to.
    fn tick(&mut self) -> Result<(), CliError> {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Ok(command) => self.execute(command)?,
                Err(reason) => {
                    let event = json!({"event": "refused", "reason": reason});
                    self.console.report(&reason, &event);
                }
            }
        }
        let phase = self
            .session
            .recorder()
            .plan()
            .phase(self.session.status().at);
        self.report_status(&phase);
        let is_over = |limit| self.started.elapsed() >= limit;
        if self.time_limit.is_some_and(is_over)
            || (self.ends_with_request && phase == RecordingPhase::Idle)
            || self.stop.is_set()
        {
            self.session.stop();
        }
        Ok(())
    }

    /// Writes the remaining files of the session.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub(super) fn close_store(&mut self, provenance: &Value) -> Result<(), CliError> {
        self.console.clear();
        match &mut self.store {
            Some(store) => Ok(store.close(provenance)?),
            None => Ok(()),
        }
    }

    /// The camera's counters, and rate and latency.
    pub(super) fn status(&self) -> SessionStatus<'_> {
        self.session.status()
    }

    /// Reports the result.
    ///
    /// # Errors
    /// Fails when no take was kept, or a file is over before it gave the takes that were requested.
    pub(super) fn conclude(&self) -> Result<Exit, CliError> {
        let SessionStatus { counts, stats, .. } = self.session.status();
        let recorder = self.session.recorder();
        // Too short for the segmenter, or with hands in too few frames.
        let too_short = recorder.too_short() + self.progress.too_short;
        let in_output = self.store.as_ref().map(TakeStore::accepted);
        let progress = recorder.plan().progress();
        let progress = progress.filter(|_| self.ends_with_request);
        let requested = progress.map(|(_, requested)| requested);
        let missing = progress.filter(|(taken, requested)| taken < requested);
        let taken = match missing {
            Some((taken, requested)) => format!("{taken} of {requested} takes recorded"),
            None => format!("{} takes recorded", self.progress.taken),
        };
        let text = format!(
            "{} signs, {taken}; {} frames, {} processed, {} dropped, {} damaged, {} reconnects",
            self.progress.signs,
            counts.frames,
            stats.seen,
            counts.dropped,
            counts.damaged,
            counts.opened.saturating_sub(1)
        );
        let event = json!({
            "event": "done", "signs": self.progress.signs, "taken": self.progress.taken, "asked": requested, "too_short": too_short,
            "in_output": in_output, "frames": counts.frames, "looked_at": stats.seen, "dropped": counts.dropped, "damaged": counts.damaged,
            "opened": counts.opened, "refused": counts.refused, "latency_ms": latency(stats),
        });
        self.console.report(&text, &event);
        if in_output == Some(0) {
            let why = "no take was kept; check with --preview that hands are in view, or lower --min-frames or --min-seconds";
            return Err(CliError::new(Exit::Nothing, anyhow!(why)));
        }
        // A user who stops the session knows that takes are missing.
        if let Some((taken, requested)) = missing.filter(|_| self.state == ENDED) {
            let why = format!(
                "{} ended after {taken} of {requested} takes; the recorded takes are kept",
                self.device
            );
            return Err(CliError::new(Exit::BadData, anyhow!(why)));
        }
        Ok(Exit::Done)
    }

    fn execute(&mut self, command: StdinCommand) -> Result<(), CliError> {
        match command {
            StdinCommand::Record(request) => {
                let (gloss, count) = (request.gloss.to_string(), request.count);
                self.session.record(request);
                let event = json!({"event": "record", "gloss": gloss, "count": count});
                let text = format!("Recording {count} of {gloss}");
                self.console.report(&text, &event);
            }
            StdinCommand::Cancel => {
                self.session.cancel();
                let event = json!({"event": "cancel"});
                self.console.report("Cancelled", &event);
            }
            StdinCommand::Undo => self.undo()?,
            StdinCommand::Quit => self.stop.set(),
        }
        Ok(())
    }

    fn undo(&mut self) -> Result<(), CliError> {
        let mut discarded = None;
        if let Some(store) = &mut self.store {
            discarded = store.undo()?;
            store.seal_due()?;
        }
        let Some(take) = discarded else {
            let event = json!({"event": "undo", "id": null});
            self.console.report("There is no take to discard", &event);
            return Ok(());
        };
        self.progress.taken = self.progress.taken.saturating_sub(1);
        self.session.retry(&take.gloss, self.session.status().at);
        let text = format!("Discarded {} ({})", take.id, take.gloss);
        let event = json!({"event": "undo", "id": take.id, "gloss": take.gloss});
        self.console.report(&text, &event);
        Ok(())
    }

    fn report_status(&mut self, phase: &RecordingPhase) {
        let is_due = self
            .progress
            .last_status
            .is_none_or(|last| last.elapsed() >= STATUS_INTERVAL);
        if !is_due {
            return;
        }
        self.progress.last_status = Some(Instant::now());
        let SessionStatus {
            counts,
            stats,
            hands,
            ..
        } = self.session.status();
        let recorder = self.session.recorder();
        let gloss = recorder.plan().request().map(|r| r.gloss.to_string());
        let segment = if recorder.is_open() { "sign" } else { "pause" };
        let fps = stats.rounded_fps();
        let latency = latency(stats);
        let doing = match (phase, &gloss) {
            (RecordingPhase::Countdown { left, take }, Some(gloss)) => {
                format!("{gloss} {take} in {:.0} s", left.as_secs_f64().ceil())
            }
            (RecordingPhase::Open { take }, Some(gloss)) => format!("{gloss} {take}: sign now"),
            _ => segment.to_owned(),
        };
        let text = format!(
            "{}  {fps:.1} fps  {} ms  hands {hands}  {doing}  taken {}  dropped {}",
            self.state, latency["p50"], self.progress.taken, counts.dropped
        );
        let event = json!({
            "event": "status", "state": self.state, "fps": fps, "frames": counts.frames, "looked_at": stats.seen,
            "dropped": counts.dropped, "damaged": counts.damaged, "hands": hands, "segment": segment,
            "phase": phase.name(), "gloss": gloss, "taken": self.progress.taken, "latency_ms": latency,
        });
        self.console.show_status(&text, &event);
    }

    fn report_camera(&mut self, event: CameraEvent) -> Result<(), CliError> {
        match event {
            CameraEvent::Opened(opened) => {
                self.state = "capturing";
                let rate = opened
                    .rate
                    .map_or_else(String::new, |r| format!(" at {r:.0} fps"));
                let (width, height) = (opened.width, opened.height);
                let format = opened.format.name();
                let text = format!(
                    "Recording with {}: {format} {width}x{height}{rate}",
                    opened.name
                );
                let event = json!({
                    "event": "camera", "state": self.state, "name": opened.name, "path": opened.path,
                    "format": format, "width": width, "height": height, "fps": opened.rate,
                });
                self.console.report(&text, &event);
            }
            // The decoder of a file hangs: no end follows.
            CameraEvent::Fault(error @ CameraError::FileHangs { .. }) => return Err(error.into()),
            // At a terminal each fault is shown.
            CameraEvent::Fault(error) | CameraEvent::Relapse(error) if self.state != OPENING => {
                self.state = "degraded";
                let reason = error.to_string();
                let event = json!({"event": "fault", "state": self.state, "fault": error.name(), "reason": reason});
                self.console.report(&reason, &event);
            }
            // A camera that never worked needs the user.
            CameraEvent::Fault(error) | CameraEvent::Relapse(error) => return Err(error.into()),
            CameraEvent::Ended => {
                self.state = ENDED;
                let frames = self.session.status().counts.frames;
                let text = format!("{} ended after {frames} frames", self.device);
                let event = json!({"event": "ended", "state": self.state, "frames": frames});
                self.console.report(&text, &event);
            }
        }
        Ok(())
    }

    fn store_sign(&mut self, sign: &Sign, backend: &str) -> Result<(), CliError> {
        self.progress.signs += 1;
        let take = match &mut self.store {
            Some(store) => {
                let take = store.add(sign, &self.device.to_string(), backend)?;
                store.seal_due()?;
                take
            }
            None => StoredTake {
                id: format!("sign-{}", self.progress.signs),
                gloss: sign.gloss.to_string(),
                state: ACCEPTED,
                reason: None,
            },
        };
        if take.state == TOO_SHORT {
            self.progress.too_short += 1;
            self.session.retry(&take.gloss, sign.end);
        } else {
            self.progress.taken += 1;
        }
        let seconds = (sign.end.saturating_sub(sign.begin).as_secs_f64() * 100.0).round() / 100.0;
        let reason = take.reason.as_deref();
        let text = format!(
            "{} {}: {seconds:.1} s, {} frames, {}{}",
            take.id,
            take.gloss,
            sign.seen,
            take.state,
            reason.map_or_else(String::new, |r| format!(" ({r})"))
        );
        let event = json!({
            "event": "sign", "id": take.id, "gloss": take.gloss, "state": take.state, "reason": reason,
            "begin_s": sign.begin.as_secs_f64(), "end_s": sign.end.as_secs_f64(), "seconds": seconds,
            "seen": sign.seen, "sampled": sign.sequence.frames.len(), "with_hand": sign.sequence.frames_with_hand,
            "ended_by": sign.end_reason.name(),
        });
        self.console.report(&text, &event);
        Ok(())
    }
}

/// Median and 95th percentile, in milliseconds.
fn latency(stats: &LatencyStats) -> Value {
    json!({"p50": stats.rounded_ms(50), "p95": stats.rounded_ms(95)})
}

/// Reports what happened to the backend.
pub(super) fn report_backend(console: &Console, event: &BackendEvent) {
    let (text, json) = match event {
        BackendEvent::Chosen {
            name,
            reason,
            is_second_best,
        } => (
            event.to_string(),
            with_precision(
                json!({"event": "backend", "name": name, "reason": reason, "is_second_best": is_second_best}),
                name,
            ),
        ),
        BackendEvent::Reopened {
            name,
            times,
            reason,
        } => (
            format!("{event}; {}", event.action()),
            json!({"event": "accelerator", "state": "reopened", "name": name, "times": times, "reason": reason}),
        ),
        BackendEvent::Lost { name, reason } => (
            format!("{event}; {}", event.action()),
            json!({"event": "accelerator", "state": "lost", "name": name, "reason": reason}),
        ),
    };
    console.report(&text, &json);
}
