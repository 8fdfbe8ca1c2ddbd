//! What the daemon's threads share: the ledger, the control of the job, what holds the workers back, what is to be
//! done next.

use super::{ROOM_LOOK, outbox_limits};
use crate::config::Config;
use crate::daemon::camera_task::CameraHandle;
use crate::daemon::deferred_writes::{DeferredWrite, DeferredWrites, Note};
use crate::daemon::telemetry_publisher::TelemetryPublisher;
use crate::daemon::worker_monitor::WorkerMonitor;
use crate::error::CliError;
use crate::error::hints::Audience;
use crate::inference::BackendCache;
use crate::inference::ShutdownFlag;
use crate::job;
use crate::job::SharedLedger;
use crate::job::worker_pool::WorkerControl;
use crate::limits::Decision;
use crate::messages::payloads::{Fault, Reply, ReplyState};
use crate::messages::request::CommandName;
use crate::messages::topics;
use crate::storage::ledger::{CANCELLED, Message, PAUSED};
use crate::storage::{Ledger, StoreError};
use crate::system::clock::uptime;
use crate::system::lock_ignoring_poison;
use crate::system::{Liveness, Stage};
use crate::system::{SensorReadings, disk};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A clip may wait for its forerunners for this much longer than a worker for its decoder.
const RECORDING: Duration = Duration::from_mins(10);

/// Where no room is seen, as under a quota, a write is tried again after this long. Each try costs the medium a batch.
const ROOM_TRY: Duration = Duration::from_secs(30);

/// What is done about a failure that ends the daemon.
pub(super) const ENDS: &str = "the daemon ends; mend it and start it again";

/// What all threads share.
pub(super) struct Daemon {
    pub(super) ledger: SharedLedger,
    pub(super) control: Arc<WorkerControl>,
    pub(super) telemetry: TelemetryPublisher,
    pub(super) liveness: Liveness,
    pub(super) worker_monitor: WorkerMonitor,
    pub(super) camera: CameraHandle,
    /// Has what runs the models.
    pub(super) pool: BackendCache,
    /// For those who wait for a device.
    pub(super) ending: ShutdownFlag,
    config: Mutex<Arc<Config>>,
    tasks: Mutex<Tasks>,
    changed: Condvar,
    holds: Mutex<Holds>,
    deferred_writes: DeferredWrites,
    /// Beats with every clip that is recorded.
    recording: Stage,
    readings: Mutex<(SensorReadings, Option<u64>)>,
    mirror_waiting: Mutex<Option<usize>>,
    takes_disk: Mutex<TakesDisk>,
    /// Why the camera ends the daemon, and whether anybody has said why it ends.
    failure: Mutex<Option<CliError>>,
    is_ended: AtomicBool,
    /// Worker threads that a job has at most; more need a restart.
    pub(super) threads: usize,
}

/// The disk that takes are written to.
#[derive(Debug, Default)]
pub(super) enum TakesDisk {
    /// That of the output, which the governor watches for all.
    #[default]
    Outputs,
    /// One of their own, and why nothing is written to it now.
    Own(Option<String>),
}

/// What is to be done.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "things that may be asked for, each by somebody else"
)]
pub(super) struct Tasks {
    /// The process ends.
    pub(super) is_stopping: bool,
    /// An operator wants no job until further notice.
    pub(super) is_cancelled: bool,
    /// Commands that the supervisor carries out between two runs of the job.
    pub(super) todo: Vec<PendingCommand>,
    /// The job shall be tried again although it is done or failed.
    pub(super) again: bool,
    /// A batch was sealed, the mirror should look.
    pub(super) is_sealed: bool,
    /// The mirror is at work.
    pub(super) is_copying: bool,
}

/// A command that was accepted and has no last word yet.
#[derive(Clone, Debug)]
pub(super) struct PendingCommand {
    pub(super) id: String,
    pub(super) command: CommandName,
}

/// What holds the workers back.
#[derive(Debug)]
pub(super) struct Holds {
    pub(super) workers_max: usize,
    /// By command.
    pub(super) is_paused: bool,
    /// There was no room to write.
    pub(super) no_room: Option<String>,
    /// The job runs on less than it should.
    pub(super) lesser: Option<String>,
    /// The governor's last word.
    pub(super) decision: Option<Decision>,
    /// Whether a run of the job is under way.
    pub(super) is_running: bool,
    /// Whether that run is expected to record clips.
    is_active: bool,
}

