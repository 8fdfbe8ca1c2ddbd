//! A camera that does what a script says, for the tests: frames on demand, and every fault without a device.

use super::{CameraError, Capture, Opened, Opener, PixelFormat, RawFrame, Step};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// So many frames, as fast as they are taken or at the script's rate.
    Film(u32),
    /// So many frames that are no good.
    Damage(u32),
    /// So many frames that cannot be developed.
    Spoil(u32),
    /// From now on the frames' times are off by so many seconds more.
    Jump(i64),
    /// The driver does not return for so long, from the opening or from the wait for a frame.
    Stall(Duration),
    /// A library panics, there or there.
    Panic,
    /// The camera fails while it films.
    Fail(CameraError),
    /// Opening it fails.
    Refuse(CameraError),
    /// It hangs: no frame, no error.
    Hang,
    /// From the next opening on it is at another path.
    Move(String),
    /// It is over.
    End,
}

/// A script and the place where its camera is.
#[derive(Clone, Debug)]
pub struct Script {
    acts: Arc<Mutex<VecDeque<Act>>>,
    /// By how many seconds the frames' times are off.
    off: Arc<AtomicI64>,
    path: String,
    rate: Option<f64>,
    patience: Duration,
}

impl Script {
    /// Plays `acts`, then hangs. Frames come `rate` times a second, or at once.
    #[must_use]
    pub fn new(acts: impl IntoIterator<Item = Act>, rate: Option<f64>, patience: Duration) -> Self {
        Self {
            acts: Arc::new(Mutex::new(acts.into_iter().collect())),
            off: Arc::default(),
            path: "/dev/video0".to_owned(),
            rate,
            patience,
        }
    }

    /// Acts that are still to come.
    #[must_use]
    pub fn left(&self) -> usize {
        self.acts().len()
    }

    /// What happens wherever the camera is called; that is done then.
    fn happen(&self) {
        let front = self.acts().front().cloned();
        match front {
            Some(Act::Stall(time)) => {
                std::thread::sleep(time);
                self.acts().pop_front();
            }
            Some(Act::Panic) => {
                self.acts().pop_front();
                panic!("scripted");
            }
            Some(Act::Jump(seconds)) => {
                self.off.fetch_add(seconds, Ordering::Relaxed);
                self.acts().pop_front();
            }
            _ => {}
        }
    }

    fn acts(&self) -> std::sync::MutexGuard<'_, VecDeque<Act>> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opener for Script {
    fn name(&self) -> String {
        "scripted".to_owned()
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
        self.happen();
        let mut acts = self.acts();
        while let Some(Act::Move(path)) = acts.front() {
            let path = path.clone();
            acts.pop_front();
            drop(acts);
            self.path = path;
            acts = self.acts();
        }
        if let Some(Act::Refuse(error)) = acts.front() {
            let error = error.clone();
            acts.pop_front();
            return Err(error);
        }
        drop(acts);
        let opened = Opened {
            name: "scripted".to_owned(),
            path: self.path.clone(),
            format: PixelFormat::Rgb3,
            width: 64,
            height: 48,
            rate: self.rate,
        };
        Ok(Box::new(Playing {
            script: self.clone(),
            opened,
            start,
            due: Instant::now(),
        }))
    }
}

struct Playing {
    script: Script,
    opened: Opened,
    start: Instant,
    due: Instant,
}

impl Capture for Playing {
    fn opened(&self) -> &Opened {
        &self.opened
    }

    fn patience(&self) -> Duration {
        self.script.patience
    }

    fn next(&mut self, patience: Duration, frame: &mut RawFrame) -> Result<Step, CameraError> {
        if let Some(rate) = self.script.rate {
            let left = self.due.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(patience));
            if left > patience {
                return Ok(Step::Nothing);
            }
            // Not before: a film of five frames lasts as long wherever a busy machine stops it.
            self.due = self.due.max(Instant::now()) + Duration::from_secs_f64(1.0 / rate);
        }
        self.script.happen();
        let mut acts = self.script.acts();
        let mut is_spoilt = false;
        let step = match acts.front_mut() {
            Some(Act::Film(left)) if *left > 0 => {
                *left -= 1;
                Some(Step::Frame)
            }
            Some(Act::Damage(left)) if *left > 0 => {
                *left -= 1;
                Some(Step::Damaged("torn".to_owned()))
            }
            Some(Act::Spoil(left)) if *left > 0 => {
                *left -= 1;
                is_spoilt = true;
                Some(Step::Frame)
            }
            Some(Act::Film(_) | Act::Damage(_) | Act::Spoil(_)) => {
                acts.pop_front();
                return Ok(Step::Nothing);
            }
            // One after another.
            Some(Act::Stall(_) | Act::Panic | Act::Jump(_)) => return Ok(Step::Nothing),
            Some(Act::Fail(error)) => {
                let error = error.clone();
                acts.pop_front();
                return Err(error);
            }
            Some(Act::Refuse(_) | Act::Move(_)) => {
                // These happen at an opening: the camera is gone until then.
                let (device, reason) = (self.opened.path.clone(), "unplugged".to_owned());
                return Err(CameraError::Gone { device, reason });
            }
            Some(Act::End) => return Ok(Step::End),
            Some(Act::Hang) | None => None,
        };
        drop(acts);
        match step {
            Some(Step::Frame) => {
                let off = self.script.off.load(Ordering::Relaxed);
                let by = Duration::from_secs(off.unsigned_abs());
                let now = self.start.elapsed();
                frame.at = if off < 0 {
                    now.saturating_sub(by)
                } else {
                    now + by
                };
                (frame.width, frame.height, frame.stride) = (64, 48, 64 * 3);
                frame.format = PixelFormat::Rgb3;
                frame.bytes.resize(64 * 48 * 3, 0);
                if is_spoilt {
                    frame.bytes.truncate(1);
                }
                Ok(Step::Frame)
            }
            Some(step) => Ok(step),
            None => {
                std::thread::sleep(patience.min(self.script.patience));
                Ok(Step::Nothing)
            }
        }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // A camera that hung is opened anew.
        let mut acts = self.script.acts();
        if acts.front() == Some(&Act::Hang) {
            acts.pop_front();
        }
    }
}
