//! The daemon's side of a session with the camera: keeps the takes, obeys commands, and tells how it goes.

use super::ROOM_LOOK;
use super::daemon::{Daemon, Task};
use super::studio::{Ask, Listing};
use crate::commands::accelerator::AcceleratorNews;
use crate::commands::camera::Origin;
use crate::commands::camera::session::{Host, Look, Standing};
use crate::commands::camera::shelf::{Shelf, Shelved, TOO_SHORT};
use crate::commands::job::hold;
use crate::exit::Failure;
use crate::machine::clock::uptime;
use crate::sequence::live::{Sign, Weaver};
use crate::sequence::takes::Phase;
use crate::service::Stage;
use crate::source::camera::News;
use crate::store::StoreError;
use crate::telemetry::payloads::{CameraHealth, JobPhase};
use serde_json::json;
use std::time::Duration;

/// Whoever runs the session: the daemon's side of it.
pub(super) struct Set<'a> {
    daemon: &'a Daemon,
    stage: &'a Stage,
    shelf: Shelf,
    origin: &'a Origin<'a>,
    device: String,
    /// A `record` without a last word.
    running: Option<Task>,
    /// Takes of it.
    taken: Vec<String>,
}

impl<'a> Set<'a> {
    /// With an open shelf, whose untold messages are told.
    pub(super) fn new(
        daemon: &'a Daemon,
        stage: &'a Stage,
        shelf: Shelf,
        origin: &'a Origin<'a>,
    ) -> Self {
        let mut set = Self {
            daemon,
            stage,
            shelf,
            origin,
            device: origin.device.to_string(),
            running: None,
            taken: Vec::new(),
        };
        // Of an earlier life.
        set.announce();
        set.publish(None);
        set
    }

    /// Writes, again and again while there is no room.
    fn persist<T>(
        &mut self,
        mut change: impl FnMut(&mut Shelf) -> Result<T, StoreError>,
    ) -> Result<T, Failure> {
        self.wait_for_reserve();
        // Until it is published again the mirror believes no list.
        let before = self.daemon.studio.set_files(None);
        let mut is_told = false;
        loop {
            match change(&mut self.shelf) {
                Err(error) if error.is_full() && !self.daemon.is_stopping() => {
                    if !is_told {
                        let action = "the camera waits until there is room; frames are dropped";
                        self.daemon.fault("disk", error.to_string(), action);
                        is_told = true;
                    }
                    self.stage.beat(uptime());
                    self.daemon.wait(ROOM_LOOK, |tasks| tasks.is_stopping);
                }
                done => {
                    self.publish(before.as_ref());
                    return done.map_err(Failure::from);
                }
            }
        }
    }

    /// Tells the mirror what there is, unless that is as it was `before`.
    fn publish(&self, before: Option<&Listing>) {
        let files = match self.shelf.files() {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(%error, "takes are not mirrored until the next one");
                return;
            }
        };
        let is_new = before != Some(&files);
        self.daemon.studio.set_files(Some(files));
        if is_new {
            self.daemon.change_tasks(|tasks| tasks.is_sealed = true);
        }
    }

    /// Holds a write back while the disk's reserve is touched, before it could fail; frames are dropped meanwhile. The
    /// governor says on `fault` that it is so.
    fn wait_for_reserve(&self) {
        let mut is_held = false;
        while let Some(reason) = self.daemon.disk_short()
            && !self.daemon.is_stopping()
        {
            let reason = format!("takes wait for room: {reason}");
            let degraded = (JobPhase::Degraded, Some(reason));
            self.daemon.hub.camera(Some(degraded));
            is_held = true;
            self.stage.beat(uptime());
            self.daemon.wait(ROOM_LOOK, |tasks| tasks.is_stopping);
        }
        if is_held {
            self.daemon.hub.camera(Some((JobPhase::Capturing, None)));
        }
    }

    /// Makes files of what was taken, and tells of them.
    pub(super) fn close(&mut self) -> Result<(), Failure> {
        let provenance = self.origin.provenance(None);
        self.persist(|shelf| shelf.close(&provenance))?;
        self.announce();
        Ok(())
    }

    /// Takes over what there is to tell of sealed batches: written there before it is deleted here, so that a cut
    /// between gives it twice and never loses it. What cannot be taken now is taken the next time.
    fn announce(&mut self) {
        if let Err(error) = self.take_over() {
            tracing::warn!(%error, "batches of takes are on disk and are announced later");
        }
        self.daemon.hub.wake.notify_one();
    }

    fn take_over(&mut self) -> Result<(), StoreError> {
        loop {
            let untold = self.shelf.untold()?;
            if untold.is_empty() {
                return Ok(());
            }
            for untold in untold {
                hold(&self.daemon.ledger).say(&[untold.message], &untold.stamp)?;
                self.shelf.told(untold.id)?;
            }
        }
    }

    /// The last word on the `record` that is under way.
    fn settle(&mut self, result: Result<(), &str>) {
        if let Some(task) = self.running.take() {
            let taken = std::mem::take(&mut self.taken);
            let result = match result {
                Ok(()) => Ok(Some(json!({"takes": taken}))),
                Err(reason) => Err(format!("{reason}; {} takes were kept", taken.len())),
            };
            self.daemon.answer(&task, result, &[]);
        }
    }

    fn obey(&mut self, ask: Ask, weaver: &mut Weaver, at: Duration) -> Result<(), Failure> {
        match ask {
            Ask::Record(task, order) => {
                self.settle(Err("replaced by another record"));
                self.running = Some(task);
                weaver.takes_mut().record(order, at);
            }
            Ask::Cancel => {
                weaver.takes_mut().cancel();
                self.settle(Err("cancelled by command"));
            }
            Ask::Undo(task) => {
                let undone = self.persist(Shelf::undo)?;
                let result = match &undone {
                    Some(Shelved { id, gloss, .. }) => {
                        self.taken.retain(|taken| taken != id);
                        if self.running.is_some() {
                            weaver.takes_mut().again(gloss, at);
                        }
                        self.close()?;
                        Ok(Some(json!({"id": id, "gloss": gloss})))
                    }
                    None => Err("there is no take to discard".to_owned()),
                };
                self.daemon.answer(&task, result, &[]);
            }
        }
        Ok(())
    }
}

