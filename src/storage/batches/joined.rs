//! The notebook's file, joined from the batches.

use super::{FINAL_NAME, LabelIds, SealedBatch, batch_path, is_intact, write_npz};
use crate::sequence::Profile;
use crate::sequence::normalize::{FEATURES, SLOTS};
use crate::storage::StoreError;
use crate::storage::npz::{Element, NpzReader, NpzWriter};
use npyz::AutoSerialize;
use std::collections::HashSet;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// Writes the joined file from batches `0..batches`: `sequences`, `labels`, `video_ids`, `glosses` of the notebook. Under
/// [`Profile::Corrected`] `glosses` are exactly the classes that are present, and there are also `mask` bool
/// `[N, length, 2]`, `label_ids` i64 `[N]` with `glosses[label_ids] == labels`, and `split`. The arrays are copied batch by
/// batch, so memory does not grow with the dataset. Returns the SHA-256 of the file.
///
/// # Errors
/// [`StoreError::Broken`] when a batch file has changed since it was sealed; when the file cannot be written.
pub(crate) fn write_final(
    out: &Path,
    batches: &[SealedBatch],
    glosses: &[Arc<str>],
    length: usize,
    profile: Profile,
) -> Result<String, StoreError> {
    let (mut labels, mut video_ids, mut splits) = (Vec::new(), Vec::new(), Vec::new());
    for (number, sealed) in batches.iter().enumerate() {
        if !is_intact(out, number, &sealed.sha256) {
            return Err(StoreError::Broken {
                path: batch_path(out, number),
                reason: "it has changed since it was sealed".to_owned(),
            });
        }
        let mut batch = NpzReader::open(&batch_path(out, number))?;
        labels.extend(batch.strings("labels")?);
        video_ids.extend(batch.strings("video_ids")?);
        splits.extend(batch.strings("split")?);
    }
    let n = labels.len();
    let arrays = BatchArrays {
        out,
        batches: batches.len(),
    };
    write_npz(out, FINAL_NAME, |file| {
        let mut npz = NpzWriter::new(file);
        arrays.array::<f32, _>(&mut npz, "sequences", &[n, length, FEATURES])?;
        npz.strings("labels", &labels)?;
        npz.strings("video_ids", &video_ids)?;
        match profile {
            Profile::Notebook => npz.strings("glosses", glosses)?,
            Profile::Corrected => {
                let used: HashSet<&str> = labels.iter().map(String::as_str).collect();
                let used: Vec<&Arc<str>> = glosses
                    .iter()
                    .filter(|gloss| used.contains(&***gloss))
                    .collect();
                npz.strings("glosses", &used)?;
                arrays.array::<bool, _>(&mut npz, "mask", &[n, length, SLOTS])?;
                let ids = LabelIds::new(&used);
                npz.numbers("label_ids", &[n], labels.iter().map(|label| ids.of(label)))?;
                npz.strings("split", &splits)?;
            }
        }
        npz.finish().map(|_| ())
    })
}

/// Copies arrays from the batches.
struct BatchArrays<'a> {
    out: &'a Path,
    batches: usize,
}

impl BatchArrays<'_> {
    /// Joins the arrays called `name` of all batches into one of `shape`.
    fn array<T: Element + AutoSerialize, W: Write + Seek>(
        &self,
        npz: &mut NpzWriter<W>,
        name: &str,
        shape: &[usize],
    ) -> io::Result<()> {
        let mut joined = npz.array::<T>(name, T::default_dtype(), shape)?;
        for number in 0..self.batches {
            let batch = NpzReader::open(&batch_path(self.out, number));
            let values = batch.and_then(|mut batch| batch.numbers::<T>(name));
            joined.extend(values.map_err(io::Error::other)?.0)?;
        }
        joined.finish()
    }
}
