//! Whether the results that lie there already are those of this config: the job goes on with its own alone.

use super::CheckResult;
use crate::config::Config;
use crate::error::CliError;
use crate::error::hints::Audience;
use crate::inference::ModelFiles;
use crate::inference::expected_identity;
use crate::storage::{Ledger, StoreError, output_dir};
use std::path::Path;

/// The job's, where there are any. What else is in its way has lines of its own.
pub(super) fn job(config: &Config) -> Vec<CheckResult> {
    if config.dataset.path.as_os_str().is_empty() {
        return Vec::new();
    }
    let Ok(bundle) = ModelFiles::load(&config.model_paths()) else {
        return Vec::new();
    };
    let spec = config.job();
    let Ok(scan) = spec.scan() else {
        return Vec::new();
    };
    held(
        "job",
        Audience::Keys,
        &spec.out,
        "planned clips",
        |ledger| spec.other_job(&scan, &bundle, ledger),
    )
}

/// The takes, where there are any.
pub(super) fn takes(config: &Config) -> Vec<CheckResult> {
    let (Some((_, recipe)), Ok(bundle)) =
        (config.capture(), ModelFiles::load(&config.model_paths()))
    else {
        return Vec::new();
    };
    let path = config.takes_path();
    held("takes", Audience::TakesKeys, &path, "takes", |ledger| {
        match output_dir::refuse_unknown(&path, ledger) {
            Err(error @ StoreError::Unknown { .. }) => return Ok(Some(error)),
            known => known?,
        }
        output_dir::other_job(&path, ledger, |known| {
            let accelerator = expected_identity(&config.backend_request(), &known["accelerator"]);
            recipe.settings(&bundle, &accelerator)
        })
    })
}

/// What `other` says of the results in `path` and of the ledger that knows them.
fn held(
    subject: &'static str,
    reader: Audience,
    path: &Path,
    what: &str,
    other: impl FnOnce(Option<&Ledger>) -> Result<Option<StoreError>, StoreError>,
) -> Vec<CheckResult> {
    let look = || -> Result<_, StoreError> {
        let ledger = Ledger::open_read_only(path)?;
        let done = match &ledger {
            Some(ledger) if ledger.job()?.is_some() => Some(ledger.clips()?.len()),
            _ => None,
        };
        Ok((done, other(ledger.as_ref())?))
    };
    match look() {
        Ok((None, None)) => Vec::new(),
        Ok((Some(done), None)) => {
            let detail = format!("{}: goes on after {done} {what}", path.display());
            vec![CheckResult::fine(subject, detail)]
        }
        Ok((
            _,
            Some(
                error @ StoreError::Occupied {
                    is_dataset: true, ..
                },
            ),
        )) => {
            let way_out =
                "the daemon waits for the command rescan, which keeps what has not changed";
            vec![CheckResult::doubtful(
                subject,
                format!("{error}; {way_out}"),
            )]
        }
        Ok((_, Some(error))) | Err(error) => {
            let failure = CliError::from(error);
            vec![CheckResult::bad(
                failure.exit,
                subject,
                reader.display_chain(&failure),
            )]
        }
    }
}
