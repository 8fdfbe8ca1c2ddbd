//! The camera's thread: opens, films, and opens again when something happened.

use super::{CameraError, Capture, Opener, RawFrame, Step};
use crate::camera::camera_handle::{Flaws, Pace, Shared, Waits};
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
enum Cut {
    Stopped,
    Ended,
    Fault(CameraError),
}

/// The thread's own things.
pub(super) struct Crew {
    shared: Arc<Shared>,
    device: String,
    pace: Pace,
    waits: Waits,
    start: Instant,
    /// Time of the last frame, over all openings.
    last: Option<Duration>,
    /// Whether the camera was well since it was opened.
    was_well: bool,
}

impl Crew {
    pub(super) fn new(shared: Arc<Shared>, device: String, pace: Pace, waits: Waits) -> Self {
        Self {
            shared,
            device,
            pace,
            waits,
            start: Instant::now(),
            last: None,
            was_well: false,
        }
    }

    /// Films until the camera ends or is stopped.
    pub(super) fn work(&mut self, opener: &mut dyn Opener) {
        let mut failures = 0_u32;
        while !self.is_stopped() {
            self.was_well = false;
            // A driver that says what a library does not know may make that one panic: a fault like any other.
            let cut = catch_unwind(AssertUnwindSafe(|| self.turn(opener)));
            let cut = cut.unwrap_or_else(|panic| {
                Cut::Fault(CameraError::Failed {
                    device: self.device.clone(),
                    reason: words(panic.as_ref()),
                })
            });
            match cut {
                Cut::Stopped => return,
                Cut::Ended => return self.shared.teller.ends(),
                Cut::Fault(error) => self.shared.teller.fails(error),
            }
            if self.was_well {
                failures = 0;
            }
            let wait = self
                .waits
                .min
                .saturating_mul(2_u32.saturating_pow(failures));
            self.rest(wait.min(self.waits.max));
            failures = failures.saturating_add(1);
        }
    }

    /// One opening and what follows.
    fn turn(&mut self, opener: &mut dyn Opener) -> Cut {
        self.beat(Duration::ZERO);
        *self.shared.flaws() = Flaws::default();
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
                Cut::Fault(error)
            }
        }
    }

    fn film(&mut self, capture: &mut dyn Capture) -> Cut {
        let device = capture.opened().path.clone();
        let patience = capture.patience();
        let too_many = |count, reason| {
            let device = device.clone();
            Cut::Fault(CameraError::Damaged {
                device,
                count,
                reason,
            })
        };
        let mut frame = self.shared.slot.spare();
        let (mut first, mut last_sign) = (None, Instant::now());
        let mut damaged = 0_u32;
        let mut is_clock_ours = false;
        while !self.is_stopped() {
            self.beat(patience);
            let flaws = self.shared.flaws().count;
            if flaws >= DAMAGED_MAX {
                return too_many(flaws, self.shared.flaws().reason.clone());
            }
            let mut step = capture.next(POLL, &mut frame);
            self.beat(patience);
            if step == Ok(Step::Frame) {
                // A camera that was opened anew and is behind has another clock: ours is taken until the next opening.
                is_clock_ours |= first.is_none() && self.is_behind(&frame);
                if !self.goes_on(&mut frame, is_clock_ours) {
                    step = Ok(Step::Damaged(BEHIND.to_owned()));
                }
            }
            match step {
                Ok(Step::Frame) => {
                    damaged = 0;
                    last_sign = Instant::now();
                    if self.shared.teller.films(capture.opened()) {
                        // Also after a driver that hung: well is what goes well from here on.
                        first = None;
                        self.was_well = false;
                    }
                    let since = *first.get_or_insert(last_sign);
                    if since.elapsed() >= self.waits.well && flaws == 0 && !self.was_well {
                        self.was_well = true;
                        self.shared.teller.is_well();
                    }
                    self.shared.frames.fetch_add(1, Ordering::Relaxed);
                    if self.pace == Pace::Patient {
                        self.wait_empty(patience);
                        frame.taken = Instant::now();
                        last_sign = frame.taken;
                    }
                    self.shared.slot.put(frame);
                    frame = self.shared.slot.spare();
                }
                Ok(Step::Damaged(reason)) => {
                    self.shared.damaged.fetch_add(1, Ordering::Relaxed);
                    last_sign = Instant::now();
                    // A file that was opened anew is passed over up to where it was.
                    let is_passed = self.pace == Pace::Patient && reason == BEHIND;
                    damaged += u32::from(!is_passed);
                    if damaged >= DAMAGED_MAX {
                        return too_many(damaged, reason);
                    }
                }
                Ok(Step::Nothing) => {
                    let after = last_sign.elapsed();
                    if after > patience {
                        return Cut::Fault(CameraError::Frozen { device, after });
                    }
                }
                Ok(Step::End) => {
                    // The last frame is looked at, too.
                    self.wait_empty(patience);
                    return Cut::Ended;
                }
                Err(error) => return Cut::Fault(error),
            }
        }
        Cut::Stopped
    }

    fn is_behind(&self, frame: &RawFrame) -> bool {
        self.pace == Pace::Live && self.last.is_some_and(|last| frame.at <= last)
    }

    /// Whether the frame's time comes after the last one's, as it must, whatever a driver says; one beyond now is now.
    /// A file's times are its own.
    fn goes_on(&mut self, frame: &mut RawFrame, is_clock_ours: bool) -> bool {
        if self.pace == Pace::Live {
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
        self.shared.beat(Some(patience + self.waits.silence));
    }

    /// Waits for whoever looks; that is no silence of the camera's.
    fn wait_empty(&self, patience: Duration) {
        while !self.shared.slot.wait_empty(POLL) && !self.is_stopped() {
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
