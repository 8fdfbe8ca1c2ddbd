//! ASL Citizen: `splits/{train,val,test}.csv` with the columns Participant ID, Video file, Gloss and ASL-LEX Code,
//! and the clips in `videos/`. The names of the files contain glosses, which are not read, and dots.

use super::clip_table;
use super::csv_list::{set_split, split_of_table};
use super::dataset_rows::DatasetRows;
use super::file_tree::FileTree;
use super::format::{DatasetFormat, Recognition};
use super::text_encoding::FillBytes;
use super::wlasl::MetadataError;

/// The reader of ASL Citizen.
pub(super) struct AslCitizen;

impl DatasetFormat for AslCitizen {
    fn recognise(&self, files: &FileTree) -> Result<Recognition, String> {
        Recognition::of_tables(
            files,
            &["splits/train.csv", "splits/val.csv", "splits/test.csv"],
        )
    }

    fn read(
        &self,
        table: &str,
        fill: &mut FillBytes<'_>,
        rows: &mut DatasetRows,
    ) -> Result<(), MetadataError> {
        let split = split_of_table(table);
        clip_table::read(table, fill, rows, |row| {
            let file = row.paths.pop().unwrap_or_default();
            row.paths = if file.is_empty() || file.starts_with("videos/") {
                vec![file]
            } else {
                vec![format!("videos/{file}"), file]
            };
            set_split(row, split);
        })
    }
}
