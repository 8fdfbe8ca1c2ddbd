//! Where a person sits who films: hears what they type, tells how it stands, and puts takes on the shelf.

use crate::camera::{CameraAddress, CameraCounts, CameraEvent};
use crate::cli::camera::preview_encoder::PreviewEncoder;
use crate::cli::camera::stdin_commands::{StdinCommand, StdinCommandError};
use crate::cli::progress::Live;
use crate::error::{CliError, Exit};
use crate::hand::ModelError;
use crate::inference::BackendEvent;
use crate::inference::ShutdownFlag;
use crate::recording::latency_stats::LatencyStats;
use crate::recording::session::{FrameView, SessionHost, SessionStatus};
use crate::recording::take_store::{ACCEPTED, StoredTake, TOO_SHORT, TakeStore};
use crate::sequence::recording_plan::RecordingPhase;
use crate::sequence::sign_recorder::{Sign, SignRecorder};
use anyhow::anyhow;
use serde_json::{Value, json};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How it stands is told this often.
const STATUS: Duration = Duration::from_millis(500);

/// State of a source that gives no more.
const ENDED: &str = "ended";

/// Runs one session from a terminal or a script.
pub(super) struct CliSession {
    live: Live,
    store: Option<TakeStore>,
    viewer: Option<PreviewEncoder>,
    words: Receiver<Result<StdinCommand, StdinCommandError>>,
    stop: ShutdownFlag,
    /// End when the order is done.
    pub(super) ends_with_order: bool,
    /// End after so long.
    pub(super) seconds: Option<Duration>,
    device: String,
    state: &'static str,
    has_filmed: bool,
    phase: RecordingPhase,
    began: Instant,
    last_status: Option<Instant>,
    signs: usize,
    taken: usize,
    too_short: u64,
}

impl CliSession {
    pub(super) fn new(
        live: Live,
        store: Option<TakeStore>,
        viewer: Option<PreviewEncoder>,
        words: Receiver<Result<StdinCommand, StdinCommandError>>,
        stop: ShutdownFlag,
    ) -> Self {
        Self {
            live,
            store,
            viewer,
            words,
            stop,
            ends_with_order: false,
            seconds: None,
            device: String::new(),
            state: "opening",
            has_filmed: false,
            phase: RecordingPhase::Idle,
            began: Instant::now(),
            last_status: None,
            signs: 0,
            taken: 0,
            too_short: 0,
        }
    }

    pub(super) fn introduce(&mut self, place: &CameraAddress) {
        self.device = place.to_string();
        if self.store.is_none() {
            let text = "Nothing is kept: --out DIR keeps the takes";
            self.live
                .say(text, &json!({"event": "not_kept", "reason": text}));
        }
        if let Some(viewer) = &self.viewer {
            let address = viewer.address();
            let url = format!("http://{address}");
            let beyond = if address.ip().is_loopback() {
                ""
            } else {
                " (anybody in the network can look)"
            };
            let event =
                json!({"event": "preview", "url": url, "loopback": address.ip().is_loopback()});
            self.live.say(&format!("Preview: {url}{beyond}"), &event);
        }
    }

    /// Writes what the session leaves.
    pub(super) fn close(&mut self, provenance: &Value) -> Result<(), CliError> {
        self.live.end();
        match &mut self.store {
            Some(store) => Ok(store.close(provenance)?),
            None => Ok(()),
        }
    }

    /// The closing words. A film that was over before it gave what was asked for is no success.
    pub(super) fn conclude(
        &self,
        counts: &CameraCounts,
        stats: &LatencyStats,
        recorder: &SignRecorder,
    ) -> Result<Exit, CliError> {
        // Too short for the segmenter, or with too few hands for a sequence.
        let too_short = recorder.too_short() + self.too_short;
        let in_output = self.store.as_ref().map(TakeStore::accepted);
        let order = recorder.takes().tally().filter(|_| self.ends_with_order);
        let asked = order.map(|(_, asked)| asked);
        let missing = order.filter(|(taken, asked)| taken < asked);
        let taken = match missing {
            Some((taken, asked)) => format!("{taken} of {asked} taken"),
            None => format!("{} taken", self.taken),
        };
        let text = format!(
            "{} signs, {taken}; {} frames, {} looked at, {} dropped, {} damaged, {} opened anew",
            self.signs,
            counts.frames,
            stats.seen,
            counts.dropped,
            counts.damaged,
            counts.opened.saturating_sub(1)
        );
        let event = json!({
            "event": "done", "signs": self.signs, "taken": self.taken, "asked": asked, "too_short": too_short,
            "in_output": in_output, "frames": counts.frames, "looked_at": stats.seen, "dropped": counts.dropped, "damaged": counts.damaged,
            "opened": counts.opened, "refused": counts.refused, "latency_ms": latency(stats),
        });
        self.live.say(&text, &event);
        if in_output == Some(0) {
            let why = "no take was kept: were hands in view? try --preview, or --min-frames and --min-seconds";
            return Err(CliError::new(Exit::Nothing, anyhow!(why)));
        }
        // Who stops it before knows.
        if let Some((taken, asked)) = missing.filter(|_| self.state == ENDED) {
            let why = format!(
                "{} is over after {taken} of the {asked} takes; what was taken is kept",
                self.device
            );
            return Err(CliError::new(Exit::BadData, anyhow!(why)));
        }
        Ok(Exit::Done)
    }

