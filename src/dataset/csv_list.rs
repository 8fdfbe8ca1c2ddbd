//! A table with a row for each clip, in the folder of the clips or above it:
//! `path,gloss[,id,split,signer,start_frame,end_frame]`.
//!
//! Paths are relative to the table's folder. The first line names the columns, in any order; other common names
//! (`file`, `label`, `participant`) are accepted. Further columns are kept for the manifest. With several tables in
//! the folder, those named `train`, `val` and `test` are read, or else all. Without a split column a table's name is
//! the split. Frames are counted from 1, as in WLASL.

use super::clip_table;
use super::dataset_rows::{ClipRow, DatasetRows};
use super::file_tree::{FileTree, split_of};
use super::format::{DatasetFormat, Recognition};
use super::text_encoding::FillBytes;
use super::wlasl::MetadataError;

/// The reader of lists of clips.
pub(super) struct CsvList;

impl DatasetFormat for CsvList {
    fn recognise(&self, files: &FileTree) -> Result<Recognition, String> {
        let mut tables = Vec::new();
        let mut problem = "no table (.csv or .tsv) lies directly in it".to_owned();
        for table in files.tables(&[".csv", ".tsv"]) {
            if !files.has_head(table) {
                problem = format!(
                    "{table} was not read, because the folder has too many tables: give the table itself"
                );
                continue;
            }
            match clip_table::check_header(files.head(table)) {
                Ok(()) => tables.push(Box::from(table)),
                Err(reason) => problem = format!("{table}: {reason}"),
            }
        }
        let mut aside = Vec::new();
        if tables.iter().any(|table| split_of_table(table).is_some()) {
            let all = tables.into_iter();
            (tables, aside) = all.partition(|table| split_of_table(table).is_some());
        }
        let Some(first) = tables.first() else {
            return Err(problem);
        };
        let why = format!("{first} has columns for the clip's file and the gloss");
        let mut warnings = Vec::new();
        if !aside.is_empty() {
            warnings.push(format!(
                "{} tables are not read, because others have the name of a split: {}; name one as `train.csv`, or give it by \
                 itself",
                aside.len(),
                shown(&aside)
            ));
        }
        Ok(Recognition {
            why,
            tables,
            warnings,
        })
    }

    fn read(
        &self,
        table: &str,
        fill: &mut FillBytes<'_>,
        rows: &mut DatasetRows,
    ) -> Result<(), MetadataError> {
        let split = split_of_table(table);
        clip_table::read(table, fill, rows, |row| set_split(row, split))
    }
}

/// The first of `names`, for a message.
fn shown(names: &[Box<str>]) -> String {
    const SHOWN_MAX: usize = 5;
    let more = if names.len() > SHOWN_MAX { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN_MAX)].join(", "))
}

/// The split that the name of `table` gives its rows.
pub(super) fn split_of_table(table: &str) -> Option<&'static str> {
    let name = table.rsplit_once('/').map_or(table, |(_, name)| name);
    split_of(name.split(['.', '_', '-']).next().unwrap_or_default())
}

/// Sets the split of `row`. Known names become `train`, `val` or `test`, others stay. An empty split becomes
/// `of_table`.
pub(super) fn set_split(row: &mut ClipRow, of_table: Option<&'static str>) {
    let known = split_of(&row.split).or(of_table.filter(|_| row.split.is_empty()));
    if let Some(split) = known {
        split.clone_into(&mut row.split);
    }
}
