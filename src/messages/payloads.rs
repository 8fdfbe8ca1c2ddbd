//! The payloads of the channels, as JSON. The names of the fields are the JSON keys. A change that breaks an older reader
//! raises [`VERSION`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of all schemas here, in every message as `v`.
pub const VERSION: u32 = 1;

/// Longest payload that a listener reads, bytes; Handloom's longest, except for images, has about 2,000.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// The fields that every message has beside its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// [`VERSION`].
    pub v: u32,
    /// UTC by the device's clock, RFC 3339 with milliseconds: `2026-01-31T12:00:00.000Z`.
    pub ts: String,
    /// Whether that clock was synchronised. A Raspberry Pi without network starts with an arbitrary time.
    pub clock_synced: bool,
    /// Number of the message on its channel, from 1. A gap is a dropped message. On `batch`, `fault` and `reply` the count
    /// continues over restarts; on the others it starts again with the daemon.
    pub seq: u64,
    /// The channel's own fields.
    #[serde(flatten)]
    pub body: T,
}

/// A message of the outbox, kept until the broker has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMessage {
    /// Grows with every message and is never used twice.
    pub id: i64,
    /// Last level of its topic.
    pub channel: String,
    /// The JSON that is published.
    pub payload: Vec<u8>,
}

/// The time by the wall clock, for records and messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// UTC, RFC 3339 with milliseconds.
    pub ts: String,
    /// Whether the clock was synchronized.
    pub clock_synced: bool,
    /// Seconds since 1970.
    pub unix_s: u64,
}

/// Channel `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The status.
    pub status: StatusName,
    /// Handloom's version.
    pub version: String,
}

/// Whether the daemon is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusName {
    /// Connected.
    Online,
    /// Ended cleanly.
    Stopped,
    /// The connection was lost. The broker publishes this as the last will; `ts` is the time of the connection.
    Offline,
}

/// The phase of the job or the camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobPhase {
    /// Nothing to do.
    Idle,
    /// Reading the dataset.
    Scanning,
    /// Processing clips.
    Processing,
    /// No clip is begun: see `reason`.
    Paused,
    /// The camera captures.
    Capturing,
    /// Working with restrictions: see `reason`.
    Degraded,
    /// Stopped by an error: see `reason`.
    Error,
}

impl JobPhase {
    /// As in the JSON.
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
    /// The phase.
    pub state: JobPhase,
    /// The reason, where there is one to give.
    pub reason: Option<String>,
    /// Name of the job's run; `null` before the first.
    pub run: Option<String>,
    /// The inference backend.
    pub backend: String,
    /// Why it was selected.
    pub backend_reason: String,
    /// Workers that may work now.
    pub workers: usize,
    /// Workers when nothing limits them.
    pub workers_max: usize,
    /// The shard that the job makes; absent for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardName>,
}

/// Channel `progress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Name of the job's run.
    pub run: String,
    /// Planned clips.
    pub total: usize,
    /// Planned clips that are done.
    pub done: usize,
    /// Instances of the metadata per state, so far.
    pub states: BTreeMap<String, usize>,
    /// Over the last minutes; `null` while too few clips, or too short a time, are known.
    pub clips_per_min: Option<f64>,
    /// Seconds left at that rate.
    pub eta_s: Option<f64>,
    /// The clip that was recorded last.
    pub clip: Option<ClipName>,
    /// The shard whose clips are counted; absent for all of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardName>,
}

/// The shard of a job that a device makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardName {
    /// Its number, from 0.
    pub index: usize,
    /// Number of shards.
    pub count: usize,
    /// Names the plan that all shards of a job share.
    pub plan: String,
}

/// The name of the plan with this hash.
#[must_use]
pub fn plan_name(sha256: &str) -> String {
    sha256.chars().take(PLAN_DIGITS).collect()
}

/// Digits of a plan's hash that name it.
const PLAN_DIGITS: usize = 8;

