//! The dataset card `README.md`: describes the files for people, and names the files of each split for Hugging Face.

use super::source::ExportClip;
use super::{ExportFormat, ExportFrames, by_split};
use std::fmt::Write as _;

/// The text of `README.md` for an export of `clips`. `classes` is the number of classes.
pub(super) fn card(
    format: ExportFormat,
    frames: ExportFrames,
    clips: &[ExportClip],
    classes: usize,
) -> String {
    let splits = by_split(clips);
    let mut card = String::new();
    if format.is_sharded() {
        card.push_str("---\nconfigs:\n- config_name: default\n  data_files:\n");
        for split in splits.keys() {
            let files = match format {
                ExportFormat::Webdataset => format!("{split}-*.tar"),
                _ => format!("data/{split}-*.parquet"),
            };
            // Quoted: a split may be called `no` or `1`, which YAML reads as something else.
            write!(card, "  - split: \"{split}\"\n    path: \"{files}\"\n").ok();
        }
        card.push_str("---\n");
    }
    let which = match frames {
        ExportFrames::Sequences => "the frames that the sequences were made of, without padding",
        ExportFrames::Kept => {
            "every frame of each clip; `frame_start` and `frame_end` of the metadata say where the sign is"
        }
    };
    write!(
        card,
        "# Hand landmarks of {} clips of sign language, {classes} classes\n\n\
         Exported by Handloom {}: {which}. `dataset.json` has the settings, and the SHA-256 of all files and of what they \
         were made from.\n\n| split | clips |\n|---|---|\n",
        clips.len(),
        env!("CARGO_PKG_VERSION"),
    )
    .ok();
    for (split, members) in &splits {
        writeln!(card, "| {split} | {} |", members.len()).ok();
    }
    card.push_str(COMMON);
    card.push_str(match format {
        ExportFormat::Pose => POSE,
        ExportFormat::Parquet => PARQUET,
        ExportFormat::AslSigns => ASL_SIGNS,
        ExportFormat::Webdataset => WEBDATASET,
        ExportFormat::Npy => NPY,
    });
    card
}

const COMMON: &str = "
Landmarks are those of MediaPipe's hand landmarker as detected, neither normalised nor filled. The left hand comes first.
Sides are the model's guess. Of two hands that it takes for the same side the one with the better score keeps it, and
`same_side` marks the frame. x and y are fractions of the image's width and height, z is in image widths relative to the
wrist. A signer of -1 is unknown. `fps` counts exported frames.
";

const POSE: &str = "
`SPLIT/KEY.pose` are files of pose-format 0.2, `index.csv` has one line for each. x and y are in pixels; a missing hand has
zeros with confidence 0; the confidence of a hand is the probability of its side. Where the size of the image is unknown it
is 1 x 1, and where the rate is unknown the file says 25 and `index.csv` nothing. There are hands only: `pose.normalize()`
needs the shoulders of `POSE_LANDMARKS` and fails; give it two points of a hand instead.
";

const PARQUET: &str = "
One row is one clip. `landmarks` is f32 [T, 2, 21, 3] with NaN where there is no hand, `scores` f32 [T, 2] is the
probability of the side, 0 where there is no hand. `frame_index` counts from 0; `time_s` has seconds where they are known.

    from datasets import load_dataset
    clips = load_dataset(\"FOLDER\", split=\"train\").with_format(\"numpy\")
";

const ASL_SIGNS: &str = "
The layout of Kaggle's asl-signs: `train.csv` names `train_landmark_files/PARTICIPANT/SEQUENCE.parquet`, 543 rows a frame.
Face and pose are never there, so their rows are NaN, as those of a missing hand. `train.csv` has two more columns:
`video_id` and `split`.
";

const WEBDATASET: &str = "
Each clip is `KEY.json` and `KEY.landmarks.npy`, f32 [T, 42, 3] with NaN where there is no hand.

    import webdataset as wds
    clips = wds.WebDataset(\"SPLIT-000000.tar\", shardshuffle=False).decode().to_tuple(\"landmarks.npy\", \"json\")
";

const NPY: &str = "
`SPLIT/KEY.npy` is f32 [T, 42, 3] with NaN where there is no hand; `index.csv` has one line for each file, and
`label_map.json` the numbers of the labels.
";
