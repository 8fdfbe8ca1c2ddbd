//! `handloom bench`: what runs the models how fast here and how well it agrees with the CPU, how fast clips are
//! decoded, and what comes of both together.

use crate::cli::BenchArgs;
use crate::cli::progress;
use crate::draw::scene::signing_scene;
use crate::error::{CliError, Exit};
use crate::frame::FrameSource;
use crate::inference::candidates;
use crate::inference::candidates::BackendCandidate;
use crate::inference::{BenchmarkOptions, SelectionContext, measure};
use crate::inference::{ModelFiles, ShutdownFlag};
use crate::selection::{BackendChoice, BackendMetrics, BenchmarkOutcome, CPU, choose};
use crate::system::{Hardware, Sensors};
use crate::video::clip::{VideoClip, VideoOptions};
use crate::video::decoder;
use crate::video::encode::{Codec, best_codec, encode_mp4};
use anyhow::anyhow;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pictures that a clip of WLASL is looked at, on average, and frames that are decoded for them.
const CLIP_PICTURES: f64 = 26.7;
const CLIP_FRAMES: f64 = 2.0 * CLIP_PICTURES;
/// The clip that decoders decode: frames, and their size in pixels.
const FRAMES: usize = 60;
const SIZE: (usize, usize) = (640, 480);
/// It is decoded so often at least, and for as long as a backend is measured; the median counts.
const ROUNDS: usize = 5;

/// A decoder, and its frames per second or why it has none.
struct Decoding {
    name: String,
    codec: Codec,
    frames_per_s: Result<f64, String>,
}

impl Decoding {
    /// One line for people.
    fn text(&self) -> String {
        let Self {
            name,
            codec,
            frames_per_s,
        } = self;
        match frames_per_s {
            Ok(rate) => {
                let ((width, height), codec) = (SIZE, codec_name(*codec));
                format!("decodes  {name:<14} {rate:7.0} frames/s of {codec}, {width} x {height}")
            }
            Err(reason) => format!("decodes  {name:<14} not: {reason}"),
        }
    }

    /// The same for programs.
    fn json(&self) -> Value {
        let Self {
            name,
            codec,
            frames_per_s,
        } = self;
        let (rate, reason) = (frames_per_s.as_ref().ok(), frames_per_s.as_ref().err());
        json!({"name": name, "codec": codec_name(*codec), "frames_per_s": rate, "reason": reason})
    }
}

/// Measures and shows.
///
/// # Errors
/// When the models cannot be used or a required accelerator does not work.
pub fn run(args: &BenchArgs) -> Result<Exit, CliError> {
    let config = args.config();
    let (wanted, models) = (config.backend_request(), config.model_paths());
    ModelFiles::load(&models)?;
    let hardware = Hardware::here();
    let workers = config.workers();
    let all = candidates::all(&wanted.delegate, &hardware);
    let named = wanted.preference.name();
    let (tried, left): (Vec<&BackendCandidate>, Vec<&BackendCandidate>) = all
        .iter()
        .partition(|c| c.lacks.is_empty() || named == Some(c.name.as_str()));
    let cpu = BackendCandidate::cpu();
    let tried: Vec<&BackendCandidate> = std::iter::once(&cpu).chain(tried).collect();
    let options = BenchmarkOptions {
        models: &models,
        workers,
        seconds: args.seconds.as_secs_f64(),
        timeout: wanted.timeout,
        software: named.is_some(),
    };
    let mut sensors = Sensors::find();
    let before = sensors.read().temperature_c;
    let mut context = SelectionContext {
        workers,
        on_probe: &mut |name| tracing::info!(name, "measuring"),
        is_stopped: &|| false,
        shutdown: &ShutdownFlag::default(),
    };
    let measured = measure(&tried, &options, &mut context).into_iter();
    let trials: Vec<BenchmarkOutcome> = measured.map(|m| m.trial).collect();
    let after = sensors.read().temperature_c;
    // Where no encoder is, the decoders say so, each by itself.
    let codec = best_codec().unwrap_or(Codec::H264);
    let decoders = decoders(codec, args.seconds);
    let choice = choose(&wanted.preference, &trials, wanted.tolerance);
    // The one that jobs take.
    let usual = decoder::usual(caps(codec));
    let usual = decoders.iter().find(|d| Some(&d.name) == usual.as_ref());
    let usual = usual.and_then(|d| d.frames_per_s.as_ref().ok().copied());
    let expect = |trial: &BenchmarkOutcome| {
        let measured = trial.result.as_ref().ok()?;
        let candidate = tried.iter().find(|c| c.name == trial.name)?;
        Some(clips_per_min(measured, usual?, candidate.spec.is_shared()))
    };
    if args.json {
        let trials: Vec<Value> = trials
            .iter()
            .map(|t| json!({"name": t.name, "measured": t.result.as_ref().ok(), "reason": t.result.as_ref().err(), "clips_per_min": expect(t)}))
            .collect();
        let left: Vec<Value> = left
            .iter()
            .map(|c| json!({"name": c.name, "lacks": c.lacks.iter().map(|l| &l.what).collect::<Vec<_>>()}))
            .collect();
        let decoders: Vec<Value> = decoders.iter().map(Decoding::json).collect();
        progress::line(
            &json!({
                "hardware": hardware.name(), "workers": workers, "seconds": options.seconds,
                "backends": trials, "not_tried": left, "decoders": decoders,
                "choice": choice.as_ref().ok(), "refusal": choice.as_ref().err(),
                "temperature_c": {"before": before, "after": after},
            })
            .to_string(),
        );
    } else {
        let expect = &expect;
        for line in table(&trials, expect, wanted.tolerance) {
            progress::line(&line);
        }
        progress::line("");
        for decoding in &decoders {
            progress::line(&decoding.text());
        }
        if let (Some(before), Some(after)) = (before, after) {
            progress::line(&format!(
                "\ntemperature  {before:.0} C before, {after:.0} C after"
            ));
        }
        if !left.is_empty() {
            let names: Vec<&str> = left.iter().map(|c| c.name.as_str()).collect();
            progress::line(&format!(
                "\nnot tried, for they lack something (see `handloom check`): {}",
                names.join(", ")
            ));
        }
        if let Ok(BackendChoice { name, reason, .. }) = &choice {
            progress::line(&format!(
                "\n{} would take {name}: {reason}",
                wanted.preference
            ));
        }
    }
    match choice {
        Ok(_) => Ok(Exit::Done),
        Err(reason) => Err(CliError::new(
            Exit::Unavailable,
            anyhow!(
                "the accelerator of {} cannot be used: {reason}",
                wanted.preference
            ),
        )),
    }
}

