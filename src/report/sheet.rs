//! The contact sheet of an output folder: sampled frames of its clips with the hands that were found in them.

use super::ReportError;
use super::figures::has_hand;
use super::images::{FrameReader, png};
use super::output::{ClipNumbers, OutputFolder};
use crate::draw::contact_sheet::{LegendEntry, Tile, contact_sheet};
use crate::draw::skeleton::{HAND_COLORS, draw_landmarks};
use crate::frame::{RgbFrame, SourceError};
use crate::sequence::FrameRecord;
use crate::sequence::normalize::SLOTS;
use crate::video::dataset_source::DatasetSource;
use crate::video::turns::DecodeTurns;
use serde_json::Value;
use std::path::Path;

/// Largest number of clips on a sheet. They are evenly spread over the output.
const CLIPS_MAX: usize = 40;
/// Number of tiles per clip. They are evenly spread over its frames.
const TILES: usize = 4;
/// Length of a caption in characters.
const CAPTION_CHARS: usize = 40;
/// Width and height of a frame in pixels when those of the clip are unknown.
const SIZE: [usize; 2] = [320, 240];

/// Draws the contact sheet of the folder `out` as PNG: on the frames of `dataset`, or on black.
///
/// # Errors
/// Fails when the folder cannot be read, or the machine cannot decode clips.
pub fn sheet(out: &Path, dataset: Option<&DatasetSource>) -> Result<Vec<u8>, ReportError> {
    let mut folder = OutputFolder::open(out)?;
    let stored = folder.instances.iter().filter_map(|record| record.stored);
    let total = stored
        .filter(|at| folder.batches.contains(&at.batch))
        .count();
    let mut clips = Vec::new();
    let mut count = 0;
    folder.read_rows(|row, record| {
        // Divide all clips into `CLIPS_MAX` parts and take the first clip of each part.
        let part = |n: usize| n * CLIPS_MAX / total.max(1);
        let is_first = count == 0 || part(count) != part(count - 1);
        count += 1;
        if is_first && clips.len() < CLIPS_MAX {
            let frames = row.frames.len();
            let shown =
                (0..TILES.min(frames)).map(|n| (2 * n + 1) * frames / (2 * TILES.min(frames)));
            let shown: Vec<FrameRecord> = shown.map(|at| row.frames[at].clone()).collect();
            let name = format!("{} {}", row.gloss, row.video_id);
            clips.push((name, row.video_id.to_string(), record.clip.clone(), shown));
        }
    })?;
    let turns = DecodeTurns::default();
    let mut reader = dataset
        .map(|dataset| FrameReader::new(dataset, &turns))
        .transpose()?;
    let mut tiles = Vec::new();
    for (name, id, clip, records) in clips {
        let mut frames = Vec::new();
        if let Some(reader) = &mut reader {
            let indices = records.iter().map(|record| record.frame_index);
            match reader.frames(&id, indices, |frame| frames.push(frame.clone())) {
                // The tiles of a clip that cannot be decoded stay black.
                Ok(()) | Err(SourceError::Clip(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut frames = frames.into_iter();
        for tile in 0..TILES {
            // A shorter clip leaves the rest of its row empty.
            tiles.push(match records.get(tile) {
                Some(record) => drawn(&name, record, frames.next().unwrap_or_else(|| black(&clip))),
                None => Tile {
                    frame: RgbFrame::default(),
                    caption: String::new(),
                },
            });
        }
    }
    png(&contact_sheet(&legend(&folder.run), &tiles, TILES)).map_err(ReportError::Image)
}

/// The tile of `record`: `frame` with the hands drawn on it.
fn drawn(name: &str, record: &FrameRecord, mut frame: RgbFrame) -> Tile {
    let mut hands = 0;
    for slot in (0..SLOTS).filter(|slot| has_hand(record, *slot)) {
        hands += 1;
        let points = record.landmarks[slot].map(|[x, y, _]| [x, y]);
        draw_landmarks(&mut frame, &points, HAND_COLORS[slot]);
    }
    let s = if hands == 1 { "" } else { "s" };
    let end = format!(" frame {}: {hands} hand{s}", record.frame_index);
    let name = name.to_lowercase();
    let length = CAPTION_CHARS.saturating_sub(end.chars().count());
    let caption: String = name.chars().take(length).chain(end.chars()).collect();
    Tile { frame, caption }
}

fn black(clip: &ClipNumbers) -> RgbFrame {
    let [width, height] = [
        clip.width.unwrap_or(SIZE[0]),
        clip.height.unwrap_or(SIZE[1]),
    ];
    // Keep the aspect ratio of the clip and use the width of the sheet.
    let height = (SIZE[0].saturating_mul(height) / width.max(1)).clamp(1, 4 * SIZE[0]);
    RgbFrame::new(SIZE[0], height)
}

/// The legend of colors and rows. With slots in the order of detection, each color stands for a range of the numbers.
fn legend(run: &Value) -> [LegendEntry; 3] {
    let [first, second] = HAND_COLORS;
    let slots = run["settings"]["slots"].as_str().unwrap_or("detected");
    let [first_text, second_text] = match slots {
        "detected" => [
            "first hand: numbers 0 to 62 of a frame",
            "second hand: numbers 63 to 125",
        ],
        _ => ["first detected hand", "second detected hand"],
    };
    let entry = |color, text| LegendEntry { color, text };
    [
        entry(Some(first), first_text),
        entry(Some(second), second_text),
        entry(
            None,
            "one row: 4 sampled frames of one clip; captions: label, video id",
        ),
    ]
}
