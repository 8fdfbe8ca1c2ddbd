//! `handloom process --shard`: one shard of a job, in a folder of its own until it is whole.

use super::{ResumeArgs, conclude_stopped, introduce, report_results, run_in_folder};
use crate::cli::progress::Console;
use crate::config::Config;
use crate::error::{CliError, Exit};
use crate::inference::ModelFiles;
use crate::job::worker_pool::RunOutcome;
use crate::job::{DatasetScan, JobConfig};
use crate::shard::ShardIndex;
use crate::shard::record::{SHARD_NAME, ShardRecord};
use crate::storage::StoreError;
use crate::storage::attempt::{Attempt, changed_file, whole};
use crate::storage::ledger::Ledger;
use crate::storage::output_dir::OpenMode;
use anyhow::anyhow;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::Path;

/// Makes `shard` of the job of `config`.
///
/// # Errors
/// Returns the exit code and the message for the user.
pub(super) fn run(
    config: &Config,
    job_config: &JobConfig,
    shard: ShardIndex,
    console: &Console,
    resume: ResumeArgs,
) -> Result<Exit, CliError> {
    if resume.rescan {
        let text = "--rescan and --shard: the shards of a job share one plan; after a change of the dataset make all shards \
                    again with --fresh, or in another --out";
        return Err(CliError::new(Exit::Usage, anyhow!(text)));
    }
    let scan = job_config.scan()?;
    introduce(console, &scan);
    introduce_shard(console, &scan, shard, job_config.batch_size);
    crate::cli::check_flags(config)?;
    job_config.check_decoder()?;
    let out = &job_config.out;
    let Some(attempt) = attempt(job_config, &scan, shard, console, resume)? else {
        return Ok(Exit::Done);
    };
    let here = JobConfig {
        out: attempt.path().to_path_buf(),
        ..job_config.clone()
    };
    let ended = run_in_folder(config, &here, &scan, console, resume, Some(&attempt));
    let is_done = matches!(&ended, Ok((report, _)) if report.outcome == RunOutcome::Done);
    if !is_done {
        // The files that another process may adopt are closed: the ledger was dropped with the run.
        if let Err(error) = attempt.stop() {
            console.warn(&error.to_string());
        }
        // A shard that another attempt has finished needs no further attempt, unless that one was at another job.
        if !attempt.is_fresh()
            && let Ok(Some(record)) = whole(out, shard)
        {
            if let Some(other) = other_job(job_config, &scan, shard)? {
                return Err(other.into());
            }
            attempt.remove()?;
            already_done(console, out, shard, &record);
            return Ok(Exit::Done);
        }
        let (report, observer) = ended?;
        return Ok(conclude_stopped(&observer, &scan, &report));
    }
    let (report, observer) = ended?;
    let folder = attempt.target();
    let finished = attempt.finish();
    if finished.is_err() && attempt.path().exists() {
        attempt.stop()?;
    }
    if finished? {
        let saved = Some(&*folder).filter(|_| report.accepted() > 0);
        report_results(&observer, &folder, saved, &job_config.shape, &report);
        let event = done_event(shard, &folder, report.accepted(), false);
        observer
            .console
            .report(&format!("Shard {shard} is whole"), &event);
    } else {
        attempt.remove()?;
        let text = format!(
            "another attempt has finished shard {shard} before: {}; this one is removed",
            folder.display()
        );
        let event = json!({"event": "shard_done_elsewhere", "shard": shard, "path": folder.to_string_lossy()});
        observer.console.report(&text, &event);
    }
    Ok(Exit::Done)
}

/// Whether the shard of `config` is whole, so that the command has nothing to do.
pub(super) fn is_whole(config: &Config) -> bool {
    let job = config.job();
    let record = job.shard.map(|shard| whole(&job.out, shard));
    matches!(record, Some(Ok(Some(_))))
}

/// Refuses `out` when it is the folder of a shard: its files belong together with its record.
pub(super) fn refuse_folder_of_shard(out: &Path) -> Result<(), CliError> {
    let name = out.file_name().and_then(OsStr::to_str);
    let is_named = name.and_then(ShardIndex::of_folder).is_some();
    if !(out.join(SHARD_NAME).exists() || is_named && out.exists()) {
        return Ok(());
    }
    let text = format!(
        "{} is the folder of a shard; nothing in it is changed: choose another --out. `--out DIR --shard I/N` makes the shard \
         I/N in DIR",
        out.display()
    );
    Err(CliError::new(Exit::CannotCreate, anyhow!(text)))
}

