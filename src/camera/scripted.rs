//! A camera that does what a script says, for the tests: frames on demand, and every fault without a device.

use super::{CameraError, CameraOpener, Capture, CaptureStep, OpenedCamera, PixelFormat, RawFrame};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum ScriptStep {
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
pub struct CameraScript {
    acts: Arc<Mutex<VecDeque<ScriptStep>>>,
    /// By how many seconds the frames' times are off.
    off: Arc<AtomicI64>,
    path: String,
    rate: Option<f64>,
    patience: Duration,
}

impl CameraScript {
    /// Plays `acts`, then hangs. Frames come `rate` times a second, or at once.
    #[must_use]
    pub fn new(
        acts: impl IntoIterator<Item = ScriptStep>,
        rate: Option<f64>,
        patience: Duration,
    ) -> Self {
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
            Some(ScriptStep::Stall(time)) => {
                std::thread::sleep(time);
                self.acts().pop_front();
            }
            Some(ScriptStep::Panic) => {
                self.acts().pop_front();
                panic!("scripted");
            }
            Some(ScriptStep::Jump(seconds)) => {
                self.off.fetch_add(seconds, Ordering::Relaxed);
                self.acts().pop_front();
            }
            _ => {}
        }
    }

    fn acts(&self) -> std::sync::MutexGuard<'_, VecDeque<ScriptStep>> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CameraOpener for CameraScript {
    fn name(&self) -> String {
        "scripted".to_owned()
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
        self.happen();
        let mut acts = self.acts();
        while let Some(ScriptStep::Move(path)) = acts.front() {
            let path = path.clone();
            acts.pop_front();
            drop(acts);
            self.path = path;
            acts = self.acts();
        }
        if let Some(ScriptStep::Refuse(error)) = acts.front() {
            let error = error.clone();
            acts.pop_front();
            return Err(error);
        }
        drop(acts);
        let opened = OpenedCamera {
            name: "scripted".to_owned(),
            path: self.path.clone(),
            format: PixelFormat::Rgb3,
            width: 64,
            height: 48,
            rate: self.rate,
        };
        Ok(Box::new(ScriptedCapture {
            script: self.clone(),
            opened,
            start,
            due: Instant::now(),
        }))
    }
}

struct ScriptedCapture {
    script: CameraScript,
    opened: OpenedCamera,
    start: Instant,
    due: Instant,
}

impl Capture for ScriptedCapture {
    fn opened(&self) -> &OpenedCamera {
        &self.opened
    }

    fn patience(&self) -> Duration {
        self.script.patience
    }

    fn next(
        &mut self,
        patience: Duration,
        frame: &mut RawFrame,
    ) -> Result<CaptureStep, CameraError> {
        if let Some(rate) = self.script.rate {
            let left = self.due.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(patience));
            if left > patience {
                return Ok(CaptureStep::Nothing);
            }
            // Not before: a film of five frames lasts as long wherever a busy machine stops it.
            self.due = self.due.max(Instant::now()) + Duration::from_secs_f64(1.0 / rate);
        }
        self.script.happen();
        let mut acts = self.script.acts();
        let mut is_spoilt = false;
        let step = match acts.front_mut() {
            Some(ScriptStep::Film(left)) if *left > 0 => {
                *left -= 1;
                Some(CaptureStep::Frame)
            }
            Some(ScriptStep::Damage(left)) if *left > 0 => {
                *left -= 1;
                Some(CaptureStep::Damaged("torn".to_owned()))
            }
            Some(ScriptStep::Spoil(left)) if *left > 0 => {
                *left -= 1;
                is_spoilt = true;
                Some(CaptureStep::Frame)
            }
            Some(ScriptStep::Film(_) | ScriptStep::Damage(_) | ScriptStep::Spoil(_)) => {
                acts.pop_front();
                return Ok(CaptureStep::Nothing);
            }
            // One after another.
            Some(ScriptStep::Stall(_) | ScriptStep::Panic | ScriptStep::Jump(_)) => {
                return Ok(CaptureStep::Nothing);
            }
            Some(ScriptStep::Fail(error)) => {
                let error = error.clone();
                acts.pop_front();
                return Err(error);
            }
            Some(ScriptStep::Refuse(_) | ScriptStep::Move(_)) => {
                // These happen at an opening: the camera is gone until then.
                let (device, reason) = (self.opened.path.clone(), "unplugged".to_owned());
                return Err(CameraError::Gone { device, reason });
            }
            Some(ScriptStep::End) => return Ok(CaptureStep::End),
            Some(ScriptStep::Hang) | None => None,
        };
        drop(acts);
        match step {
            Some(CaptureStep::Frame) => {
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
                Ok(CaptureStep::Frame)
            }
            Some(step) => Ok(step),
            None => {
                std::thread::sleep(patience.min(self.script.patience));
                Ok(CaptureStep::Nothing)
            }
        }
    }
}

impl Drop for ScriptedCapture {
    fn drop(&mut self) {
        // A camera that hung is opened anew.
        let mut acts = self.script.acts();
        if acts.front() == Some(&ScriptStep::Hang) {
            acts.pop_front();
        }
    }
}