impl Host for Set<'_> {
    type Error = Failure;

    fn news(&mut self, news: &News) -> Result<(), Failure> {
        match news {
            News::Opened(opened) => {
                tracing::info!(
                    path = opened.path,
                    format = opened.format.name(),
                    width = opened.width,
                    height = opened.height,
                    "filming"
                );
                self.daemon.hub.camera(Some((JobPhase::Capturing, None)));
            }
            News::Fault(error) => {
                let action = "the camera is opened again until it films; the job goes on";
                self.daemon.fault("camera", error.to_string(), action);
                let degraded = (JobPhase::Degraded, Some(error.to_string()));
                self.daemon.hub.camera(Some(degraded));
            }
            News::Relapse(error) => {
                let degraded = (JobPhase::Degraded, Some(error.to_string()));
                self.daemon.hub.camera(Some(degraded));
            }
            News::Ended => {}
        }
        Ok(())
    }

    fn accelerator(&mut self, news: &AcceleratorNews<'_>) {
        self.daemon.accelerator(news);
    }

    fn look(&mut self, look: &Look<'_>) {
        self.daemon.eyes.see(look.picture, look.hands, &self.device);
    }

    fn sign(&mut self, sign: Sign, backend: &str, weaver: &mut Weaver) -> Result<(), Failure> {
        let device = self.device.clone();
        let shelved = self.persist(|shelf| shelf.put(&sign, &device, backend))?;
        self.announce();
        tracing::info!(
            id = shelved.id,
            gloss = shelved.gloss,
            state = shelved.state,
            reason = shelved.reason,
            "take"
        );
        if shelved.state == TOO_SHORT {
            weaver.takes_mut().again(&shelved.gloss, sign.end);
        } else if self.running.is_some() {
            self.taken.push(shelved.id);
        }
        if self.running.is_some() && weaver.takes().phase(sign.end) == Phase::Idle {
            self.close()?;
            self.settle(Ok(()));
        }
        Ok(())
    }

    fn turn(&mut self, standing: &Standing<'_>, weaver: &mut Weaver) -> Result<bool, Failure> {
        self.stage.beat(uptime());
        while let Some(ask) = self.daemon.studio.asked() {
            self.obey(ask, weaver, standing.at)?;
        }
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        let ms = |percent| tenth(standing.meter.latency(percent).as_secs_f64() * 1e3);
        let counts = standing.counts;
        self.daemon.studio.set_health(CameraHealth {
            fps: tenth(standing.meter.fps()),
            frames: counts.frames,
            dropped: counts.dropped,
            damaged: counts.damaged,
            opened: counts.opened,
            hands: standing.hands,
            takes: self.shelf.accepted(),
            latency_p50_ms: ms(50),
            latency_p95_ms: ms(95),
        });
        Ok(!self.daemon.is_stopping())
    }
}