    fn obey(
        &mut self,
        word: StdinCommand,
        recorder: &mut SignRecorder,
        at: Duration,
    ) -> Result<(), CliError> {
        match word {
            StdinCommand::Record(order) => {
                let (gloss, count) = (order.gloss.to_string(), order.count);
                recorder.record(order, at);
                let event = json!({"event": "record", "gloss": gloss, "count": count});
                self.live
                    .say(&format!("Recording {count} of {gloss}"), &event);
            }
            StdinCommand::Cancel => {
                recorder.takes_mut().cancel();
                self.live.say("Cancelled", &json!({"event": "cancel"}));
            }
            StdinCommand::Undo => {
                let undone = match &mut self.store {
                    Some(store) => {
                        let undone = store.undo()?;
                        store.seal_due()?;
                        undone
                    }
                    None => None,
                };
                match undone {
                    Some(take) => {
                        self.taken = self.taken.saturating_sub(1);
                        recorder.takes_mut().again(&take.gloss, at);
                        let text = format!("Discarded {} ({})", take.id, take.gloss);
                        let event = json!({"event": "undo", "id": take.id, "gloss": take.gloss});
                        self.live.say(&text, &event);
                    }
                    None => self.live.say(
                        "There is no take to discard",
                        &json!({"event": "undo", "id": null}),
                    ),
                }
            }
            StdinCommand::Quit => self.stop.set(),
        }
        Ok(())
    }

    fn status(&mut self, standing: &SessionStatus<'_>, recorder: &SignRecorder) {
        let is_due = self.last_status.is_none_or(|last| last.elapsed() >= STATUS);
        if !is_due {
            return;
        }
        self.last_status = Some(Instant::now());
        let SessionStatus {
            counts,
            stats,
            hands,
            ..
        } = standing;
        let gloss = recorder.takes().order().map(|o| o.gloss.to_string());
        let segment = if recorder.is_open() { "sign" } else { "pause" };
        let fps = (stats.fps() * 10.0).round() / 10.0;
        let latency = latency(stats);
        let doing = match (&self.phase, &gloss) {
            (RecordingPhase::Countdown { left, take }, Some(gloss)) => {
                format!("{gloss} {take} in {:.0} s", left.as_secs_f64().ceil())
            }
            (RecordingPhase::Open { take }, Some(gloss)) => format!("{gloss} {take}: sign now"),
            _ => segment.to_owned(),
        };
        let text = format!(
            "{}  {fps:.1} fps  {} ms  hands {hands}  {doing}  taken {}  dropped {}",
            self.state, latency["p50"], self.taken, counts.dropped
        );
        let event = json!({
            "event": "status", "state": self.state, "fps": fps, "frames": counts.frames, "looked_at": stats.seen,
            "dropped": counts.dropped, "damaged": counts.damaged, "hands": hands, "segment": segment,
            "phase": self.phase.name(), "gloss": gloss, "taken": self.taken, "latency_ms": latency,
        });
        self.live.status(text, &event);
    }
}

/// In milliseconds, with one digit.
fn latency(stats: &LatencyStats) -> Value {
    let of = |percent| (stats.latency(percent).as_secs_f64() * 1e4).round() / 10.0;
    json!({"p50": of(50), "p95": of(95)})
}

impl From<ModelError> for CliError {
    fn from(error: ModelError) -> Self {
        Self::new(Exit::Bug, error)
    }
}

impl SessionHost for CliSession {
    type Error = CliError;

