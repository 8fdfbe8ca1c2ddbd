//! The content of `health`, gathered from those who know it.

use crate::daemon::camera_task::CameraHandle;
use crate::daemon::live_config::LiveConfig;
use crate::daemon::mirror_task::MirrorHandle;
use crate::daemon::resource_monitor::ResourceStatus;
use crate::daemon::telemetry_publisher::TelemetryPublisher;
use crate::daemon::worker_monitor::WorkerMonitor;
use crate::job::worker_pool::WorkerControl;
use crate::messages::payloads::Health;
use crate::mqtt::Counters;
use crate::storage::SharedLedger;
use crate::storage::StoreError;
use crate::system::clock::uptime;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Who knows it.
pub(super) struct HealthSources {
    pub(super) config: LiveConfig,
    pub(super) ledger: SharedLedger,
    pub(super) control: Arc<WorkerControl>,
    pub(super) monitor: Arc<WorkerMonitor>,
    pub(super) resources: Arc<ResourceStatus>,
    pub(super) mirror: Arc<MirrorHandle>,
    pub(super) camera: Arc<CameraHandle>,
    pub(super) telemetry: Arc<TelemetryPublisher>,
}

impl HealthSources {
    /// Frames processed since the start.
    pub(super) fn frames(&self) -> u64 {
        self.monitor.frames()
    }

    /// Waits for the ledger, so it may block.
    pub(super) fn sample(&self, counters: &Counters, frames_per_s: f64) -> Health {
        let (sensors, disk_free_mib) = self.resources.sensors();
        let ledger = self.ledger.lock();
        let count = |n: Result<u64, StoreError>| n.unwrap_or_default();
        let has_mirror = self.config.get().output.mirror.is_some();
        Health {
            uptime_s: uptime().as_secs(),
            temperature_c: sensors.temperature_c,
            throttled: sensors.throttled,
            load_1min: sensors.load_1min,
            memory_available_mib: sensors.memory_available_mib,
            memory_resident_mib: sensors.memory_resident_mib,
            disk_free_mib,
            workers: self.control.workers(),
            frames_per_s,
            queue: self.control.waiting(),
            outbox: count(ledger.pending_message_count()),
            outbox_dropped: count(ledger.dropped_count()),
            telemetry_dropped: counters.dropped.load(Ordering::Relaxed) + self.telemetry.dropped(),
            connects: counters.connects.load(Ordering::Relaxed),
            mirror_waiting: self.mirror.waiting().filter(|_| has_mirror),
            camera: self.camera.health(),
        }
    }
}
