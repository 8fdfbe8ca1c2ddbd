//! Tar shards for `webdataset`: `KEY.json`, then `KEY.landmarks.npy`, of each clip in turn.

use super::ExportError;
use super::npy;
use super::source::{ClipHands, ExportClip};
use serde_json::json;
use std::io::{self, Write};
use tar::{Builder, EntryType, Header};

/// Writes the tar file of one shard.
pub(super) fn write<'a>(
    to: &mut impl Write,
    clips: impl Iterator<Item = Result<(&'a ExportClip, ClipHands), ExportError>>,
) -> Result<(), ExportError> {
    let mut tar = Builder::new(to);
    for clip in clips {
        let (clip, hands) = clip?;
        let mut array = Vec::new();
        npy::write(&mut array, &hands)?;
        add(
            &mut tar,
            &format!("{}.json", clip.key),
            &metadata(clip, &hands)?,
        )?;
        add(&mut tar, &format!("{}.landmarks.npy", clip.key), &array)?;
    }
    tar.into_inner()?;
    Ok(())
}

/// Adds a file to the archive, without time and owner.
fn add(tar: &mut Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes)
}

fn metadata(clip: &ExportClip, hands: &ClipHands) -> io::Result<Vec<u8>> {
    let frames = &hands.frames;
    let [start, end] = clip.range;
    Ok(serde_json::to_vec(&json!({
        "video_id": clip.video_id,
        "label": clip.gloss,
        "label_id": clip.label_id,
        "split": clip.split,
        "signer_id": clip.signer_id,
        "frame_start": start,
        "frame_end": end,
        "fps": hands.fps,
        "width": hands.width,
        "height": hands.height,
        "frame_index": frames.iter().map(|frame| frame.frame_index).collect::<Vec<_>>(),
        "time_s": frames.iter().map(|frame| frame.time_s).collect::<Option<Vec<_>>>(),
        "scores": frames.iter().map(|frame| frame.scores).collect::<Vec<_>>(),
        "same_side": frames.iter().map(|frame| frame.is_same_side).collect::<Vec<_>>(),
    }))?)
}
