//! Provenance of takes: which settings, device, backend and versions made them.

use super::latency_stats::LatencyStats;
use crate::camera::{CameraAddress, CameraCounts};
use crate::digest::sha256_hex;
use crate::inference::BackendHandle;
use crate::system::clock;
use crate::video::clip;
use serde_json::{Value, json};

/// Where takes come from.
pub struct TakeProvenance<'a> {
    /// See [`CaptureSettings::settings`].
    pub settings: &'a Value,
    /// What runs the models.
    pub backend: &'a BackendHandle,
    /// The camera.
    pub device: &'a CameraAddress,
    /// When the session began.
    pub started: &'a str,
}

impl TakeProvenance<'_> {
    /// For `run.json`; `measured` when the session is over.
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
        json!({
            "handloom": env!("CARGO_PKG_VERSION"),
            "run": &run[..8],
            "settings": settings,
            "device": self.device.to_string(),
            "backend": self.backend.record(),
            "gstreamer": clip::version(),
            "platform": {"arch": std::env::consts::ARCH, "os": std::env::consts::OS},
            "started": started,
            "finished": finished,
        })
    }
}
