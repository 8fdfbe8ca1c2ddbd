//! One dataset job, from its folder to the notebook's file: scan → plan → workers → recorder → batches → joined file.
//! It resumes where a previous process ended.

mod begun;
mod collector;
mod keep;
mod manifest;
pub mod observer;
mod provenance;
mod recovery;
mod rescan;
mod resequence;
mod results;
mod scan;
mod share;
mod worker;
pub mod worker_pool;

use crate::dataset::acceptance::{ClipAcceptance, State, StateCounts};
use crate::dataset::class_list::Subset;
use crate::dataset::format::FormatName;
use crate::dataset::plan::{PlanOptions, PlanRecord};
use crate::error::{CliError, Exit};
use crate::hand;
use crate::inference::{BackendHandle, BackendRequest, ModelPaths};
use crate::messages::payloads::Timestamp;
use crate::sequence::{Profile, SequenceSpec};
use crate::shard::ShardIndex;
use crate::storage::manifest::write_run;
use crate::storage::output_dir::{ClaimOutcome, OpenMode};
use crate::storage::{Recorder, SharedLedger, StoreError};
use crate::video::clip::VideoOptions;
use crate::video::clip_decoder::DecodePlace;
use crate::video::turns::DecodeTurns;
use begun::BegunClips;
use collector::ResultCollector;
use observer::is_room_found;
use results::JobResults;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use worker::WorkerFactory;
use worker_pool::{RunOutcome, WorkerControl, WorkerPoolError};

pub use manifest::SequenceTotals;
pub(crate) use observer::retry_while_full;
pub use observer::{ClipEvent, FrameObserver, JobObserver};
pub(crate) use provenance::states;
pub use resequence::ResequenceConfig;
pub(crate) use resequence::resequence;
pub use scan::DatasetScan;
pub use share::Share;
pub(crate) use worker_pool::shutdown_with_deadline;

/// Everything that defines a job.
#[derive(Clone, Debug)]
pub struct JobConfig {
    /// The dataset: a folder or an archive.
    pub dataset: PathBuf,
    /// Its format; `None` detects it.
    pub format: Option<FormatName>,
    /// The metadata file, if it is not in the dataset.
    pub json: Option<PathBuf>,
    /// The folder of clips, if it is not in the dataset.
    pub videos: Option<PathBuf>,
    /// The output folder.
    pub out: PathBuf,
    /// Which clips are processed.
    pub plan_options: PlanOptions,
    /// An official subset of WLASL.
    pub subset: Option<Subset>,
    /// The splits file: a path, or a name beside the metadata.
    pub splits: Option<PathBuf>,
    /// Defaults that reproduce the notebook or correct it.
    pub profile: Profile,
    /// Length, stride and tracking of a sequence.
    pub shape: SequenceSpec,
    /// Clips with a hand in fewer frames are too short.
    pub min_frames: usize,
    /// Options of the detector.
    pub detector: hand::DetectorOptions,
    /// Where the models are.
    pub models: ModelPaths,
    /// Which backend runs the models, and its settings.
    pub accelerator: BackendRequest,
    /// Which decoder reads the clips, and its timeout.
    pub video: VideoOptions,
    /// Which process decodes the clips.
    pub decode_place: DecodePlace,
    /// Planned clips in a batch file.
    pub batch_size: usize,
    /// Whether the frames of all clips are kept.
    pub keep_frames: bool,
    /// The shard that is made; `None` makes the whole job.
    pub shard: Option<ShardIndex>,
}

/// The workers, the control and the observer of a run.
#[derive(Clone, Copy)]
pub struct JobContext<'a> {
    /// Number of worker threads. `control` limits how many of them work.
    pub workers: usize,
    /// Pauses and stops the run.
    pub control: &'a WorkerControl,
    /// Receives the events of the workers.
    pub frames: &'a dyn FrameObserver,
}

/// How a run of a job ended.
pub struct JobReport {
    /// Whether the job came to its end.
    pub outcome: RunOutcome,
    /// Whether nothing was left to do.
    pub was_complete: bool,
    /// Instances per state so far.
    pub counts: StateCounts,
    /// Clips of the splits file that the metadata does not have.
    pub absent: usize,
    /// Counts of the accepted clips per gloss.
    pub clip_acceptance: ClipAcceptance,
    /// Truncated clips and swapped hands of all clips so far.
    pub totals: SequenceTotals,
    /// Duration of this run.
    pub elapsed: Duration,
}

impl JobReport {
    /// Number of sequences in the joined file.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.get(&State::Accepted).copied().unwrap_or(0)
    }
}

/// Maximum number of passes until all results are on disk. Each pass reads again what was lost in the one before.
const PASSES_MAX: usize = 4;

/// One dataset job over its output folder.
pub struct Job<'a> {
    config: &'a JobConfig,
    scan: &'a DatasetScan,
    backend: &'a BackendHandle,
    ledger: SharedLedger,
    results: JobResults<'a>,
}

impl<'a> Job<'a> {
    /// The job of `config` over `scan`, with the `ledger` of its output folder.
    pub(crate) fn new(
        config: &'a JobConfig,
        scan: &'a DatasetScan,
        backend: &'a BackendHandle,
        ledger: SharedLedger,
    ) -> Self {
        let length = config.shape.length;
        Self {
            config,
            scan,
            backend,
            results: JobResults {
                plan: &scan.plan,
                share: &scan.share,
                out: &config.out,
                profile: config.profile,
                min_frames: config.min_frames,
                clip_key: Box::new(|position| scan.clip_key(position)),
                recorder: Recorder::new(&config.out, ledger.clone(), config.batch_size, length),
            },
            ledger,
        }
    }

