//! The daemon's side of a session with the camera: obeys commands, has takes kept ([`keep`]), and tells how it goes.

mod take_writer;

use crate::camera::CameraEvent;
use crate::daemon::camera_session::take_writer::DiskFull;
use crate::daemon::camera_task::CameraContext;
use crate::daemon::camera_task::CameraRequest;
use crate::daemon::job_queue::PendingCommand;
use crate::error::CliError;
use crate::error::hints::Audience;
use crate::inference::BackendEvent;
use crate::messages::payloads::{CameraHealth, JobPhase};
use crate::recording::TakeProvenance;
use crate::recording::session::{FrameView, SessionHost, SessionStatus};
use crate::recording::take_store::{StoredTake, TakeStore};
use crate::sequence::recording_plan::RecordRequest;
use crate::sequence::sign_recorder::{Sign, SignRecorder};
use crate::system::Stage;
use crate::system::clock::uptime;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Whoever runs the session: the daemon's side of it.
pub(super) struct CameraSession<'a> {
    daemon: &'a CameraContext,
    stage: &'a Stage,
    store: TakeStore,
    origin: &'a TakeProvenance<'a>,
    device: String,
    /// Time of the last frame.
    at: Duration,
    /// A `record` without a last word.
    running: Option<PendingCommand>,
    /// Takes of it.
    taken: Vec<String>,
    /// A take without room, and its backend.
    waiting: Option<(Sign, String)>,
    /// The files of all batches are to be made of what was taken.
    is_unsealed: bool,
    /// Takes are to be joined when none came or went for a while, counted from here.
    unjoined: Option<Instant>,
    /// All files are to be made, for the last time.
    is_unclosed: bool,
    /// The last write found no room.
    full: Option<DiskFull>,
    /// What is written now is written for the last time.
    is_last: bool,
    /// What the camera does, as it says itself, and as the world was told.
    filming: Option<(JobPhase, Option<String>)>,
    told: Option<(JobPhase, Option<String>)>,
}

impl<'a> CameraSession<'a> {
    /// With an open shelf, whose untold messages are told.
    pub(super) fn new(
        daemon: &'a CameraContext,
        stage: &'a Stage,
        store: TakeStore,
        origin: &'a TakeProvenance<'a>,
    ) -> Self {
        let mut set = Self {
            daemon,
            stage,
            store,
            origin,
            device: origin.device.to_string(),
            at: Duration::ZERO,
            running: None,
            taken: Vec::new(),
            waiting: None,
            is_unsealed: false,
            unjoined: None,
            is_unclosed: false,
            full: None,
            is_last: false,
            filming: None,
            told: None,
        };
        // Of an earlier life.
        set.unjoined = set.store.is_behind().then(Instant::now);
        set.publish(None);
        set
    }

    /// Says on `state` what the camera does, and that takes wait while they do.
    fn tell(&mut self) {
        let now = match (&self.filming, self.no_room()) {
            (Some((JobPhase::Capturing, _)), Some(reason)) => Some((
                JobPhase::Degraded,
                Some(format!("takes wait for room: {reason}")),
            )),
            (filming, _) => filming.clone(),
        };
        if now.is_some() && now != self.told {
            self.daemon.telemetry.camera(now.clone());
            self.told = now;
        }
    }

    /// The last word on the `record` that is under way.
    fn settle(&mut self, result: Result<(), &str>) {
        if let Some(task) = self.running.take() {
            let taken = std::mem::take(&mut self.taken);
            // What an order got that ends early is to be had like what a whole one got.
            self.is_unsealed |= !taken.is_empty() && result.is_err();
            let waits = if self.waiting.is_some() {
                ", one waits for room"
            } else {
                ""
            };
            let result = match result {
                Ok(()) => Ok(Some(json!({"takes": taken}))),
                Err(reason) => Err(format!("{reason}; {} takes were kept{waits}", taken.len())),
            };
            self.daemon.outbox.reply(&task, result, &[]);
        }
    }

    /// Obeys what was asked for, whether there is room or not.
    fn hear(&mut self, recorder: &mut SignRecorder, at: Duration) -> Result<(), CliError> {
        while let Some(ask) = self.daemon.camera.asked() {
            match ask {
                CameraRequest::Record(task, order) => self.record(task, order, recorder, at),
                CameraRequest::Cancel => {
                    recorder.takes_mut().cancel();
                    self.settle(Err("cancelled by command"));
                }
                CameraRequest::Undo(task) => {
                    let undone = self.undo(recorder, at);
                    let result = match &undone {
                        Ok(result) => result.clone(),
                        Err(failure) => Err(Audience::TakesKeys.story(failure)),
                    };
                    self.daemon.outbox.reply(&task, result, &[]);
                    undone?.ok();
                }
            }
        }
        Ok(())
    }

