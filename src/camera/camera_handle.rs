//! The reader's side of a camera whose frames come from a thread of its own.

use super::{CameraError, CameraOpener, RawFrame};
use crate::camera::capture_state::{CameraCounts, NextFrame, SharedCapture};
use crate::camera::capture_thread::CaptureThread;
use crate::camera::events::CameraEvent;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Maximum time for the thread to end. A thread whose driver does not return is left behind.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Interval of the checks whether the thread has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What happens to a frame while the reader is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropPolicy {
    /// A newer frame replaces it; it is counted as dropped.
    DropOldest,
    /// The frame and the source wait for the reader: for files.
    WaitForReader,
}

/// Timeouts of a camera's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureTimeouts {
    /// Wait before the camera is opened again after its first fault; it doubles with each further fault.
    pub retry_min: Duration,
    /// Longest wait before the camera is opened again.
    pub retry_max: Duration,
    /// After this time of normal capture, a fault counts as the first again and is reported.
    pub healthy_after: Duration,
    /// Maximum time of a call of the driver, beyond which it counts as hanging. During capture the frame timeout is
    /// added.
    pub driver_timeout: Duration,
}

impl Default for CaptureTimeouts {
    /// With these, a camera that is plugged in again captures within two seconds.
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

/// A camera whose thread captures; it stops when dropped.
#[derive(Debug)]
pub struct Camera {
    shared: Arc<SharedCapture>,
    thread: Option<JoinHandle<()>>,
    device: String,
    is_file: bool,
    shutdown_grace: Duration,
}

impl Camera {
    /// Starts the thread, which captures from what `opener` opens.
    ///
    /// # Errors
    /// Fails when the thread cannot be started.
    pub fn start(
        mut opener: Box<dyn CameraOpener>,
        drop_policy: DropPolicy,
        timeouts: CaptureTimeouts,
    ) -> Result<Self, CameraError> {
        let shared = Arc::new(SharedCapture::default());
        let (device, is_file) = (opener.name(), opener.is_file());
        let mut capture =
            CaptureThread::new(Arc::clone(&shared), device.clone(), drop_policy, timeouts);
        let thread = Builder::new()
            .name("camera".into())
            .spawn(move || capture.run(opener.as_mut()));
        let thread = thread.map_err(|e| CameraError::Thread(e.to_string()))?;
        Ok(Self {
            shared,
            thread: Some(thread),
            device,
            is_file,
            shutdown_grace: timeouts.driver_timeout.min(SHUTDOWN_GRACE),
        })
    }

    /// The newest frame, or the next one within `timeout`.
    #[must_use]
    pub fn next_frame(&self, timeout: Duration) -> NextFrame {
        self.shared.take(timeout)
    }

    /// Returns a frame so that its memory is used again.
    pub fn release(&self, frame: RawFrame) {
        self.shared.lock().release(frame);
    }

    /// Returns the events since the last call. It also checks whether the driver hangs, so it must be called often.
    pub fn events(&self) -> impl Iterator<Item = CameraEvent> {
        let mut state = self.shared.lock();
        if let Some((since, allowed)) = state.heartbeat
            && since.elapsed() > allowed
        {
            let (device, after) = (self.device.clone(), since.elapsed());
            state.events.note_fault(if self.is_file {
                let path = device;
                CameraError::FileHangs { path, after }
            } else {
                CameraError::Hangs { device, after }
            });
        }
        state.events.drain().into_iter()
    }

    /// Returns the counters.
    #[must_use]
    pub fn counts(&self) -> CameraCounts {
        self.shared.lock().counts
    }

    /// Ends the run of frames that could not be converted: the last one could.
    pub fn note_good(&self) {
        self.shared.lock().bad_frames = 0;
    }

    /// Counts a frame that could not be converted, for `reason`. Too many such frames in a row are a fault.
    pub fn note_damaged(&self, reason: String) {
        let mut state = self.shared.lock();
        state.counts.damaged += 1;
        state.bad_frames = state.bad_frames.saturating_add(1);
        state.bad_frame_reason = reason;
    }

    /// Stops capture and waits for the thread. A thread whose driver does not return is left behind. Counters stay.
    pub fn stop(&mut self) {
        self.shared.close();
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
