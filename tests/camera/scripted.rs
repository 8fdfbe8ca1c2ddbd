//! A camera that follows a script: frames on demand, and every fault without a device.

use handloom::camera::{
    CameraError, CameraOpener, Capture, CaptureStep, OpenedCamera, PixelFormat, RawFrame,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One step of a script.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ScriptStep {
    /// This number of frames, at the script's rate or as fast as they are taken.
    Frames(u32),
    /// This number of frames that the driver marks as damaged.
    Damaged(u32),
    /// This number of frames that cannot be converted.
    Unreadable(u32),
    /// Shifts the times of all further frames by this number of seconds.
    Jump(i64),
    /// The driver does not return for this time, neither from opening nor from the wait for a frame.
    Stall(Duration),
    /// A library panics, in either call.
    Panic,
    /// The camera fails during capture.
    Fail(CameraError),
    /// Opening fails.
    Refuse(CameraError),
    /// No frame and no error.
    Hang,
    /// The camera is at this path from the next opening.
    Move(String),
    /// The stream ends.
    End,
}

/// A script, and the path of its camera.
#[derive(Clone, Debug)]
pub(crate) struct CameraScript {
    steps: Arc<Mutex<VecDeque<ScriptStep>>>,
    /// Shift of the frames' times, in seconds.
    off: Arc<AtomicI64>,
    path: String,
    rate: Option<f64>,
    timeout: Duration,
}

impl CameraScript {
    /// Follows `steps`, then hangs. Frames come `rate` times per second, or at once.
    pub(crate) fn new(
        steps: impl IntoIterator<Item = ScriptStep>,
        rate: Option<f64>,
        timeout: Duration,
    ) -> Self {
        Self {
            steps: Arc::new(Mutex::new(steps.into_iter().collect())),
            off: Arc::default(),
            path: "/dev/video0".to_owned(),
            rate,
            timeout,
        }
    }

    /// Does a step that may happen in any call of the camera.
    fn do_anywhere(&self) {
        let front = self.steps().front().cloned();
        match front {
            Some(ScriptStep::Stall(time)) => {
                std::thread::sleep(time);
                self.steps().pop_front();
            }
            Some(ScriptStep::Panic) => {
                self.steps().pop_front();
                panic!("scripted");
            }
            Some(ScriptStep::Jump(seconds)) => {
                self.off.fetch_add(seconds, Ordering::Relaxed);
                self.steps().pop_front();
            }
            _ => {}
        }
    }

    fn steps(&self) -> std::sync::MutexGuard<'_, VecDeque<ScriptStep>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CameraOpener for CameraScript {
    fn name(&self) -> String {
        "scripted".to_owned()
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
        self.do_anywhere();
        let mut steps = self.steps();
        while let Some(ScriptStep::Move(path)) = steps.front() {
            let path = path.clone();
            steps.pop_front();
            drop(steps);
            self.path = path;
            steps = self.steps();
        }
        if let Some(ScriptStep::Refuse(error)) = steps.front() {
            let error = error.clone();
            steps.pop_front();
            return Err(error);
        }
        drop(steps);
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

    fn frame_timeout(&self) -> Duration {
        self.script.timeout
    }

    fn next(
        &mut self,
        timeout: Duration,
        frame: &mut RawFrame,
    ) -> Result<CaptureStep, CameraError> {
        if let Some(rate) = self.script.rate {
            let left = self.due.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(timeout));
            if left > timeout {
                return Ok(CaptureStep::NoFrame);
            }
            // Counted from now: frames keep their distance also after a busy machine stopped the thread.
            self.due = self.due.max(Instant::now()) + Duration::from_secs_f64(1.0 / rate);
        }
        self.script.do_anywhere();
        let mut steps = self.script.steps();
        let mut is_unreadable = false;
        let step = match steps.front_mut() {
            Some(ScriptStep::Frames(left)) if *left > 0 => {
                *left -= 1;
                Some(CaptureStep::Frame)
            }
            Some(ScriptStep::Damaged(left)) if *left > 0 => {
                *left -= 1;
                Some(CaptureStep::Damaged("torn".to_owned()))
            }
            Some(ScriptStep::Unreadable(left)) if *left > 0 => {
                *left -= 1;
                is_unreadable = true;
                Some(CaptureStep::Frame)
            }
            Some(ScriptStep::Frames(_) | ScriptStep::Damaged(_) | ScriptStep::Unreadable(_)) => {
                steps.pop_front();
                return Ok(CaptureStep::NoFrame);
            }
            // Two such steps in a row are done one after the other.
            Some(ScriptStep::Stall(_) | ScriptStep::Panic | ScriptStep::Jump(_)) => {
                return Ok(CaptureStep::NoFrame);
            }
            Some(ScriptStep::Fail(error)) => {
                let error = error.clone();
                steps.pop_front();
                return Err(error);
            }
            Some(ScriptStep::Refuse(_) | ScriptStep::Move(_)) => {
                // These steps happen at the next opening: the camera is gone until then.
                let (device, reason) = (self.opened.path.clone(), "unplugged".to_owned());
                return Err(CameraError::Gone { device, reason });
            }
            Some(ScriptStep::End) => return Ok(CaptureStep::End),
            Some(ScriptStep::Hang) | None => None,
        };
        drop(steps);
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
                if is_unreadable {
                    frame.bytes.truncate(1);
                }
                Ok(CaptureStep::Frame)
            }
            Some(step) => Ok(step),
            None => {
                std::thread::sleep(timeout.min(self.script.timeout));
                Ok(CaptureStep::NoFrame)
            }
        }
    }
}

impl Drop for ScriptedCapture {
    fn drop(&mut self) {
        // A camera that hung is opened again.
        let mut steps = self.script.steps();
        if steps.front() == Some(&ScriptStep::Hang) {
            steps.pop_front();
        }
    }
}
