//! A camera that films in a thread of its own, seen from the side that takes its frames.

use super::{CameraError, CameraOpener, RawFrame};
use crate::camera::capture_thread::CaptureThread;
use crate::camera::events::{CameraEvent, EventDeduper};
use crate::camera::latest_frame::{LatestFrame, NextFrame};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// At the end its thread gets so long; one whose driver does not return is left.
const LEAVE: Duration = Duration::from_secs(5);
/// How often to look whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Whether frames wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropPolicy {
    /// As the camera goes: what comes too late is dropped and counted.
    DropOldest,
    /// As whoever looks goes: for files, where no frame needs to be dropped.
    WaitForReader,
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureTimeouts {
    /// Before a camera is opened again after its first fault; after each further one twice as long …
    pub min: Duration,
    /// … up to this.
    pub max: Duration,
    /// A camera that filmed for so long is well; its next fault is the first again, and told.
    pub well: Duration,
    /// A driver that does not return for so long hangs; on top of the patience with its frames while it films.
    pub silence: Duration,
}

impl Default for CaptureTimeouts {
    /// One that is back films within two seconds.
    fn default() -> Self {
        Self {
            min: Duration::from_millis(100),
            max: Duration::from_secs(1),
            well: Duration::from_secs(5),
            // The kernel gives up a request to a USB device after 5 s, and an opening makes several.
            silence: Duration::from_secs(20),
        }
    }
}

/// Frames and faults since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CameraCounts {
    /// Frames that the camera gave.
    pub frames: u64,
    /// Of these, dropped because a newer one came before anybody looked.
    pub dropped: u64,
    /// Frames that were no good.
    pub damaged: u64,
    /// Times that it was opened.
    pub opened: u64,
    /// Attempts to open it that failed.
    pub refused: u64,
}

/// Frames in a row that turned out to be no good when they were looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct BadFrameCounter {
    pub(super) count: u32,
    /// What was wrong with the last.
    pub(super) reason: String,
}

/// What both sides know.
#[derive(Debug, Default)]
pub(super) struct CaptureShared {
    pub(super) latest: LatestFrame,
    pub(super) events: EventDeduper,
    pub(super) is_stopped: AtomicBool,
    pub(super) frames: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) refused: AtomicU64,
    bad_frames: Mutex<BadFrameCounter>,
    /// When the thread was last heard of, and for how long it may be silent; `None` when it has ended.
    beat: Mutex<Option<(Instant, Duration)>>,
}

impl CaptureShared {
    /// The thread is alive, and will say so again within `allowed`.
    pub(super) fn beat(&self, allowed: Option<Duration>) {
        let beat = allowed.map(|allowed| (Instant::now(), allowed));
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = beat;
    }

    /// For how long nothing was heard of the thread, if that is too long.
    fn silent(&self) -> Option<Duration> {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, allowed) = beat?;
        Some(since.elapsed()).filter(|silent| *silent > allowed)
    }

    pub(super) fn bad_frames(&self) -> std::sync::MutexGuard<'_, BadFrameCounter> {
        self.bad_frames
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whatever ends the thread, nobody waits for its frames any longer.
struct CloseGuard(Arc<CaptureShared>);

impl Drop for CloseGuard {
    fn drop(&mut self) {
        self.0.beat(None);
        self.0.latest.close();
    }
}

/// A camera that films; stops when dropped.
#[derive(Debug)]
pub struct Camera {
    shared: Arc<CaptureShared>,
    thread: Option<JoinHandle<()>>,
    device: String,
    leave: Duration,
}

impl Camera {
    /// Starts filming what `opener` opens.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(
        mut opener: Box<dyn CameraOpener>,
        pace: DropPolicy,
        timeouts: CaptureTimeouts,
    ) -> Result<Self, CameraError> {
        let shared = Arc::new(CaptureShared::default());
        let device = opener.name();
        let closing = CloseGuard(Arc::clone(&shared));
        let mut crew = CaptureThread::new(Arc::clone(&shared), device.clone(), pace, timeouts);
        let thread = Builder::new().name("camera".into()).spawn(move || {
            let _closing = closing;
            crew.work(opener.as_mut());
        });
        let thread = thread.map_err(|e| CameraError::Thread(e.to_string()))?;
        Ok(Self {
            shared,
            thread: Some(thread),
            device,
            leave: timeouts.silence.min(LEAVE),
        })
    }

    /// The newest frame, or the next one within `patience`.
    #[must_use]
    pub fn take(&self, patience: Duration) -> NextFrame {
        self.shared.latest.take(patience)
    }

    /// Lets a frame's memory be used again.
    pub fn give_back(&self, frame: RawFrame) {
        self.shared.latest.give_back(frame);
    }

    /// What has happened since it was last asked for. Also looks whether the driver hangs: ask often.
    pub fn news(&self) -> impl Iterator<Item = CameraEvent> {
        if let Some(after) = self.shared.silent() {
            let device = self.device.clone();
            self.shared
                .events
                .fails(CameraError::Hangs { device, after });
        }
        self.shared.events.heard().into_iter()
    }

    /// Frames and faults so far.
    #[must_use]
    pub fn counts(&self) -> CameraCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        CameraCounts {
            frames: of(&shared.frames),
            dropped: shared.latest.dropped(),
            damaged: of(&shared.damaged),
            opened: of(&shared.opened),
            refused: of(&shared.refused),
        }
    }

    /// A frame turned out to be good when it was looked at.
    pub fn note_good(&self) {
        self.shared.bad_frames().count = 0;
    }

    /// Counts a frame that turned out to be no good, for `reason`, when it was looked at. Too many in a row are a fault.
    pub fn note_damaged(&self, reason: String) {
        self.shared.damaged.fetch_add(1, Ordering::Relaxed);
        let mut bad_frames = self.shared.bad_frames();
        bad_frames.count = bad_frames.count.saturating_add(1);
        bad_frames.reason = reason;
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.latest.close();
        let Some(thread) = self.thread.take() else {
            return;
        };
        let until = Instant::now() + self.leave;
        while !thread.is_finished() {
            if Instant::now() > until {
                let device = &self.device;
                tracing::warn!(
                    device,
                    "a camera's driver does not return; its thread is left behind"
                );
                return;
            }
            std::thread::sleep(LOOK);
        }
        if thread.join().is_err() {
            tracing::error!("the camera's thread has panicked");
        }
    }
}
