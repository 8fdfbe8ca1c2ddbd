//! The daemon's side of a camera session: carries out commands, stores takes and reports the camera's state.

mod take_writer;

pub(super) use take_writer::TakeWriter;

use crate::camera::CameraEvent;
use crate::daemon::Daemon;
use crate::daemon::ROOM_POLL_INTERVAL;
use crate::daemon::camera_session::take_writer::Written;
use crate::daemon::camera_task::CameraRequest;
use crate::daemon::job_queue::PendingCommand;
use crate::daemon::telemetry::CameraPhase;
use crate::error::CliError;
use crate::error::hints::Audience;
use crate::messages::payloads::{CameraHealth, JobPhase};
use crate::recording::fallback_detector::FallbackDetector;
use crate::recording::session::{RecordingSession, SessionEvent, SessionStatus};
use crate::recording::take_store::{StoredTake, TOO_SHORT};
use crate::sequence::recording_plan::RecordRequest;
use crate::sequence::sign_recorder::Sign;
use crate::system::Stage;
use crate::system::clock::uptime;
use serde_json::{Value, json};
use std::time::Duration;

/// Runs one session of the daemon's camera.
pub(super) struct CameraSession<'a> {
    daemon: &'a Daemon,
    stage: &'a Stage,
    session: RecordingSession<FallbackDetector<'a>>,
    writer: TakeWriter<'a>,
    device: String,
    /// The `record` command that is not answered yet, and the names of its takes.
    running: Option<(PendingCommand, Vec<String>)>,
    state: CameraPhase,
    reported_state: CameraPhase,
}

impl<'a> CameraSession<'a> {
    pub(super) fn new(
        daemon: &'a Daemon,
        stage: &'a Stage,
        session: RecordingSession<FallbackDetector<'a>>,
        writer: TakeWriter<'a>,
        device: String,
    ) -> Self {
        Self {
            daemon,
            stage,
            session,
            writer,
            device,
            running: None,
            state: None,
            reported_state: None,
        }
    }

    /// Runs until the daemon stops or the file of a `file:` camera ends; then writes the last takes.
    ///
    /// # Errors
    /// Fails when a model fails, a take cannot be written or the camera's thread is lost.
    pub(super) fn run(mut self) -> Result<(), CliError> {
        let ended = self.handle_events();
        self.session.close_camera();
        let closed = self.finish(ended.is_ok());
        if let (Err(_), Err(error)) = (&ended, &closed) {
            let error = error.display_chain();
            tracing::error!(error, "the last takes were not written");
        }
        ended.and(closed)?;
        let SessionStatus { counts, stats, .. } = self.session.status();
        tracing::info!(
            frames = counts.frames,
            dropped = counts.dropped,
            processed = stats.seen,
            "camera closed"
        );
        Ok(())
    }

    fn handle_events(&mut self) -> Result<(), CliError> {
        loop {
            match self.session.next_event()? {
                SessionEvent::Camera(event) => self.note_camera(event),
                SessionEvent::Backend(event) => self.daemon.report_backend(&event),
                SessionEvent::Frame => {
                    let view = self.session.view();
                    self.daemon
                        .monitor
                        .note_camera_frame(view.image, view.hands, &self.device);
                }
                SessionEvent::Sign { sign, backend } => self.store_sign(*sign, backend)?,
                SessionEvent::Tick => self.tick()?,
                SessionEvent::Ended => return Ok(()),
            }
        }
    }

    fn tick(&mut self) -> Result<(), CliError> {
        self.stage.heartbeat(uptime());
        let is_stopping = self.daemon.shutdown.is_requested();
        self.writer.is_last = is_stopping;
        self.carry_out_requests()?;
        self.flush()?;
        self.report_state();
        self.report_health();
        if is_stopping {
            self.session.stop();
        }
        Ok(())
    }

