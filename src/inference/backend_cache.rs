//! One engine for all in a process that follow hands: opened when the first asks, closed when the last is done with it.
//! A device is never open twice, and nothing is measured while another measures.

use super::choose::{SelectionContext, Unavailable, stopped};
use crate::error::{CliError, Exit};
use crate::inference::backend_handle::BackendHandle;
use crate::inference::{BackendRequest, ModelPaths};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Who waits looks around so often.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Where the engine is to be had.
#[derive(Default)]
pub struct BackendCache {
    now: Mutex<CacheState>,
    changed: Condvar,
}

#[derive(Default)]
struct CacheState {
    /// Somebody chooses and opens.
    is_opening: bool,
    backend: Weak<BackendHandle>,
    /// One that was opened while somebody was left with a lost one, until that one has come for it.
    kept: Option<Arc<BackendHandle>>,
    /// Counts the attempts, and tells what became of the last one that failed for want of the accelerator.
    attempt: u64,
    failed: Option<(u64, String)>,
}

impl BackendCache {
    /// The engine, if need be chosen and opened now, for `seats` detectors at a time. Who comes while another opens it
    /// waits for that one's outcome; no lock is held meanwhile.
    ///
    /// # Errors
    /// See [`BackendHandle::open`]; and [`Exit::Stopped`] when `asker` is stopped.
    pub fn backend(
        &self,
        wanted: &BackendRequest,
        models: &ModelPaths,
        seats: usize,
        context: &mut SelectionContext<'_>,
    ) -> Result<Arc<BackendHandle>, CliError> {
        let attempt = match self.wait(context)? {
            Turn::Open(backend) => return Ok(backend),
            Turn::Mine(attempt) => attempt,
        };
        // Also when a panic ends the attempt.
        let _opening = OpenGuard(self);
        let opened = BackendHandle::open(wanted, models, seats, context).map(Arc::new);
        // Closed without a lock: it may take its time.
        let mut outdated = None;
        let mut now = self.now();
        match &opened {
            Ok(backend) => {
                // Whoever still has the one before goes on without its device.
                let has_heirs = now.backend.strong_count() > 0 && backend.device().is_some();
                outdated = now.kept.take();
                now.kept = has_heirs.then(|| Arc::clone(backend));
                now.backend = Arc::downgrade(backend);
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
    pub fn renewed(&self) -> Option<Arc<BackendHandle>> {
        let mut now = self.now();
        let kept = now.kept.take();
        let backend = kept.or_else(|| now.backend.upgrade());
        drop(now);
        backend.filter(|backend| backend.device().is_some() && backend.lost().is_none())
    }

    /// Waits for whoever is opening it, then gives what they have or the right to open it.
    fn wait(&self, context: &SelectionContext<'_>) -> Result<Turn, CliError> {
        let mut awaited = None;
        loop {
            // Not under the lock: it may take others.
            if (context.is_stopped)() {
                return Err(stopped());
            }
            let mut now = self.now();
            if now.is_opening {
                awaited = Some(now.attempt);
                let woken = self.changed.wait_timeout(now, POLL_INTERVAL);
                drop(woken);
                continue;
            }
            // One whose device is lost is opened anew; what is left of it holds no device.
            if let Some(backend) = now.backend.upgrade().filter(|e| e.lost().is_none()) {
                return Ok(Turn::Open(backend));
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

    fn now(&self) -> MutexGuard<'_, CacheState> {
        // Plain values, whole at any time.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose turn it is.
enum Turn {
    Open(Arc<BackendHandle>),
    /// Ours, for the attempt of this number.
    Mine(u64),
}

/// Lets the next one in when it is dropped.
struct OpenGuard<'a>(&'a BackendCache);

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.0.now().is_opening = false;
        self.0.changed.notify_all();
    }
}
