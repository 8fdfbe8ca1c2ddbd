//! One dataset job, from its folder to the notebook's file, however it was started: scan → plan → workers → ledger →
//! batches → the final file. Goes on where an earlier process was cut off.

mod collector;
mod error;
mod provenance;
mod rescan;
mod worker;
pub mod worker_pool;

use crate::dataset::acceptance::StateCounts;
use crate::dataset::acceptance::{Judge, State};
use crate::dataset::plan::{Plan, PlanDecision, PlanOptions, PlanRecord, plan};
use crate::dataset::wlasl;
use crate::digest::sha256_hex;
use crate::error::{CliError, Exit};
use crate::hand;
use crate::inference::{BackendEvent, BackendHandle, expected_identity};
use crate::inference::{BackendRequest, ModelFiles, ModelPaths};
use crate::sequence::{Profile, SequenceSpec};
use crate::storage::atomic_file::file_sha256;
use crate::storage::batches::FINAL_NAME;
use crate::storage::ledger::{JobIdentity, Timestamp};
use crate::storage::output_dir;
use crate::storage::output_dir::{ClaimOutcome, OpenMode};
use crate::storage::{Ledger, StoreError, batches};
use crate::system::clock;
use crate::system::lock_ignoring_poison;
use crate::video::clip;
use crate::video::clip::VideoOptions;
use crate::video::dataset_source::DatasetSource;
use crate::video::decoder;
use anyhow::anyhow;
use collector::{Collected, ResultCollector};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use worker_pool::{RunOutcome, WorkerControl};

use crate::job::error::{JobError, job_error_to_cli};
pub use collector::ClipEvent;
pub use provenance::states;
pub use worker::FrameObserver;

/// All that a job is told.
#[derive(Clone, Debug)]
pub struct JobConfig {
    /// A folder or an archive.
    pub dataset: PathBuf,
    /// Where the metadata is instead.
    pub json: Option<PathBuf>,
    /// Where the clips are instead.
    pub videos: Option<PathBuf>,
    /// The output folder.
    pub out: PathBuf,
    /// Which clips.
    pub plan_options: PlanOptions,
    /// Reproduce or mend.
    pub profile: Profile,
    /// What a sequence is made of.
    pub shape: SequenceSpec,
    /// Clips with a hand in fewer frames are left out.
    pub min_frames: usize,
    /// For the detector.
    pub detector: hand::DetectorOptions,
    /// Which models.
    pub models: ModelPaths,
    /// What runs them.
    pub accelerator: BackendRequest,
    /// Which decoder, and its patience.
    pub video: VideoOptions,
    /// Planned clips in a batch file.
    pub batch_size: usize,
}

/// A dataset that was read, with the plan over it.
pub struct DatasetScan {
    /// The clips.
    pub dataset: DatasetSource,
    /// What becomes of them.
    pub plan: Plan,
    json_sha256: String,
}

/// What a run works with.
#[derive(Clone, Copy)]
pub struct JobContext<'a> {
    /// Claimed for the job.
    pub ledger: &'a Mutex<Ledger>,
    /// Threads, of which `control` says how many may work.
    pub workers: usize,
    /// How it is steered.
    pub control: &'a WorkerControl,
    /// Who looks on.
    pub witness: &'a dyn FrameObserver,
}

/// A ledger that the job shares with whoever else writes into it.
pub type SharedLedger = Arc<Mutex<Ledger>>;

/// What a job tells whoever runs it, on the thread that runs it.
pub trait JobObserver {
    /// The time, for records.
    fn stamp(&self) -> Timestamp;
    /// The job begins: `total` planned clips, `known` of them done before.
    fn begin(&mut self, run: &str, total: usize, known: usize);
    /// A clip is recorded.
    fn clip(&mut self, news: &ClipEvent<'_>);
    /// A batch file is durable, or the final file is.
    fn sealed(&mut self);
    /// There was no room to write. Waits until another try is worth it; `false` ends the job.
    fn wait_for_room(&mut self, error: &StoreError) -> bool;
    /// What waited for room is written.
    fn has_room(&mut self);
    /// Something about what runs the models.
    fn accelerator(&mut self, news: &BackendEvent);
    /// Something that a person should know.
    fn warn(&mut self, text: &str);
}

/// Makes a change, again and again while there is no room and the host thinks that there will be.
///
/// # Errors
/// Those of the change, also for want of room when the host gives up.
pub fn persist<T>(
    host: &mut dyn JobObserver,
    change: impl Fn(&mut dyn JobObserver) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut has_waited = false;
    loop {
        match change(host) {
            Err(error) if error.is_full() && host.wait_for_room(&error) => has_waited = true,
            done => {
                if has_waited && done.is_ok() {
                    host.has_room();
                }
                return done;
            }
        }
    }
}

/// How a job went.
pub struct JobReport {
    /// Whether it came to its end.
    pub ended: RunOutcome,
    /// Whether nothing was left to do.
    pub was_complete: bool,
    /// Instances per state so far.
    pub tally: StateCounts,
    /// Knows the accepted clips per gloss.
    pub judge: Judge,
    /// Of this process.
    pub elapsed: Duration,
}

impl JobReport {
    /// Sequences in the final file.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.tally.get(&State::Accepted).copied().unwrap_or(0)
    }
}