    /// Writes the remaining takes and answers the `record` command. With `may_wait`, waits for room on the disk until
    /// the daemon stops; the next process then answers the command.
    fn finish(&mut self, may_wait: bool) -> Result<(), CliError> {
        (self.writer.is_seal_due, self.writer.is_close_due) = (true, true);
        let written = self.write_rest(may_wait);
        if !self.daemon.shutdown.is_requested() {
            match &written {
                Ok(()) => self.answer_record(Err("the camera stopped; see state")),
                Err(failure) => {
                    self.answer_record(Err(&Audience::TakesKeys.display_chain(failure)));
                }
            }
        }
        written
    }

    fn write_rest(&mut self, may_wait: bool) -> Result<(), CliError> {
        loop {
            self.writer.is_last = !may_wait || self.daemon.shutdown.is_requested();
            self.carry_out_requests()?;
            if self.flush()? {
                return Ok(());
            }
            self.report_state();
            self.stage.heartbeat(uptime());
            self.daemon.shutdown.wait(ROOM_POLL_INTERVAL);
        }
    }

    /// Writes the waiting takes while there is room on the disk. Returns whether all are on disk. Answers a `record`
    /// command once its batches are.
    fn flush(&mut self) -> Result<bool, CliError> {
        loop {
            match self.writer.write_next(self.running.is_some())? {
                Written::Nothing => return Ok(true),
                Written::NoRoom => return Ok(false),
                Written::Take { take, sign_end } => self.note_take(take, sign_end),
                Written::AllBatches if self.is_record_complete() => self.answer_record(Ok(())),
                Written::AllBatches | Written::Files => {}
            }
        }
    }

    /// Stores a finished sign. While another take waits for room, drops the sign and requests it again.
    fn store_sign(&mut self, sign: Sign, backend: String) -> Result<(), CliError> {
        self.flush()?;
        let gloss = sign.gloss.clone();
        if self.writer.waiting.is_some() {
            tracing::warn!(
                gloss = &*gloss,
                "sign not recorded: another take waits for room"
            );
            self.session.retry(&gloss, sign.end);
            return Ok(());
        }
        self.writer.waiting = Some((sign, backend));
        self.flush()?;
        if let Some(reason) = self.writer.no_room()
            && self.writer.waiting.is_some()
        {
            tracing::warn!(gloss = &*gloss, reason, "a take waits for room");
        }
        Ok(())
    }

    fn note_take(&mut self, take: StoredTake, sign_end: Duration) {
        tracing::info!(
            id = take.id,
            gloss = take.gloss,
            state = take.state,
            reason = take.reason,
            "take"
        );
        if take.state == TOO_SHORT {
            // A take that waited for room ended long ago.
            let since = self.session.status().at.max(sign_end);
            self.session.retry(&take.gloss, since);
        } else if let Some((_, takes)) = &mut self.running {
            takes.push(take.id);
        }
        if self.is_record_complete() {
            self.writer.is_seal_due = true;
        }
    }

    fn is_record_complete(&self) -> bool {
        self.running.is_some() && self.session.recorder().plan().is_complete()
    }

    /// Answers the `record` command that is under way.
    fn answer_record(&mut self, result: Result<(), &str>) {
        let Some((task, takes)) = self.running.take() else {
            return;
        };
        let result = match result {
            Ok(()) => Ok(Some(json!({"takes": takes}))),
            Err(reason) => {
                // The takes of a request that ends early are sealed like those of a complete one.
                if !takes.is_empty() {
                    self.writer.is_seal_due = true;
                }
                let waits = if self.writer.waiting.is_some() {
                    ", one waits for room"
                } else {
                    ""
                };
                Err(format!("{reason}; {} takes were kept{waits}", takes.len()))
            }
        };
        self.daemon.outbox.reply(&task, result, &[]);
    }

