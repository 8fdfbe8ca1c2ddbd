//! The command `snapshot`: one processed frame as a JPEG, and a description of it as the reply.

use crate::daemon::job_queue::PendingCommand;
use crate::daemon::live_config::LiveConfig;
use crate::daemon::outbox_writer::OutboxWriter;
use crate::daemon::telemetry_publisher::TelemetryPublisher;
use crate::daemon::worker_monitor::WorkerMonitor;
use crate::digest::sha256_hex;
use crate::messages::topics;
use crate::mqtt::Delivery;
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

/// How long a snapshot waits for a frame.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Clones do the same.
#[derive(Clone)]
pub(super) struct SnapshotPublisher {
    pub(super) config: LiveConfig,
    pub(super) monitor: Arc<WorkerMonitor>,
    pub(super) telemetry: Arc<TelemetryPublisher>,
    pub(super) outbox: Arc<OutboxWriter>,
}

impl SnapshotPublisher {
    /// Carries `command` out on a thread of its own.
    pub(super) fn start(&self, command: PendingCommand) {
        let this = self.clone();
        let publish = move || {
            let result = this.publish();
            this.outbox.reply(&command, result, &[]);
        };
        if let Err(error) = Builder::new().name("snapshot".into()).spawn(publish) {
            tracing::error!(%error, "no thread for a snapshot; it is answered after a restart");
        }
    }

    fn publish(&self) -> Result<Option<Value>, String> {
        let mut snapshot = self.monitor.snapshot(TIMEOUT)?;
        let jpeg = snapshot.jpeg()?;
        let result = json!({
            "topic": topics::topic(&self.config.get().device.id, topics::SNAPSHOT),
            "bytes": jpeg.len(), "sha256": sha256_hex(&jpeg),
            "width": snapshot.frame.width(), "height": snapshot.frame.height(),
            "gloss": snapshot.gloss, "video_id": snapshot.video_id,
            "frame": snapshot.found.frame_index, "hands": snapshot.found.hand_count,
        });
        self.telemetry
            .send(topics::SNAPSHOT, jpeg, Delivery::AtLeastOnce);
        Ok(Some(result))
    }
}
