//! The notebook's file, joined from the batches.

use super::{FINAL_NAME, LabelIds, batch_path, write_npz};
use crate::dataset::class_list::JobClasses;
use crate::sequence::Profile;
use crate::sequence::normalize::{FEATURES, SLOTS};
use crate::storage::StoreError;
use crate::storage::manifest::{LABEL_MAP_NAME, write_label_map};
use crate::storage::npz::{Element, NpzReader, NpzWriter, strings_dtype};
use npyz::AutoSerialize;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// Source of the class order when no official one is known.
const ORDER_OF_JOB: &str = "the glosses of wlasl_landmarks.npz";

/// The joined file on disk.
pub(super) struct WrittenFinal {
    /// SHA-256 of the file, lower-case hex.
    pub(super) sha256: String,
    /// The array `glosses` of the file.
    pub(super) glosses: Vec<Arc<str>>,
}

/// Writes the joined file (with the keys of `profile`) from the rows of `batches`, if there are any, and the label
/// map. Returns their SHA-256, by name.
pub(crate) fn joined_files(
    out: &Path,
    batches: &[usize],
    classes: JobClasses<'_>,
    length: usize,
    profile: Profile,
) -> Result<BTreeMap<String, String>, StoreError> {
    let mut files = BTreeMap::new();
    let mut glosses = classes.numbered().to_vec();
    if !batches.is_empty() {
        let written = write_final(out, batches, classes, length, profile)?;
        files.insert(FINAL_NAME.to_owned(), written.sha256);
        if classes.order.is_none() {
            glosses = written.glosses;
        }
    }
    let source = classes.order.map_or(ORDER_OF_JOB, |order| &order.source);
    let sha256 = write_label_map(out, source, &glosses)?;
    files.insert(LABEL_MAP_NAME.to_owned(), sha256);
    Ok(files)
}

/// Writes the joined file from the files of `batches`, whose hashes the caller has compared: `sequences`, `labels`,
/// `video_ids`, `glosses` of the notebook. Under [`Profile::Corrected`] `glosses` are all classes when their order is
/// known, else exactly those that are present, and there are also `mask` bool `[N, length, 2]`, `label_ids` i64 `[N]`
/// with `glosses[label_ids] == labels`, and `split`. The arrays are copied batch by batch, so memory does not grow
/// with the dataset.
///
/// # Errors
/// Fails when a batch file cannot be read or the file cannot be written.
pub(super) fn write_final(
    out: &Path,
    batches: &[usize],
    classes: JobClasses<'_>,
    length: usize,
    profile: Profile,
) -> Result<WrittenFinal, StoreError> {
    let arrays = BatchArrays { out, batches };
    let (mut used, mut n) = (HashSet::new(), 0);
    let labels = arrays.longest_string("labels", |labels| {
        n += labels.len();
        for label in labels {
            if !used.contains(label.as_str()) {
                used.insert(label);
            }
        }
    })?;
    let video_ids = arrays.longest_string("video_ids", |_| {})?;
    let glosses = match (profile, classes.order) {
        (Profile::Notebook, _) => classes.glosses.to_vec(),
        (Profile::Corrected, Some(order)) => order.glosses.clone(),
        (Profile::Corrected, None) => {
            let used = classes.glosses.iter().filter(|g| used.contains(&***g));
            used.cloned().collect()
        }
    };
    let splits = match profile {
        Profile::Notebook => 0,
        Profile::Corrected => arrays.longest_string("split", |_| {})?,
    };
    let sha256 = write_npz(out, FINAL_NAME, |file| {
        let mut npz = NpzWriter::new(file);
        arrays.array::<f32, _>(&mut npz, "sequences", &[n, length, FEATURES])?;
        arrays.strings(&mut npz, "labels", n, labels)?;
        arrays.strings(&mut npz, "video_ids", n, video_ids)?;
        npz.strings("glosses", &glosses)?;
        if profile == Profile::Corrected {
            arrays.array::<bool, _>(&mut npz, "mask", &[n, length, SLOTS])?;
            let ids = LabelIds::new(&glosses);
            let mut numbers = npz.array::<i64>("label_ids", i64::default_dtype(), &[n])?;
            for batch in batches {
                let labels = arrays.of_batch::<String>(*batch, "labels")?;
                numbers.extend(labels.iter().map(|label| ids.of(label)))?;
            }
            numbers.finish()?;
            arrays.strings(&mut npz, "split", n, splits)?;
        }
        npz.finish().map(|_| ())
    })?;
    Ok(WrittenFinal { sha256, glosses })
}

/// Copies arrays from the batches.
struct BatchArrays<'a> {
    out: &'a Path,
    batches: &'a [usize],
}

impl BatchArrays<'_> {
    /// The array `name` of `batch`.
    fn of_batch<T: Element>(&self, batch: usize, name: &str) -> io::Result<Vec<T>> {
        let file = NpzReader::open(&batch_path(self.out, batch));
        let values = file.and_then(|mut file| file.numbers::<T>(name));
        values.map(|(values, _)| values).map_err(io::Error::other)
    }

    /// Joins the arrays called `name` of all batches into one of `shape`.
    fn array<T: Element + AutoSerialize, W: Write + Seek>(
        &self,
        npz: &mut NpzWriter<W>,
        name: &str,
        shape: &[usize],
    ) -> io::Result<()> {
        let mut joined = npz.array::<T>(name, T::default_dtype(), shape)?;
        for batch in self.batches {
            joined.extend(self.of_batch::<T>(*batch, name)?)?;
        }
        joined.finish()
    }

    /// Joins the `n` strings called `name` of all batches, the longest of which has `width` characters.
    fn strings<W: Write + Seek>(
        &self,
        npz: &mut NpzWriter<W>,
        name: &str,
        n: usize,
        width: usize,
    ) -> io::Result<()> {
        let mut joined = npz.array::<str>(name, strings_dtype(width)?, &[n])?;
        for batch in self.batches {
            let strings = self.of_batch::<String>(*batch, name)?;
            strings.iter().try_for_each(|string| joined.push(string))?;
        }
        joined.finish()
    }

    /// Length in characters of the longest string called `name` in all batches. Calls `each` with the strings of each
    /// batch.
    fn longest_string(
        &self,
        name: &str,
        mut each: impl FnMut(Vec<String>),
    ) -> Result<usize, StoreError> {
        let mut width = 0;
        for batch in self.batches {
            let strings = NpzReader::open(&batch_path(self.out, *batch))?.strings(name)?;
            let lengths = strings.iter().map(|string| string.chars().count());
            width = lengths.fold(width, usize::max);
            each(strings);
        }
        Ok(width)
    }
}
