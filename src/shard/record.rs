//! `shard.json`: says that the folder of a shard is whole, what job the shard belongs to, and which files it has.

use super::ShardIndex;
use crate::dataset::class_list::ClassOrder;
use crate::digest::sha256_hex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// File name in the folder of a shard. It is written last.
pub const SHARD_NAME: &str = "shard.json";
/// Version of the file. A newer one is refused.
pub const FORMAT: u64 = 1;
/// Key of the checksum.
const SUM: &str = "sha256";

/// What `shard.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// [`FORMAT`].
    pub format: u64,
    /// Version of the program that made the shard.
    pub version: String,
    /// The shard.
    pub shard: ShardIndex,
    /// Hash of the plan of the whole job; see [`super::partition::plan_sha256`].
    pub plan_sha256: String,
    /// The settings of the job without shards: all that decides its bytes.
    pub settings: Value,
    /// Instances of the whole plan.
    pub instances: usize,
    /// Planned positions of the whole plan.
    pub clips: usize,
    /// Batches of the whole plan.
    pub batches: usize,
    /// Clips of the splits file that the metadata does not have.
    pub absent: usize,
    /// The glosses of the plan.
    pub glosses: Vec<String>,
    /// All classes in the order of their numbers, when it is known.
    pub class_order: Option<ShardClassOrder>,
    /// The processor that made the shard: those of its properties that may decide last bits.
    pub processor: String,
    /// The batches of the shard, in order.
    pub owned: Vec<OwnedBatch>,
    /// Of the shard's `manifest.jsonl`.
    pub manifest_sha256: String,
    /// Of the shard's `run.json`.
    pub run_sha256: String,
}

/// [`ClassOrder`] in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardClassOrder {
    /// Where the order is from.
    pub source: String,
    /// The classes.
    pub glosses: Vec<String>,
}

/// A batch of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedBatch {
    /// Its number in the whole job.
    pub batch: usize,
    /// Sequences in its file.
    pub rows: usize,
    /// Of its file; `None` for the one entry of a job without planned clips, which has no file.
    pub sha256: Option<String>,
    /// Of the file with its kept frames, if they are kept.
    pub frames_sha256: Option<String>,
    /// Lines of the manifest.
    pub lines: usize,
}

impl From<&ClassOrder> for ShardClassOrder {
    fn from(order: &ClassOrder) -> Self {
        Self {
            source: order.source.clone(),
            glosses: order.glosses.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Why bytes are no `shard.json`.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON, or other JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A later version wrote it.
    #[error(
        "handloom {version} wrote it in format {format}, this program reads format {FORMAT}: use the newer program"
    )]
    Newer {
        /// Its format.
        format: u64,
        /// The version of that program.
        version: String,
    },
    /// It was changed.
    #[error("its checksum is wrong: it was changed or cut short after it was written")]
    Checksum,
}

impl ShardRecord {
    /// The contents of the file.
    #[must_use]
    pub fn to_json(&self) -> String {
        sealed_json(json!(self))
    }

    /// Reads the contents of the file and checks them against their checksum.
    ///
    /// # Errors
    /// When they are of a newer format, damaged or something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let value: Value = serde_json::from_slice(bytes)?;
        match value["format"].as_u64() {
            Some(format) if format > FORMAT => {
                let version = value["version"].as_str().unwrap_or("of a later version");
                let version = version.to_owned();
                Err(RecordError::Newer { format, version })
            }
            _ => Ok(serde_json::from_value(checked(value)?)?),
        }
    }

    /// The sequences of all its batches.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.owned.iter().map(|batch| batch.rows).sum()
    }
}

/// `value`, an object, as a file with its checksum: the SHA-256 of its compact JSON.
#[must_use]
pub fn sealed_json(mut value: Value) -> String {
    value[SUM] = json!(sha256_hex(value.to_string().as_bytes()));
    format!("{value:#}\n")
}

/// The `value` of [`sealed_json`] without its checksum.
///
/// # Errors
/// When the checksum is missing or wrong.
pub fn checked(mut value: Value) -> Result<Value, RecordError> {
    let sum = value.as_object_mut().and_then(|map| map.shift_remove(SUM));
    if sum == Some(json!(sha256_hex(value.to_string().as_bytes()))) {
        return Ok(value);
    }
    Err(RecordError::Checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> ShardRecord {
        ShardRecord {
            format: FORMAT,
            version: "0.1.0".to_owned(),
            shard: ShardIndex::new(0, 2).unwrap(),
            plan_sha256: "ab".to_owned(),
            settings: json!({"min_tracking_confidence": 0.1, "profile": "notebook"}),
            instances: 5,
            clips: 3,
            batches: 2,
            absent: 0,
            glosses: vec!["book".into()],
            class_order: None,
            processor: "x86_64".to_owned(),
            owned: vec![OwnedBatch {
                batch: 0,
                rows: 2,
                sha256: Some("cd".to_owned()),
                frames_sha256: None,
                lines: 4,
            }],
            manifest_sha256: "ef".to_owned(),
            run_sha256: "01".to_owned(),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = example();
        let json = record.to_json();
        assert_eq!(ShardRecord::parse(json.as_bytes()).unwrap(), record);
        assert!(json.starts_with("{\n  \"format\": 1,\n"), "{json}");
        assert_eq!(record.rows(), 2);
    }

    #[test]
    fn a_changed_record_is_refused() {
        let json = example().to_json();
        let error = |json: &str| ShardRecord::parse(json.as_bytes()).unwrap_err().to_string();
        let rows = error(&json.replace("\"rows\": 2", "\"rows\": 3"));
        assert!(rows.contains("checksum"), "{rows}");
        assert!(error(&json[..json.len() / 2]).contains("EOF"));
        assert!(error("[]").contains("checksum"));
        let newer = example().to_json();
        let newer = newer.replace("\"format\": 1", "\"format\": 2");
        let newer = error(&newer.replace("0.1.0", "9.0.0"));
        assert!(
            newer.contains("handloom 9.0.0 wrote it in format 2"),
            "{newer}"
        );
    }
}
