//! The folders of the results: whether they can be written, and whether earlier results in them fit the config.

use super::CheckResults;
use super::CheckStatus::{Doubtful, Fine};
use crate::config::{Config, TAKES};
use crate::error::{CliError, Exit};
use crate::inference::{ModelFiles, expected_identity};
use crate::storage::mirror::{Listing, Mirror};
use crate::storage::{Ledger, StoreError, file_system, output_dir};
use crate::system::disk;
use anyhow::anyhow;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The output folder, or the folder in which it would be created.
pub(super) fn output(config: &Config) -> CheckResults {
    folder(config, &config.output.path, "the job would pause")
}

/// The folder of the takes, if it is not in the output folder.
pub(super) fn takes_folder(config: &Config) -> CheckResults {
    match (&config.camera.device, &config.camera.path) {
        (Some(_), Some(path)) => folder(config, path, "takes would wait"),
        _ => Ok(Vec::new()),
    }
}

fn folder(config: &Config, path: &Path, consequence: &str) -> CheckResults {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let existing = whole.ancestors().find(|folder| folder.exists());
    let existing = existing.ok_or_else(|| unusable(path, "no folder above it exists"))?;
    try_writing(existing)?;
    let free = free_mib(existing)?;
    let reserve = config.limits.disk_reserve_mib;
    if free < reserve {
        let why = format!(
            "{free} MiB free, less than limits.disk_reserve_mib = {reserve}: {consequence} at once; free some space or lower the limit"
        );
        return Err(unusable(path, &why));
    }
    let new = if existing == whole {
        ""
    } else {
        " (will be created)"
    };
    let mut detail = format!("{}{new}, {free} MiB free", path.display());
    if let Some(kind) = file_system::network(existing) {
        detail = format!("{detail}; on {kind}, where the ledger uses a rollback journal");
    }
    Ok(vec![Fine.with(detail)])
}

/// The mirror, which Handloom never creates.
pub(super) fn mirror(config: &Config) -> CheckResults {
    let Some(path) = &config.output.mirror else {
        return Ok(vec![Fine.with("none: output.mirror is not set")]);
    };
    if !path.exists() {
        let why = "the mirror folder does not exist; mount its disk and create the folder. Handloom never creates it, so that an unmounted path is not filled by mistake";
        return Err(unusable(path, why));
    }
    try_writing(path)?;
    let out = &config.output.path;
    check_owner(out, &Mirror::new(out, path))?;
    if config.camera.device.is_some() {
        let takes = config.takes_path();
        check_owner(&takes, &Mirror::within(&takes, path, TAKES))?;
    }
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    let shown = path.display();
    Ok(vec![if device(path) == out.ancestors().find_map(device) {
        Doubtful.with(format!(
            "{shown} is on the same file system as the output; is its disk mounted?"
        ))
    } else {
        Fine.with(format!("{shown}, {} MiB free", free_mib(path)?))
    }])
}

/// Earlier results of the job. Other problems have lines of their own.
pub(super) fn job(config: &Config) -> CheckResults {
    if config.dataset.path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let job = config.job();
    let (Ok(files), Ok(scan)) = (ModelFiles::load(&config.model_paths()), job.scan()) else {
        return Ok(Vec::new());
    };
    earlier_results(&job.out, "planned clips", |ledger| {
        job.other_job(&scan, &files, ledger)
    })
}

/// Earlier takes.
pub(super) fn takes(config: &Config) -> CheckResults {
    let (Some((_, settings)), Ok(files)) =
        (config.capture(), ModelFiles::load(&config.model_paths()))
    else {
        return Ok(Vec::new());
    };
    let named = config.camera.path.as_deref();
    let path = output_dir::folder_within(&config.output.path, TAKES, named)?;
    earlier_results(&path, "takes", |ledger| {
        output_dir::refuse_unknown(&path, ledger)?;
        output_dir::other_job(&path, ledger, |known| {
            let expected = expected_identity(&config.backend_request(), &known["accelerator"]);
            settings.settings(&files, &expected)
        })
    })
}

/// Whether the job or session resumes with the results in `path`. `other` returns those that it would refuse.
fn earlier_results(
    path: &Path,
    what: &str,
    other: impl FnOnce(Option<&Ledger>) -> Result<Option<StoreError>, StoreError>,
) -> CheckResults {
    let ledger = Ledger::open_read_only(path)?;
    let done = match &ledger {
        Some(ledger) if ledger.job()?.is_some() => Some(ledger.clips()?.len()),
        _ => None,
    };
    match other(ledger.as_ref())? {
        Some(error)
            if matches!(
                error,
                StoreError::Occupied {
                    is_dataset: true,
                    ..
                }
            ) =>
        {
            let hint = "the daemon waits for the command rescan, which keeps what has not changed";
            Ok(vec![Doubtful.with(format!("{error}; {hint}"))])
        }
        Some(error) => Err(error.into()),
        None => Ok(done
            .into_iter()
            .map(|done| Fine.with(format!("{}: resumes after {done} {what}", path.display())))
            .collect()),
    }
}

/// Fails if the mirror holds the copy of another folder than `folder`.
fn check_owner(folder: &Path, mirror: &Mirror) -> Result<(), CliError> {
    let belongs = || -> Result<_, Box<dyn std::error::Error>> {
        let ledger = Ledger::open_read_only(folder)?;
        // A folder that does not exist yet has no files.
        let listing = ledger.map_or_else(
            || Ok(Listing::default()),
            |ledger| output_dir::mirrored(&ledger),
        )?;
        mirror.belongs(&listing, &|| false)?;
        Ok(())
    };
    belongs().map_err(|error| CliError::new(Exit::CannotCreate, anyhow!("{error}")))
}

fn unusable(path: &Path, why: &str) -> CliError {
    CliError::new(Exit::CannotCreate, anyhow!("{}: {why}", path.display()))
}

fn free_mib(path: &Path) -> Result<u64, CliError> {
    let free = disk::free_mib(path);
    free.map_err(|error| unusable(path, &format!("the free space is unknown: {error}")))
}

/// Writes a small file into `folder` and removes it.
fn try_writing(folder: &Path) -> Result<(), CliError> {
    let path = folder.join(format!(".handloom-check-{}", std::process::id()));
    let written = File::create_new(&path).and_then(|mut file| {
        file.write_all(b"handloom check\n")?;
        file.sync_all()
    });
    let done = match written {
        // It is not ours, so it is not removed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(error) => {
            // Only the first error is reported.
            fs::remove_file(&path).ok();
            Err(error)
        }
        Ok(()) => fs::remove_file(&path),
    };
    done.map_err(|error| {
        let why = format!("cannot be written: {error}; check its permissions and the disk");
        unusable(folder, &why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        try_writing(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(try_writing(&file).is_err());
        assert!(try_writing(&dir.path().join("gone")).is_err());
    }
}
