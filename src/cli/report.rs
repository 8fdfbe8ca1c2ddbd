//! `handloom report`: writes a page about an output folder, or its contact sheet.

use crate::cli::progress::print_line;
use crate::config::DatasetFiles;
use crate::error::{CliError, Exit};
use crate::report::sheet::sheet;
use crate::report::{PAGE_NAME, SHEET_NAME, report};
use crate::storage::atomic_file::write_whole;
use crate::video::dataset_source::DatasetSource;
use anyhow::anyhow;
use clap::Args;
use std::path::{Path, PathBuf};

pub(super) const REPORT_ABOUT: &str = "\
Write a page about an output folder: what to trust, what to drop, and why.

The page is one HTML file without scripts and without anything from the network: open it in a
browser, send it, print it. It shows
  what became of every instance, with reasons; where hands were found, gaps, jumps, swapped hands;
  signs that are cut off; classes, splits and signers; lengths, sizes, rates; duplicates; files that
  are no video; and the 50 most doubtful clips with their skeletons.
Each number comes with what it means and what to do about it.

Examples:
  handloom report out/                                   writes out/report.html
  handloom report out/ --dataset wlasl/                  over the real frames; compares files
  handloom report out/ --against earlier/ --out diff.html
  handloom report out/ --dataset wlasl/ --sheet          writes out/sheet.png: 40 clips on one image";

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folder with the results of `process` or `camera`
    pub results: PathBuf,
    /// The dataset of the results: shows its frames below the skeletons and finds equal files
    #[arg(long, value_name = "DIR")]
    pub dataset: Option<PathBuf>,
    /// Files that lie elsewhere.
    #[command(flatten)]
    pub files: DatasetFiles,
    /// Compare with the results in another folder
    #[arg(long, value_name = "DIR", conflicts_with = "sheet")]
    pub against: Option<PathBuf>,
    /// Write a contact sheet instead: sampled frames of up to 40 clips with the hands found in them
    #[arg(long)]
    pub sheet: bool,
    /// File to write [default: report.html or sheet.png in the folder of the results]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Writes the page or the contact sheet.
///
/// # Errors
/// Fails when a folder cannot be read or the file cannot be written.
pub fn run(args: &ReportArgs) -> Result<Exit, CliError> {
    let files = &args.files;
    let open = |path: &PathBuf| {
        let (json, videos) = (files.json.as_deref(), files.videos.as_deref());
        DatasetSource::open_as(path, files.format, json, videos)
    };
    let dataset = args.dataset.as_ref().map(open).transpose()?;
    let (bytes, name) = if args.sheet {
        (sheet(&args.results, dataset.as_ref())?, SHEET_NAME)
    } else {
        let page = report(&args.results, dataset.as_ref(), args.against.as_deref())?;
        (page.into_bytes(), PAGE_NAME)
    };
    let path = args.out.clone().unwrap_or_else(|| args.results.join(name));
    let (folder, Some(name)) = (path.parent(), path.file_name()) else {
        let error = anyhow!("--out {}: name a file", path.display());
        return Err(CliError::new(Exit::Usage, error));
    };
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    write_whole(
        folder.unwrap_or(Path::new(".")),
        &name.to_string_lossy(),
        &bytes,
    )
    .map_err(|error| {
        let error = anyhow!(
            "cannot write {}: {error}; choose another --out",
            path.display()
        );
        CliError::new(Exit::CannotCreate, error)
    })?;
    print_line(&path.display().to_string());
    Ok(Exit::Done)
}
