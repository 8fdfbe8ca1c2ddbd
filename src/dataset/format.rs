//! The formats of datasets: how each one is recognized, and how its tables are read.

use super::dataset_rows::DatasetRows;
use super::file_tree::FileTree;
use super::text_encoding::FillBytes;
use super::wlasl::MetadataError;
use super::{asl_citizen, autsl, csv_list, folders, msasl, wlasl};
use crate::sequence::options::NamedChoice;

/// A layout of datasets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatName {
    /// `WLASL_v0.3.json` and `videos/`.
    Wlasl,
    /// Class folders: a folder for each gloss.
    Folders,
    /// A table with the columns path and gloss.
    Csv,
    /// ASL Citizen.
    AslCitizen,
    /// AUTSL.
    Autsl,
    /// MS-ASL.
    MsAsl,
}

/// Why a dataset has a format, and the files to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recognition {
    /// The evidence, as in "splits/train.csv is there".
    pub why: String,
    /// The files to read, in this order, as paths in the dataset.
    pub tables: Vec<Box<str>>,
    /// What the user probably did not intend.
    pub warnings: Vec<String>,
}

impl Recognition {
    /// Recognizes a format by the fixed names of its tables. The error lists the names when `files` has none of them.
    pub(super) fn of_tables(files: &FileTree, names: &[&str]) -> Result<Self, String> {
        let found = names.iter().copied().filter(|name| files.contains(name));
        let tables: Vec<Box<str>> = found.map(Box::from).collect();
        let first = tables.first();
        let why = first.ok_or_else(|| format!("none of {} is there", names.join(", ")))?;
        let why = format!("{why} is there");
        Ok(Self {
            why,
            tables,
            ..Self::default()
        })
    }
}

/// A reader of a format.
pub trait DatasetFormat: Sync {
    /// Checks whether `files` are a dataset of this format.
    ///
    /// # Errors
    /// Fails with what is missing when they are not.
    fn recognise(&self, files: &FileTree) -> Result<Recognition, String>;

    /// Reads the whole file `table` through `fill`. An invalid value refuses only its row.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is too large or has another layout.
    fn read(
        &self,
        table: &str,
        fill: &mut FillBytes<'_>,
        rows: &mut DatasetRows,
    ) -> Result<(), MetadataError>;

    /// Whether the evidence for this format cannot be part of another format.
    fn is_sure(&self, _files: &FileTree) -> bool {
        true
    }

    /// Adds what follows from the `files` and all tables together.
    ///
    /// # Errors
    /// Fails when the dataset is too large.
    fn complete(&self, _files: &FileTree, _rows: &mut DatasetRows) -> Result<(), MetadataError> {
        Ok(())
    }
}

impl NamedChoice for FormatName {
    /// The formats in the order in which they are tried. The most specific ones come first.
    const NAMED: &'static [(Self, &'static str)] = &[
        (Self::Wlasl, "wlasl"),
        (Self::MsAsl, "msasl"),
        (Self::AslCitizen, "asl-citizen"),
        (Self::Autsl, "autsl"),
        (Self::Csv, "csv"),
        (Self::Folders, "folders"),
    ];
}

impl FormatName {
    /// The reader of the format.
    #[must_use]
    pub fn reader(self) -> &'static dyn DatasetFormat {
        match self {
            Self::Wlasl => &wlasl::Wlasl,
            Self::Folders => &folders::Folders,
            Self::Csv => &csv_list::CsvList,
            Self::AslCitizen => &asl_citizen::AslCitizen,
            Self::Autsl => &autsl::Autsl,
            Self::MsAsl => &msasl::MsAsl,
        }
    }

    /// The first format that recognises `files`.
    #[must_use]
    pub fn detect(files: &FileTree) -> Option<(Self, Recognition)> {
        let mut formats = Self::NAMED.iter();
        formats.find_map(|(format, _)| {
            let found = format.reader().recognise(files).ok()?;
            format.reader().is_sure(files).then_some((*format, found))
        })
    }
}

#[cfg(test)]
mod tests;
