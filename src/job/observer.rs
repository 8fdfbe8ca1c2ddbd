//! What a job reports while it runs.

use crate::dataset::acceptance::{State, StateCounts};
use crate::dataset::plan::PlannedClip;
use crate::frame::RgbFrame;
use crate::inference::BackendEvent;
use crate::sequence::FrameRecord;
use crate::storage::StoreError;

/// A clip that was just recorded.
pub struct ClipEvent<'a> {
    /// Position in the plan.
    pub position: usize,
    /// The label, as spelled.
    pub gloss: &'a str,
    /// Names the clip.
    pub video_id: &'a str,
    /// Its final state.
    pub state: State,
    /// Why it was not accepted.
    pub reason: Option<&'a str>,
    /// Instances per state so far.
    pub counts: &'a StateCounts,
}

/// Receives the events of a job on the thread that runs it.
pub trait JobObserver {
    /// The job `run` has `total` planned clips, of which `known` were done before.
    fn job_started(&mut self, _run: &str, _total: usize, _known: usize) {}

    /// A clip is recorded.
    fn clip_recorded(&mut self, _event: &ClipEvent<'_>) {}

    /// A batch file is durable, or the joined file is.
    fn file_written(&mut self) {}

    /// A write found no room. Waits until another attempt is worth it, or returns `false` to end the job.
    fn wait_for_room(&mut self, _error: &StoreError) -> bool {
        false
    }

    /// A write that had waited for room is done.
    fn room_found(&mut self) {}

    /// The backend was chosen, or its device was opened again or lost.
    fn backend_event(&mut self, _event: &BackendEvent) {}

    /// Warns a person; logs `text` by default.
    fn warn(&mut self, text: &str) {
        tracing::warn!("{text}");
    }
}

/// Receives the events of the workers, on their threads.
pub trait FrameObserver: Sync {
    /// Worker `worker` begins a clip.
    fn clip_started(&self, _worker: usize, _clip: &PlannedClip) {}

    /// The detector has processed a frame of the clip.
    fn frame_processed(
        &self,
        _worker: usize,
        _clip: &PlannedClip,
        _frame: &RgbFrame,
        _found: &FrameRecord,
    ) {
    }

    /// The worker has finished its clip, with whatever outcome.
    fn clip_finished(&self, _worker: usize) {}
}

/// Ignores all events.
impl FrameObserver for () {}

/// Whether `error` says that the disk is full, and `observer` has waited for free space.
pub(super) fn is_room_found(error: &StoreError, observer: &mut dyn JobObserver) -> bool {
    let is_found = error.is_full() && observer.wait_for_room(error);
    if is_found {
        observer.room_found();
    }
    is_found
}

/// Repeats `write` for as long as it finds no room and `observer` waits for some.
///
/// # Errors
/// Returns the errors of `write`; that of a full disk only when the observer gives up.
pub(crate) fn retry_while_full<T>(
    observer: &mut dyn JobObserver,
    mut write: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut has_waited = false;
    loop {
        match write() {
            Err(error) if error.is_full() && observer.wait_for_room(&error) => has_waited = true,
            done => {
                if has_waited && done.is_ok() {
                    observer.room_found();
                }
                return done;
            }
        }
    }
}
