//! What is known of a take beside its numbers: for the ledger, and from there for the manifest.

use crate::sequence::sign_recorder::Sign;
use crate::storage::ledger::ClipRecord;
use crate::system::clock;
use serde_json::{Value, json};

/// What the ledger keeps of a take.
pub(super) struct TakeRecord {
    pub(super) id: String,
    pub(super) gloss: String,
    pub(super) split: String,
    pub(super) signer_id: i64,
    pub(super) clip: Value,
}

impl TakeRecord {
    pub(super) fn to_json(&self) -> Value {
        json!({"id": self.id, "gloss": self.gloss, "split": self.split, "signer_id": self.signer_id, "clip": self.clip})
    }

    pub(super) fn of(clip: &ClipRecord) -> Self {
        let text = clip.clip.as_deref().unwrap_or_default();
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Self {
            id: word("id"),
            gloss: word("gloss"),
            split: word("split"),
            signer_id: value["signer_id"].as_i64().unwrap_or(-1),
            clip: value["clip"].clone(),
        }
    }
}

/// What the manifest says of a take.
pub(super) fn describe_take(sign: &Sign, device: &str, backend: &str) -> Value {
    let sequence = &sign.sequence;
    let millis = |time: &std::time::Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    let times: Vec<f64> = sign.frame_times.iter().map(millis).collect();
    json!({
        "source": "camera",
        "device": device,
        "backend": backend,
        "taken": clock::now_utc(),
        "clock_synced": clock::clock_synced(),
        "begin_ms": millis(&sign.begin),
        "end_ms": millis(&sign.end),
        "ended_by": sign.end_reason.name(),
        "seen": sign.seen,
        "declared_frames": sequence.declared_frames,
        "sampled": sequence.frames.len(),
        "with_hand": sequence.frames_with_hand,
        "with_two_hands": sequence.frames.iter().filter(|f| f.hand_count == 2).count(),
        "frame_times_ms": times,
    })
}
