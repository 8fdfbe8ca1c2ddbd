//! The daemon's camera: a thread that films, keeps the takes that were asked for, and tells how it stands. The job
//! goes on beside it; a camera that is away holds up nothing.

use super::daemon::{Daemon, Task, held};
use super::{ROOM_LOOK, bounds};
use crate::commands::camera::meter::Meter;
use crate::commands::camera::session::{self, Host, Look, Standing};
use crate::commands::camera::shelf::{Common, Shelf, Shelved, TOO_SHORT};
use crate::commands::camera::{Recipe, provenance, with_detector};
use crate::commands::job::hold;
use crate::exit::Failure;
use crate::hand::Model;
use crate::inference::Bundle;
use crate::machine::clock::{now_utc, uptime};
use crate::sequence::live::{Sign, Weaver};
use crate::sequence::takes::{Order, Phase, Takes};
use crate::service::Stage;
use crate::source::camera::{Camera, Counts, News, Pace, Place, Waits};
use crate::store::StoreError;
use crate::telemetry::payloads::{CameraHealth, JobPhase};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Commands that wait for the camera's thread.
const ASKS_MAX: usize = 16;
/// A session that could not begin is tried again after so long.
const RETRY: Duration = Duration::from_secs(30);
/// A look at a frame, or an opening of the camera, takes no longer than this.
const SILENCE: Duration = Duration::from_mins(2);

/// What the camera's thread is asked for.
pub(super) enum Ask {
    /// Take signs.
    Record(Task, Order),
    /// Discard the last take.
    Undo(Task),
    /// Take no more.
    Cancel,
}

/// What the other threads know of the camera.
#[derive(Default)]
pub(super) struct Studio {
    asks: Mutex<VecDeque<Ask>>,
    is_open: AtomicBool,
    health: Mutex<Option<CameraHealth>>,
}

impl Studio {
    /// Hands `ask` to the camera's thread; gives it back with the reason when there is none, or it has enough to do.
    pub(super) fn ask(&self, ask: Ask) -> Result<(), (Ask, &'static str)> {
        if !self.is_open.load(Ordering::Acquire) {
            return Err((
                ask,
                "no camera films here; see [camera] device in the config",
            ));
        }
        let mut asks = held(&self.asks);
        if asks.len() >= ASKS_MAX {
            return Err((ask, "too many commands wait for the camera; try again"));
        }
        asks.push_back(ask);
        Ok(())
    }

    /// How the camera is doing; `None` without one.
    pub(super) fn health(&self) -> Option<CameraHealth> {
        held(&self.health).clone()
    }
}

/// Starts the thread, if there is a camera; it ends with the daemon.
pub(super) fn start(daemon: &Arc<Daemon>) -> io::Result<Option<JoinHandle<()>>> {
    let Some((place, recipe)) = daemon.config().recipe() else {
        return Ok(None);
    };
    daemon.studio.is_open.store(true, Ordering::Release);
    *held(&daemon.studio.health) = Some(CameraHealth::default());
    let daemon = Arc::clone(daemon);
    let stage = daemon.pulse.stage("the camera", SILENCE);
    let work = move || {
        let mut told: Option<String> = None;
        while !daemon.is_stopping() {
            stage.busy(uptime());
            let ended = film(&daemon, &place, &recipe, &stage);
            stage.idle();
            let reason = match ended {
                // A file that stands in for a camera is over.
                Ok(()) => break,
                Err(failure) => failure.story(),
            };
            if told.as_ref() != Some(&reason) {
                let action = "the camera is tried again until it goes well; the job goes on";
                daemon.fault("camera", reason.clone(), action);
            }
            daemon
                .hub
                .camera(Some((JobPhase::Degraded, Some(reason.clone()))));
            told = Some(reason);
            refuse_all(&daemon);
            daemon.wait(RETRY, |tasks| tasks.is_stopping);
        }
        daemon.studio.is_open.store(false, Ordering::Release);
        refuse_all(&daemon);
        daemon.hub.camera(None);
    };
    Builder::new()
        .name("studio".to_owned())
        .spawn(work)
        .map(Some)
}

