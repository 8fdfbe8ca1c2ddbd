//! The notebook's file, joined from the batches.

use super::{FINAL_NAME, LabelIds, SealedBatch, batch_path, is_intact, write_npz};
use crate::dataset::class_list::JobClasses;
use crate::sequence::Profile;
use crate::sequence::normalize::{FEATURES, SLOTS};
use crate::storage::StoreError;
use crate::storage::npz::{Element, NpzReader, NpzWriter};
use npyz::AutoSerialize;
use std::collections::HashSet;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// The joined file on disk.
pub(crate) struct WrittenFinal {
    /// Of the whole file, lower-case hex.
    pub(crate) sha256: String,
    /// Its `glosses`.
    pub(crate) glosses: Vec<Arc<str>>,
}

/// Writes the joined file from batches `0..batches`: `sequences`, `labels`, `video_ids`, `glosses` of the notebook. Under
/// [`Profile::Corrected`] `glosses` are all classes when their order is known, else exactly those that are present, and there are also `mask` bool
/// `[N, length, 2]`, `label_ids` i64 `[N]` with `glosses[label_ids] == labels`, and `split`. The arrays are copied batch by
/// batch, so memory does not grow with the dataset.
///
/// # Errors
/// [`StoreError::Broken`] when a batch file has changed since it was sealed; when the file cannot be written.
pub(crate) fn write_final(
    out: &Path,
    batches: &[SealedBatch],
    classes: JobClasses<'_>,
    length: usize,
    profile: Profile,
) -> Result<WrittenFinal, StoreError> {
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
    let glosses = match (profile, classes.order) {
        (Profile::Notebook, _) => classes.glosses.to_vec(),
        (Profile::Corrected, Some(order)) => order.glosses.clone(),
        (Profile::Corrected, None) => {
            let used: HashSet<&str> = labels.iter().map(String::as_str).collect();
            let used = classes.glosses.iter().filter(|g| used.contains(&***g));
            used.cloned().collect()
        }
    };
    let sha256 = write_npz(out, FINAL_NAME, |file| {
        let mut npz = NpzWriter::new(file);
        arrays.array::<f32, _>(&mut npz, "sequences", &[n, length, FEATURES])?;
        npz.strings("labels", &labels)?;
        npz.strings("video_ids", &video_ids)?;
        npz.strings("glosses", &glosses)?;
        if profile == Profile::Corrected {
            arrays.array::<bool, _>(&mut npz, "mask", &[n, length, SLOTS])?;
            let ids = LabelIds::new(&glosses);
            npz.numbers("label_ids", &[n], labels.iter().map(|label| ids.of(label)))?;
            npz.strings("split", &splits)?;
        }
        npz.finish().map(|_| ())
    })?;
    Ok(WrittenFinal { sha256, glosses })
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
