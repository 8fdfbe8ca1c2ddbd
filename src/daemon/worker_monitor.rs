//! The workers' heartbeats, the number of processed frames, and on request one of these frames.

use crate::dataset::plan::PlannedClip;
use crate::frame::RgbFrame;
use crate::hand::Hand;
use crate::job::FrameObserver;
use crate::recording::jpeg::jpeg_with_hands;
use crate::sequence::FrameRecord;
use crate::system::clock::uptime;
use crate::system::{Liveness, Stage, lock_ignoring_poison};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// Shared by the workers, the camera's thread and the readers of heartbeats and snapshots.
pub(super) struct WorkerMonitor {
    stages: Vec<Stage>,
    frames: AtomicU64,
    /// Where the next frame goes, while one is requested.
    receiver: Mutex<Option<SyncSender<Snapshot>>>,
    /// Held during a request: one at a time.
    request: Mutex<()>,
}

/// One frame with the hands that were detected in it.
pub(super) struct Snapshot {
    pub(super) frame: RgbFrame,
    pub(super) found: FrameRecord,
    pub(super) gloss: String,
    pub(super) video_id: String,
}

impl WorkerMonitor {
    /// A monitor of `workers` workers. Each may be busy for `limit` without processing a frame.
    pub(super) fn new(liveness: &Liveness, workers: usize, limit: Duration) -> Self {
        Self {
            stages: (0..workers)
                .map(|n| liveness.stage(&format!("worker {n}"), limit))
                .collect(),
            frames: AtomicU64::new(0),
            receiver: Mutex::new(None),
            request: Mutex::new(()),
        }
    }

    /// Frames processed since the start, all workers and the camera together.
    pub(super) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Waits at most `timeout` for the next processed frame.
    ///
    /// # Errors
    /// Fails when no frame is processed in time, or another request is under way.
    pub(super) fn snapshot(&self, timeout: Duration) -> Result<Snapshot, String> {
        let Ok(_request) = self.request.try_lock() else {
            return Err("another snapshot is under way; try again".to_owned());
        };
        let (sender, receiver) = sync_channel(1);
        *lock_ignoring_poison(&self.receiver) = Some(sender);
        let snapshot = receiver.recv_timeout(timeout);
        *lock_ignoring_poison(&self.receiver) = None;
        snapshot.map_err(|_| {
            format!(
                "no frame was processed for {} s; see `state`",
                timeout.as_secs()
            )
        })
    }

    /// Notes that the camera's thread has processed a frame of `device`; a requested snapshot gets it.
    pub(super) fn note_camera_frame(&self, frame: &RgbFrame, hands: &[Hand], device: &str) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.offer(|| Snapshot {
            frame: frame.clone(),
            found: FrameRecord::of(0, hands),
            gloss: String::new(),
            video_id: device.to_owned(),
        });
    }

    fn offer(&self, snapshot: impl FnOnce() -> Snapshot) {
        let sender = lock_ignoring_poison(&self.receiver).take();
        if let Some(sender) = sender {
            // The request may have timed out.
            sender.try_send(snapshot()).ok();
        }
    }
}

impl FrameObserver for WorkerMonitor {
    fn clip_started(&self, worker: usize, _clip: &PlannedClip) {
        if let Some(stage) = self.stages.get(worker) {
            stage.busy(uptime());
        }
    }

    fn frame_processed(
        &self,
        worker: usize,
        clip: &PlannedClip,
        frame: &RgbFrame,
        found: &FrameRecord,
    ) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        if let Some(stage) = self.stages.get(worker) {
            stage.heartbeat(uptime());
        }
        self.offer(|| Snapshot {
            frame: frame.clone(),
            found: found.clone(),
            gloss: clip.gloss.to_string(),
            video_id: clip.video_id.to_string(),
        });
    }

    fn clip_finished(&self, worker: usize) {
        if let Some(stage) = self.stages.get(worker) {
            stage.idle();
        }
    }
}

impl Snapshot {
    /// Encodes the frame as JPEG, with the hand skeletons drawn on it.
    pub(super) fn jpeg(&mut self) -> Result<Vec<u8>, String> {
        let hands = usize::from(self.found.hand_count).min(self.found.landmarks.len());
        jpeg_with_hands(&mut self.frame, &self.found.landmarks[..hands])
    }
}
