//! Whether results can be written.

use super::CheckResult;
use crate::config::{Config, TAKES};
use crate::error::Exit;
use crate::storage::mirror::{Listing, Mirror};
use crate::storage::{Ledger, output_dir};
use crate::system::disk;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The output folder, or the folder in which it would be made.
pub(super) fn output(config: &Config) -> Vec<CheckResult> {
    results(config, "output", &config.output.path, "the job would pause")
}

/// The folder of the takes, where it is not in the output folder.
pub(super) fn takes(config: &Config) -> Vec<CheckResult> {
    match (&config.camera.device, &config.camera.path) {
        (Some(_), Some(path)) => results(config, "takes", path, "takes would wait"),
        _ => Vec::new(),
    }
}

fn results(
    config: &Config,
    subject: &'static str,
    path: &Path,
    what_then: &str,
) -> Vec<CheckResult> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let there = whole.ancestors().find(|folder| folder.exists());
    let Some(folder) = there else {
        return bad(subject, path, "no folder above it exists");
    };
    if let Err(error) = try_writing(folder) {
        return bad(subject, folder, &refusal(&error));
    }
    let free = match disk::free_mib(folder) {
        Ok(free) => free,
        Err(error) => return bad(subject, path, &format!("free room is unknown: {error}")),
    };
    let reserve = config.limits.disk_reserve_mib;
    if free < reserve {
        let why = format!(
            "{free} MiB free, less than limits.disk_reserve_mib = {reserve}: {what_then} at once; make room or lower it"
        );
        return bad(subject, path, &why);
    }
    let new = if folder == whole {
        ""
    } else {
        " (will be made)"
    };
    let detail = format!("{}{new}, {free} MiB free", path.display());
    vec![CheckResult::fine(subject, detail)]
}

/// The mirror, which is never made: an unmounted medium would be filled in its place.
pub(super) fn mirror(config: &Config) -> Vec<CheckResult> {
    let Some(path) = &config.output.mirror else {
        return vec![CheckResult::fine(
            "mirror",
            "none: output.mirror is not set",
        )];
    };
    if !path.exists() {
        return bad(
            "mirror",
            path,
            "it is not there, and is never made, so that a medium that is not mounted is not missed; mount it and make the folder on it",
        );
    }
    if let Err(error) = try_writing(path) {
        return bad("mirror", path, &refusal(&error));
    }
    if let Err(why) = owned(config, path) {
        return vec![CheckResult::bad(Exit::CannotCreate, "mirror", why)];
    }
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    let output = config.output.path.ancestors().find_map(device);
    if device(path) == output {
        return vec![CheckResult::doubtful(
            "mirror",
            format!(
                "{} is on the same file system as the output; is its medium mounted?",
                path.display()
            ),
        )];
    }
    match disk::free_mib(path) {
        Ok(free) => vec![CheckResult::fine(
            "mirror",
            format!("{}, {free} MiB free", path.display()),
        )],
        Err(error) => bad("mirror", path, &format!("free room is unknown: {error}")),
    }
}

/// Says why, where the mirror of the output folder or of the takes is another one's copy.
fn owned(config: &Config, to: &Path) -> Result<(), String> {
    let out = &config.output.path;
    belongs(out, &Mirror::new(out, to))?;
    if config.camera.device.is_none() {
        return Ok(());
    }
    let takes = config.takes_path();
    belongs(&takes, &Mirror::within(&takes, to, TAKES))
}

fn belongs(folder: &Path, mirror: &Mirror) -> Result<(), String> {
    let ledger = Ledger::open_read_only(folder).map_err(|e| e.to_string())?;
    // A folder that is yet to be made has nothing.
    let listing = ledger.map_or_else(
        || Ok(Listing::default()),
        |ledger| output_dir::mirrored(folder, &ledger),
    );
    let listing = listing.map_err(|e| e.to_string())?;
    let known = mirror.belongs(&listing, &|| false);
    known.map(|_| ()).map_err(|e| e.to_string())
}

fn bad(subject: &'static str, path: &Path, why: &str) -> Vec<CheckResult> {
    let detail = format!("{}: {why}", path.display());
    vec![CheckResult::bad(Exit::CannotCreate, subject, detail)]
}

fn refusal(error: &io::Error) -> String {
    format!("cannot be written: {error}; check its permissions and the medium")
}

/// Writes a small file into `folder` and removes it.
fn try_writing(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".handloom-check-{}", std::process::id()));
    let written = File::create_new(&path).and_then(|mut file| {
        file.write_all(b"handloom check\n")?;
        file.sync_all()
    });
    match written {
        // Somebody else's, or a folder: nothing of ours to remove.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(error) => {
            // What could not be made cannot be removed either, and only the first error matters.
            fs::remove_file(&path).ok();
            Err(error)
        }
        Ok(()) => fs::remove_file(&path),
    }
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
