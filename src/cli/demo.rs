//! `handloom demo`: renders a dataset of synthetic hands, processes it like a real one and draws a contact sheet of the
//! detected hands.

use crate::cli::process::{self, ResumeArgs};
use crate::cli::progress::{Console, ProgressKind, print_line};
use crate::config::constraints::whole;
use crate::config::{AcceleratorConfig, Config, ModelsConfig};
use crate::draw::scene::signing_scene;
use crate::error::{CliError, Exit};
use crate::frame::RgbFrame;
use crate::inference::ModelFiles;
use crate::report::sheet::sheet;
use crate::storage::atomic_file::{refuse_link, write_whole};
use crate::storage::batches::FINAL_NAME;
use crate::video::dataset_source::DatasetSource;
use crate::video::encode::{Codec, best_codec, encode_mp4};
use anyhow::{Context, anyhow};
use clap::{Args, Command, FromArgMatches};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

pub(super) const DEMO_ABOUT: &str = "\
Draw moving hands, make a small dataset of them, process it and show the result.

Needs neither a dataset nor a camera. --out gets dataset/, result/ and contact-sheet.png.

Examples:
  handloom demo
  handloom demo --out /tmp/demo --workers 2";

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the dataset, the results and the contact sheet
    #[arg(long, value_name = "DIR", default_value = "handloom-demo")]
    pub out: PathBuf,
    /// Clips processed at the same time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, 256))]
    pub workers: Option<usize>,
    /// `[models]`
    #[command(flatten, next_help_heading = "Which models")]
    pub models: ModelsConfig,
}

/// Width and height of the rendered clips, in pixels.
const SIZE: (usize, usize) = (320, 240);
/// Frames of a rendered clip: more than a sequence spans, which is 64.
const FRAMES: usize = 70;

