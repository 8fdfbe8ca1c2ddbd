//! The reader's side of a camera whose frames come from a thread of its own.

use super::{CameraError, CameraOpener, RawFrame};
use crate::camera::capture_thread::CaptureThread;
use crate::camera::events::{CameraEvent, EventDeduper};
use crate::camera::latest_frame::{LatestFrame, NextFrame};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Time for the thread to end; one whose driver does not return is left behind.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Time between two checks whether the thread has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What happens to a frame while the reader is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropPolicy {
    /// A newer frame replaces it; it is counted as dropped.
    DropOldest,
    /// It waits, and the source with it: for files.
    WaitForReader,
}

/// Timeouts of a camera's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureTimeouts {
    /// Wait before the camera is opened again after its first fault; it doubles with each further fault.
    pub retry_min: Duration,
    /// Longest wait before the camera is opened again.
    pub retry_max: Duration,
    /// After this time of normal capture a fault counts as the first again and is reported.
    pub healthy_after: Duration,
    /// A driver that does not return within this time hangs; during capture the frame timeout is added.
    pub driver_timeout: Duration,
}

impl Default for CaptureTimeouts {
    /// A camera that is plugged in again captures within two seconds.
    fn default() -> Self {
        Self {
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(1),
            healthy_after: Duration::from_secs(5),
            // The kernel abandons a request to a USB device after 5 s, and opening one makes several.
            driver_timeout: Duration::from_secs(20),
        }
    }
}

/// Counters since the camera was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CameraCounts {
    /// Frames captured.
    pub frames: u64,
    /// Frames that a newer one replaced before they were read.
    pub dropped: u64,
    /// Damaged frames.
    pub damaged: u64,
    /// Times that the camera was opened.
    pub opened: u64,
    /// Failed attempts to open it.
    pub refused: u64,
}

/// Counts damaged frames in a row, as the reader reports them.
#[derive(Clone, Debug, Default)]
pub(super) struct BadFrameCounter {
    pub(super) count: u32,
    /// What is wrong with the last one.
    pub(super) reason: String,
}

/// State shared by the thread and the reader.
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
    /// Time of the thread's last heartbeat and the longest time to the next; `None` when it has ended.
    heartbeat: Mutex<Option<(Instant, Duration)>>,
}

impl CaptureShared {
    /// Notes that the thread is alive; the next heartbeat comes within `allowed`.
    pub(super) fn heartbeat(&self, allowed: Option<Duration>) {
        let heartbeat = allowed.map(|allowed| (Instant::now(), allowed));
        *self
            .heartbeat
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = heartbeat;
    }

    /// Time since the last heartbeat, if it is overdue.
    fn overdue(&self) -> Option<Duration> {
        let heartbeat = *self
            .heartbeat
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (since, allowed) = heartbeat?;
        Some(since.elapsed()).filter(|elapsed| *elapsed > allowed)
    }

    pub(super) fn bad_frames(&self) -> std::sync::MutexGuard<'_, BadFrameCounter> {
        self.bad_frames
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the wait of the reader, however the thread ends.
struct CloseGuard(Arc<CaptureShared>);

impl Drop for CloseGuard {
    fn drop(&mut self) {
        self.0.heartbeat(None);
        self.0.latest.close();
    }
}

/// A camera whose thread captures; stops when dropped.
#[derive(Debug)]
pub struct Camera {
    shared: Arc<CaptureShared>,
    thread: Option<JoinHandle<()>>,
    device: String,
    shutdown_grace: Duration,
}

impl Camera {
    /// Starts the thread, which captures from what `opener` opens.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        mut opener: Box<dyn CameraOpener>,
        drop_policy: DropPolicy,
        timeouts: CaptureTimeouts,
    ) -> Result<Self, CameraError> {
        let shared = Arc::new(CaptureShared::default());
        let device = opener.name();
        let closing = CloseGuard(Arc::clone(&shared));
        let mut capture =
            CaptureThread::new(Arc::clone(&shared), device.clone(), drop_policy, timeouts);
        let thread = Builder::new().name("camera".into()).spawn(move || {
            let _closing = closing;
            capture.run(opener.as_mut());
        });
        let thread = thread.map_err(|e| CameraError::Thread(e.to_string()))?;
        Ok(Self {
            shared,
            thread: Some(thread),
            device,
            shutdown_grace: timeouts.driver_timeout.min(SHUTDOWN_GRACE),
        })
    }

    /// The newest frame, or the next one within `timeout`.
    #[must_use]
    pub fn next_frame(&self, timeout: Duration) -> NextFrame {
        self.shared.latest.take(timeout)
    }

    /// Returns a frame so that its memory is used again.
    pub fn release(&self, frame: RawFrame) {
        self.shared.latest.release(frame);
    }

    /// Events since the last call. It also checks whether the driver hangs: call it often.
    pub fn events(&self) -> impl Iterator<Item = CameraEvent> {
        if let Some(after) = self.shared.overdue() {
            let device = self.device.clone();
            self.shared
                .events
                .note_fault(CameraError::Hangs { device, after });
        }
        self.shared.events.drain().into_iter()
    }

    /// Counters up to now.
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

    /// Reports that the last frame could be converted.
    pub fn note_good(&self) {
        self.shared.bad_frames().count = 0;
    }

    /// Counts a frame that could not be converted, for `reason`. Too many in a row are a fault.
    pub fn note_damaged(&self, reason: String) {
        self.shared.damaged.fetch_add(1, Ordering::Relaxed);
        let mut bad_frames = self.shared.bad_frames();
        bad_frames.count = bad_frames.count.saturating_add(1);
        bad_frames.reason = reason;
    }

    /// Stops capture and waits for the thread. A thread whose driver does not return is left behind. Counters stay.
    pub fn stop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.latest.close();
        let Some(thread) = self.thread.take() else {
            return;
        };
        let until = Instant::now() + self.shutdown_grace;
        while !thread.is_finished() {
            if Instant::now() > until {
                let device = &self.device;
                tracing::warn!(
                    device,
                    "the camera's driver does not return; its thread is left behind"
                );
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        if thread.join().is_err() {
            tracing::error!("the camera's thread panicked");
        }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop();
    }
}