/// Names an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipName {
    /// The gloss, as spelt in the metadata.
    pub gloss: String,
    /// The clip's id in the metadata.
    pub video_id: String,
}

/// Channel `batch`: a batch file is durable on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Name of the job's run.
    pub run: String,
    /// Number of the file.
    pub batch: usize,
    /// Path of the file, relative to the output directory.
    pub path: String,
    /// Sequences in it.
    pub rows: usize,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// First and last plan position that the file covers.
    pub clips: [usize; 2],
    /// Whether this is the last batch; the merged file follows.
    pub last: bool,
    /// The shard that it belongs to; absent without shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardName>,
}

/// What a fault may concern.
pub const COMPONENTS: [&str; 12] = [
    "clip",
    "dataset",
    "disk",
    "heat",
    "memory",
    "mirror",
    "config",
    "job",
    "accelerator",
    "mqtt",
    "camera",
    "ledger",
];

/// Channel `fault`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Name of the job's run, if the fault concerns one.
    pub run: Option<String>,
    /// One of [`COMPONENTS`].
    pub component: String,
    /// The clip, if the fault concerns one.
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
    /// The machine's sensors.
    #[serde(flatten)]
    pub sensors: SensorReadings,
    /// Free on the file system of the output folder, MiB.
    pub disk_free_mib: Option<u64>,
    /// Workers that may work now; fewer than `workers_max` of `state` when heat, memory or disk limit them.
    #[serde(default)]
    pub workers: usize,
    /// Frames processed a second, all workers together.
    pub frames_per_s: f64,
    /// Finished clips that wait for the ledger.
    pub queue: usize,
    /// Messages that wait for the broker.
    pub outbox: u64,
    /// Messages that the outbox dropped because it was full, since the job began.
    pub outbox_dropped: u64,
    /// Other messages that were dropped since start.
    pub telemetry_dropped: u64,
    /// Messages left out since start because they are larger than the broker accepts.
    #[serde(default)]
    pub set_aside: u64,
    /// Connections to the broker since start.
    pub connects: u64,
    /// Files that the mirror lacks; `null` without a mirror.
    pub mirror_waiting: Option<usize>,
    /// The camera; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<CameraHealth>,
}

/// One sample of the machine's sensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SensorReadings {
    /// The hottest sensor, °C.
    pub temperature_c: Option<f64>,
    /// Whether the firmware throttles the machine or has done so since boot, for heat or for a weak power supply.
    pub throttled: Option<bool>,
    /// Load average over one minute.
    pub load_1min: Option<f64>,
    /// Available memory within the limits of the own control group, MiB.
    pub memory_available_mib: Option<u64>,
    /// Resident memory of the daemon and its decoder processes together, MiB.
    pub memory_resident_mib: Option<u64>,
}

/// How the camera is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CameraHealth {
    /// Frames processed a second.
    pub fps: f64,
    /// Captured frames since the daemon started.
    pub frames: u64,
    /// Frames that were replaced by a newer one before they were processed.
    pub dropped: u64,
    /// Frames that could not be decoded.
    pub damaged: u64,
    /// How often the camera was opened.
    pub opened: u64,
    /// Hands in the last frame.
    pub hands: usize,
    /// Takes in the output directory of the takes.
    pub takes: usize,
    /// Median latency from the frame to its landmarks, milliseconds, over the last frames.
    pub latency_p50_ms: f64,
    /// The 95th percentile of the same.
    pub latency_p95_ms: f64,
}

/// Channel `reply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The command's id; `null` where it had none that could be read.
    pub id: Option<String>,
    /// The command's name.
    pub command: String,
    /// State of the command.
    pub state: ReplyState,
    /// Why it failed.
    pub reason: Option<String>,
    /// The result; its fields depend on the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
}

/// State of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyState {
    /// Accepted and durable; a final reply follows, even after a restart.
    Accepted,
    /// Carried out.
    Succeeded,
    /// Not carried out: see `reason`.
    Failed,
}