/// The file of a clip.
enum DemoClip {
    /// A clip of signing hands.
    Hands { seed: u64, codec: Codec },
    /// A clip without hands.
    Empty,
    /// The first third of a file.
    CutOff { seed: u64 },
    /// A file with this text.
    Text(&'static str),
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
    ("book", "00016", 1, DemoClip::Text("this is not a video\n")),
    ("book", "00017", 1, DemoClip::Text("")),
    ("book", "00018", 5122, hands(9, Codec::H264)),
    ("rare", "00021", 1, hands(10, Codec::H264)),
];

/// Renders the dataset, processes it and draws the contact sheet.
///
/// # Errors
/// Fails when the folder cannot be used, an encoder is missing or the job fails.
pub fn run(args: &DemoArgs) -> Result<Exit, CliError> {
    let (dataset, result) = (args.out.join("dataset"), args.out.join("result"));
    refuse_foreign(&args.out)?;
    let mut config = Config {
        models: args.models.clone(),
        ..Config::default()
    };
    config.dataset.path.clone_from(&dataset);
    config.output.path.clone_from(&result);
    config.run.workers = args.workers;
    config.run.accelerator = accelerator_of_environment()?;
    ModelFiles::load(&config.model_paths())?;
    // Checked before anything is written.
    let best = best_codec().map_err(|error| CliError::new(Exit::InOut, anyhow!(error)))?;
    print_line(&format!(
        "Rendering {} clips of synthetic hands into {} ...",
        DATASET.len() - 1,
        dataset.display()
    ));
    if best != Codec::H264 {
        print_line(
            "All clips are MPEG-4; for H.264: apt-get install gstreamer1.0-plugins-ugly (x264enc)",
        );
    }
    fs::create_dir_all(&args.out)
        .and_then(|()| write_whole(&args.out, MARKER, b"made by handloom demo\n"))
        .map_err(|error| cannot_use(&args.out, error))?;
    render(&dataset, best).map_err(|e| CliError::new(Exit::InOut, e))?;

    let fresh = ResumeArgs {
        fresh: true,
        rescan: false,
        retry_failed: false,
    };
    process::run_job(&config, &Console::new(ProgressKind::Bar), fresh)?;

    let image = args.out.join(SHEET_NAME);
    let sheet = sheet(&result, Some(&DatasetSource::open(&dataset, None, None)?))?;
    write_whole(&args.out, SHEET_NAME, &sheet).map_err(|error| cannot_use(&args.out, error))?;
    print_line(&format!(
        "\nSequences:      {}\nContact sheet:  {} (the detected hands)\nManifest:       {} (the state of each instance)\n\nNext, a page about the data:   handloom report {}\nThen process your own dataset: handloom process --out RESULT DATASET",
        result.join(FINAL_NAME).display(),
        image.display(),
        result.join("manifest.jsonl").display(),
        result.display(),
    ));
    Ok(Exit::Done)
}

/// The settings of the accelerator. There are no flags for them, but the environment counts as it does for `process`.
fn accelerator_of_environment() -> Result<AcceleratorConfig, CliError> {
    let command = AcceleratorConfig::augment_args(Command::new("demo").no_binary_name(true));
    let matches = command.try_get_matches_from([""; 0]);
    let read = matches.and_then(|matches| AcceleratorConfig::from_arg_matches(&matches));
    read.map_err(|error| CliError::new(Exit::Usage, error))
}

/// The picture of the demo.
const SHEET_NAME: &str = "contact-sheet.png";
/// Marks a folder of the demo.
const MARKER: &str = ".handloom-demo";

/// Refuses a folder that holds other files than an earlier demo's.
fn refuse_foreign(out: &Path) -> Result<(), CliError> {
    let is_empty = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(cannot_use(out, error)),
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

fn cannot_use(out: &Path, error: io::Error) -> CliError {
    let error = anyhow!(error).context(format!("cannot use {}", out.display()));
    CliError::new(Exit::CannotCreate, error)
}

/// Writes the dataset; `best` replaces H.264 where that cannot be encoded.
fn render(dataset: &Path, best: Codec) -> anyhow::Result<()> {
    let videos = dataset.join("videos");
    fs::create_dir_all(&videos).with_context(|| format!("cannot create {}", videos.display()))?;
    refuse_link(dataset)?;
    refuse_link(&videos)?;
    for (_, id, _, clip) in &DATASET {
        let name = format!("videos/{id}.mp4");
        let path = dataset.join(&name);
        let scene = |seed: u64| (0..FRAMES).map(move |i| signing_scene(seed, i, SIZE.0, SIZE.1));
        match clip {
            DemoClip::Hands { seed, codec } => {
                let codec = if *codec == Codec::H264 { best } else { *codec };
                encode_mp4(&path, scene(*seed), 25, codec)?;
            }
            DemoClip::Empty => {
                let empty = (0..FRAMES).map(|_| RgbFrame::new(SIZE.0, SIZE.1));
                encode_mp4(&path, empty, 25, best)?;
            }
            DemoClip::CutOff { seed } => {
                encode_mp4(&path, scene(*seed), 25, best)?;
                let bytes = fs::read(&path)?;
                write_whole(dataset, &name, &bytes[..bytes.len() / 3])?;
            }
            DemoClip::Text(text) => write_whole(dataset, &name, text.as_bytes())?,
            DemoClip::Missing => {}
        }
    }
    let glosses = DATASET.chunk_by(|a, b| a.0 == b.0).map(|clips| {
        let instances = clips.iter().map(|(_, id, frame_start, _)| {
            json!({"video_id": id, "frame_start": frame_start, "frame_end": -1, "split": "train", "signer_id": 1, "instance_id": 0})
        });
        json!({"gloss": clips[0].0, "instances": instances.collect::<Value>()})
    });
    let metadata = serde_json::to_vec_pretty(&glosses.collect::<Value>())?;
    Ok(write_whole(dataset, "WLASL_v0.3.json", &metadata)?)
}
