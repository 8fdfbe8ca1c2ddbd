//! The contents of the channels. Field names are the wire's; a change that an old reader cannot bear raises
//! [`VERSION`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of all schemas here, in every message as `v`.
pub const VERSION: u32 = 1;

/// What every message carries beside its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// [`VERSION`].
    pub v: u32,
    /// UTC by the device's clock, RFC 3339 with milliseconds: `2026-01-31T12:00:00.000Z`.
    pub ts: String,
    /// Whether that clock was synchronised; a Raspberry Pi without network starts anywhere.
    pub clock_synced: bool,
    /// Counts the channel's messages from 1. A gap is a message that was dropped. On `batch`, `fault` and `reply` it
    /// goes on over restarts; on the others it starts again with the daemon.
    pub seq: u64,
    /// The channel's own fields.
    #[serde(flatten)]
    pub body: T,
}

/// Channel `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// In one word.
    pub status: StatusName,
    /// Handloom's version.
    pub version: String,
}

/// Whether the daemon can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusName {
    /// Connected.
    Online,
    /// Ended cleanly.
    Stopped,
    /// Gone without a word: the last will; `ts` is then the time of the connection.
    Offline,
}

/// What the job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobPhase {
    /// Nothing to do.
    Idle,
    /// Reading the dataset.
    Scanning,
    /// At work.
    Processing,
    /// Held: see `reason`.
    Paused,
    /// At the camera.
    Capturing,
    /// At work, with less than it should have.
    Degraded,
    /// Stopped by an error: see `reason`.
    Error,
}

impl JobPhase {
    /// As on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Scanning => "scanning",
            Self::Processing => "processing",
            Self::Paused => "paused",
            Self::Capturing => "capturing",
            Self::Degraded => "degraded",
            Self::Error => "error",
        }
    }
}

/// Channel `state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReport {
    /// In one word.
    pub state: JobPhase,
    /// Why, unless that is plain.
    pub reason: Option<String>,
    /// The job; `null` while there is none.
    pub run: Option<String>,
    /// What runs the models.
    pub backend: String,
    /// Why that one.
    pub backend_reason: String,
    /// Clips at a time now.
    pub workers: usize,
    /// Clips at a time when nothing holds it back.
    pub workers_max: usize,
}

/// Channel `progress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The job.
    pub run: String,
    /// Clips that the plan has.
    pub total: usize,
    /// Of these, clips that are done.
    pub done: usize,
    /// Instances of the metadata per state, so far.
    pub states: BTreeMap<String, usize>,
    /// Over the last minutes; `null` until it can be told.
    pub clips_per_min: Option<f64>,
    /// Seconds left at that rate.
    pub eta_s: Option<f64>,
    /// The clip that was recorded last.
    pub clip: Option<ClipName>,
}

/// Names an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipName {
    /// As spelt.
    pub gloss: String,
    /// Names the clip.
    pub video_id: String,
}

/// Channel `batch`: a batch file is whole on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The job.
    pub run: String,
    /// Number of the file.
    pub batch: usize,
    /// Relative to the output folder.
    pub path: String,
    /// Sequences in it.
    pub rows: usize,
    /// Of the file, lower-case hex.
    pub sha256: String,
    /// First and last position of the plan that it covers.
    pub clips: [usize; 2],
    /// Whether this is the last one and the notebook's file comes next.
    pub last: bool,
}

/// Channel `fault`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The job, if it concerns one.
    pub run: Option<String>,
    /// `clip`, `disk`, `heat`, `memory`, `mirror`, `config`, `job`, `dataset`, `mqtt`, `camera`.
    pub component: String,
    /// The clip, if it concerns one.
    pub clip: Option<ClipName>,
    /// What is wrong.
    pub reason: String,
    /// What was done about it, and what a person can do.
    pub action: String,
}

/// Channel `health`. What cannot be read is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// The hottest sensor, °C.
    pub temperature_c: Option<f64>,
    /// Whether the firmware says that it throttles, or did since start.
    pub throttled: Option<bool>,
    /// Load average over one minute.
    pub load_1min: Option<f64>,
    /// Memory that could be had, MiB.
    pub memory_available_mib: Option<u64>,
    /// Resident memory of the daemon, MiB.
    pub memory_resident_mib: Option<u64>,
    /// Free on the file system of the output folder, MiB.
    pub disk_free_mib: Option<u64>,
    /// Clips at a time now; fewer than `state` gives as `workers_max` when heat, memory or disk hold it back.
    #[serde(default)]
    pub workers: usize,
    /// Pictures looked at per second, all workers.
    pub frames_per_s: f64,
    /// Clips that wait between workers and ledger.
    pub queue: usize,
    /// Messages that wait for the broker.
    pub outbox: u64,
    /// Messages that the outbox's bounds dropped, since the job began.
    pub outbox_dropped: u64,
    /// Other messages that were dropped since start.
    pub telemetry_dropped: u64,
    /// Connections to the broker since start.
    pub connects: u64,
    /// Batch files that the mirror has not got yet; `null` without a mirror.
    pub mirror_waiting: Option<usize>,
    /// The camera; not there without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<CameraHealth>,
}

/// How the camera is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CameraHealth {
    /// Frames looked at a second.
    pub fps: f64,
    /// Frames that it gave, since the daemon started.
    pub frames: u64,
    /// Of these, dropped because a newer one came before anybody looked.
    pub dropped: u64,
    /// Frames that were no good.
    pub damaged: u64,
    /// Times that it was opened.
    pub opened: u64,
    /// Hands in the last frame.
    pub hands: usize,
    /// Takes in its output folder.
    pub takes: usize,
    /// From the frame to its landmarks, milliseconds: half of the last frames were faster.
    pub latency_p50_ms: f64,
    /// The same, of 95 in 100.
    pub latency_p95_ms: f64,
}

/// Channel `reply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// As in the command; `null` where it had none that could be read.
    pub id: Option<String>,
    /// The command's name.
    pub command: String,
    /// How far it is.
    pub state: ReplyState,
    /// Why it failed.
    pub reason: Option<String>,
    /// What it gave, by command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
}

/// How far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyState {
    /// Understood and written down; another reply follows, also over a restart.
    Accepted,
    /// Done.
    Succeeded,
    /// Not done: see `reason`.
    Failed,
}
