//! The camera's thread: opens, films, and opens again when something happened.

use super::slot::{Slot, Taken};
use super::{CameraError, Capture, Opened, Opener, RawFrame, Step};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// A stop is noticed within about this.
const POLL: Duration = Duration::from_millis(100);
/// A camera that filmed for so long was well; its next fault is the first again.
const WELL: Duration = Duration::from_secs(5);
/// So many damaged frames in a row are a fault.
const DAMAGED_MAX: u32 = 30;
/// News that nobody hears are dropped beyond so many.
const NEWS_MAX: usize = 64;

/// Whether frames wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As the camera goes: what comes too late is dropped and counted.
    Live,
    /// As whoever looks goes: for files, where no frame needs to be dropped.
    Patient,
}

/// How long a camera is left alone before it is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// After the first fault; after each further one twice as long …
    pub min: Duration,
    /// … up to this.
    pub max: Duration,
}

impl Default for Waits {
    /// One that is back films within two seconds.
    fn default() -> Self {
        Self {
            min: Duration::from_millis(100),
            max: Duration::from_secs(1),
        }
    }
}

/// What happened to the camera.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// It films, from now on or again.
    Opened(Opened),
    /// It does not. It is tried again until it does.
    Fault(CameraError),
    /// A file is over.
    Ended,
}

/// Frames and faults since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
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
    /// News that nobody heard.
    pub news_dropped: u64,
}

#[derive(Debug, Default)]
struct Shared {
    slot: Slot,
    is_stopped: AtomicBool,
    frames: AtomicU64,
    damaged: AtomicU64,
    opened: AtomicU64,
    refused: AtomicU64,
    news_dropped: AtomicU64,
}

/// A camera that films; stops when dropped.
#[derive(Debug)]
pub struct Camera {
    shared: Arc<Shared>,
    news: Receiver<News>,
    thread: Option<JoinHandle<()>>,
    start: Instant,
}

impl Camera {
    /// Starts filming what `opener` opens.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(
        mut opener: Box<dyn Opener>,
        pace: Pace,
        waits: Waits,
    ) -> Result<Self, CameraError> {
        let shared = Arc::new(Shared::default());
        let (tell, news) = bounded(NEWS_MAX);
        let start = Instant::now();
        let theirs = Arc::clone(&shared);
        let thread = Builder::new().name("camera".into()).spawn(move || {
            let mut crew = Crew {
                shared: &theirs,
                tell,
                pace,
                waits,
                start,
                last: None,
                fault: None,
            };
            crew.work(opener.as_mut());
            theirs.slot.close();
        });
        let thread = thread.map_err(|e| CameraError::Thread(e.to_string()))?;
        Ok(Self {
            shared,
            news,
            thread: Some(thread),
            start,
        })
    }

    /// The moment that frames' times count from.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.start
    }

    /// The newest frame, or the next one within `patience`.
    #[must_use]
    pub fn take(&self, patience: Duration) -> Taken {
        self.shared.slot.take(patience)
    }

    /// Lets a frame's memory be used again.
    pub fn give_back(&self, frame: RawFrame) {
        self.shared.slot.give_back(frame);
    }

    /// What has happened since it was last asked for.
    pub fn news(&self) -> impl Iterator<Item = News> {
        self.news.try_iter()
    }

    /// Frames and faults so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        Counts {
            frames: of(&shared.frames),
            dropped: shared.slot.dropped(),
            damaged: of(&shared.damaged),
            opened: of(&shared.opened),
            refused: of(&shared.refused),
            news_dropped: of(&shared.news_dropped),
        }
    }

    /// Counts a frame that turned out to be no good when it was looked at.
    pub fn count_damaged(&self) {
        self.shared.damaged.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.slot.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the camera's thread has panicked");
        }
    }
}

/// Why filming ended.
enum Cut {
    Stopped,
    Ended,
    Fault(CameraError),
}

/// The thread's own things.
struct Crew<'a> {
    shared: &'a Shared,
    tell: Sender<News>,
    pace: Pace,
    waits: Waits,
    start: Instant,
    /// Time of the last frame, over all openings.
    last: Option<Duration>,
    /// The fault that was told last; the same is not told again until the camera filmed.
    fault: Option<CameraError>,
}

impl Crew<'_> {
    fn work(&mut self, opener: &mut dyn Opener) {
        let mut failures = 0_u32;
        while !self.is_stopped() {
            match opener.open(self.start) {
                Ok(mut capture) => {
                    self.shared.opened.fetch_add(1, Ordering::Relaxed);
                    let since = Instant::now();
                    let frames = self.shared.frames.load(Ordering::Relaxed);
                    let cut = self.film(capture.as_mut());
                    drop(capture);
                    let has_filmed = self.shared.frames.load(Ordering::Relaxed) > frames;
                    if has_filmed && since.elapsed() >= WELL {
                        failures = 0;
                    }
                    match cut {
                        Cut::Stopped => return,
                        Cut::Ended => return self.say(News::Ended),
                        Cut::Fault(error) => self.complain(error),
                    }
                }
                Err(error) => {
                    self.shared.refused.fetch_add(1, Ordering::Relaxed);
                    self.complain(error);
                }
            }
            let wait = self
                .waits
                .min
                .saturating_mul(2_u32.saturating_pow(failures));
            self.rest(wait.min(self.waits.max));
            failures = failures.saturating_add(1);
        }
    }

    fn film(&mut self, capture: &mut dyn Capture) -> Cut {
        let device = capture.opened().path.clone();
        let patience = capture.patience();
        let mut frame = self.shared.slot.spare();
        let mut last_sign = Instant::now();
        let mut damaged = 0_u32;
        let mut is_told = false;
        while !self.is_stopped() {
            match capture.next(POLL, &mut frame) {
                Ok(Step::Frame) => {
                    damaged = 0;
                    last_sign = Instant::now();
                    if !is_told {
                        is_told = true;
                        self.fault = None;
                        self.say(News::Opened(capture.opened().clone()));
                    }
                    // Times only go on, whatever a driver says.
                    if self.last.is_some_and(|last| frame.at <= last) {
                        self.shared.damaged.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    self.last = Some(frame.at);
                    self.shared.frames.fetch_add(1, Ordering::Relaxed);
                    if self.pace == Pace::Patient {
                        while !self.shared.slot.wait_empty(POLL) && !self.is_stopped() {}
                        frame.taken = Instant::now();
                    }
                    self.shared.slot.put(frame);
                    frame = self.shared.slot.spare();
                }
                Ok(Step::Damaged(reason)) => {
                    self.shared.damaged.fetch_add(1, Ordering::Relaxed);
                    last_sign = Instant::now();
                    damaged += 1;
                    if damaged >= DAMAGED_MAX {
                        let count = damaged;
                        return Cut::Fault(CameraError::Damaged {
                            device,
                            count,
                            reason,
                        });
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
                    while !self.shared.slot.wait_empty(POLL) && !self.is_stopped() {}
                    return Cut::Ended;
                }
                Err(error) => return Cut::Fault(error),
            }
        }
        Cut::Stopped
    }

    fn complain(&mut self, error: CameraError) {
        let is_known = self
            .fault
            .as_ref()
            .is_some_and(|f| f.name() == error.name());
        if !is_known {
            self.fault = Some(error.clone());
            self.say(News::Fault(error));
        }
    }

    fn say(&self, news: News) {
        match self.tell.try_send(news) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.shared.news_dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire)
    }

    /// Waits before the next attempt, or until the end.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(POLL / 4));
        }
    }
}
