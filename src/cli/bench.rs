//! `handloom bench`: how fast each backend runs the models here, how well it agrees with the CPU, how fast the decoders
//! are, and the clips per minute to expect from both.

mod accuracy;

use crate::cli::BackendArgs;
use crate::cli::progress::print_line;
use crate::config::Config;
use crate::config::constraints::{seconds, whole};
use crate::draw::scene::signing_scene;
use crate::error::{CliError, Exit};
use crate::frame::FrameSource;
use crate::inference::candidates::{self, BackendCandidate};
use crate::inference::{
    BenchmarkOptions, Hardware, ModelFiles, SelectionContext, ShutdownFlag, benchmark_all,
};
use crate::selection::{
    BackendChoice, BackendMetrics, BackendPreference, BenchmarkOutcome, CPU, Tolerance, choose,
};
use crate::system::Sensors;
use crate::video::clip::{VideoClip, VideoOptions};
use crate::video::decoder;
use crate::video::encode::{Codec, best_codec, encode_mp4};
use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) const BENCH_ABOUT: &str = "\
Measure the backends that could run the models here, and the decoders.

Every usable backend runs both models on built-in images in a process of its own, first with one
worker, then with all. Its landmarks are compared with the CPU's: `auto`, `fastest` and `fast`
choose no backend that disagrees. Backends that cannot be used are listed; `handloom check` says
how to fix them. Let nothing else run meanwhile, and let the device be as warm as it will be at
work.

Examples:
  handloom bench                                         some seconds for each backend
  handloom bench --seconds 30 --json                     for a record
  handloom bench --accuracy my-clips                     each backend's error on your own clips
  handloom bench --delegate-library /opt/npu/libnpu_delegate.so --delegate-hand hand_int8_npu.tflite";

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Seconds that each backend runs with one worker, and again with all
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds)]
    pub seconds: Duration,
    /// Clips processed at the same time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, 256))]
    pub workers: Option<usize>,
    /// Print one JSON object; with --accuracy, one a line
    #[arg(long)]
    pub json: bool,
    /// Compare the landmarks of all backends with the CPU's in the clips and images below DIR, instead of the speed
    #[arg(long, value_name = "DIR")]
    pub accuracy: Option<PathBuf>,
    /// With --accuracy: use each Nth frame of a clip
    #[arg(long, value_name = "N", default_value = "15", requires = "accuracy", value_parser = whole::<u64>(1, 100_000))]
    pub every: u64,
    /// The models, and what runs them.
    #[command(flatten)]
    pub backend: BackendArgs,
}

impl BenchArgs {
    /// The settings as a config.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = self.backend.config();
        config.run.workers = self.workers;
        config
    }
}

/// Average number of sampled frames of a WLASL clip, and of the frames decoded for them.
const SAMPLED_FRAMES: f64 = 26.7;
const DECODED_FRAMES: f64 = 2.0 * SAMPLED_FRAMES;
/// The clip for the decoders: number of frames, and their width and height in pixels.
const FRAMES: usize = 60;
const SIZE: (usize, usize) = (640, 480);
/// Minimum number of measured passes over the clip; the median counts.
const ROUNDS: usize = 5;

/// Frames per second of the decoder `name`, or why it does not work.
struct DecoderResult {
    name: String,
    frames_per_s: Result<f64, String>,
}

/// Everything that is printed.
struct BenchReport<'a> {
    hardware: String,
    workers: usize,
    seconds: f64,
    tolerance: Tolerance,
    preference: String,
    outcomes: Vec<BenchmarkOutcome>,
    tried: Vec<&'a BackendCandidate>,
    not_tried: Vec<&'a BackendCandidate>,
    /// The stream format that the decoders were measured with.
    codec: Codec,
    decoders: Vec<DecoderResult>,
    /// Frames per second of the decoder that jobs use.
    default_decoder_rate: Option<f64>,
    choice: Result<BackendChoice, String>,
    /// What `fastest` and `fast` would choose.
    fastest: [Result<BackendChoice, String>; 2],
    /// Temperatures before and after, degrees Celsius.
    temperatures: [Option<f64>; 2],
}

