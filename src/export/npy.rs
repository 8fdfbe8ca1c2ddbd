//! One `.npy` file per clip, f32 `[T, 42, 3]`, and `index.csv`.

use super::ExportError;
use super::source::{ClipHands, ExportClip, FrameHands};
use crate::hand::landmarks::LANDMARKS;
use crate::sequence::normalize::SLOTS;
use crate::storage::npz::write_npy;
use std::io::{self, Write};

/// Columns of `index.csv`: those of the clip's record, then its [`facts`].
const COLUMNS: &str = "path,video_id,label,label_id,split,signer_id,frame_start,frame_end,\
                       frames,fps,width,height,same_side_frames";

/// Writes the landmarks of a clip: f32 `[T, 42, 3]`, left hand first, NaN where there is no hand.
pub(super) fn write(to: impl Write, hands: &ClipHands) -> io::Result<()> {
    let shape = [hands.frames.len(), SLOTS * LANDMARKS, 3];
    write_npy(to, &shape, hands.frames.iter().flat_map(FrameHands::values))
}

/// The last columns of `index.csv`: number of frames, rate, width, height, frames with two hands of one side. An
/// unknown rate is empty.
pub(super) fn facts(hands: &ClipHands) -> Vec<String> {
    let same_side = hands
        .frames
        .iter()
        .filter(|frame| frame.is_same_side)
        .count();
    let [width, height] = [hands.width, hands.height].map(|side| side.to_string());
    let fps = hands.fps.map_or_else(String::new, |fps| fps.to_string());
    vec![
        hands.frames.len().to_string(),
        fps,
        width,
        height,
        same_side.to_string(),
    ]
}

/// The text of `index.csv`, one line per file. `facts_of` returns the [`facts`] of a file by its name.
pub(super) fn index<'a>(
    files: impl Iterator<Item = (&'a str, &'a ExportClip)>,
    facts_of: impl Fn(&str) -> &'a [String],
) -> Result<Vec<u8>, ExportError> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table
        .write_record(COLUMNS.split(','))
        .map_err(io::Error::from)?;
    for (name, clip) in files {
        let [start, end] = clip
            .range
            .map(|frame| frame.map_or_else(String::new, |n| n.to_string()));
        let [label_id, signer] = [clip.label_id, clip.signer_id].map(|number| number.to_string());
        let known = [
            name,
            &clip.video_id,
            &clip.gloss,
            &label_id,
            &clip.split,
            &signer,
            &start,
            &end,
        ];
        let facts = facts_of(name).iter().map(String::as_str);
        table
            .write_record(known.into_iter().chain(facts))
            .map_err(io::Error::from)?;
    }
    Ok(table
        .into_inner()
        .map_err(csv::IntoInnerError::into_error)?)
}