impl Daemon {
    /// Takes up what the ledger says of pauses; starts nothing.
    ///
    /// # Errors
    /// When the ledger fails.
    pub(super) fn new(config: Config, ledger: Ledger) -> Result<Self, CliError> {
        let workers_max = config.workers();
        let threads = workers_max.max(job::cores());
        let liveness = Liveness::new();
        let limit = config.video_options().timeout + Duration::from_mins(2);
        let is_paused = ledger.metadata(PAUSED)?.is_some();
        let is_cancelled = ledger.metadata(CANCELLED)?.is_some();
        let daemon = Self {
            control: Arc::new(WorkerControl::new(0)),
            telemetry: TelemetryPublisher::new(),
            worker_monitor: WorkerMonitor::new(&liveness, threads, limit),
            camera: CameraHandle::default(),
            pool: BackendCache::default(),
            ending: ShutdownFlag::default(),
            config: Mutex::new(Arc::new(config)),
            tasks: Mutex::new(Tasks {
                is_cancelled,
                // An earlier process may have sealed some.
                is_sealed: true,
                ..Tasks::default()
            }),
            changed: Condvar::new(),
            holds: Mutex::new(Holds {
                workers_max,
                is_paused,
                no_room: None,
                lesser: None,
                decision: None,
                is_running: false,
                is_active: false,
            }),
            deferred_writes: DeferredWrites::default(),
            recording: liveness.stage("the recording of clips", limit + RECORDING),
            readings: Mutex::default(),
            mirror_waiting: Mutex::default(),
            takes_disk: Mutex::default(),
            failure: Mutex::default(),
            is_ended: AtomicBool::new(false),
            ledger: Arc::new(Mutex::new(ledger)),
            liveness,
            threads,
        };
        daemon.change_holds(|_| {});
        Ok(daemon)
    }

