//! `handloom inspect`: summarizes npz files.

use crate::cli::InspectArgs;
use crate::cli::progress;
use crate::error::{CliError, Exit};
use crate::sequence::normalize::FEATURES;
use crate::storage::StoreError;
use crate::storage::npz::NpzReader;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Labels in the text summary; the JSON summary has all.
const LABELS_SHOWN: usize = 15;

/// Prints a summary of each file.
///
/// # Errors
/// At the first file that cannot be read.
pub fn run(args: &InspectArgs) -> Result<Exit, CliError> {
    for path in &args.files {
        let summary = inspect(path)?;
        if args.json {
            progress::line(&summary.to_string());
        } else {
            progress::line(&table(&summary));
        }
    }
    Ok(Exit::Done)
}

/// A file's arrays, labels and number of frames by hands.
fn inspect(path: &Path) -> Result<Value, StoreError> {
    let mut npz = NpzReader::open(path)?;
    let mut arrays = serde_json::Map::new();
    for name in npz.names() {
        let (descr, shape) = npz.header(&name)?;
        arrays.insert(name, json!({"dtype": descr, "shape": shape}));
    }
    let mut summary = json!({"file": path, "arrays": arrays});
    let has = |name: &str| arrays.contains_key(name);
    if has("labels") {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for label in npz.strings("labels")? {
            *counts.entry(label).or_default() += 1;
        }
        summary["labels"] = json!(counts);
    }
    if has("hand_count") && has("frame_index") {
        let (counts, _) = npz.numbers::<u8>("hand_count")?;
        let (index, _) = npz.numbers::<i32>("frame_index")?;
        let mut frames = [0_usize; 4];
        for (count, index) in counts.iter().zip(&index) {
            frames[if *index < 0 {
                3
            } else {
                usize::from(*count).min(2)
            }] += 1;
        }
        summary["frames"] = json!({"no_hand": frames[0], "one_hand": frames[1], "two_hands": frames[2], "padding": frames[3]});
    } else if has("sequences") {
        // Without frame numbers padding cannot be told from a frame without a hand.
        let (values, shape) = npz.numbers::<f32>("sequences")?;
        let width = shape.last().copied().unwrap_or(FEATURES).max(1);
        let mut frames = [0_usize; 3];
        for row in values.chunks_exact(width) {
            frames[row
                .chunks(width.div_ceil(2))
                .filter(|hand| hand.iter().any(|v| *v != 0.0))
                .count()
                .min(2)] += 1;
        }
        summary["frames"] =
            json!({"no_hand_or_padding": frames[0], "one_hand": frames[1], "two_hands": frames[2]});
    }
    Ok(summary)
}

/// The summary as text.
fn table(summary: &Value) -> String {
    let mut out = format!("{}\n", summary["file"].as_str().unwrap_or_default());
    // Writing to a String cannot fail.
    for (name, array) in summary["arrays"].as_object().into_iter().flatten() {
        let shape: Vec<String> = array["shape"]
            .as_array()
            .into_iter()
            .flatten()
            .map(Value::to_string)
            .collect();
        writeln!(
            out,
            "  {name:<17} {:<6} [{}]",
            array["dtype"].as_str().unwrap_or_default(),
            shape.join(", ")
        )
        .ok();
    }
    if let Some(labels) = summary["labels"].as_object() {
        let mut sorted: Vec<(&String, u64)> = labels
            .iter()
            .map(|(l, n)| (l, n.as_u64().unwrap_or(0)))
            .collect();
        sorted.sort_by_key(|(label, n)| (std::cmp::Reverse(*n), *label));
        writeln!(out, "  {} labels:", sorted.len()).ok();
        for (label, n) in sorted.iter().take(LABELS_SHOWN) {
            writeln!(out, "    {label:<20} {n:>6}").ok();
        }
        if sorted.len() > LABELS_SHOWN {
            writeln!(
                out,
                "    … and {} more (--json shows all)",
                sorted.len() - LABELS_SHOWN
            )
            .ok();
        }
    }
    if let Some(frames) = summary["frames"].as_object() {
        let total: u64 = frames.values().filter_map(Value::as_u64).sum();
        for (what, n) in frames {
            let n = n.as_u64().unwrap_or(0);
            #[expect(clippy::cast_precision_loss, reason = "a percentage")]
            let share = n as f64 * 100.0 / total.max(1) as f64;
            writeln!(
                out,
                "  {:<20} {n:>8} frames  {share:>5.1} %",
                what.replace('_', " ")
            )
            .ok();
        }
    }
    out
}