fn table(
    trials: &[BenchmarkOutcome],
    expect: &dyn Fn(&BenchmarkOutcome) -> Option<f64>,
    tolerance: f32,
) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<12} {:>8} {:>8} {:>11} {:>10} {:>9} {:>9} {:>9}  against the CPU",
        "backend", "palm ms", "hand ms", "pictures/s", "clips/min", "median", "99 %", "largest"
    )];
    lines.extend(trials.iter().map(|trial| {
        let measured = match &trial.result {
            Ok(measured) => measured,
            Err(reason) => return format!("{:<12} does not work: {reason}", trial.name),
        };
        let BackendMetrics {
            palm_ms,
            hand_ms,
            pictures_per_s,
            agreement,
            ..
        } = measured;
        let clips = expect(trial).map_or_else(|| "-".to_owned(), |n| format!("{n:.0}"));
        let verdict = match agreement.mismatch(tolerance) {
            _ if trial.name == CPU => "is it".to_owned(),
            None => "agrees".to_owned(),
            Some(mismatch) => mismatch,
        };
        let nodes = measured.nodes.as_ref().map_or_else(String::new, |n| format!("; {n}"));
        format!(
            "{:<12} {palm_ms:>8.2} {hand_ms:>8.2} {pictures_per_s:>11.1} {clips:>10} {:>9.1e} {:>9.1e} {:>9.1e}  {verdict}{nodes}",
            trial.name, agreement.median, agreement.p99, agreement.max
        )
    }));
    lines
}

/// Clips per minute with `frames_per_s` decoded by one core. Where the workers share a device, they decode while it
/// works; else both take their turns on the same cores.
fn clips_per_min(measured: &BackendMetrics, frames_per_s: f64, is_shared: bool) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a number of workers")]
    let workers = measured.workers as f64;
    let models_s = CLIP_PICTURES / measured.pictures_per_s;
    let decode_s = CLIP_FRAMES / (frames_per_s * workers);
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

/// As GStreamer names the stream.
fn caps(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "video/x-h264",
        Codec::Mpeg4 => "video/mpeg,mpegversion=(int)4",
    }
}

/// How fast each installed decoder of `codec` is, measured for `time` each.
fn decoders(codec: Codec, time: Duration) -> Vec<Decoding> {
    let folder = Scratch::new();
    let clip = folder.as_ref().map_err(Clone::clone).and_then(|folder| {
        let clip = folder.path.join("clip.mp4");
        let frames = (0..FRAMES).map(|i| signing_scene(0, i, SIZE.0, SIZE.1));
        encode_mp4(&clip, frames, 25, codec).map_err(|error| error.to_string())?;
        Ok(clip)
    });
    let names = decoder::installed(caps(codec)).into_iter();
    names
        .map(|name| Decoding {
            frames_per_s: clip.clone().and_then(|clip| decode(&clip, &name, time)),
            name,
            codec,
        })
        .collect()
}

fn decode(clip: &Path, name: &str, time: Duration) -> Result<f64, String> {
    let options = VideoOptions {
        decoder: name.parse().map_err(|_| "its name is odd".to_owned())?,
        timeout: Duration::from_secs(20),
    };
    let mut rates = Vec::new();
    let begun = Instant::now();
    while rates.len() <= ROUNDS || begun.elapsed() < time {
        let since = Instant::now();
        let mut clip = VideoClip::open(clip, &options).map_err(|e| e.to_string())?;
        let mut frames = 0.0;
        while clip.advance().map_err(|e| e.to_string())? {
            frames += 1.0;
        }
        if frames < 1.0 {
            return Err("no frame came out".to_owned());
        }
        rates.push(frames / since.elapsed().as_secs_f64());
    }
    // The first one loads the decoder's library.
    rates.remove(0);
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

/// A folder that goes when it is dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("handloom-bench-{}", std::process::id()));
        // Not somebody else's, which would go with it.
        fs::create_dir(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the bench's folder");
        }
    }
}