    fn news(&mut self, news: &CameraEvent) -> Result<(), CliError> {
        match news {
            CameraEvent::Opened(opened) => {
                self.state = "capturing";
                self.has_filmed = true;
                let text = format!(
                    "Filming with {}: {} {}x{}{}",
                    opened.name,
                    opened.format.name(),
                    opened.width,
                    opened.height,
                    opened
                        .rate
                        .map_or_else(String::new, |r| format!(" at {r:.0} fps"))
                );
                let event = json!({
                    "event": "camera", "state": self.state, "name": opened.name, "path": opened.path,
                    "format": opened.format.name(), "width": opened.width, "height": opened.height, "fps": opened.rate,
                });
                self.live.say(&text, &event);
            }
            // A person who looks on sees each.
            CameraEvent::Fault(error) | CameraEvent::Relapse(error) if self.has_filmed => {
                self.state = "degraded";
                let reason = error.to_string();
                let event = json!({"event": "fault", "state": self.state, "fault": error.name(), "reason": reason});
                self.live.say(&reason, &event);
            }
            // What never filmed needs somebody to see to it.
            CameraEvent::Fault(error) | CameraEvent::Relapse(error) => {
                return Err(error.clone().into());
            }
            CameraEvent::Ended => self.state = ENDED,
        }
        Ok(())
    }

    fn accelerator(&mut self, news: &BackendEvent<'_>) {
        let (text, event) = match *news {
            BackendEvent::Chosen {
                name,
                reason,
                is_second_best,
            } => (
                format!("Running the models on {name}: {reason}"),
                json!({"event": "backend", "name": name, "reason": reason, "is_second_best": is_second_best}),
            ),
            BackendEvent::Reopened {
                name,
                times,
                reason,
            } => (
                format!("{name} failed and was opened again, {times} times so far: {reason}"),
                json!({"event": "accelerator", "state": "reopened", "name": name, "times": times, "reason": reason}),
            ),
            BackendEvent::Lost { name, reason } => (
                format!(
                    "{name} is given up: {reason}; the CPU goes on, and the manifest says which takes are its"
                ),
                json!({"event": "accelerator", "state": "lost", "name": name, "reason": reason}),
            ),
        };
        self.live.say(&text, &event);
    }

    fn look(&mut self, look: &FrameView<'_>) {
        if let Some(viewer) = &self.viewer {
            viewer.show(look.picture, look.hands);
        }
    }

    fn sign(
        &mut self,
        sign: Sign,
        backend: &str,
        recorder: &mut SignRecorder,
    ) -> Result<(), CliError> {
        self.signs += 1;
        let stored = match &mut self.store {
            Some(store) => {
                let stored = store.add(&sign, &self.device, backend)?;
                store.seal_due()?;
                stored
            }
            None => StoredTake {
                id: format!("sign-{}", self.signs),
                gloss: sign.gloss.to_string(),
                state: ACCEPTED,
                reason: None,
            },
        };
        if stored.state == TOO_SHORT {
            self.too_short += 1;
            recorder.takes_mut().again(&stored.gloss, sign.end);
        } else {
            self.taken += 1;
        }
        let seconds = (sign.end.saturating_sub(sign.begin).as_secs_f64() * 100.0).round() / 100.0;
        let reason = stored.reason.as_deref();
        let text = format!(
            "{} {}: {seconds:.1} s, {} frames, {}{}",
            stored.id,
            stored.gloss,
            sign.seen,
            stored.state,
            reason.map_or_else(String::new, |r| format!(" ({r})"))
        );
        let event = json!({
            "event": "sign", "id": stored.id, "gloss": stored.gloss, "state": stored.state, "reason": reason,
            "begin_s": sign.begin.as_secs_f64(), "end_s": sign.end.as_secs_f64(), "seconds": seconds,
            "seen": sign.seen, "sampled": sign.sequence.frames.len(), "with_hand": sign.sequence.frames_with_hand,
            "ended_by": sign.end_reason.name(),
        });
        self.live.say(&text, &event);
        Ok(())
    }

    fn turn(
        &mut self,
        standing: &SessionStatus<'_>,
        recorder: &mut SignRecorder,
    ) -> Result<bool, CliError> {
        while let Ok(word) = self.words.try_recv() {
            match word {
                Ok(word) => self.obey(word, recorder, standing.at)?,
                Err(error) => {
                    let text = error.to_string();
                    self.live
                        .say(&text, &json!({"event": "refused", "reason": text}));
                }
            }
        }
        self.phase = recorder.takes().phase(standing.at);
        self.status(standing, recorder);
        let is_over = self
            .seconds
            .is_some_and(|limit| self.began.elapsed() >= limit);
        let is_done = self.ends_with_order && self.phase == RecordingPhase::Idle;
        Ok(!(is_over || is_done || self.stop.is_set()))
    }
}
