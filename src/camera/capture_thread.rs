//! The camera's thread: opens the camera, captures, and opens it again after a fault.

use super::{CameraError, CameraOpener, Capture, CaptureStep, RawFrame};
use crate::camera::camera_handle::{CaptureTimeouts, DropPolicy};
use crate::camera::capture_state::SharedCapture;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum time until a stop is noticed.
const POLL: Duration = Duration::from_millis(100);
/// Number of damaged frames in a row that are a fault.
const DAMAGED_MAX: u32 = 30;
/// Reason for a damaged frame: its time is not later than that of the frame before.
const BEHIND: &str = "their times do not advance";

/// Why capture ended.
enum CaptureEnd {
    Stopped,
    Ended,
    Fault(CameraError),
    /// A file cannot be used, or not up to its end. It is not opened again.
    Broken(CameraError),
}

impl CaptureEnd {
    fn of(error: CameraError) -> Self {
        if error.is_final() {
            Self::Broken(error)
        } else {
            Self::Fault(error)
        }
    }
}

/// State of the thread.
pub(super) struct CaptureThread {
    shared: Arc<SharedCapture>,
    device: String,
    drop_policy: DropPolicy,
    timeouts: CaptureTimeouts,
    start: Instant,
    /// Time of the last frame, also from before the camera was opened again.
    last: Option<Duration>,
    /// Whether capture was normal for `healthy_after` since the camera was opened.
    was_healthy: bool,
}

impl CaptureThread {
    pub(super) fn new(
        shared: Arc<SharedCapture>,
        device: String,
        drop_policy: DropPolicy,
        timeouts: CaptureTimeouts,
    ) -> Self {
        Self {
            shared,
            device,
            drop_policy,
            timeouts,
            start: Instant::now(),
            last: None,
            was_healthy: false,
        }
    }

    /// Captures until the camera ends or is stopped.
    pub(super) fn run(&mut self, opener: &mut dyn CameraOpener) {
        let mut failures = 0_u32;
        while !self.is_stopped() {
            self.was_healthy = false;
            // A library may panic on an unknown answer of a driver, which counts as a fault.
            let end = catch_unwind(AssertUnwindSafe(|| self.open_and_capture(opener)));
            let end = end.unwrap_or_else(|panic| {
                CaptureEnd::Fault(CameraError::Failed {
                    device: self.device.clone(),
                    reason: panic_message(panic.as_ref()),
                })
            });
            match end {
                CaptureEnd::Stopped => return,
                CaptureEnd::Ended => return self.shared.lock().events.note_end(),
                CaptureEnd::Broken(error) => {
                    let events = &mut self.shared.lock().events;
                    events.note_fault(error);
                    return events.note_end();
                }
                CaptureEnd::Fault(error) => self.shared.lock().events.note_fault(error),
            }
            if self.was_healthy {
                failures = 0;
            }
            let longer = 2_u32.saturating_pow(failures);
            let pause = self.timeouts.retry_min.saturating_mul(longer);
            let pause = pause.min(self.timeouts.retry_max);
            self.heartbeat(pause);
            self.shared.pause(pause);
            failures = failures.saturating_add(1);
        }
    }

    /// Opens the camera and captures until something ends it.
    fn open_and_capture(&mut self, opener: &mut dyn CameraOpener) -> CaptureEnd {
        self.heartbeat(Duration::ZERO);
        self.shared.lock().bad_frames = 0;
        let opening = opener.open(self.start);
        // The driver has returned, so no hang is reported from here on.
        self.heartbeat(Duration::ZERO);
        match opening {
            Ok(mut capture) => {
                self.shared.lock().counts.opened += 1;
                self.capture(capture.as_mut())
            }
            Err(error) => {
                self.shared.lock().counts.refused += 1;
                CaptureEnd::of(error)
            }
        }
    }

