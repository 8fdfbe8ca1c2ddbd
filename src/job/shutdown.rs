//! Ends a job within a limited time.

use crate::error::Exit;
use crate::job::worker_pool::WorkerControl;
use std::process::exit;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Clips in progress may finish for this long after a stop. Then they are abandoned.
const FINISH_GRACE: Duration = Duration::from_secs(5);
/// The process exits this long after a stop, whatever still runs: what is recorded is on disk.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(9);

/// Stops the run of `control`: lets clips in progress finish, then abandons them, then exits the process with
/// [`Exit::Stopped`]. Returns at once.
pub fn shutdown_with_deadline(control: &Arc<WorkerControl>) {
    control.stop();
    let control = Arc::clone(control);
    let wait = move || {
        thread::sleep(FINISH_GRACE);
        control.abandon();
        thread::sleep(SHUTDOWN_GRACE.saturating_sub(FINISH_GRACE));
        tracing::warn!("a clip did not end in time; exiting without it");
        exit(Exit::Stopped as i32);
    };
    let thread = thread::Builder::new().name("deadline".into());
    if let Err(error) = thread.spawn(wait) {
        tracing::warn!(%error, "cannot wait for the clips in progress");
        exit(Exit::Stopped as i32);
    }
}