impl JobConfig {
    /// Reads the dataset and makes the plan.
    ///
    /// # Errors
    /// When a part of it is missing or unreadable.
    pub fn scan(&self) -> Result<DatasetScan, CliError> {
        let dataset =
            DatasetSource::open(&self.dataset, self.json.as_deref(), self.videos.as_deref())?;
        let json_bytes = dataset.metadata_bytes()?;
        let entries = wlasl::parse(&json_bytes).map_err(|e| {
            CliError::new(
                Exit::BadData,
                anyhow!(e).context(format!("{}", dataset.json_path().display())),
            )
        })?;
        let plan = plan(&entries, &self.plan_options, &|id| dataset.exists(id));
        Ok(DatasetScan {
            dataset,
            plan,
            json_sha256: sha256_hex(&json_bytes),
        })
    }

    /// Tries what would stop every clip, whatever runs the models.
    ///
    /// # Errors
    /// When the decoder or GStreamer cannot be used.
    pub fn check_decoder(&self) -> Result<(), CliError> {
        clip::init().map_err(|e| CliError::new(Exit::Bug, e))?;
        decoder::check(&self.video.decoder).map_err(|e| CliError::new(Exit::Usage, e))
    }

    /// What of another job is in the output folder, in this one's way. The files of a required accelerator are not looked
    /// at: they are taken to be what they were.
    ///
    /// # Errors
    /// When the folder or its ledger cannot be read.
    pub fn other_job(
        &self,
        scan: &DatasetScan,
        bundle: &ModelFiles,
        ledger: Option<&Ledger>,
    ) -> Result<Option<StoreError>, StoreError> {
        output_dir::other_job(&self.out, ledger, |known| {
            let accelerator = expected_identity(&self.accelerator, &known["accelerator"]);
            provenance::settings_on(self, scan, bundle, &accelerator)
        })
    }

    /// Makes the output folder this job's own, or goes on with what it holds; takes up a changed dataset when
    /// `mode` says so.
    ///
    /// # Errors
    /// When it holds another job's results or cannot be written.
    pub fn claim(
        &self,
        scan: &DatasetScan,
        backend: &BackendHandle,
        ledger: &Mutex<Ledger>,
        mode: OpenMode,
        stamp: &Timestamp,
    ) -> Result<ClaimOutcome, StoreError> {
        let settings = provenance::settings(self, scan, backend);
        let run = sha256_hex(format!("{settings} {stamp:?} {}", std::process::id()).as_bytes());
        let job = JobIdentity {
            settings,
            run: run[..8].to_owned(),
        };
        let mut ledger = lock_ignoring_poison(ledger);
        let claim = output_dir::claim(&self.out, &mut ledger, &job, mode)?;
        if claim == ClaimOutcome::Rescan {
            rescan::rescan(self, scan, &mut ledger, &job.settings)?;
        }
        // Also where an earlier attempt came no further than to the claim.
        if ledger.metadata("started")?.is_none() {
            ledger.set_metadata("started", Some(&moment(stamp).to_string()))?;
        }
        Ok(claim)
    }

    /// Forgets the clips that could not be read, so that the next run reads them again. Returns how many.
    ///
    /// # Errors
    /// When the ledger or a batch file fails.
    pub fn retry_failed(
        &self,
        scan: &DatasetScan,
        ledger: &Mutex<Ledger>,
    ) -> Result<usize, StoreError> {
        rescan::retry_failed(self, scan, &mut lock_ignoring_poison(ledger))
    }

