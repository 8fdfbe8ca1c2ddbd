//! The camera's thread: opens, films, and opens again when something happened.

use super::{CameraError, CameraOpener, Capture, CaptureStep, RawFrame};
use crate::camera::camera_handle::{BadFrameCounter, CaptureShared, CaptureTimeouts, DropPolicy};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A stop is noticed within about this.
const POLL: Duration = Duration::from_millis(100);
/// So many damaged frames in a row are a fault.
const DAMAGED_MAX: u32 = 30;
/// What is wrong with a frame that is not later than the one before.
const BEHIND: &str = "their times do not go on";

/// Why filming ended.
enum CaptureEnd {
    Stopped,
    Ended,
    Fault(CameraError),
}

/// The thread's own things.
pub(super) struct CaptureThread {
    shared: Arc<CaptureShared>,
    device: String,
    pace: DropPolicy,
    timeouts: CaptureTimeouts,
    start: Instant,
    /// Time of the last frame, over all openings.
    last: Option<Duration>,
    /// Whether the camera was well since it was opened.
    was_well: bool,
}

impl CaptureThread {
    pub(super) fn new(
        shared: Arc<CaptureShared>,
        device: String,
        pace: DropPolicy,
        timeouts: CaptureTimeouts,
    ) -> Self {
        Self {
            shared,
            device,
            pace,
            timeouts,
            start: Instant::now(),
            last: None,
            was_well: false,
        }
    }

    /// Films until the camera ends or is stopped.
    pub(super) fn work(&mut self, opener: &mut dyn CameraOpener) {
        let mut failures = 0_u32;
        while !self.is_stopped() {
            self.was_well = false;
            // A driver that says what a library does not know may make that one panic: a fault like any other.
            let end = catch_unwind(AssertUnwindSafe(|| self.turn(opener)));
            let end = end.unwrap_or_else(|panic| {
                CaptureEnd::Fault(CameraError::Failed {
                    device: self.device.clone(),
                    reason: words(panic.as_ref()),
                })
            });
            match end {
                CaptureEnd::Stopped => return,
                CaptureEnd::Ended => return self.shared.events.ends(),
                CaptureEnd::Fault(error) => self.shared.events.fails(error),
            }
            if self.was_well {
                failures = 0;
            }
            let wait = self
                .timeouts
                .min
                .saturating_mul(2_u32.saturating_pow(failures));
            self.rest(wait.min(self.timeouts.max));
            failures = failures.saturating_add(1);
        }
    }

    /// One opening and what follows.
    fn turn(&mut self, opener: &mut dyn CameraOpener) -> CaptureEnd {
        self.beat(Duration::ZERO);
        *self.shared.bad_frames() = BadFrameCounter::default();
        let opening = opener.open(self.start);
        // What it was silent for is over before anything is told of it.
        self.beat(Duration::ZERO);
        match opening {
            Ok(mut capture) => {
                self.shared.opened.fetch_add(1, Ordering::Relaxed);
                self.film(capture.as_mut())
            }
            Err(error) => {
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                CaptureEnd::Fault(error)
            }
        }
    }

    fn film(&mut self, capture: &mut dyn Capture) -> CaptureEnd {
        let device = capture.opened().path.clone();
        let patience = capture.patience();
        let too_many = |count, reason| {
            let device = device.clone();
            CaptureEnd::Fault(CameraError::Damaged {
                device,
                count,
                reason,
            })
        };
        let mut frame = self.shared.latest.spare();
        let (mut first, mut last_sign) = (None, Instant::now());
        let mut damaged = 0_u32;
        let mut is_clock_ours = false;
        while !self.is_stopped() {
            self.beat(patience);
            let bad_frames = self.shared.bad_frames().count;
            if bad_frames >= DAMAGED_MAX {
                return too_many(bad_frames, self.shared.bad_frames().reason.clone());
            }
            let mut step = capture.next(POLL, &mut frame);
            self.beat(patience);
            if step == Ok(CaptureStep::Frame) {
                // A camera that was opened anew and is behind has another clock: ours is taken until the next opening.
                is_clock_ours |= first.is_none() && self.is_behind(&frame);
                if !self.goes_on(&mut frame, is_clock_ours) {
                    step = Ok(CaptureStep::Damaged(BEHIND.to_owned()));
                }
            }
            match step {
                Ok(CaptureStep::Frame) => {
                    damaged = 0;
                    last_sign = Instant::now();
                    if self.shared.events.films(capture.opened()) {
                        // Also after a driver that hung: well is what goes well from here on.
                        first = None;
                        self.was_well = false;
                    }
                    let since = *first.get_or_insert(last_sign);
                    if since.elapsed() >= self.timeouts.well && bad_frames == 0 && !self.was_well {
                        self.was_well = true;
                        self.shared.events.is_well();
                    }
                    self.shared.frames.fetch_add(1, Ordering::Relaxed);
                    if self.pace == DropPolicy::WaitForReader {
                        self.wait_empty(patience);
                        frame.taken = Instant::now();
                        last_sign = frame.taken;
                    }
                    self.shared.latest.put(frame);
                    frame = self.shared.latest.spare();
                }
                Ok(CaptureStep::Damaged(reason)) => {
                    self.shared.damaged.fetch_add(1, Ordering::Relaxed);
                    last_sign = Instant::now();
                    // A file that was opened anew is passed over up to where it was.
                    let is_passed = self.pace == DropPolicy::WaitForReader && reason == BEHIND;
                    damaged += u32::from(!is_passed);
                    if damaged >= DAMAGED_MAX {
                        return too_many(damaged, reason);
                    }
                }
                Ok(CaptureStep::Nothing) => {
                    let after = last_sign.elapsed();
                    if after > patience {
                        return CaptureEnd::Fault(CameraError::Frozen { device, after });
                    }
                }
                Ok(CaptureStep::End) => {
                    // The last frame is looked at, too.
                    self.wait_empty(patience);
                    return CaptureEnd::Ended;
                }
                Err(error) => return CaptureEnd::Fault(error),
            }
        }
        CaptureEnd::Stopped
    }

    fn is_behind(&self, frame: &RawFrame) -> bool {
        self.pace == DropPolicy::DropOldest && self.last.is_some_and(|last| frame.at <= last)
    }

    /// Whether the frame's time comes after the last one's, as it must, whatever a driver says; one beyond now is now.
    /// A file's times are its own.
    fn goes_on(&mut self, frame: &mut RawFrame, is_clock_ours: bool) -> bool {
        if self.pace == DropPolicy::DropOldest {
            let now = self.start.elapsed();
            frame.at = if is_clock_ours {
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
        self.shared.is_stopped.load(Ordering::Acquire)
    }

    /// The driver gets `patience` and as much as one may be silent for.
    fn beat(&self, patience: Duration) {
        self.shared.beat(Some(patience + self.timeouts.silence));
    }

    /// Waits for whoever looks; that is no silence of the camera's.
    fn wait_empty(&self, patience: Duration) {
        while !self.shared.latest.wait_empty(POLL) && !self.is_stopped() {
            self.beat(patience);
        }
    }

    /// Waits before the next attempt, or until the end.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.beat(Duration::ZERO);
            std::thread::sleep(left.min(POLL / 4));
        }
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!(
        "a library broke off: {}",
        text.unwrap_or("it did not say why")
    )
}