/// Benchmarks and prints the results.
///
/// # Errors
/// Fails when the models cannot be used or a required accelerator does not work.
pub fn run(args: &BenchArgs) -> Result<Exit, CliError> {
    if let Some(folder) = &args.accuracy {
        return accuracy::run(args, folder);
    }
    let config = args.config();
    let (request, models) = (config.backend_request(), config.model_paths());
    ModelFiles::load(&models)?;
    let hardware = Hardware::here();
    let workers = config.workers();
    let all = candidates::all(&request.delegate, &models, &hardware);
    let cpu = BackendCandidate::cpu();
    let named = request.preference.name();
    let (usable, not_tried): (Vec<&BackendCandidate>, Vec<&BackendCandidate>) = all
        .iter()
        .partition(|c| c.missing.is_empty() || named == Some(c.name.as_str()));
    let tried: Vec<&BackendCandidate> = std::iter::once(&cpu).chain(usable).collect();
    let options = BenchmarkOptions {
        models,
        workers,
        seconds: args.seconds.as_secs_f64(),
        timeout_s: request.timeout.as_secs_f64(),
        allow_software: named.is_some(),
    };
    let mut sensors = Sensors::find();
    let before = sensors.read().temperature_c;
    let mut context = SelectionContext {
        workers,
        on_probe: &mut |name| tracing::info!(name, "benchmark"),
        is_stopped: &|| false,
        shutdown: &ShutdownFlag::default(),
    };
    let measurements = benchmark_all(&tried, &options, &mut context).into_iter();
    let outcomes: Vec<BenchmarkOutcome> = measurements.map(|m| m.outcome).collect();
    let after = sensors.read().temperature_c;
    // Without an encoder, each decoder reports that there is no clip.
    let codec = best_codec().unwrap_or(Codec::H264);
    let decoders = decoders(codec, args.seconds);
    let default_decoder = decoder::usual(caps(codec));
    let default_decoder = decoders
        .iter()
        .find(|d| Some(&d.name) == default_decoder.as_ref());
    let report = BenchReport {
        hardware: hardware.name(),
        workers,
        seconds: options.seconds,
        tolerance: request.tolerance,
        preference: request.preference.to_string(),
        fastest: [BackendPreference::Fastest, BackendPreference::Fast]
            .map(|preference| choose(&preference, &outcomes, request.tolerance, None)),
        choice: choose(&request.preference, &outcomes, request.tolerance, None),
        outcomes,
        tried,
        not_tried,
        codec,
        default_decoder_rate: default_decoder.and_then(|d| d.frames_per_s.as_ref().ok().copied()),
        decoders,
        temperatures: [before, after],
    };
    print_line(&if args.json {
        report.json().to_string()
    } else {
        report.text()
    });
    let preference = report.preference;
    report.choice.map(|_| Exit::Done).map_err(|reason| {
        let text = format!("the accelerator of {preference} cannot be used: {reason}");
        CliError::new(Exit::Unavailable, anyhow!(text))
    })
}

