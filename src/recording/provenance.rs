//! The provenance of takes in `run.json`: settings, device, backend and versions.

use super::latency_stats::LatencyStats;
use crate::camera::{CameraAddress, CameraCounts};
use crate::digest::sha256_hex;
use crate::inference::BackendHandle;
use crate::storage::manifest;
use crate::system::clock;
use crate::video::clip;
use serde_json::{Value, json};

/// Where the takes of a session come from.
pub struct TakeProvenance<'a> {
    /// See [`super::CaptureSettings::settings`].
    pub settings: &'a Value,
    /// Runs the models.
    pub backend: &'a BackendHandle,
    /// The camera.
    pub device: &'a CameraAddress,
    /// When the session began, RFC 3339.
    pub started: &'a str,
}

impl TakeProvenance<'_> {
    /// The contents of `run.json`. `measured` is given at the end of the session.
    #[must_use]
    pub fn provenance(&self, measured: Option<(&CameraCounts, &LatencyStats)>) -> Value {
        let (settings, started) = (self.settings, self.started);
        let run = sha256_hex(format!("{settings} {started} {}", std::process::id()).as_bytes());
        let finished = measured.map(|(counts, meter)| {
            json!({
                "at": clock::now_utc(), "clock_synced": clock::clock_synced(),
                "frames": counts.frames, "dropped": counts.dropped, "damaged": counts.damaged,
                "looked_at": meter.seen, "opened": counts.opened, "backend_lost": self.backend.lost(),
            })
        });
        let mut record = manifest::provenance(
            &run[..8],
            settings,
            ("device", &json!(self.device.to_string())),
            &self.backend.record(),
            &clip::version(),
            &json!(started),
        );
        record["finished"] = json!(finished);
        record
    }
}
