//! `handloom bench --accuracy DIR`: the error of each backend on the user's own clips and images, beside what noise of one
//! grey level does to the CPU's landmarks.

use super::BenchArgs;
use crate::camera::file::FileCamera;
use crate::cli::progress::print_line;
use crate::error::{CliError, Exit};
use crate::frame::{FrameSource, RgbFrame};
use crate::geometry::Size;
use crate::hand::{Detector, DetectorOptions, Handedness};
use crate::inference::candidates::{self, BackendCandidate};
use crate::inference::{BackendSpec, BoxedModel, Hardware, ModelFiles, OpenBackend};
use crate::selection::accuracy::{Accuracy, AccuracyFigures, Quantiles};
use crate::selection::{CPU, DetectedHand, reduced_precision};
use crate::video::clip::{VideoClip, VideoOptions};
use anyhow::anyhow;
use serde_json::json;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seeds of the noise: two, so that its own spread shows.
const NOISE_SEEDS: [u64; 2] = [1, 2];
/// Maximum depth of folders below the one that is named.
const DEPTH_MAX: usize = 8;

/// A backend, or the CPU with noise, and its differences so far.
struct ComparedBackend {
    name: String,
    detector: Detector<BoxedModel>,
    accuracy: Accuracy,
    /// The seed of the noise that its images get; `None` for a backend.
    noise: Option<u64>,
}

impl ComparedBackend {
    fn new(name: &str, backend: &OpenBackend, noise: Option<u64>) -> Result<Self, String> {
        let [palm, hand] = backend.models()?;
        Ok(Self {
            name: name.to_owned(),
            detector: Detector::new(palm, hand, DetectorOptions::default()),
            accuracy: Accuracy::default(),
            noise,
        })
    }

    fn hands(&mut self, frame: &RgbFrame) -> Result<Vec<DetectedHand>, CliError> {
        let failed = |error| {
            let text = format!("{}: {error}", self.name);
            CliError::new(Exit::Unavailable, anyhow!(text))
        };
        let hands = self.detector.detect(frame).map_err(failed)?;
        let hands = hands.iter().map(|hand| DetectedHand {
            is_left: hand.handedness == Handedness::Left,
            points: hand.landmarks.to_vec(),
        });
        Ok(hands.collect())
    }
}

/// Measures and prints a table, or JSON lines where the output is no terminal.
///
/// # Errors
/// Fails when the models cannot be used, a named backend does not work, or `folder` has no image with a hand.
pub(super) fn run(args: &BenchArgs, folder: &Path) -> Result<Exit, CliError> {
    let config = args.config();
    let (request, paths) = (config.backend_request(), config.model_paths());
    let files = ModelFiles::load(&paths)?;
    let named = request.preference.name();
    let all = candidates::all(&request.delegate, &paths, &Hardware::here());
    let is_tried = |candidate: &&BackendCandidate| match named {
        Some(name) => candidate.name == name,
        None => candidate.missing.is_empty(),
    };
    let unusable = |name: &str, reason: &str| {
        let text = format!("{name} does not work: {reason}");
        CliError::new(Exit::Unavailable, anyhow!(text))
    };
    let cpu = OpenBackend::new(&BackendSpec::Cpu, &files, 1, request.timeout)
        .map_err(|reason| unusable(CPU, &reason))?;
    let of_cpu = |name: &str, noise| {
        ComparedBackend::new(name, &cpu, noise).map_err(|reason| unusable(CPU, &reason))
    };
    let mut reference = of_cpu(CPU, None)?;
    let mut contenders = Vec::new();
    for seed in NOISE_SEEDS {
        contenders.push(of_cpu(&format!("noise, seed {seed}"), Some(seed))?);
    }
    for candidate in all.iter().filter(is_tried) {
        let name = &candidate.name;
        let opened = OpenBackend::new(&candidate.spec, &files, 1, request.timeout);
        match opened.and_then(|backend| ComparedBackend::new(name, &backend, None)) {
            Ok(contender) => contenders.push(contender),
            Err(reason) if named.is_some() => return Err(unusable(name, &reason)),
            Err(reason) => tracing::warn!(name, reason, "backend does not work"),
        }
    }
    let mut images = 0;
    let mut unreadable = 0;
    for path in media(folder)? {
        let every = usize::try_from(args.every).unwrap_or(usize::MAX);
        let read = frames(&path, every, &mut |frame| {
            let expected = reference.hands(frame)?;
            for contender in &mut contenders {
                let noisy = contender.noise.map(|seed| noisy(frame, seed, images));
                let found = contender.hands(noisy.as_ref().unwrap_or(frame))?;
                let size = Size::of(frame);
                let size = [size.width_f32(), size.height_f32()];
                contender.accuracy.add(size, &expected, &found);
            }
            images += 1;
            Ok(())
        })?;
        if let Err(reason) = read {
            tracing::info!(path = %path.display(), reason, "neither an image nor a clip");
            unreadable += 1;
        }
    }
    let rows = contenders.into_iter();
    let rows: Vec<(String, AccuracyFigures)> =
        rows.map(|c| (c.name, c.accuracy.figures())).collect();
    let hands = rows.first().map_or(0, |(_, figures)| figures.hands);
    if hands == 0 {
        let text = format!(
            "{}: the CPU finds no hand in {images} images, so there is nothing to compare; name a folder with clips or images of hands",
            folder.display()
        );
        return Err(CliError::new(Exit::BadData, anyhow!(text)));
    }
    if args.json || !io::stdout().is_terminal() {
        for (name, figures) in &rows {
            let precision = reduced_precision(name);
            print_line(
                &json!({"name": name, "precision": precision, "figures": figures}).to_string(),
            );
        }
    } else {
        print_line(&table(&rows, unreadable));
    }
    Ok(Exit::Done)
}

