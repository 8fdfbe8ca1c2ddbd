//! AUTSL: tables without a header, such as `train_labels.csv`. Each line has the name of a sample and the number of
//! its class: `signer0_sample1,41`. The clip is `signer0_sample1_color.mp4`, in the folder of its split or in any
//! other folder. Depth clips are not read. The numbers are used as glosses and as the class order.

use super::clip_table::{line_of, table_bytes, too_many, utf8_head, values};
use super::csv_list::split_of_table;
use super::dataset_rows::{ClipRow, DatasetRows};
use super::file_tree::{FileTree, stem_of};
use super::format::{DatasetFormat, Recognition};
use super::instance::SourceLine;
use super::json_reader::excerpt;
use super::text_encoding::FillBytes;
use super::wlasl::MetadataError;
use csv::ByteRecord;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Limit of class numbers, exclusive. The real dataset has 226 classes.
const CLASSES_MAX: u32 = 100_000;

/// Number of classes of the real dataset.
const CLASSES: u32 = 226;

/// The reader of AUTSL.
pub(super) struct Autsl;

/// The number of the signer in the name of a sample, as in `signer12_sample7`.
fn signer(sample: &str) -> Option<u32> {
    let (signer, number) = sample.strip_prefix("signer")?.split_once("_sample")?;
    number.parse::<u32>().ok()?;
    signer.parse().ok()
}

/// The name of the sample, without the suffix of a clip's name.
fn sample(text: &str) -> &str {
    let stem = stem_of(text.trim());
    stem.strip_suffix("_color").unwrap_or(stem)
}

impl DatasetFormat for Autsl {
    fn recognise(&self, files: &FileTree) -> Result<Recognition, String> {
        let is_list = |table: &&str| {
            let mut first = ByteRecord::new();
            let head = utf8_head(files.head(table));
            let is_read = values(&head).read_byte_record(&mut first);
            is_read.is_ok()
                && first
                    .get(0)
                    .is_some_and(|name| signer(sample(&String::from_utf8_lossy(name))).is_some())
        };
        let tables: Vec<Box<str>> = files
            .tables(&[".csv"])
            .filter(is_list)
            .map(Box::from)
            .collect();
        let Some(first) = tables.first() else {
            return Err(
                "no table (.csv) directly in it has lines as signer0_sample1,41".to_owned(),
            );
        };
        let why = format!("{first} has lines as signer0_sample1,41");
        Ok(Recognition {
            why,
            tables,
            ..Recognition::default()
        })
    }

    fn read(
        &self,
        table: &str,
        fill: &mut FillBytes<'_>,
        rows: &mut DatasetRows,
    ) -> Result<(), MetadataError> {
        let bytes = table_bytes(fill)?;
        let mut reader = values(&bytes);
        let mut record = ByteRecord::new();
        let file: Arc<str> = table.into();
        let split = split_of_table(table).unwrap_or_default();
        let broken = |error: csv::Error| MetadataError::Table(error.to_string());
        while reader.read_byte_record(&mut record).map_err(broken)? {
            if rows.is_full() {
                return Err(too_many());
            }
            let mut row = row(&record, split);
            let line = line_of(record.position(), &bytes);
            row.source = Some(SourceLine {
                file: Arc::clone(&file),
                line,
                unit: "line",
            });
            rows.push(row);
        }
        Ok(())
    }

    fn complete(&self, _files: &FileTree, rows: &mut DatasetRows) -> Result<(), MetadataError> {
        let classes: BTreeSet<u32> = rows
            .glosses()
            .filter_map(|gloss| gloss.parse().ok())
            .collect();
        let Some(last) = classes.last() else {
            return Ok(());
        };
        let gap = classes
            .iter()
            .zip(0..)
            .find(|(class, index)| *class != index);
        // A part of the real dataset keeps its class numbers, so gaps are allowed below `CLASSES`.
        if let Some((class, index)) = gap.filter(|_| *last >= CLASSES) {
            let class = class.to_string();
            let place = rows.place_of(&class);
            rows.warnings.push(format!(
                "the numbers of the classes are not used: {place}, has the class {class}, and no line has {index}; correct \
                 the number"
            ));
        } else {
            rows.class_order = Some((0..=*last).map(|class| class.to_string().into()).collect());
        }
        Ok(())
    }
}

/// The row of a sample.
fn row(record: &ByteRecord, split: &str) -> ClipRow {
    let text = |at: usize| {
        String::from_utf8_lossy(record.get(at).unwrap_or_default())
            .trim()
            .to_owned()
    };
    let (name, class) = (text(0), text(1));
    let sample = sample(&name);
    let mut row = ClipRow {
        split: split.to_owned(),
        paths: vec![
            format!("{split}/{sample}_color.mp4"),
            format!("{sample}_color"),
        ],
        ..ClipRow::default()
    };
    if split.is_empty() {
        row.paths.remove(0);
    }
    match (signer(sample), class.parse::<u32>()) {
        (Some(signer), Ok(class)) if class < CLASSES_MAX => {
            (row.signer, row.gloss) = (signer.to_string(), class.to_string());
        }
        (None, _) => {
            row.refused = Some(format!(
                "\"{}\" is no name as signer0_sample1",
                excerpt(&name)
            ));
        }
        _ => row.refused = Some(format!("\"{}\" is no number of a class", excerpt(&class))),
    }
    row
}
