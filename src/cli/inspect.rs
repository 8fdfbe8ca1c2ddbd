//! `handloom inspect`: summarizes output folders and npz files.

mod folder;

use crate::cli::progress::print_line;
use crate::error::{CliError, Exit};
use crate::sequence::normalize::FEATURES;
use crate::storage::StoreError;
use crate::storage::npz::NpzReader;
use clap::Args;
use folder::{folder_table, inspect_folder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

pub(super) const INSPECT_ABOUT: &str = "\
Show the content of output folders and npz files: states, shapes, labels, hands found.

Of a folder it shows the files, the states of all instances and the joined file. `handloom report`
says more about the data.

Examples:
  handloom inspect out/                                  everything in short
  handloom inspect out/wlasl_landmarks.npz
  handloom inspect out/batches/*.npz --json              one JSON object a file";

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Output folders, or npz files: wlasl_landmarks.npz, batches or kept frames
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print one JSON object for each
    #[arg(long)]
    pub json: bool,
}

/// Labels in the text summary; the JSON summary has all.
const LABELS_SHOWN: usize = 15;

/// Maximum memory for different labels, in bytes.
const LABELS_BYTES_MAX: usize = 32 << 20;
/// Memory of a counted label beside its text, in bytes.
const LABEL_OVERHEAD_BYTES: usize = 64;

/// Prints a summary of each file or folder.
///
/// # Errors
/// Fails at the first file or folder that cannot be read.
pub fn run(args: &InspectArgs) -> Result<Exit, CliError> {
    for path in &args.files {
        if path.is_dir() {
            let summary = inspect_folder(path, inspect)?;
            print_line(&if args.json {
                summary.to_string()
            } else if summary["joined"].is_null() {
                folder_table(&summary)
            } else {
                folder_table(&summary) + &table(&summary["joined"])
            });
            continue;
        }
        let summary = inspect(path)?;
        print_line(&if args.json {
            summary.to_string()
        } else {
            table(&summary)
        });
    }
    Ok(Exit::Done)
}

/// A file's arrays, clips, labels and number of frames by hands.
fn inspect(path: &Path) -> Result<Value, StoreError> {
    let mut npz = NpzReader::open(path)?;
    let mut arrays = serde_json::Map::new();
    for name in npz.names() {
        let (descr, shape) = npz.header(&name)?;
        arrays.insert(name, json!({"dtype": descr, "shape": shape}));
    }
    // A path that is no UTF-8 is shown with replacement characters.
    let mut summary = json!({"file": path.to_string_lossy(), "arrays": arrays});
    let has = |name: &str| arrays.contains_key(name);
    // Kept frames: those of a clip lie between two offsets.
    if has("offsets") {
        let (_, shape) = npz.header("offsets")?;
        summary["clips"] = json!(shape.first().map_or(0, |n| n.saturating_sub(1)));
    }
    if has("labels") {
        summary["labels"] = json!(count_labels(&mut npz)?);
    }
    if has("hand_count") && has("frame_index") {
        let (counts, _) = npz.numbers::<u8>("hand_count")?;
        let (indexes, _) = npz.numbers::<i32>("frame_index")?;
        // Without and with one and two hands; the rest is padding.
        let mut frames = [0_usize; 4];
        for (count, index) in counts.iter().zip(&indexes) {
            let is_padding = *index < 0;
            frames[if is_padding {
                3
            } else {
                usize::from(*count).min(2)
            }] += 1;
        }
        let [none, one, two, padding] = frames;
        summary["frames"] =
            json!({"no_hand": none, "one_hand": one, "two_hands": two, "padding": padding});
    } else if has("sequences") {
        let [none, one, two] = count_hands(&mut npz)?;
        summary["frames"] = json!({"no_hand_or_padding": none, "one_hand": one, "two_hands": two});
    }
    Ok(summary)
}

/// How often each label occurs.
fn count_labels(npz: &mut NpzReader) -> Result<BTreeMap<String, usize>, StoreError> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut bytes = 0;
    npz.pieces::<String>("labels", |labels| {
        for label in labels.drain(..) {
            let count = counts.entry(label).or_insert_with_key(|label| {
                bytes += label.len() + LABEL_OVERHEAD_BYTES;
                0
            });
            *count += 1;
        }
        if bytes > LABELS_BYTES_MAX {
            return Err(io::Error::other(
                "it has too many different labels to count",
            ));
        }
        Ok(())
    })?;
    Ok(counts)
}

/// The numbers of frames without, with one and with two hands. Without frame numbers padding looks like a frame without
/// hands.
fn count_hands(npz: &mut NpzReader) -> Result<[usize; 3], StoreError> {
    let (_, shape) = npz.header("sequences")?;
    let width = shape.last().copied().unwrap_or(FEATURES).max(1);
    let per_hand = width.div_ceil(2);
    let mut frames = [0; 3];
    let (mut column, mut hands) = (0, [false; 2]);
    npz.pieces::<f32>("sequences", |values| {
        for value in values.drain(..) {
            // With `--missing nan` a missing hand is NaN.
            hands[column / per_hand] |= value != 0.0 && !value.is_nan();
            column += 1;
            if column == width {
                frames[hands.into_iter().filter(|is_there| *is_there).count()] += 1;
                (column, hands) = (0, [false; 2]);
            }
        }
        Ok(())
    })?;
    Ok(frames)
}

/// The summary as text.
fn table(summary: &Value) -> String {
    let mut out = format!("{}\n", summary["file"].as_str().unwrap_or_default());
    // Writing to a String cannot fail.
    for (name, array) in summary["arrays"].as_object().into_iter().flatten() {
        let dtype = array["dtype"].as_str().unwrap_or_default();
        let sizes = array["shape"].as_array().into_iter().flatten();
        let shape: Vec<String> = sizes.map(Value::to_string).collect();
        writeln!(out, "  {name:<17} {dtype:<6} [{}]", shape.join(", ")).ok();
    }
    if let Some(clips) = summary["clips"].as_u64() {
        writeln!(out, "  {clips} clips, every frame of each").ok();
    }
    if let Some(labels) = summary["labels"].as_object() {
        let counts = labels.iter().map(|(l, n)| (l, n.as_u64().unwrap_or(0)));
        let mut sorted: Vec<(&String, u64)> = counts.collect();
        sorted.sort_by_key(|(label, n)| (std::cmp::Reverse(*n), *label));
        writeln!(out, "  {} labels:", sorted.len()).ok();
        for (label, n) in sorted.iter().take(LABELS_SHOWN) {
            writeln!(out, "    {label:<20} {n:>6}").ok();
        }
        if let Some(more @ 1..) = sorted.len().checked_sub(LABELS_SHOWN) {
            writeln!(out, "    … and {more} more (--json shows all)").ok();
        }
    }
    if let Some(frames) = summary["frames"].as_object() {
        let total: u64 = frames.values().filter_map(Value::as_u64).sum();
        for (what, n) in frames {
            let (what, n) = (what.replace('_', " "), n.as_u64().unwrap_or(0));
            #[expect(clippy::cast_precision_loss, reason = "a percentage")]
            let share = n as f64 * 100.0 / total.max(1) as f64;
            writeln!(out, "  {what:<20} {n:>8} frames  {share:>5.1} %").ok();
        }
    }
    out
}