impl BenchReport<'_> {
    fn clips_per_min(&self, outcome: &BenchmarkOutcome) -> Option<f64> {
        let metrics = outcome.result.as_ref().ok()?;
        let candidate = self.tried.iter().find(|c| c.name == outcome.name)?;
        let is_shared = candidate.spec.is_shared();
        Some(clips_per_min(
            metrics,
            self.default_decoder_rate?,
            is_shared,
        ))
    }

    fn json(&self) -> Value {
        let backends = self.outcomes.iter();
        let backends: Value = backends.map(|outcome| {
            let (measured, reason) = (outcome.result.as_ref().ok(), outcome.result.as_ref().err());
            json!({"name": outcome.name, "measured": measured, "reason": reason, "clips_per_min": self.clips_per_min(outcome)})
        }).collect();
        let not_tried = self.not_tried.iter();
        let not_tried: Value = not_tried
            .map(|candidate| {
                let missing: Vec<&String> = candidate.missing.iter().map(|m| &m.what).collect();
                json!({"name": candidate.name, "lacks": missing})
            })
            .collect();
        let codec = codec_name(self.codec);
        let decoders = self.decoders.iter();
        let decoders: Value = decoders.map(|decoder| {
            let (rate, reason) = (decoder.frames_per_s.as_ref().ok(), decoder.frames_per_s.as_ref().err());
            json!({"name": decoder.name, "codec": codec, "frames_per_s": rate, "reason": reason})
        }).collect();
        let [before, after] = self.temperatures;
        let [fastest, fast] = self.fastest.each_ref().map(|choice| choice.as_ref().ok());
        json!({
            "hardware": self.hardware, "workers": self.workers, "seconds": self.seconds,
            "backends": backends, "not_tried": not_tried, "decoders": decoders,
            "choice": self.choice.as_ref().ok(), "fastest": fastest, "fast": fast, "refusal": self.choice.as_ref().err(),
            "temperature_c": {"before": before, "after": after},
        })
    }

    fn text(&self) -> String {
        let mut lines = vec![format!(
            "{:<15} {:>8} {:>8} {:>9} {:>10} {:>9} {:>9} {:>9}  agreement with the CPU",
            "backend", "palm ms", "hand ms", "images/s", "clips/min", "median", "x,y 95 %", "99 %"
        )];
        lines.extend(self.outcomes.iter().map(|outcome| self.row(outcome)));
        lines.push(String::new());
        let ((width, height), codec) = (SIZE, codec_name(self.codec));
        lines.extend(
            self.decoders
                .iter()
                .map(|DecoderResult { name, frames_per_s }| match frames_per_s {
                    Ok(rate) => format!(
                        "decoder  {name:<14} {rate:7.0} frames/s of {codec}, {width} x {height}"
                    ),
                    Err(reason) => format!("decoder  {name:<14} does not work: {reason}"),
                }),
        );
        if let [Some(before), Some(after)] = self.temperatures {
            lines.push(format!(
                "\ntemperature  {before:.0} C before, {after:.0} C after"
            ));
        }
        if !self.not_tried.is_empty() {
            let names: Vec<&str> = self.not_tried.iter().map(|c| c.name.as_str()).collect();
            lines.push(format!(
                "\nnot available (`handloom check` says what each one needs): {}",
                names.join(", ")
            ));
        }
        lines.push(String::new());
        let chosen = [&self.choice, &self.fastest[0], &self.fastest[1]];
        for (preference, choice) in [&self.preference, "fastest", "fast"].iter().zip(chosen) {
            let line = choice.as_ref().map(|choice| {
                format!(
                    "{preference} chooses {}: {}",
                    choice.name,
                    choice.explanation()
                )
            });
            lines.extend(line.ok().filter(|line| !lines.contains(line)));
        }
        lines.join("\n")
    }

    fn row(&self, outcome: &BenchmarkOutcome) -> String {
        let name = &outcome.name;
        let metrics = match &outcome.result {
            Ok(metrics) => metrics,
            Err(reason) => return format!("{name:<15} does not work: {reason}"),
        };
        let clips = self.clips_per_min(outcome);
        let clips = clips.map_or_else(|| "-".to_owned(), |n| format!("{n:.0}"));
        let agreement = &metrics.agreement;
        let ([median, p95, p99], verdict) = if name == CPU {
            (["-"; 3].map(str::to_owned), "reference".to_owned())
        } else {
            let mismatch = agreement.mismatch(self.tolerance, metrics.is_reduced);
            (
                [agreement.median, agreement.xy_p95, agreement.p99].map(difference),
                mismatch.unwrap_or_else(|| "agrees".to_owned()),
            )
        };
        let nodes = metrics.nodes.as_ref();
        let nodes = nodes.map_or_else(String::new, |nodes| format!("; {nodes}"));
        format!(
            "{name:<15} {:>8.2} {:>8.2} {:>9.1} {clips:>10} {median:>9} {p95:>9} {p99:>9}  {verdict}{nodes}",
            metrics.palm_ms, metrics.hand_ms, metrics.images_per_s
        )
    }
}

/// A difference of landmarks; a plain 0 when they are equal.
fn difference(value: f32) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else {
        format!("{value:.1e}")
    }
}

