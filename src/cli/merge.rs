//! `handloom merge`: joins the shards of one job.

use crate::cli::process::counts_text;
use crate::cli::progress::{Console, ProgressKind};
use crate::error::{CliError, Exit};
use crate::inference::ShutdownFlag;
use crate::job::{states, tenths};
use crate::merge::{MergeConfig, MergeEvent, merge};
use crate::storage::manifest::MANIFEST_NAME;
use anyhow::anyhow;
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Instant;

pub(super) const MERGE_ABOUT: &str = "\
Join the shards of one job into the results that one process would have written.

A SHARD is the folder of a shard (shard-00000-of-00004), or one that holds such folders. All must be
of one job: the same plan, settings, models and backend, each shard once, every file with the hash
that its shard.json names. What is wrong is named, with the command that makes it again; DIR then has
no run.json, or stays whole if it was. The limit of --max-samples-per-gloss is applied over all shards.

DIR gets what `handloom process` writes without --shard, with equal bytes: wlasl_landmarks.npz,
batches/, frames/, manifest.jsonl, label_map.json, and last run.json, which names the shards. Files
are linked, not copied, where the file system allows it; the shards stay, and may be removed. After
an interruption the same command continues, and two may run at once.

Examples:
  handloom merge merged/ out/                            all shards in out/
  handloom merge merged/ pi1/shard-* pi2/shard-*         collected from several machines
  handloom merge merged/ out/ --partial                  what is there; later again without the flag";

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Folder for the results: new or empty, or that of a merge of the same job
    #[arg(value_name = "DIR")]
    pub out: PathBuf,
    /// Folders of shards, or folders that hold them
    #[arg(value_name = "SHARD", required = true)]
    pub shards: Vec<PathBuf>,
    /// Join the shards that are there, and name those that are missing
    #[arg(long)]
    pub partial: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressKind::Auto)]
    pub progress: ProgressKind,
}

/// Joins the shards.
///
/// # Errors
/// Returns the exit code and the message for the user.
pub fn run(args: &MergeArgs) -> Result<Exit, CliError> {
    let config = MergeConfig {
        out: args.out.clone(),
        shards: args.shards.clone(),
        is_partial: args.partial,
    };
    let mut console = Console::new(args.progress);
    let stop = ShutdownFlag::default();
    let stopping = stop.clone();
    let _signals = super::on_stop(move || stopping.set())?;
    let begun = Instant::now();
    let out = config.out.to_string_lossy();
    let outcome = merge(&config, &|| stop.is_set(), &mut |event| {
        show(&mut console, event);
    })?;
    console.clear();
    let Some(report) = outcome else {
        console.report(
            "stopped; the same command continues",
            &json!({"event": "stopped", "out": out}),
        );
        return Ok(Exit::Stopped);
    };
    let missing: Vec<String> = report.missing.iter().map(ToString::to_string).collect();
    let per_gloss = report.per_gloss.iter();
    let per_gloss: Map<String, Value> = per_gloss.map(|(g, n)| (g.to_string(), json!(n))).collect();
    let (counts, batches, rows) = (&report.counts, report.batches, report.rows);
    let mut text = format!(
        "Joined {batches} batches with {rows} sequences in {out}\n  {}",
        counts_text(counts)
    );
    if !missing.is_empty() {
        let missing = missing.join(", ");
        let rest = format!("\n  Not all: without the shards {missing}. Make them and merge again");
        text.push_str(&rest);
    }
    console.report(
        &text,
        &json!({
            "event": "done", "accepted": rows, "states": states(counts), "per_gloss": per_gloss, "batches": batches,
            "missing": missing, "seconds": tenths(begun.elapsed()), "out": out,
        }),
    );
    if rows > 0 {
        return Ok(Exit::Done);
    }
    let manifest = config.out.join(MANIFEST_NAME);
    let text = format!(
        "the shards have no sequence: {}; see {}",
        counts_text(counts),
        manifest.display()
    );
    Err(CliError::new(Exit::Nothing, anyhow!(text)))
}

fn show(console: &mut Console, event: MergeEvent<'_>) {
    match event {
        MergeEvent::Warning(text) => console.warn(&text),
        MergeEvent::Clips(done) => console.update_bar(done, ""),
        MergeEvent::Begun {
            shards,
            batches,
            clips,
            missing,
        } => {
            let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
            let rest = match missing.len() {
                0 => String::new(),
                count => format!("; {count} are missing: {}", missing.join(", ")),
            };
            console.report(
                &format!("{shards} shards of a job over {clips} clips, {batches} batches{rest}"),
                &json!({"event": "merge", "shards": shards, "batches": batches, "clips": clips, "missing": missing}),
            );
            console.start_bar(clips, 0);
        }
    }
}