/// All files below `folder`, sorted; hidden ones are left out.
fn media(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    fn add(folder: &Path, depth: usize, to: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if entry.path().is_file() {
                to.push(entry.path());
            } else if entry.file_type()?.is_dir() && depth > 0 {
                add(&entry.path(), depth - 1, to)?;
            }
        }
        Ok(())
    }
    let mut paths = Vec::new();
    add(folder, DEPTH_MAX, &mut paths).map_err(|error| {
        let text = format!("cannot read {}: {error}", folder.display());
        CliError::new(Exit::NoInput, anyhow!(text))
    })?;
    paths.sort();
    Ok(paths)
}

/// Calls `use_frame` with the image, or with each `every`th frame of the clip, at `path`. The inner error says why the file
/// is neither.
fn frames(
    path: &Path,
    every: usize,
    use_frame: &mut dyn FnMut(&RgbFrame) -> Result<(), CliError>,
) -> Result<Result<(), String>, CliError> {
    match FileCamera::new(path.to_path_buf(), 1.0).still() {
        Ok(Some(frame)) => return use_frame(&frame).map(Ok),
        Ok(None) => {}
        Err(error) => return Ok(Err(error.to_string())),
    }
    let options = VideoOptions {
        timeout: Duration::from_secs(20),
        ..VideoOptions::default()
    };
    let mut clip = match VideoClip::open_path(path, &options) {
        Ok(clip) => clip,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut number = 0;
    loop {
        match clip.advance() {
            Ok(true) if number % every == 0 => match clip.frame() {
                Ok(frame) => use_frame(frame)?,
                Err(error) => return Ok(Err(error.to_string())),
            },
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error.to_string())),
        }
        number += 1;
    }
}

/// `frame` with each byte changed by -1, 0 or 1.
fn noisy(frame: &RgbFrame, seed: u64, image: u64) -> RgbFrame {
    let mut random = fastrand::Rng::with_seed(seed << 32 | image);
    let mut noisy = frame.clone();
    for byte in noisy.pixels_mut() {
        *byte = match random.u8(0..3) {
            0 => byte.saturating_sub(1),
            1 => *byte,
            _ => byte.saturating_add(1),
        };
    }
    noisy
}

fn table(rows: &[(String, AccuracyFigures)], unreadable: usize) -> String {
    let line = |cells: [&str; 8]| {
        let [name, counts, missed, sides, order, xy, relative, normalized] = cells;
        format!(
            "{name:<16} {counts:>7} {missed:>7} {sides:>7} {order:>5}  {xy:<35} {relative:<22} {normalized}"
        )
    };
    let mut lines = vec![
        line([
            "against cpu",
            "counts",
            "missed/",
            "sides",
            "other",
            "x, y: median / 95 % / 99 % / max",
            "of the hand's size, %",
            "normalized numbers",
        ]),
        line([
            "",
            "equal %",
            "extra",
            "equal %",
            "order",
            "fractions of the image",
            "median / 95 % / 99 %",
            "median / 95 % / 99 %",
        ]),
    ];
    for (name, figures) in rows {
        let small = |value: f32| format!("{value:.1e}");
        let percent = |value: f32| format!("{:.2}", 100.0 * value);
        let three = |q: &Quantiles, show: &dyn Fn(f32) -> String| {
            [q.median, q.p95, q.p99].map(show).join(" / ")
        };
        lines.push(line([
            name,
            &format!("{:.1}", figures.counts_equal_percent),
            &format!("{}/{}", figures.missed, figures.extra),
            &format!("{:.1}", figures.sides_equal_percent),
            &figures.swapped.to_string(),
            &format!("{} / {}", three(&figures.xy, &small), small(figures.xy.max)),
            &three(&figures.relative, &percent),
            &three(&figures.normalized, &small),
        ]));
    }
    if let Some((_, figures)) = rows.first() {
        lines.push(format!(
            "\n{} images, {} hands",
            figures.images, figures.hands
        ));
    }
    if unreadable > 0 {
        lines.push(format!("{unreadable} files are neither images nor clips"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_of_one_grey_level_and_repeats() {
        let frame = RgbFrame::from_pixels(64, 64, vec![0; 64 * 64 * 3]).unwrap();
        let first = noisy(&frame, 1, 0);
        assert!(first.pixels().iter().all(|byte| *byte <= 1));
        assert!(first.pixels().contains(&1));
        assert!(first == noisy(&frame, 1, 0));
        assert!(first != noisy(&frame, 2, 0) && first != noisy(&frame, 1, 1));
    }
}