    fn capture(&mut self, capture: &mut dyn Capture) -> CaptureEnd {
        let device = capture.opened().path.clone();
        let frame_timeout = capture.frame_timeout();
        let too_many = |count, reason| {
            let device = device.clone();
            CaptureEnd::Fault(CameraError::Damaged {
                device,
                count,
                reason,
            })
        };
        let mut frame = RawFrame::default();
        let (mut first, mut last_seen) = (None, Instant::now());
        let mut damaged = 0_u32;
        let mut uses_own_clock = false;
        while !self.is_stopped() {
            self.heartbeat(frame_timeout);
            let bad_frames = self.shared.lock().bad_frames;
            if bad_frames >= DAMAGED_MAX {
                return too_many(bad_frames, self.shared.lock().bad_frame_reason.clone());
            }
            let mut step = capture.next(POLL, &mut frame);
            self.heartbeat(frame_timeout);
            if step == Ok(CaptureStep::Frame) {
                // A reopened camera whose times are behind the last frame has a new clock: this process's clock is
                // used instead.
                uses_own_clock |= first.is_none() && self.is_behind(&frame);
                if !self.set_time(&mut frame, uses_own_clock) {
                    step = Ok(CaptureStep::Damaged(BEHIND.to_owned()));
                }
            }
            match step {
                Ok(CaptureStep::Frame) => {
                    damaged = 0;
                    last_seen = Instant::now();
                    if self.shared.lock().events.note_capture(capture.opened()) {
                        // Also after a driver that hung: the time of normal capture starts here.
                        first = None;
                        self.was_healthy = false;
                    }
                    let since = *first.get_or_insert(last_seen);
                    if since.elapsed() >= self.timeouts.healthy_after
                        && bad_frames == 0
                        && !self.was_healthy
                    {
                        self.was_healthy = true;
                        self.shared.lock().events.note_healthy();
                    }
                    self.shared.lock().counts.frames += 1;
                    if self.drop_policy == DropPolicy::WaitForReader {
                        self.wait_until_read(frame_timeout);
                        frame.taken = Instant::now();
                        last_seen = frame.taken;
                    }
                    frame = self.shared.put(frame);
                }
                Ok(CaptureStep::Damaged(reason)) => {
                    self.shared.lock().counts.damaged += 1;
                    last_seen = Instant::now();
                    // A file that was opened again is skipped up to its last frame.
                    let is_skipped =
                        self.drop_policy == DropPolicy::WaitForReader && reason == BEHIND;
                    damaged += u32::from(!is_skipped);
                    if damaged >= DAMAGED_MAX {
                        return too_many(damaged, reason);
                    }
                }
                Ok(CaptureStep::NotDue) => last_seen = Instant::now(),
                Ok(CaptureStep::NoFrame) => {
                    let after = last_seen.elapsed();
                    if after > frame_timeout {
                        return CaptureEnd::Fault(CameraError::Frozen { device, after });
                    }
                }
                Ok(CaptureStep::End) => {
                    // The reader gets the last frame too.
                    self.wait_until_read(frame_timeout);
                    return CaptureEnd::Ended;
                }
                Err(error) => {
                    // The reader gets the last frame of a file too.
                    if error.is_final() {
                        self.wait_until_read(frame_timeout);
                    }
                    return CaptureEnd::of(error);
                }
            }
        }
        CaptureEnd::Stopped
    }

    fn is_behind(&self, frame: &RawFrame) -> bool {
        self.drop_policy == DropPolicy::DropOldest && self.last.is_some_and(|last| frame.at <= last)
    }

    /// Sets the frame's time: the camera's, but not later than now; a file keeps its own. Returns whether it is later
    /// than the last frame's.
    fn set_time(&mut self, frame: &mut RawFrame, uses_own_clock: bool) -> bool {
        if self.drop_policy == DropPolicy::DropOldest {
            let now = self.start.elapsed();
            frame.at = if uses_own_clock {
                now
            } else {
                frame.at.min(now)
            };
            frame.taken = self.start + frame.at;
        }
        if self.last.is_some_and(|last| frame.at <= last) {
            return false;
        }
        self.last = Some(frame.at);
        true
    }

    fn is_stopped(&self) -> bool {
        self.shared.lock().is_closed
    }

    /// Records that the thread is alive. The next heartbeat is due within `time` plus the driver's timeout.
    fn heartbeat(&self, time: Duration) {
        let allowed = time + self.timeouts.driver_timeout;
        self.shared.lock().heartbeat = Some((Instant::now(), allowed));
    }

    /// Waits for the reader. During this wait the camera does not count as hanging.
    fn wait_until_read(&self, frame_timeout: Duration) {
        while !self.shared.wait_until_read(POLL) {
            self.heartbeat(frame_timeout);
        }
    }
}

impl Drop for CaptureThread {
    /// Closes the capture however the thread ends, so that the reader does not wait.
    fn drop(&mut self) {
        self.shared.lock().heartbeat = None;
        self.shared.close();
    }
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!(
        "a library panicked: {}",
        text.unwrap_or("it gave no reason")
    )
}