    fn carry_out_requests(&mut self) -> Result<(), CliError> {
        while let Some(request) = self.daemon.camera.next_request() {
            match request {
                CameraRequest::Record(task, request) => self.record(task, request),
                CameraRequest::Cancel => {
                    self.session.cancel();
                    self.answer_record(Err("cancelled by command"));
                }
                CameraRequest::Undo(task) => {
                    let undone = self.undo();
                    let result = match &undone {
                        Ok(result) => result.clone(),
                        Err(failure) => Err(Audience::TakesKeys.display_chain(failure)),
                    };
                    self.daemon.outbox.reply(&task, result, &[]);
                    undone?.ok();
                }
            }
        }
        Ok(())
    }

    /// Starts a request. It is refused while takes wait for room, because the signer would not know when to begin.
    fn record(&mut self, task: PendingCommand, request: RecordRequest) {
        let is_writing = || {
            let reason = "one is being written".to_owned();
            self.writer.waiting.is_some().then_some(reason)
        };
        if let Some(reason) = self.writer.no_room().or_else(is_writing) {
            let reason = format!(
                "takes wait for room: {reason}; send it again with another id when state is capturing"
            );
            return self.daemon.outbox.reply(&task, Err(reason), &[]);
        }
        self.answer_record(Err("replaced by another record"));
        tracing::info!(gloss = %request.gloss, count = request.count, "recording requested");
        self.running = Some((task, Vec::new()));
        self.session.record(request);
    }

    /// Discards the last take. The inner error is the answer to the command.
    fn undo(&mut self) -> Result<Result<Option<Value>, String>, CliError> {
        let (id, gloss) = match self.writer.undo()? {
            Ok(take) => take,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some((_, takes)) = &mut self.running {
            takes.retain(|take| Some(take) != id.as_ref());
            let at = self.session.status().at;
            self.session.retry(&gloss, at);
        }
        self.flush()?;
        Ok(Ok(Some(json!({"id": id, "gloss": gloss}))))
    }

    fn note_camera(&mut self, event: CameraEvent) {
        match event {
            CameraEvent::Opened(opened) => {
                tracing::info!(
                    path = opened.path,
                    format = opened.format.name(),
                    width = opened.width,
                    height = opened.height,
                    "camera opened"
                );
                self.state = Some((JobPhase::Capturing, None));
            }
            CameraEvent::Fault(error) => {
                let reason = error.to_string();
                let action = if error.is_final() {
                    "the camera is off until the daemon is started again; the job continues"
                } else {
                    "the camera is opened again until it works; the job continues"
                };
                self.daemon.outbox.fault("camera", reason.clone(), action);
                self.state = Some((JobPhase::Degraded, Some(reason)));
            }
            CameraEvent::Relapse(error) => {
                self.state = Some((JobPhase::Degraded, Some(error.to_string())));
            }
            CameraEvent::Ended => {}
        }
        self.report_state();
    }

    /// Publishes a change of the camera's state; a camera whose takes wait for room is degraded.
    fn report_state(&mut self) {
        let state = match (&self.state, self.writer.no_room()) {
            (Some((JobPhase::Capturing, _)), Some(reason)) => Some((
                JobPhase::Degraded,
                Some(format!("takes wait for room: {reason}")),
            )),
            (state, _) => state.clone(),
        };
        if state.is_some() && state != self.reported_state {
            self.daemon.telemetry.camera(state.clone());
            self.reported_state = state;
        }
    }

    fn report_health(&self) {
        let SessionStatus {
            counts,
            stats,
            hands,
            ..
        } = self.session.status();
        let is_capturing = matches!(self.state, Some((JobPhase::Capturing, _)));
        let health = CameraHealth {
            fps: if is_capturing {
                stats.rounded_fps()
            } else {
                0.0
            },
            frames: counts.frames,
            dropped: counts.dropped,
            damaged: counts.damaged,
            opened: counts.opened,
            hands,
            takes: self.writer.store.accepted(),
            latency_p50_ms: stats.rounded_ms(50),
            latency_p95_ms: stats.rounded_ms(95),
        };
        self.daemon.camera.lock().health = Some(health);
    }
}