    fn settings(&self) -> Value {
        let identity = self.backend.identity();
        provenance::settings(self.config, self.scan, self.backend.files(), &identity)
    }

    /// Claims the output folder for this job, or resumes what it holds. Adopts a changed dataset when `mode` allows it.
    ///
    /// # Errors
    /// Fails when it holds the results of another job or cannot be written.
    pub(crate) fn claim(&mut self, mode: OpenMode) -> Result<ClaimOutcome, StoreError> {
        let settings = self.settings();
        // All shards share one plan: a shard alone cannot adopt another.
        let mode = match mode {
            OpenMode::Rescan if self.config.shard.is_some() => OpenMode::Resume,
            mode => mode,
        };
        let claim = self.results.claim(&settings, mode).map_err(|error| {
            rescan::explain_change(error, self.scan, &self.results.recorder.ledger())
        })?;
        if self.config.keep_frames {
            self.results.recorder.keep_frames()?;
        }
        if claim == ClaimOutcome::Rescan {
            self.rescan(&settings)?;
        }
        Ok(claim)
    }

    /// Takes over the sealed batches of `others`, other attempts at the same shard, and lets others take over those of this
    /// one. The output folder must be claimed. Returns how many batches were taken over.
    ///
    /// # Errors
    /// Fails when a file or the ledger cannot be written.
    pub(crate) fn import(&mut self, others: &[PathBuf]) -> Result<usize, StoreError> {
        let count = self.scan.plan.jobs.len();
        let recorder = &mut self.results.recorder;
        recorder.keep_records(count)?;
        let batches = &self.scan.share.batches;
        let imported = others
            .iter()
            .map(|other| recorder.import(other, batches, count));
        imported.sum()
    }

    /// Runs what is left of the job, until its end or a stop by its control. The output folder must be claimed.
    ///
    /// # Errors
    /// Fails when the job cannot continue; what was recorded stays.
    pub(crate) fn run(
        &mut self,
        context: &JobContext<'_>,
        observer: &mut dyn JobObserver,
    ) -> Result<JobReport, CliError> {
        let began = Instant::now();
        observer.backend_event(&self.backend.choice());
        let mut passes = 0;
        while passes < PASSES_MAX {
            match self.pass(context, observer, began) {
                Ok(Some(report)) => return Ok(report),
                Ok(None) => passes += 1,
                // The disk was full when a worker wrote the frames of a clip.
                Err(error)
                    if error
                        .store_error()
                        .is_some_and(|e| is_room_found(e, observer)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.results.unstable().into())
    }

    /// Processes the clips that have no result yet, and closes the results. `None` when results were lost meanwhile.
    fn pass(
        &mut self,
        context: &JobContext<'_>,
        observer: &mut dyn JobObserver,
        began: Instant,
    ) -> Result<Option<JobReport>, CliError> {
        let (config, scan, backend) = (self.config, self.scan, self.backend);
        self.results.forget_damaged(observer)?;
        let run = self.results.run()?;
        let mut record = provenance::provenance(self, &run)?;
        let clips = scan.share.positions.len();
        let recorded = self.results.recorded()?;
        let was_complete = recorded.is_complete;
        observer.job_started(&run, clips, recorded.clips.len());
        if !was_complete {
            retry_while_full(observer, || write_run(&config.out, &record))?;
        }
        let begun = match config.decode_place {
            DecodePlace::ThisProcess => Some(BegunClips::load(self.ledger.clone())?),
            DecodePlace::ChildProcess { .. } => None,
        };
        let mut collector =
            ResultCollector::new(&mut self.results, Some(backend), observer, run, recorded);
        let workers = WorkerFactory {
            config,
            scan,
            backend,
            context,
            begun,
            turns: DecodeTurns::default(),
        };
        let ran = worker_pool::run(
            clips,
            context.workers,
            context.control,
            |n| workers.worker(n),
            &mut collector,
        );
        let outcome = match ran {
            // Stopped while it waited for room: the recorded clips stay, as at any stop.
            Err(error) if error.is_full() && context.control.is_stopped() => RunOutcome::Stopped,
            outcome => outcome?,
        };
        let has_lost = collector.has_lost;
        let report = collector.report(outcome, was_complete, began)?;
        if outcome == RunOutcome::Done && has_lost {
            return Ok(None);
        }
        if outcome == RunOutcome::Done && !was_complete {
            record["finished"] = results::finished(&report);
            record["finished"]["workers"] = json!(context.workers);
            if let Some(reason) = backend.lost() {
                record["finished"]["backend_lost"] = json!(reason);
            }
            let is_closed = self.results.close(&mut record, observer)?;
            return Ok(is_closed.then_some(report));
        }
        Ok(Some(report))
    }
}

impl From<WorkerPoolError> for CliError {
    fn from(error: WorkerPoolError) -> Self {
        let exit = match error {
            WorkerPoolError::Died => Exit::Bug,
            WorkerPoolError::Spawn(_) => Exit::InOut,
        };
        Self::new(exit, error)
    }
}

/// A time for `run.json`, with whether the clock was synchronized.
fn moment(at: &Timestamp) -> Value {
    json!({"at_unix": at.unix_s, "clock_synced": at.clock_synced})
}

/// Worker threads by default: as many as cores.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Seconds, rounded to one digit.
pub(crate) fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// The state and reason of a record that is not processed; `None` for one that is.
pub(crate) fn skip_reason(record: &PlanRecord) -> Option<(State, String)> {
    record.skipped.clone()
}