    /// Runs the job that the ledger is claimed for, from where it is to its end or until its control stops it.
    ///
    /// # Errors
    /// When it cannot go on; what was recorded stays.
    pub fn run(
        &self,
        scan: &DatasetScan,
        backend: &BackendHandle,
        means: &JobContext<'_>,
        host: &mut dyn JobObserver,
    ) -> Result<JobReport, CliError> {
        let JobContext {
            ledger,
            workers,
            control,
            witness,
        } = *means;
        let began = Instant::now();
        host.accelerator(&backend.choice());
        let graphs = backend.loaded_models()?;
        let plan = &scan.plan;
        collector::verify(self, scan, ledger, host)?;
        let mut record =
            provenance::provenance(self, scan, backend, &lock_ignoring_poison(ledger))?;
        let mut collector = ResultCollector::new(self, scan, backend, ledger, host)?;
        let was_complete =
            collector.is_complete() && self.final_is_there(&lock_ignoring_poison(ledger))?;
        if !was_complete {
            persist(collector.host(), |_| {
                output_dir::write_run(&self.out, &record)
            })?;
        }
        let crew = worker::WorkerFactory {
            spec: self,
            scan,
            backend,
            graphs: &graphs,
            control,
            witness,
        };
        let start = |n: usize| crew.worker(n);
        let ended = worker_pool::run(plan.jobs.len(), workers, control, start, &mut collector)
            .map_err(job_error_to_cli);
        let ended = match ended {
            // Told to end while it waited for room: what was recorded stays, as at any stop.
            Err(failure) if failure.is_full() && control.is_stopped() => RunOutcome::Stopped,
            ended => ended?,
        };
        let Collected {
            judge,
            tally,
            batches,
        } = collector.finish();
        let report = JobReport {
            ended,
            was_complete,
            tally,
            judge,
            elapsed: began.elapsed(),
        };
        if ended == RunOutcome::Done && !was_complete {
            let mut finished = moment(&host.stamp());
            finished["seconds"] = json!(tenths(report.elapsed));
            finished["workers"] = json!(workers);
            finished["states"] = states(&report.tally);
            finished["batches"] = json!(batches);
            if let Some(reason) = backend.lost() {
                finished["backend_lost"] = json!(reason);
            }
            record["finished"] = finished;
            persist(host, |_| {
                self.close(scan, ledger, &report, batches, record.clone())
            })?;
            host.sealed();
        }
        Ok(report)
    }

    /// Writes what a finished job leaves: manifest, final file, provenance. Safe to repeat.
    fn close(
        &self,
        scan: &DatasetScan,
        ledger: &Mutex<Ledger>,
        report: &JobReport,
        batches: usize,
        mut record: Value,
    ) -> Result<(), StoreError> {
        let clips = lock_ignoring_poison(ledger).clips()?;
        let manifest = collector::manifest(self, &scan.plan, &clips)?;
        record["finished"]["backends"] = collector::backends(&manifest);
        output_dir::write_manifest(&self.out, &manifest)?;
        let path = self.out.join(FINAL_NAME);
        let has_final = report.accepted() > 0;
        let sha256 = if has_final {
            batches::write_final(&self.out, batches, &scan.plan.glosses, self.shape.length)?;
            file_sha256(&path)?
        } else {
            String::new()
        };
        output_dir::prune(&self.out, batches, has_final)?;
        output_dir::write_run(&self.out, &record)?;
        lock_ignoring_poison(ledger).set_metadata("final", Some(&sha256))
    }

    /// Whether the job was closed and its final file is as it was then.
    fn final_is_there(&self, ledger: &Ledger) -> Result<bool, StoreError> {
        Ok(match ledger.metadata("final")? {
            Some(sha256) if sha256.is_empty() => true,
            Some(sha256) => file_sha256(&self.out.join(FINAL_NAME)).is_ok_and(|s| s == sha256),
            None => false,
        })
    }
}

/// The time by the wall clock, for records.
#[must_use]
pub fn stamp() -> Timestamp {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp {
        ts: clock::now_utc(),
        clock_synced: clock::clock_synced(),
        unix_s: unix.map_or(0, |d| d.as_secs()),
    }
}

/// A time for `run.json`, with a word on whether the clock could be trusted.
fn moment(stamp: &Timestamp) -> Value {
    json!({"at_unix": stamp.unix_s, "clock_synced": stamp.clock_synced})
}

/// Clips at a time when nobody says otherwise: as many as cores.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Clips in hand are finished for this long after a stop, then given up.
const FINISH: Duration = Duration::from_secs(5);
/// The process is left this long after a stop, whatever still runs: what is recorded is on disk.
const LEAVE: Duration = Duration::from_secs(9);

/// Ends the run that `control` steers: lets clips in hand finish, then gives them up, then leaves the process with
/// [`Exit::Stopped`]. Returns at once.
pub fn shutdown_with_deadline(control: &Arc<WorkerControl>) {
    control.stop();
    let control = Arc::clone(control);
    let patience = move || {
        thread::sleep(FINISH);
        control.abandon();
        thread::sleep(LEAVE.saturating_sub(FINISH));
        tracing::warn!("a clip did not let go in time; leaving it");
        std::process::exit(Exit::Stopped as i32);
    };
    // Without a thread there is no patience either.
    if let Err(error) = thread::Builder::new()
        .name("patience".into())
        .spawn(patience)
    {
        tracing::warn!(%error, "cannot wait for the clips in hand");
        std::process::exit(Exit::Stopped as i32);
    }
}

/// Seconds with one digit.
#[must_use]
pub fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// The state of a record that is not processed.
#[must_use]
pub fn skip_reason(record: &PlanRecord) -> Option<(State, String)> {
    match &record.decision {
        PlanDecision::Process { .. } => None,
        PlanDecision::NotSelected { reason } => Some((State::NotSelected, reason.clone())),
        PlanDecision::Missing { reason } => Some((State::Missing, reason.clone())),
        PlanDecision::Unreadable { reason } => Some((State::Unreadable, reason.clone())),
    }
}