    /// Takes up an order; not while takes wait: nobody would know when to sign.
    fn record(
        &mut self,
        task: PendingCommand,
        order: RecordRequest,
        recorder: &mut SignRecorder,
        at: Duration,
    ) {
        let one_waits = || {
            self.waiting
                .is_some()
                .then(|| "one is being written".to_owned())
        };
        if let Some(reason) = self.no_room().or_else(one_waits) {
            let reason = format!(
                "takes wait for room: {reason}; send it again with another id when state is capturing"
            );
            return self.daemon.outbox.reply(&task, Err(reason), &[]);
        }
        self.settle(Err("replaced by another record"));
        self.running = Some(task);
        recorder.record(order, at);
    }

    /// Discards the last take: the one that waits, or the last one on the shelf, for which there mostly is room enough.
    fn undo(
        &mut self,
        recorder: &mut SignRecorder,
        at: Duration,
    ) -> Result<Result<Option<Value>, String>, CliError> {
        let mut again = |gloss: &str, is_running: bool| {
            if is_running {
                recorder.takes_mut().again(gloss, at);
            }
        };
        if let Some((sign, _)) = self.waiting.take() {
            again(&sign.gloss, self.running.is_some());
            // It never had a name.
            return Ok(Ok(Some(json!({"id": null, "gloss": &*sign.gloss}))));
        }
        Ok(match self.write(TakeStore::undo)? {
            Some(Some(StoredTake { id, gloss, .. })) => {
                self.taken.retain(|taken| *taken != id);
                again(&gloss, self.running.is_some());
                self.is_unsealed = true;
                self.flush(recorder)?;
                Ok(Some(json!({"id": id, "gloss": gloss})))
            }
            Some(None) => Err("there is no take to discard".to_owned()),
            None => {
                let reason = self.no_room().unwrap_or_default();
                Err(format!(
                    "there is no room to discard it: {reason}; make room and send it again with another id"
                ))
            }
        })
    }
}

impl SessionHost for CameraSession<'_> {
    type Error = CliError;

    fn news(&mut self, news: &CameraEvent) -> Result<(), CliError> {
        match news {
            CameraEvent::Opened(opened) => {
                tracing::info!(
                    path = opened.path,
                    format = opened.format.name(),
                    width = opened.width,
                    height = opened.height,
                    "filming"
                );
                self.filming = Some((JobPhase::Capturing, None));
            }
            CameraEvent::Fault(error) => {
                let reason = error.to_string();
                let action = "the camera is opened again until it films; the job goes on";
                self.daemon.outbox.fault("camera", reason.clone(), action);
                self.filming = Some((JobPhase::Degraded, Some(reason)));
            }
            CameraEvent::Relapse(error) => {
                let reason = error.to_string();
                self.filming = Some((JobPhase::Degraded, Some(reason)));
            }
            CameraEvent::Ended => {}
        }
        self.tell();
        Ok(())
    }

    fn accelerator(&mut self, news: &BackendEvent<'_>) {
        self.daemon.backends.report(news);
    }

    fn look(&mut self, look: &FrameView<'_>) {
        self.daemon
            .monitor
            .note_camera_frame(look.picture, look.hands, &self.device);
    }

    fn sign(
        &mut self,
        sign: Sign,
        backend: &str,
        recorder: &mut SignRecorder,
    ) -> Result<(), CliError> {
        self.take(sign, backend, recorder)
    }

    fn turn(
        &mut self,
        standing: &SessionStatus<'_>,
        recorder: &mut SignRecorder,
    ) -> Result<bool, CliError> {
        self.stage.heartbeat(uptime());
        self.is_last = self.daemon.shutdown.is_requested();
        self.at = standing.at;
        self.hear(recorder, standing.at)?;
        self.flush(recorder)?;
        self.tell();
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        let ms = |percent| tenth(standing.stats.latency(percent).as_secs_f64() * 1e3);
        let counts = standing.counts;
        let is_filming = matches!(self.filming, Some((JobPhase::Capturing, _)));
        let fps = if is_filming {
            tenth(standing.stats.fps())
        } else {
            0.0
        };
        self.daemon.camera.set_health(CameraHealth {
            fps,
            frames: counts.frames,
            dropped: counts.dropped,
            damaged: counts.damaged,
            opened: counts.opened,
            hands: standing.hands,
            takes: self.store.accepted(),
            latency_p50_ms: ms(50),
            latency_p95_ms: ms(95),
        });
        Ok(!self.is_last)
    }
}
