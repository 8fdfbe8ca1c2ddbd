//! A camera that does what a script says, for the tests: frames on demand, and every fault without a device.

use super::{CameraError, Capture, Opened, Opener, PixelFormat, RawFrame, Step};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// So many frames, as fast as they are taken or at the script's rate.
    Film(u32),
    /// So many frames that are no good.
    Damage(u32),
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

    fn acts(&self) -> std::sync::MutexGuard<'_, VecDeque<Act>> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opener for Script {
    fn name(&self) -> String {
        "scripted".to_owned()
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
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
            self.due += Duration::from_secs_f64(1.0 / rate);
        }
        let mut acts = self.script.acts();
        let step = match acts.front_mut() {
            Some(Act::Film(left)) if *left > 0 => {
                *left -= 1;
                Some(Step::Frame)
            }
            Some(Act::Damage(left)) if *left > 0 => {
                *left -= 1;
                Some(Step::Damaged("torn".to_owned()))
            }
            Some(Act::Film(_) | Act::Damage(_)) => {
                acts.pop_front();
                return Ok(Step::Nothing);
            }
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
                frame.taken = Instant::now();
                frame.at = frame.taken.saturating_duration_since(self.start);
                (frame.width, frame.height, frame.stride) = (64, 48, 64 * 3);
                frame.format = PixelFormat::Rgb3;
                frame.bytes.resize(64 * 48 * 3, 0);
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