    /// The config as it is now.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&held(&self.config))
    }

    /// Puts another config in force, as far as that goes without a restart.
    pub(super) fn set_config(&self, config: Config) {
        lock_ignoring_poison(&self.ledger).set_outbox_limits(outbox_limits(&config));
        let workers_max = config.workers().min(self.threads);
        *held(&self.config) = Arc::new(config);
        self.change_holds(|holds| holds.workers_max = workers_max);
        self.changed.notify_all();
    }

    /// Looks at what is to be done, or changes it, and wakes whoever waits for it.
    pub(super) fn change_tasks<T>(&self, change: impl FnOnce(&mut Tasks) -> T) -> T {
        let value = change(&mut held(&self.tasks));
        self.changed.notify_all();
        value
    }

    /// Waits until `enough` of the tasks, or for `patience`.
    pub(super) fn wait(&self, patience: Duration, enough: impl Fn(&Tasks) -> bool) {
        let tasks = held(&self.tasks);
        // How it ended is seen by looking at the tasks again.
        drop(
            self.changed
                .wait_timeout_while(tasks, patience, |tasks| !enough(tasks)),
        );
    }

    /// Whether the process ends.
    pub(super) fn is_stopping(&self) -> bool {
        held(&self.tasks).is_stopping
    }

    /// Ends the process in good order: the job winds down, then everything else.
    pub(super) fn stop(&self) {
        let was_stopping =
            self.change_tasks(|tasks| std::mem::replace(&mut tasks.is_stopping, true));
        if !was_stopping {
            crate::system::notify::stopping();
            tracing::info!("stopping");
            job::shutdown_with_deadline(&self.control);
            self.ending.set();
        }
    }

    /// Ends the process for a failure that is not the job's.
    pub(super) fn fail(&self, failure: CliError) {
        if self.has_last_word() {
            self.fault("accelerator", Audience::Keys.story(&failure), ENDS);
        }
        *held(&self.failure) = Some(failure);
        self.stop();
    }

    /// Whether the asker is the first who knows why the daemon ends: that is told once.
    pub(super) fn has_last_word(&self) -> bool {
        !self.is_ended.swap(true, Ordering::AcqRel)
    }

    /// What ended the process, if that was not the job.
    pub(super) fn failure(&self) -> Option<CliError> {
        held(&self.failure).take()
    }

    /// Changes what holds the workers back and puts it in force.
    pub(super) fn change_holds(&self, change: impl FnOnce(&mut Holds)) {
        let mut holds = held(&self.holds);
        change(&mut holds);
        let governed = holds.decision.as_ref().map_or(usize::MAX, |d| d.workers);
        let workers = if holds.is_paused || holds.no_room.is_some() {
            0
        } else {
            governed.min(holds.workers_max)
        };
        self.control.set_workers(workers);
        let is_active = holds.is_running && workers > 0;
        if is_active != holds.is_active {
            holds.is_active = is_active;
            if is_active {
                self.recording.busy(uptime());
            } else {
                self.recording.idle();
            }
        }
        let mut reasons = Vec::new();
        if holds.is_paused {
            reasons.push("paused by command; resume goes on".to_owned());
        }
        reasons.extend(holds.no_room.clone());
        reasons.extend(holds.lesser.clone());
        reasons.extend(
            holds
                .decision
                .iter()
                .flat_map(|d| d.throttles.iter().map(ToString::to_string)),
        );
        self.telemetry.hold(workers, holds.workers_max, reasons);
    }

    /// A clip was recorded.
    pub(super) fn recorded(&self) {
        self.recording.heartbeat(uptime());
    }

    /// Why the governor wants nothing written, while it does: the disk's reserve is touched.
    pub(super) fn disk_short(&self) -> Option<String> {
        let holds = held(&self.holds);
        let decision = holds.decision.as_ref()?;
        let hold = decision.throttles.iter().find(|h| h.component() == "disk");
        hold.map(ToString::to_string)
    }

    /// Why no take is written, while none is: the reserve of its disk is touched.
    pub(super) fn takes_short(&self) -> Option<String> {
        match &*held(&self.takes_disk) {
            TakesDisk::Own(short) => short.clone(),
            TakesDisk::Outputs => self.disk_short(),
        }
    }

    /// Keeps what is known of the disk of the takes.
    pub(super) fn set_takes_disk(&self, disk: TakesDisk) {
        *held(&self.takes_disk) = disk;
    }

    /// The newest look at the machine, and MiB free for the output.
    pub(super) fn readings(&self) -> (SensorReadings, Option<u64>) {
        *held(&self.readings)
    }

    /// Keeps a look at the machine.
    pub(super) fn set_readings(&self, readings: SensorReadings, disk_free_mib: Option<u64>) {
        *held(&self.readings) = (readings, disk_free_mib);
    }

    /// Files that the mirror has not got, as far as that is known.
    pub(super) fn mirror_waiting(&self) -> Option<usize> {
        *held(&self.mirror_waiting)
    }

    /// Keeps how many files the mirror has not got.
    pub(super) fn set_mirror_waiting(&self, files: Option<usize>) {
        *held(&self.mirror_waiting) = files;
    }

    /// Says on log and `fault` what is wrong. When the ledger cannot take it, it waits for better times.
    pub(super) fn fault(&self, component: &str, reason: String, action: &str) {
        tracing::warn!(component, reason, action, "fault");
        let fault = Fault {
            run: self.telemetry.run(),
            component: component.to_owned(),
            clip: None,
            reason,
            action: action.to_owned(),
        };
        let message = Message::new(topics::FAULT, &fault);
        self.write(DeferredWrite::Fault(message, job::stamp()));
    }

    fn write(&self, late: DeferredWrite) {
        if !self.deferred_writes.push(late) {
            self.telemetry.count_dropped();
        }
        self.flush_deferred();
    }

    /// Writes down what waits for better times.
    pub(super) fn flush_deferred(&self) {
        if self.deferred_writes.write(&self.ledger) {
            self.telemetry.wake.notify_one();
        }
    }

    /// Holds the job until a write that found no room is worth another try; `false` when the job is to end instead.
    pub(super) fn wait_for_room(&self, error: &StoreError) -> bool {
        let free = || disk::free_mib(&self.config().output.path).ok();
        let (free_then, since) = (free(), Instant::now());
        if held(&self.holds).no_room.is_none() {
            let reason = format!("disk: {}", Audience::Keys.describe(error));
            self.change_holds(|holds| holds.no_room = Some(reason.clone()));
            self.fault(
                "disk",
                reason,
                "the job is paused and tried again until there is room",
            );
        }
        loop {
            self.wait(ROOM_LOOK, |tasks| tasks.is_stopping || tasks.is_cancelled);
            if self.control.is_stopped() {
                // The next run finds out for itself.
                self.change_holds(|holds| holds.no_room = None);
                return false;
            }
            if (free() > free_then || since.elapsed() >= ROOM_TRY) && self.disk_short().is_none() {
                return true;
            }
        }
    }

    /// What waited for room is written.
    pub(super) fn has_room(&self) {
        self.change_holds(|holds| holds.no_room = None);
        tracing::info!("there is room again");
        self.flush_deferred();
    }

    /// The last word on a command, with the notes that go with it. When the ledger cannot take it, it waits, too.
    pub(super) fn answer(
        &self,
        task: &PendingCommand,
        result: Result<Option<serde_json::Value>, String>,
        notes: &[Note],
    ) {
        let (state, reason, result) = match result {
            Ok(result) => (ReplyState::Succeeded, None, result),
            Err(reason) => (ReplyState::Failed, Some(reason), None),
        };
        let reply = Reply {
            id: Some(task.id.clone()),
            command: task.command.name().to_owned(),
            state,
            reason,
            result,
        };
        tracing::info!(id = %task.id, command = task.command.name(), ?state, reason = reply.reason, "command");
        self.write(DeferredWrite::Answer(reply, notes.to_vec()));
    }

    /// Commands of an earlier process get their last word.
    ///
    /// # Errors
    /// When the ledger fails.
    pub(super) fn answer_what_was_left(&self) -> Result<(), StoreError> {
        let open = lock_ignoring_poison(&self.ledger).open_commands()?;
        for (id, name) in open {
            let Some(command) = CommandName::from_name(&name) else {
                continue;
            };
            let why = match command {
                // Takes are kept by another ledger, which may have been faster.
                CommandName::Record | CommandName::Undo => {
                    "the daemon was restarted before this was done; some of it may be: look at the takes before you send it again with another id"
                }
                _ => {
                    "the daemon was restarted before this was carried out; send it again with another id"
                }
            };
            self.answer(&PendingCommand { id, command }, Err(why.to_owned()), &[]);
        }
        Ok(())
    }

    /// Seconds since the process started.
    pub(super) fn uptime_s() -> u64 {
        uptime().as_secs()
    }
}

/// A lock whose holders keep the value whole even when they panic.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
