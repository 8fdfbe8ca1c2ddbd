//! What the workers show: signs of life, pictures looked at, and on demand one picture with what was found in it.

use crate::daemon::state::held;
use crate::dataset::plan::PlannedClip;
use crate::frame::RgbFrame;
use crate::hand::Hand;
use crate::job::FrameObserver;
use crate::recording::jpeg::jpeg_with_hands;
use crate::sequence::FrameRecord;
use crate::system::clock::uptime;
use crate::system::{Liveness, Stage};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// Looks over the workers' shoulders.
pub(super) struct WorkerMonitor {
    stages: Vec<Stage>,
    frames: AtomicU64,
    is_wanted: AtomicBool,
    waiting: Mutex<Option<SyncSender<Snapshot>>>,
    /// Held by whoever asks.
    asking: Mutex<()>,
}

/// A picture with what was found in it.
pub(super) struct Snapshot {
    pub(super) frame: RgbFrame,
    pub(super) found: FrameRecord,
    pub(super) gloss: String,
    pub(super) video_id: String,
}

impl WorkerMonitor {
    /// For so many workers, each of which may be busy for `limit` without looking at a picture.
    pub(super) fn new(liveness: &Liveness, workers: usize, limit: Duration) -> Self {
        Self {
            stages: (0..workers)
                .map(|n| liveness.stage(&format!("worker {n}"), limit))
                .collect(),
            frames: AtomicU64::new(0),
            is_wanted: AtomicBool::new(false),
            waiting: Mutex::new(None),
            asking: Mutex::new(()),
        }
    }

    /// Pictures looked at since start.
    pub(super) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// The next picture that a worker looks at, if one does within `patience`. One asker at a time.
    pub(super) fn shot(&self, patience: Duration) -> Result<Snapshot, String> {
        let Ok(_asking) = self.asking.try_lock() else {
            return Err("another snapshot is under way; try again".to_owned());
        };
        let (give, take) = sync_channel(1);
        *held(&self.waiting) = Some(give);
        self.is_wanted.store(true, Ordering::Release);
        let shot = take.recv_timeout(patience);
        self.is_wanted.store(false, Ordering::Release);
        *held(&self.waiting) = None;
        shot.map_err(|_| {
            format!(
                "no clip was looked at for {} s; see `state`",
                patience.as_secs()
            )
        })
    }
}

impl WorkerMonitor {
    /// The camera looked at a picture.
    pub(super) fn see(&self, frame: &RgbFrame, hands: &[Hand], device: &str) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.offer(|| Snapshot {
            frame: frame.clone(),
            found: FrameRecord::of(0, hands),
            gloss: String::new(),
            video_id: device.to_owned(),
        });
    }

    /// Gives a picture to whoever waits for one.
    fn offer(&self, shot: impl FnOnce() -> Snapshot) {
        if self.is_wanted.swap(false, Ordering::AcqRel)
            && let Some(give) = held(&self.waiting).take()
        {
            // Whoever asked may have lost patience.
            give.try_send(shot()).ok();
        }
    }
}

impl FrameObserver for WorkerMonitor {
    fn began(&self, worker: usize, _job: &PlannedClip) {
        if let Some(stage) = self.stages.get(worker) {
            stage.busy(uptime());
        }
    }

    fn saw(&self, worker: usize, job: &PlannedClip, frame: &RgbFrame, found: &FrameRecord) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        if let Some(stage) = self.stages.get(worker) {
            stage.heartbeat(uptime());
        }
        self.offer(|| Snapshot {
            frame: frame.clone(),
            found: found.clone(),
            gloss: job.gloss.to_string(),
            video_id: job.video_id.to_string(),
        });
    }

    fn ended(&self, worker: usize) {
        if let Some(stage) = self.stages.get(worker) {
            stage.idle();
        }
    }
}

impl Snapshot {
    /// As a JPEG, with the bones drawn on.
    pub(super) fn jpeg(&mut self) -> Result<Vec<u8>, String> {
        let hands = usize::from(self.found.hand_count).min(self.found.landmarks.len());
        jpeg_with_hands(&mut self.frame, &self.found.landmarks[..hands])
    }
}
