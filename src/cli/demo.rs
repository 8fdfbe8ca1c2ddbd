//! `handloom demo`: renders a dataset of synthetic hands, processes it like a real one and draws a contact sheet of the
//! detected hands.

use super::process;
use crate::cli::progress;
use crate::cli::{Cli, Command, DemoArgs};
use crate::config::Config;
use crate::draw::contact_sheet::{LegendEntry, Tile, contact_sheet};
use crate::draw::scene::signing_scene;
use crate::error::{CliError, Exit};
use crate::frame::DecoderChoice;
use crate::frame::{FrameSource, RgbFrame};
use crate::inference::ModelFiles;
use crate::recording::jpeg::{HAND_COLORS, draw_hands};
use crate::storage::batches::{FINAL_NAME, batch_path};
use crate::storage::npz::NpzReader;
use crate::video::clip::{VideoClip, VideoOptions};
use crate::video::encode::{Codec, best_codec, encode_mp4};
use anyhow::{Context, anyhow};
use clap::Parser;
use serde_json::json;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// Width and height of the rendered clips, in pixels.
const SIZE: (usize, usize) = (320, 240);
/// Frames of a rendered clip: more than a sequence spans, which is 64.
const FRAMES: usize = 70;
/// Tiles of a clip on the contact sheet, evenly spread over its frames.
const TILES: usize = 4;

/// The file of a clip.
enum DemoClip {
    /// A clip of signing hands.
    Hands { seed: u64, codec: Codec },
    /// A clip without hands.
    Empty,
    /// The first third of a file.
    CutOff { seed: u64 },
    /// A text file.
    Text,
    /// An empty file.
    Nothing,
    /// No file.
    Missing,
}

/// A clip of signing hands.
const fn hands(seed: u64, codec: Codec) -> DemoClip {
    DemoClip::Hands { seed, codec }
}

/// Gloss, video id, `frame_start` of the metadata, file.
const DATASET: [(&str, &str, i64, DemoClip); 15] = [
    ("hello", "00001", 1, hands(0, Codec::H264)),
    ("hello", "00002", 1, hands(1, Codec::H264)),
    ("hello", "00003", 1, hands(2, Codec::Mpeg4)),
    ("hello", "00004", 1, hands(3, Codec::H264)),
    ("hello", "00005", 20, hands(4, Codec::H264)),
    ("hello", "00006", 1, DemoClip::Missing),
    ("book", "00011", 1, hands(5, Codec::H264)),
    ("book", "00012", 1, hands(6, Codec::H264)),
    ("book", "00013", 1, hands(7, Codec::Mpeg4)),
    ("book", "00014", 1, DemoClip::Empty),
    ("book", "00015", 1, DemoClip::CutOff { seed: 8 }),
    ("book", "00016", 1, DemoClip::Text),
    ("book", "00017", 1, DemoClip::Nothing),
    ("book", "00018", 5122, hands(9, Codec::H264)),
    ("rare", "00021", 1, hands(10, Codec::H264)),
];

/// Renders the dataset, processes it and draws the contact sheet.
///
/// # Errors
/// When the folder cannot be used, an encoder is missing or the job fails.
pub fn run(args: &DemoArgs) -> Result<Exit, CliError> {
    let (dataset, result) = (args.out.join("dataset"), args.out.join("result"));
    refuse_foreign(&args.out)?;
    let config = Config {
        models: args.models.clone(),
        ..Config::default()
    };
    ModelFiles::load(&config.model_paths())?;
    // Checked before anything is written.
    let best = best_codec().map_err(|error| CliError::new(Exit::InOut, anyhow!(error)))?;
    progress::line(&format!(
        "Rendering {} clips of synthetic hands into {} ...",
        DATASET.len() - 1,
        dataset.display()
    ));
    if best != Codec::H264 {
        progress::line(
            "All clips are MPEG-4; for H.264: apt-get install gstreamer1.0-plugins-ugly (x264enc)",
        );
    }
    fs::create_dir_all(&args.out)
        .and_then(|()| fs::write(args.out.join(MARKER), "made by handloom demo\n"))
        .map_err(|e| {
            CliError::new(
                Exit::CannotCreate,
                anyhow!(e).context(format!("cannot use {}", args.out.display())),
            )
        })?;
    render(&dataset, best).map_err(|e| CliError::new(Exit::InOut, e))?;

    let mut line: Vec<OsString> = [
        "handloom",
        "process",
        "--progress",
        "bar",
        "--fresh",
        "--out",
    ]
    .map(OsString::from)
    .into();
    line.extend([
        result.clone().into_os_string(),
        dataset.clone().into_os_string(),
    ]);
    if let Some(n) = args.workers {
        line.extend([OsString::from("--workers"), n.to_string().into()]);
    }
    let cli = Cli::try_parse_from(line).map_err(|e| CliError::new(Exit::Bug, e))?;
    let Command::Process(mut process) = cli.command else {
        return Err(CliError::new(
            Exit::Bug,
            anyhow!("the demo's command line is not understood"),
        ));
    };
    process.models.clone_from(&args.models);
    process::run(&process)?;

    let image = args.out.join("contact-sheet.png");
    draw(&dataset.join("videos"), &result, &image).map_err(|e| CliError::new(Exit::InOut, e))?;
    progress::line(&format!(
        "\nSequences:      {}\nContact sheet:  {} (the detected hands)\nManifest:       {} (the state of each instance)\n\nNext, look into a batch file:  handloom inspect {}\nThen process your own dataset: handloom process --out RESULT DATASET",
        result.join(FINAL_NAME).display(),
        image.display(),
        result.join("manifest.jsonl").display(),
        batch_path(&result, 0).display(),
    ));
    Ok(Exit::Done)
}

