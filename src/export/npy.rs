//! One `.npy` file a clip, f32 `[T, 42, 3]`, and `index.csv`.

use super::source::{ClipHands, ExportClip, SidedFrame};
use super::{ClipFacts, ExportError};
use crate::hand::landmarks::LANDMARKS;
use crate::sequence::normalize::SLOTS;
use crate::storage::npz::write_npy;
use std::io::{self, Write};

/// Columns of `index.csv`; the facts of a clip are empty when unknown.
const COLUMNS: [&str; 13] = [
    "path",
    "video_id",
    "label",
    "label_id",
    "split",
    "signer_id",
    "frame_start",
    "frame_end",
    "frames",
    "fps",
    "width",
    "height",
    "same_side_frames",
];

/// Writes the landmarks of a clip: f32 `[T, 42, 3]`, left hand first, NaN where there is no hand.
pub(super) fn write(to: impl Write, hands: &ClipHands) -> io::Result<()> {
    let shape = [hands.frames.len(), SLOTS * LANDMARKS, 3];
    write_npy(to, &shape, hands.frames.iter().flat_map(SidedFrame::values))
}

/// `index.csv`: one line a file, with the facts that `facts_of` it gives.
pub(super) fn index<'a>(
    files: impl Iterator<Item = (&'a str, &'a ExportClip)>,
    facts_of: impl Fn(&str) -> Option<&'a ClipFacts>,
) -> Result<Vec<u8>, ExportError> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(COLUMNS).map_err(io::Error::from)?;
    for (name, clip) in files {
        let facts = facts_of(name);
        let number = |of: fn(&ClipFacts) -> String| facts.map(of).unwrap_or_default();
        let range = clip
            .range
            .map(|frame| frame.map_or_else(String::new, |n| n.to_string()));
        let [start, end] = range;
        let line = [
            name.to_owned(),
            clip.video_id.clone(),
            clip.gloss.clone(),
            clip.label_id.to_string(),
            clip.split.clone(),
            clip.signer_id.to_string(),
            start,
            end,
            number(|facts| facts.frames.to_string()),
            number(|facts| facts.fps.map_or_else(String::new, |fps| fps.to_string())),
            number(|facts| facts.width.to_string()),
            number(|facts| facts.height.to_string()),
            number(|facts| facts.same_side_frames.to_string()),
        ];
        table.write_record(line).map_err(io::Error::from)?;
    }
    Ok(table
        .into_inner()
        .map_err(csv::IntoInnerError::into_error)?)
}