/// The attempt that this process continues or begins; `None` when the shard is whole.
fn attempt(
    job_config: &JobConfig,
    scan: &DatasetScan,
    shard: ShardIndex,
    console: &Console,
    resume: ResumeArgs,
) -> Result<Option<Attempt>, CliError> {
    let (out, mode) = (&job_config.out, resume.open_mode());
    if mode == OpenMode::Resume
        && let Some(record) = whole(out, shard)?
    {
        let folder = out.join(shard.folder());
        if let Some(other) = other_job(job_config, scan, shard)? {
            return Err(other.into());
        }
        let changed = changed_file(&folder, &record);
        if let Some(file) = &changed {
            let text = format!("{} is missing or was changed", file.display());
            console.warn(&format!("{text}; the shard is mended"));
        } else if !resume.retry_failed {
            already_done(console, out, shard, &record);
            return Ok(None);
        }
        if let Some(attempt) = Attempt::reopen(out, shard)? {
            return Ok(Some(attempt));
        }
    }
    let attempt = Attempt::begin(out, shard, mode == OpenMode::Fresh)?;
    if attempt.is_adopted() {
        let text = format!("Continuing an attempt at shard {shard} that ended");
        console.report(&text, &json!({"event": "adopted", "shard": shard}));
    }
    Ok(Some(attempt))
}

/// The error when the finished `shard` belongs to another job.
fn other_job(
    job_config: &JobConfig,
    scan: &DatasetScan,
    shard: ShardIndex,
) -> Result<Option<StoreError>, CliError> {
    let there = JobConfig {
        out: job_config.out.join(shard.folder()),
        ..job_config.clone()
    };
    let files = ModelFiles::load(&job_config.models)?;
    let ledger = Ledger::open_read_only(&there.out)?;
    Ok(there.other_job(scan, &files, ledger.as_ref())?)
}

/// Reports the shard's part of the job, and warns when there are more shards than batches of `batch_size`.
fn introduce_shard(console: &Console, scan: &DatasetScan, shard: ShardIndex, batch_size: usize) {
    let (clips, of) = (scan.share.positions.len(), scan.plan.jobs.len());
    let batches = scan.share.batches();
    let text = format!("Shard {shard}: {clips} of {of} planned clips, in {batches} batches");
    let event =
        json!({"event": "shard", "shard": shard, "clips": clips, "of": of, "batches": batches});
    console.report(&text, &event);
    if let Some(text) = empty_shards(of, batch_size, shard.count()) {
        console.warn(&text);
    }
}

/// The warning that some of the `shards` shards are empty, because the `clips` planned clips fill fewer batches.
fn empty_shards(clips: usize, batch_size: usize, shards: usize) -> Option<String> {
    let batches = clips.div_ceil(batch_size);
    let empty = shards.checked_sub(batches).filter(|empty| *empty > 0)?;
    let fix = match largest_size(clips, shards)? {
        0 => format!("take {clips} shards or fewer, since there are no more clips"),
        size => format!("`--batch-size {size}` or less, the same for all, gives each work"),
    };
    let one = if batches == 1 { "batch" } else { "batches" };
    let are = if empty == 1 { "is" } else { "are" };
    Some(format!(
        "{batches} {one} for {shards} shards: {empty} {are} empty; {fix}"
    ))
}

/// The largest batch size at which `clips` clips fill a batch for each shard; 0 when there is none. `shards` is at
/// least 2.
fn largest_size(clips: usize, shards: usize) -> Option<usize> {
    clips.checked_sub(1)?.checked_div(shards.checked_sub(1)?)
}

fn already_done(console: &Console, out: &Path, shard: ShardIndex, record: &ShardRecord) {
    let folder = out.join(shard.folder());
    let rows = record.rows();
    let text = format!(
        "shard {shard} is whole already: {rows} samples in {}; --fresh starts over",
        folder.display()
    );
    console.report(&text, &done_event(shard, &folder, rows, true));
}

/// The event of a shard that is whole.
fn done_event(shard: ShardIndex, folder: &Path, rows: usize, was_done: bool) -> Value {
    let path = folder.to_string_lossy();
    json!({"event": "shard_done", "shard": shard, "accepted": rows, "path": path, "was_done": was_done})
}

#[cfg(test)]
mod tests {
    use super::{empty_shards, largest_size};

    #[test]
    fn more_shards_than_batches_are_reported_with_a_size_that_suffices() {
        assert_eq!(
            empty_shards(9, 256, 4).unwrap(),
            "1 batch for 4 shards: 3 are empty; `--batch-size 2` or less, the same for all, gives each work"
        );
        let few = empty_shards(3, 1, 4).unwrap();
        assert!(few.contains("3 batches for 4 shards: 1 is empty; take 3 shards or fewer"));
        for none in [
            empty_shards(0, 256, 4),
            empty_shards(9, 2, 4),
            empty_shards(1, 1, 1),
        ] {
            assert_eq!(none, None);
        }
        for shards in 2..9_usize {
            for clips in shards..40 {
                let size = largest_size(clips, shards).unwrap();
                assert!(clips.div_ceil(size) >= shards && clips.div_ceil(size + 1) < shards);
            }
        }
    }
}
