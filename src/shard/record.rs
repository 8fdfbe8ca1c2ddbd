//! `shard.json`: proves that the folder of a shard is complete, and names the job of the shard and its files.

use super::ShardIndex;
use crate::dataset::class_list::ClassOrder;
use crate::digest::sha256_hex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the file in the folder of a shard. It is written last.
pub const SHARD_NAME: &str = "shard.json";
/// Format version of the file. A newer one is refused.
pub const FORMAT: u64 = 1;
/// Key of the checksum in the file.
const SUM: &str = "sha256";

/// The contents of `shard.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Format version; see [`FORMAT`].
    pub format: u64,
    /// Version of the program that made the shard.
    pub version: String,
    /// Which shard of the job the folder holds.
    pub shard: ShardIndex,
    /// Hash of the plan of the whole job; see [`super::partition::plan_sha256`].
    pub plan_sha256: String,
    /// The settings of the job, without the shard: all that decides the bytes of its results.
    pub settings: Value,
    /// Number of instances in the whole plan.
    pub instances: usize,
    /// Number of planned clips in the whole plan.
    pub clips: usize,
    /// Number of batches in the whole plan.
    pub batches: usize,
    /// Number of clips of the splits file that the metadata does not have.
    pub absent: usize,
    /// The glosses of the plan.
    pub glosses: Vec<String>,
    /// All classes in the order of their numbers, when that order is known.
    pub class_order: Option<ShardClassOrder>,
    /// The processor that made the shard: its properties that may change the last bits of results.
    pub processor: String,
    /// The batches of the shard, in order.
    pub owned: Vec<OwnedBatch>,
    /// SHA-256 of the shard's `manifest.jsonl`.
    pub manifest_sha256: String,
    /// SHA-256 of the shard's `run.json`.
    pub run_sha256: String,
}

/// [`ClassOrder`] as it is written in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardClassOrder {
    /// Names of the files that give the order, for people.
    pub source: String,
    /// The glosses of the classes, in the order of their numbers.
    pub glosses: Vec<String>,
}

/// A batch of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedBatch {
    /// The number of the batch in the whole job.
    pub batch: usize,
    /// Number of sequences in the batch file.
    pub rows: usize,
    /// SHA-256 of the batch file; `None` for the one entry of a job without planned clips, which has no file.
    pub sha256: Option<String>,
    /// SHA-256 of the file with the kept frames of the batch; `None` when frames are not kept.
    pub frames_sha256: Option<String>,
    /// Number of lines of the batch in the manifest.
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

/// Why bytes are not a valid `shard.json`.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file is not JSON, or has other keys.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A later version of the program wrote the file.
    #[error(
        "handloom {version} wrote it in format {format}, this program reads format {FORMAT}: use the newer program"
    )]
    Newer {
        /// Format version of the file.
        format: u64,
        /// Version of the program that wrote it.
        version: String,
    },
    /// The checksum does not match the contents.
    #[error("its checksum is wrong: it was changed or cut short after it was written")]
    Checksum,
}

impl ShardRecord {
    /// The contents of the file, with the checksum.
    #[must_use]
    pub fn to_json(&self) -> String {
        sealed_json(json!(self))
    }

    /// Reads the contents of the file and checks them against their checksum.
    ///
    /// # Errors
    /// Fails when the format is newer, the checksum does not match, or the contents are not a shard record.
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

    /// Number of sequences in all batches of the shard.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.owned.iter().map(|batch| batch.rows).sum()
    }
}

/// The contents of a JSON file with `value`, an object, and its checksum: the SHA-256 of its compact JSON.
#[must_use]
pub fn sealed_json(mut value: Value) -> String {
    value[SUM] = json!(sha256_hex(value.to_string().as_bytes()));
    format!("{value:#}\n")
}

/// Checks the `value` of [`sealed_json`] and returns it without its checksum.
///
/// # Errors
/// Fails when the checksum is missing or wrong.
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
