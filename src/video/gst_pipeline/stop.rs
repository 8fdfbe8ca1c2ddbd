//! Stopping a pipeline whose elements may hang.

use crossbeam_channel::bounded;
use gstreamer as gst;
use gstreamer::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Maximum time for an element to stop; after it, the element is left behind.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Pipelines that were left behind and have not stopped since.
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// Number of decoders that were left behind because they did not stop; each keeps a thread and its frames.
#[must_use]
pub(crate) fn stuck_decoders() -> usize {
    STUCK.load(Ordering::Acquire)
}

/// Stops a pipeline for good.
pub(crate) fn stop(pipeline: &gst::Pipeline) {
    if let Some(bus) = pipeline.bus() {
        bus.unset_sync_handler();
    }
    let pipeline = pipeline.clone();
    if !stop_within(GRACE, move || pipeline.set_state(gst::State::Null).is_ok()) {
        let stuck = stuck_decoders();
        tracing::warn!(stuck, "a decoder does not stop and is left behind");
    }
}

/// Runs `stop` and waits for it. After `grace` it is left behind and counted until it returns. Returns whether it
/// succeeded in time.
fn stop_within(grace: Duration, stop: impl FnOnce() -> bool + Send + 'static) -> bool {
    // Stopping a decoder that hangs never returns: a thread of its own does it.
    let (stopped, wait) = bounded(1);
    // Set by whichever comes first: the thread that has stopped, or the caller that stops waiting.
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let stop = move || {
        stopped.send(stop()).ok();
        if over.swap(true, Ordering::AcqRel) {
            STUCK.fetch_sub(1, Ordering::AcqRel);
        }
    };
    let thread = std::thread::Builder::new().name("stop-decoder".into());
    if thread.spawn(stop).is_ok()
        && let Ok(is_clean) = wait.recv_timeout(grace)
    {
        return is_clean;
    }
    STUCK.fetch_add(1, Ordering::AcqRel);
    if is_over.swap(true, Ordering::AcqRel) {
        STUCK.fetch_sub(1, Ordering::AcqRel);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_stop_is_counted_until_it_does() {
        assert!(stop_within(GRACE, || true));
        let (release, hold) = bounded::<()>(0);
        let (done, ended) = bounded(1);
        let before = stuck_decoders();
        assert!(!stop_within(Duration::ZERO, move || {
            hold.recv().ok();
            done.send(()).is_ok()
        }));
        assert!(stuck_decoders() > 0);
        drop(release);
        ended.recv().unwrap();
        let limit = std::time::Instant::now() + GRACE;
        while stuck_decoders() > before && std::time::Instant::now() < limit {
            std::thread::yield_now();
        }
        assert!(stuck_decoders() <= before);
    }
}
