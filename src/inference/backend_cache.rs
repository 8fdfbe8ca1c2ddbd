//! One open backend for all detectors of a process: opened for the first user, closed after the last. A device is never
//! open twice, and two benchmarks never run at the same time.

use super::choose::{SelectionContext, SelectionError};
use super::{BackendHandle, BackendRequest, ModelPaths, lock};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

/// How often a waiting caller checks whether it is stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Opens the backend on demand and shares it.
#[derive(Default)]
pub struct BackendCache {
    state: Mutex<CacheState>,
    changed: Condvar,
}

#[derive(Default)]
struct CacheState {
    is_opening: bool,
    backend: Weak<BackendHandle>,
    /// A backend that was opened while a user still held a lost one, kept until that user takes it.
    reopened: Option<Arc<BackendHandle>>,
    /// Number of attempts to open a backend.
    attempt: u64,
    /// The last attempt that failed because the accelerator was unavailable, with the reason.
    failed: Option<(u64, String)>,
}

impl BackendCache {
    /// The open backend, chosen and opened now if there is none. A caller that arrives while another opens it waits for
    /// that outcome. No lock is held meanwhile.
    ///
    /// # Errors
    /// See [`BackendHandle::open`].
    pub fn backend(
        &self,
        request: &BackendRequest,
        models: &ModelPaths,
        context: &mut SelectionContext<'_>,
    ) -> Result<Arc<BackendHandle>, SelectionError> {
        if let Some(backend) = self.wait(context)? {
            return Ok(backend);
        }
        // Ends the attempt, also after a panic.
        let _guard = OpenGuard(self);
        let opened = BackendHandle::open(request, models, context).map(Arc::new);
        // Dropped without the lock: closing a device takes time.
        let mut outdated = None;
        let mut state = lock(&self.state);
        match &opened {
            Ok(backend) => {
                // Users of the previous handle have lost its device and may switch to this one.
                let has_heirs = state.backend.strong_count() > 0 && backend.device().is_some();
                outdated = state.reopened.take();
                state.reopened = has_heirs.then(|| Arc::clone(backend));
                state.backend = Arc::downgrade(backend);
            }
            Err(error) if error.is_unavailable() => {
                state.failed = Some((state.attempt, error.to_string()));
            }
            Err(_) => {}
        }
        drop(state);
        drop(outdated);
        opened
    }

    /// A working device that was opened after the caller lost its own, if there is one.
    pub fn reopened(&self) -> Option<Arc<BackendHandle>> {
        let mut state = lock(&self.state);
        let kept = state.reopened.take();
        let backend = kept.or_else(|| state.backend.upgrade());
        drop(state);
        backend.filter(|backend| backend.device().is_some() && backend.lost().is_none())
    }

    /// Waits while another caller opens the backend, then returns its backend. `None` when this caller opens one.
    fn wait(
        &self,
        context: &SelectionContext<'_>,
    ) -> Result<Option<Arc<BackendHandle>>, SelectionError> {
        let mut awaited = None;
        loop {
            // Without the lock: the callback may take other locks.
            if (context.is_stopped)() {
                return Err(SelectionError::Stopped);
            }
            let mut state = lock(&self.state);
            if state.is_opening {
                awaited = Some(state.attempt);
                drop(self.changed.wait_timeout(state, POLL_INTERVAL));
                continue;
            }
            // A lost device is opened again; the rest of its handle holds no device.
            if let Some(backend) = state.backend.upgrade().filter(|b| b.lost().is_none()) {
                return Ok(Some(backend));
            }
            if let Some((failed, reason)) = &state.failed
                && awaited == Some(*failed)
            {
                return Err(SelectionError::Unavailable(reason.clone()));
            }
            state.is_opening = true;
            state.attempt += 1;
            return Ok(None);
        }
    }
}

/// Ends an attempt when it is dropped, and wakes the waiting callers.
struct OpenGuard<'a>(&'a BackendCache);

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).is_opening = false;
        self.0.changed.notify_all();
    }
}