/// Clips per minute with `frames_per_s` decoded by one core. With a shared device, the workers decode while it runs the
/// models; else decoding and models take turns on the same cores.
fn clips_per_min(metrics: &BackendMetrics, frames_per_s: f64, is_shared: bool) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a number of workers")]
    let workers = metrics.workers as f64;
    let models_s = SAMPLED_FRAMES / metrics.images_per_s;
    let decode_s = DECODED_FRAMES / (frames_per_s * workers);
    60.0 / if is_shared {
        models_s.max(decode_s)
    } else {
        models_s + decode_s
    }
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "H.264",
        Codec::Mpeg4 => "MPEG-4",
    }
}

/// GStreamer's name of the stream format.
fn caps(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "video/x-h264",
        Codec::Mpeg4 => "video/mpeg,mpegversion=(int)4",
    }
}

/// Measures each installed decoder of `codec` for `duration`.
fn decoders(codec: Codec, duration: Duration) -> Vec<DecoderResult> {
    let folder = TemporaryFolder::new();
    let clip = folder.as_ref().map_err(Clone::clone).and_then(|folder| {
        let clip = folder.path.join("clip.mp4");
        let frames = (0..FRAMES).map(|i| signing_scene(0, i, SIZE.0, SIZE.1));
        encode_mp4(&clip, frames, 25, codec).map_err(|error| error.to_string())?;
        Ok(clip)
    });
    let names = decoder::installed(caps(codec)).into_iter();
    names
        .map(|name| DecoderResult {
            frames_per_s: clip.clone().and_then(|clip| decode(&clip, &name, duration)),
            name,
        })
        .collect()
}

/// Median frames per second of the decoder `name`.
fn decode(clip: &Path, name: &str, duration: Duration) -> Result<f64, String> {
    let options = VideoOptions {
        decoder: name.into(),
        timeout: Duration::from_secs(20),
        ..VideoOptions::default()
    };
    let mut rates = Vec::new();
    let begun = Instant::now();
    while rates.len() <= ROUNDS || begun.elapsed() < duration {
        let since = Instant::now();
        let mut clip = VideoClip::open_path(clip, &options).map_err(|e| e.to_string())?;
        let mut frames = 0.0;
        while clip.advance().map_err(|e| e.to_string())? {
            frames += 1.0;
        }
        if frames < 1.0 {
            return Err("it decoded no frame".to_owned());
        }
        rates.push(frames / since.elapsed().as_secs_f64());
    }
    // The first pass also loads the decoder's library.
    rates.remove(0);
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

/// A folder that is removed when it is dropped.
struct TemporaryFolder {
    path: PathBuf,
}

impl TemporaryFolder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("handloom-bench-{}", std::process::id()));
        // Fails when the folder exists: another program's folder must not be removed.
        fs::create_dir(&path).map_err(|e| format!("cannot create {}: {e}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the temporary folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::Agreement;

    #[test]
    fn the_cpu_is_the_reference_and_zero_is_zero() {
        let metrics = |p99| BackendMetrics {
            palm_ms: 9.5,
            hand_ms: 8.0,
            images_per_s: 40.0,
            workers: 2,
            nodes: None,
            is_partial: false,
            is_reduced: false,
            agreement: Agreement {
                images: 8,
                landmarks: 210,
                p99,
                ..Agreement::default()
            },
        };
        let outcome = |name: &str, p99| BenchmarkOutcome {
            name: name.to_owned(),
            result: Ok(metrics(p99)),
        };
        let report = BenchReport {
            hardware: String::new(),
            workers: 2,
            seconds: 1.0,
            tolerance: Tolerance {
                exact: 1e-3,
                fast: 2.3e-3,
            },
            preference: "auto".to_owned(),
            outcomes: vec![outcome(CPU, 0.0), outcome("custom", 2e-4)],
            tried: Vec::new(),
            not_tried: Vec::new(),
            codec: Codec::H264,
            decoders: Vec::new(),
            default_decoder_rate: None,
            choice: Err(String::new()),
            fastest: [const { Err(String::new()) }; 2],
            temperatures: [None; 2],
        };
        let text = report.text();
        assert!(!text.contains("0.0e0"), "{text}");
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert!(rows[0].ends_with("-  reference"), "{text}");
        assert!(
            rows[1].ends_with("        0         0    2.0e-4  agrees"),
            "{text}"
        );
    }
}