/// What nobody will carry out gets its last word.
fn refuse_all(daemon: &Daemon) {
    for ask in std::mem::take(&mut *held(&daemon.studio.asks)) {
        if let Ask::Record(task, _) | Ask::Undo(task) = ask
            && !daemon.is_stopping()
        {
            daemon.answer(
                &task,
                Err("the camera cannot be used; see state".to_owned()),
                &[],
            );
        }
    }
}

/// One session, from the models to the end of the daemon.
fn film(daemon: &Daemon, place: &Place, recipe: &Recipe, stage: &Stage) -> Result<(), Failure> {
    let config = daemon.config();
    let bundle = Bundle::load(&config.models())?;
    let settings = recipe.settings(&bundle);
    let common = Common::of(recipe, -1, "train");
    let (mut shelf, _) = Shelf::open(&config.takes_path(), settings.clone(), common)?;
    shelf.keep_messages(bounds(&config));
    with_detector(&bundle, recipe.detector, |detector| {
        let mut set = Set {
            daemon,
            stage,
            shelf,
            provenance: provenance(&settings, place, &now_utc(), None),
            device: place.to_string(),
            running: None,
            taken: Vec::new(),
        };
        // Of an earlier life.
        set.announce();
        let mut weaver = Weaver::new(recipe.loom(), Takes::new(config.camera.keep_unlabelled));
        let filmed = shoot(place, recipe, detector, &mut weaver, &mut set);
        let closed = set.close();
        let (counts, meter) = filmed?;
        closed?;
        tracing::info!(
            frames = counts.frames,
            dropped = counts.dropped,
            looked_at = meter.seen,
            "the camera is off"
        );
        Ok(())
    })
}

fn shoot<M: Model>(
    place: &Place,
    recipe: &Recipe,
    detector: &mut crate::hand::Detector<M>,
    weaver: &mut Weaver,
    set: &mut Set<'_>,
) -> Result<(Counts, Meter), Failure> {
    let camera = Camera::start(place.opener(recipe.want), Pace::Live, Waits::default())?;
    session::run(&camera, detector, weaver, set)
}

/// Whoever runs the session: the daemon's side of it.
struct Set<'a> {
    daemon: &'a Daemon,
    stage: &'a Stage,
    shelf: Shelf,
    provenance: Value,
    device: String,
    /// A `record` without a last word.
    running: Option<Task>,
    /// Takes of it.
    taken: Vec<String>,
}

impl Set<'_> {
    /// Writes, again and again while there is no room.
    fn persist<T>(
        &mut self,
        mut change: impl FnMut(&mut Shelf) -> Result<T, StoreError>,
    ) -> Result<T, Failure> {
        self.wait_for_reserve();
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
                done => return done.map_err(Failure::from),
            }
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
    fn close(&mut self) -> Result<(), Failure> {
        let provenance = self.provenance.clone();
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
            News::Ended => {}
        }
        Ok(())
    }

    fn look(&mut self, look: &Look<'_>) {
        self.daemon.eyes.see(look.picture, look.hands, &self.device);
    }

    fn sign(&mut self, sign: Sign, weaver: &mut Weaver) -> Result<(), Failure> {
        let device = self.device.clone();
        let shelved = self.persist(|shelf| shelf.put(&sign, &device))?;
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
        loop {
            let ask = held(&self.daemon.studio.asks).pop_front();
            match ask {
                Some(ask) => self.obey(ask, weaver, standing.at)?,
                None => break,
            }
        }
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        let ms = |percent| tenth(standing.meter.latency(percent).as_secs_f64() * 1e3);
        let counts = standing.counts;
        *held(&self.daemon.studio.health) = Some(CameraHealth {
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
