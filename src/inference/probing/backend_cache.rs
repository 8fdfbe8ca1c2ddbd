//! One engine for all in a process that follow hands: opened when the first asks, closed when the last is done with it.
//! A device is never open twice, and nothing is measured while another measures.

use super::{Asker, Unavailable, stopped};
use crate::error::{CliError, Exit};
use crate::inference::probing::backend_handle::Engine;
use crate::inference::{Selection, Wanted};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Who waits looks around so often.
const LOOK: Duration = Duration::from_millis(100);

/// Where the engine is to be had.
#[derive(Default)]
pub struct Pool {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    /// Somebody chooses and opens.
    is_opening: bool,
    engine: Weak<Engine>,
    /// One that was opened while somebody was left with a lost one, until that one has come for it.
    kept: Option<Arc<Engine>>,
    /// Counts the attempts, and tells what became of the last one that failed for want of the accelerator.
    attempt: u64,
    failed: Option<(u64, String)>,
}

impl Pool {
    /// The engine, if need be chosen and opened now, for `seats` detectors at a time. Who comes while another opens it
    /// waits for that one's outcome; no lock is held meanwhile.
    ///
    /// # Errors
    /// See [`Engine::open`]; and [`Exit::Stopped`] when `asker` is stopped.
    pub fn engine(
        &self,
        wanted: &Wanted,
        models: &Selection,
        seats: usize,
        asker: &mut Asker<'_>,
    ) -> Result<Arc<Engine>, CliError> {
        let attempt = match self.wait(asker)? {
            Turn::Open(engine) => return Ok(engine),
            Turn::Mine(attempt) => attempt,
        };
        // Also when a panic ends the attempt.
        let _opening = Opening(self);
        let opened = Engine::open(wanted, models, seats, asker).map(Arc::new);
        // Closed without a lock: it may take its time.
        let mut outdated = None;
        let mut now = self.now();
        match &opened {
            Ok(engine) => {
                // Whoever still has the one before goes on without its device.
                let has_heirs = now.engine.strong_count() > 0 && engine.device().is_some();
                outdated = now.kept.take();
                now.kept = has_heirs.then(|| Arc::clone(engine));
                now.engine = Arc::downgrade(engine);
            }
            Err(failure) if failure.exit == Exit::Unavailable => {
                now.failed = Some((attempt, failure.display_chain()));
            }
            Err(_) => {}
        }
        drop(now);
        drop(outdated);
        opened
    }

    /// What was opened since the asker's device was lost, if anything was.
    pub fn renewed(&self) -> Option<Arc<Engine>> {
        let mut now = self.now();
        let kept = now.kept.take();
        let engine = kept.or_else(|| now.engine.upgrade());
        drop(now);
        engine.filter(|engine| engine.device().is_some() && engine.lost().is_none())
    }

    /// Waits for whoever is opening it, then gives what they have or the right to open it.
    fn wait(&self, asker: &Asker<'_>) -> Result<Turn, CliError> {
        let mut awaited = None;
        loop {
            // Not under the lock: it may take others.
            if (asker.is_stopped)() {
                return Err(stopped());
            }
            let mut now = self.now();
            if now.is_opening {
                awaited = Some(now.attempt);
                let woken = self.changed.wait_timeout(now, LOOK);
                drop(woken);
                continue;
            }
            // One whose device is lost is opened anew; what is left of it holds no device.
            if let Some(engine) = now.engine.upgrade().filter(|e| e.lost().is_none()) {
                return Ok(Turn::Open(engine));
            }
            if let Some((failed, story)) = &now.failed
                && awaited == Some(*failed)
            {
                return Err(Unavailable(story.clone()).into());
            }
            now.is_opening = true;
            now.attempt += 1;
            return Ok(Turn::Mine(now.attempt));
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // Plain values, whole at any time.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose turn it is.
enum Turn {
    Open(Arc<Engine>),
    /// Ours, for the attempt of this number.
    Mine(u64),
}

/// Lets the next one in when it is dropped.
struct Opening<'a>(&'a Pool);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.now().is_opening = false;
        self.0.changed.notify_all();
    }
}