/// Marks a folder that the demo made.
const MARKER: &str = ".handloom-demo";

/// Refuses a folder that holds other files than an earlier demo's.
fn refuse_foreign(out: &Path) -> Result<(), CliError> {
    let is_empty = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => {
            let error = anyhow!(error).context(format!("cannot use {}", out.display()));
            return Err(CliError::new(Exit::CannotCreate, error));
        }
    };
    if is_empty || out.join(MARKER).is_file() {
        return Ok(());
    }
    let error = anyhow!(
        "{} holds files that are not the demo's; choose another --out",
        out.display()
    );
    Err(CliError::new(Exit::CannotCreate, error))
}

/// Writes the dataset; `best` replaces H.264 where that cannot be encoded.
fn render(dataset: &Path, best: Codec) -> anyhow::Result<()> {
    let videos = dataset.join("videos");
    fs::create_dir_all(&videos).with_context(|| format!("cannot make {}", videos.display()))?;
    let mut entries: Vec<serde_json::Value> = Vec::new();
    for (gloss, id, frame_start, clip) in &DATASET {
        let path = videos.join(format!("{id}.mp4"));
        let scene = |seed: u64| (0..FRAMES).map(move |i| signing_scene(seed, i, SIZE.0, SIZE.1));
        match clip {
            DemoClip::Hands {
                seed,
                codec: Codec::Mpeg4,
            } => encode_mp4(&path, scene(*seed), 25, Codec::Mpeg4)?,
            DemoClip::Hands { seed, .. } => encode_mp4(&path, scene(*seed), 25, best)?,
            DemoClip::Empty => encode_mp4(
                &path,
                (0..FRAMES).map(|_| RgbFrame::new(SIZE.0, SIZE.1)),
                25,
                best,
            )?,
            DemoClip::CutOff { seed } => {
                encode_mp4(&path, scene(*seed), 25, best)?;
                let bytes = fs::read(&path)?;
                fs::write(&path, &bytes[..bytes.len() / 3])?;
            }
            DemoClip::Text => fs::write(&path, "this is not a video\n")?,
            DemoClip::Nothing => fs::write(&path, "")?,
            DemoClip::Missing => {}
        }
        let instance = json!({"video_id": id, "frame_start": frame_start, "frame_end": -1, "split": "train", "signer_id": 1, "instance_id": 0});
        match entries
            .iter_mut()
            .find(|e| e["gloss"] == *gloss)
            .and_then(|e| e["instances"].as_array_mut())
        {
            Some(instances) => instances.push(instance),
            None => entries.push(json!({"gloss": gloss, "instances": [instance]})),
        }
    }
    fs::write(
        dataset.join("WLASL_v0.3.json"),
        serde_json::to_vec_pretty(&entries)?,
    )?;
    Ok(())
}

/// Draws the landmarks of the first batch over the frames in which they were detected.
fn draw(videos: &Path, result: &Path, image: &Path) -> anyhow::Result<()> {
    let mut npz = NpzReader::open(&batch_path(result, 0))?;
    let (ids, labels) = (npz.strings("video_ids")?, npz.strings("labels")?);
    let (landmarks, shape) = npz.numbers::<f32>("landmarks")?;
    let (counts, _) = npz.numbers::<u8>("hand_count")?;
    let (indexes, _) = npz.numbers::<i32>("frame_index")?;
    let length = *shape
        .get(1)
        .ok_or_else(|| anyhow!("landmarks without frames"))?;
    let options = VideoOptions {
        decoder: DecoderChoice::Software,
        timeout: Duration::from_mins(1),
    };
    let mut tiles = Vec::new();
    for (row, (id, label)) in ids.iter().zip(&labels).enumerate() {
        let mut clip = VideoClip::open(&videos.join(format!("{id}.mp4")), &options)?;
        let mut at = -1;
        let frames = &indexes[row * length..(row + 1) * length];
        let seen = frames.iter().filter(|i| **i >= 0).count();
        for tile in 0..TILES {
            let nth = (2 * tile + 1) * seen / (2 * TILES);
            let (step, index) = (row * length + nth, frames[nth]);
            while at < index && clip.advance()? {
                at += 1;
            }
            let mut frame = clip.frame()?.clone();
            let hands = landmarks[step * 126..].chunks_exact(63);
            let point = |hand: &[f32], i: usize| [hand[3 * i], hand[3 * i + 1], hand[3 * i + 2]];
            let hands: Vec<_> = hands
                .take(usize::from(counts[step]))
                .map(|hand| std::array::from_fn(|i| point(hand, i)))
                .collect();
            draw_hands(&mut frame, &hands);
            tiles.push(Tile {
                frame,
                caption: format!("{label} {id} frame {index}: {}", hands_text(counts[step])),
            });
        }
    }
    let sheet = contact_sheet(&legend(), &tiles, TILES);
    let (width, height) = (
        u32::try_from(sheet.width())?,
        u32::try_from(sheet.height())?,
    );
    image::save_buffer(
        image,
        sheet.pixels(),
        width,
        height,
        image::ExtendedColorType::Rgb8,
    )
    .with_context(|| format!("cannot write {}", image.display()))
}

/// What the colors and the rows of the contact sheet mean.
fn legend() -> [LegendEntry; 3] {
    let [first, second] = HAND_COLORS;
    let entry = |color, text| LegendEntry { color, text };
    [
        entry(Some(first), "first hand: numbers 0 to 62 of a frame"),
        entry(Some(second), "second hand: numbers 63 to 125"),
        entry(
            None,
            "one row: 4 sampled frames of one clip; captions: label, video id",
        ),
    ]
}

fn hands_text(count: u8) -> String {
    format!("{count} hand{}", if count == 1 { "" } else { "s" })
}
