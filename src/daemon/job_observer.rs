//! Reports the events of a run of the job to telemetry, outbox and mirror, and waits for room on the disk.

use super::ROOM_POLL_INTERVAL;
use crate::daemon::Daemon;
use crate::dataset::acceptance::State;
use crate::error::hints::Audience;
use crate::inference::BackendEvent;
use crate::job::{ClipEvent, JobObserver};
use crate::messages::payloads::ClipName;
use crate::storage::StoreError;
use crate::system::disk;
use std::time::{Duration, Instant};

/// Delay between writes where free space cannot be measured, as under a quota. Each attempt writes a batch.
const BLIND_RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Observes one attempt at the job.
pub(super) struct DaemonJobObserver<'a> {
    pub(super) daemon: &'a Daemon,
    /// Whether a clip was recorded.
    pub(super) has_progressed: bool,
}

impl JobObserver for DaemonJobObserver<'_> {
    fn job_started(&mut self, run: &str, total: usize, known: usize) {
        self.daemon.telemetry.begin(run, total, known);
    }

    fn clip_recorded(&mut self, event: &ClipEvent<'_>) {
        let clip = ClipName {
            gloss: event.gloss.to_owned(),
            video_id: event.video_id.to_owned(),
        };
        if event.state == State::Unreadable {
            // Its message on `fault` was written with its record.
            tracing::warn!(
                gloss = clip.gloss,
                video_id = clip.video_id,
                reason = event.reason,
                "clip unreadable"
            );
            self.daemon.outbox.notify();
        }
        self.daemon.telemetry.clip(clip, event.counts);
        self.daemon.gate.note_recorded();
        self.has_progressed = true;
    }

    fn file_written(&mut self) {
        self.daemon.mirror.notify_sealed();
        self.daemon.gate.note_recorded();
        self.daemon.outbox.notify();
    }

    fn wait_for_room(&mut self, error: &StoreError) -> bool {
        let daemon = self.daemon;
        let free = || disk::free_mib(&daemon.config().output.path).ok();
        let (free_then, since) = (free(), Instant::now());
        let reason = format!("disk: {}", Audience::Keys.describe(error));
        if daemon.gate.close_for_room(reason.clone()) {
            let action = "the job is paused and tried again until there is room";
            daemon.outbox.fault("disk", reason, action);
        }
        loop {
            daemon.wait_for_requests(ROOM_POLL_INTERVAL, |requests| requests.is_cancelled);
            if daemon.control.is_stopped() {
                // The next run checks again.
                daemon.gate.open_for_room();
                return false;
            }
            if (free() > free_then || since.elapsed() >= BLIND_RETRY_INTERVAL)
                && daemon.resources().output_disk_short.is_none()
            {
                return true;
            }
        }
    }

    fn room_found(&mut self) {
        self.daemon.gate.open_for_room();
        tracing::info!("there is room again");
        self.daemon.outbox.flush();
    }

    fn backend_event(&mut self, event: &BackendEvent) {
        self.daemon.report_backend(event);
    }
}
