//! `handloom check`: the config and the world around it, a line each.

mod accelerators;
mod broker;
mod folders;
mod results;

use crate::camera::{CaptureStep, RawFrame};
use crate::cli::CheckArgs;
use crate::cli::progress;
use crate::config::{self, Config, LoadedConfig, Origin, Sources};
use crate::dataset::{plan, wlasl};
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::frame::DecoderChoice;
use crate::inference::{BackendSpec, LoadedModels, ModelFiles, model_files};
use crate::video::dataset_source::DatasetSource;
use crate::video::{clip, decoder};
use serde_json::json;
use std::fmt::Write as _;
use std::time::Instant;

/// Warnings of one subject that are shown; more are counted.
const WARNINGS_MAX: usize = 5;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckStatus {
    Fine,
    /// Not there, and need not be.
    Absent,
    Doubtful,
    /// With what the program ends with if this is the first.
    Bad(Exit),
}

/// One thing that was looked at.
#[derive(Debug)]
struct CheckResult {
    verdict: CheckStatus,
    subject: &'static str,
    detail: String,
}

impl CheckResult {
    fn fine(subject: &'static str, detail: impl Into<String>) -> Self {
        Self::new(CheckStatus::Fine, subject, detail)
    }

    fn absent(subject: &'static str, detail: impl Into<String>) -> Self {
        Self::new(CheckStatus::Absent, subject, detail)
    }

    fn doubtful(subject: &'static str, detail: impl Into<String>) -> Self {
        Self::new(CheckStatus::Doubtful, subject, detail)
    }

    fn bad(exit: Exit, subject: &'static str, detail: impl Into<String>) -> Self {
        Self::new(CheckStatus::Bad(exit), subject, detail)
    }

    /// Of an error of another room.
    fn failed(subject: &'static str, failure: impl Into<CliError>) -> Self {
        let failure = failure.into();
        Self::bad(
            failure.exit,
            subject,
            Audience::Keys.display_chain(&failure),
        )
    }

    fn new(verdict: CheckStatus, subject: &'static str, detail: impl Into<String>) -> Self {
        Self {
            verdict,
            subject,
            detail: detail.into(),
        }
    }

    /// One line for people; more where the detail has more.
    fn text(&self) -> String {
        let word = match self.verdict {
            CheckStatus::Fine => "ok",
            CheckStatus::Absent => "-",
            CheckStatus::Doubtful => "warn",
            CheckStatus::Bad(_) => "FAIL",
        };
        let detail = self.detail.replace('\n', &format!("\n{:20}", ""));
        format!("{word:<8} {:<10} {detail}", self.subject)
    }

    /// One line for programs.
    fn json(&self) -> String {
        let verdict = match self.verdict {
            CheckStatus::Fine => "ok",
            CheckStatus::Absent => "absent",
            CheckStatus::Doubtful => "warn",
            CheckStatus::Bad(_) => "fail",
        };
        json!({"verdict": verdict, "subject": self.subject, "detail": self.detail}).to_string()
    }
}

/// Checks everything and says so.
///
/// # Errors
/// When the config cannot be printed because it is wrong.
pub fn run(args: &CheckArgs) -> Result<Exit, CliError> {
    let loaded = Sources::of_process(args.config.config.clone(), args.config.set.clone())
        .and_then(|sources| Ok((config::load(&sources)?, sources)));
    if args.print {
        progress::line(&loaded?.0.to_toml());
        return Ok(Exit::Done);
    }
    let mut exits = Vec::new();
    let mut tell = |findings: Vec<CheckResult>| {
        for finding in findings {
            if let CheckStatus::Bad(exit) = finding.verdict {
                exits.push(exit);
            }
            progress::line(&if args.json {
                finding.json()
            } else {
                finding.text()
            });
        }
    };
    let (loaded, sources) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let bad = |problem: &config::Problem| {
                CheckResult::bad(Exit::Config, "config", problem.to_string())
            };
            tell(error.problems.iter().map(bad).collect());
            return Ok(Exit::Config);
        }
    };
    tell(settings(&loaded, &sources));
    tell(device(&loaded));
    let config = &loaded.config;
    for look in [
        dataset,
        camera,
        models,
        accelerators::accelerators,
        decoding,
        folders::output,
        results::job,
        folders::takes,
        results::takes,
        folders::mirror,
    ] {
        tell(look(config));
    }
    // Last, for a broker that is away stops no job: its exit code counts only where all else is in order.
    tell(broker::broker(config));
    Ok(exits.first().copied().unwrap_or(Exit::Done))
}

/// Where the settings come from.
fn settings(loaded: &LoadedConfig, sources: &Sources) -> Vec<CheckResult> {
    let file = sources.file.as_ref().map_or_else(
        || format!("no file; {} is not there", config::DEFAULT_FILE),
        |path| path.display().to_string(),
    );
    let count = |wanted: fn(&Origin) -> bool| {
        let origins = loaded.origins.iter();
        origins.filter(|(_, origin)| wanted(origin)).count()
    };
    let mut detail = file;
    for (n, layer) in [
        (
            count(|o| matches!(o, Origin::Environment(_))),
            "the environment",
        ),
        (count(|o| matches!(o, Origin::Flag(_))), "--set"),
    ] {
        let s = if n == 1 { "" } else { "s" };
        if n > 0 {
            // Writing to a String cannot fail.
            write!(detail, "; {n} setting{s} from {layer}").ok();
        }
    }
    let warnings = loaded.warnings.iter();
    [CheckResult::fine("config", detail)]
        .into_iter()
        .chain(warnings.map(|warning| CheckResult::doubtful("config", warning)))
        .collect()
}

fn device(loaded: &LoadedConfig) -> Vec<CheckResult> {
    let id = &loaded.config.device.id;
    let detail = match loaded.origin("device.id") {
        Some(_) => id.clone(),
        None => format!("{id}, after the host name; device.id sets another"),
    };
    vec![CheckResult::fine("device", detail)]
}

/// The camera, opened for one frame.
fn camera(config: &Config) -> Vec<CheckResult> {
    let Some((place, recipe)) = config.capture() else {
        return Vec::new();
    };
    let mut frame = RawFrame::default();
    let filmed = place
        .opener(recipe.want)
        .open(Instant::now())
        .and_then(|mut capture| {
            let patience = capture.frame_timeout();
            let step = capture.next(patience, &mut frame)?;
            Ok((capture.opened().clone(), step))
        });
    vec![match filmed {
        Ok((opened, step)) => {
            let rate = opened
                .rate
                .map_or_else(String::new, |r| format!(" at {r:.0} fps"));
            let what = format!(
                "{}: {} {}x{}{rate}",
                opened.name,
                opened.format.name(),
                opened.width,
                opened.height
            );
            if step == CaptureStep::Frame {
                CheckResult::fine("camera", what)
            } else {
                CheckResult::doubtful(
                    "camera",
                    format!("{what}, but no frame came; plug it out and in"),
                )
            }
        }
        Err(error) => CheckResult::failed("camera", error),
    }]
}

/// The dataset and what of it would be processed.
fn dataset(config: &Config) -> Vec<CheckResult> {
    if config.dataset.path.as_os_str().is_empty() {
        return Vec::new();
    }
    let places = &config.dataset;
    let planned = || -> Result<_, CliError> {
        let dataset = DatasetSource::open(
            &places.path,
            places.files.json.as_deref(),
            places.files.videos.as_deref(),
        )?;
        let entries = wlasl::parse(&dataset.metadata_bytes()?).map_err(|error| {
            let CliError { exit, error } = error.into();
            let path = dataset.json_path();
            CliError::new(exit, error.context(path.display().to_string()))
        })?;
        let plan = plan::plan(&entries, &config.plan_options(), &|id| dataset.exists(id));
        Ok((dataset, plan))
    };
    let (dataset, plan) = match planned() {
        Ok(planned) => planned,
        Err(failure) => return vec![CheckResult::failed("dataset", failure)],
    };
    let counts = format!(
        "{}: {} of {} instances and {} glosses would be processed",
        dataset.json_path().display(),
        plan.jobs.len(),
        plan.records.len(),
        plan.glosses.len(),
    );
    let mut findings = vec![if plan.jobs.is_empty() {
        let advice = "see `handloom process DATASET --list`, and plan.min_videos_per_gloss";
        CheckResult::doubtful("dataset", format!("{counts}; {advice}"))
    } else {
        CheckResult::fine("dataset", counts)
    }];
    let warnings = plan.warnings.iter().take(WARNINGS_MAX);
    findings.extend(
        warnings.map(|warning| CheckResult::doubtful("dataset", Audience::Keys.describe(warning))),
    );
    if let Some(more @ 1..) = plan.warnings.len().checked_sub(WARNINGS_MAX) {
        findings.push(CheckResult::doubtful(
            "dataset",
            format!("and {more} more warnings"),
        ));
    }
    findings
}

/// The models and the library that runs them.
fn models(config: &Config) -> Vec<CheckResult> {
    let bundle = match ModelFiles::load(&config.model_paths()) {
        Ok(bundle) => bundle,
        Err(error) => return vec![CheckResult::failed("models", error)],
    };
    let opened = LoadedModels::load(&BackendSpec::Cpu, &bundle).and_then(|models| models.open());
    if let Err(error) = opened {
        return vec![CheckResult::failed("models", error)];
    }
    let origins = format!("{}, {}", bundle.palm.origin, bundle.hand.origin);
    let is_pinned = [&bundle.palm, &bundle.hand]
        .iter()
        .all(|file| [&file.spec.sha256, &file.spec.bundle_sha256].contains(&&file.sha256));
    let models = if is_pinned {
        CheckResult::fine("models", origins)
    } else {
        let doubt =
            "not the pinned files, taken because of models.trust; the numbers are another model's";
        CheckResult::doubtful("models", format!("{origins}: {doubt}"))
    };
    vec![models, runtime()]
}

fn runtime() -> CheckResult {
    match model_files::loaded_runtime() {
        Some((path, sha256)) if model_files::is_pinned_runtime(&sha256) => {
            CheckResult::fine("runtime", path.display().to_string())
        }
        Some((path, sha256)) => CheckResult::doubtful(
            "runtime",
            format!(
                "{} has SHA-256 {sha256}, which is not pinned; landmarks may differ in the last digits: run `make setup` (a package: install it again)",
                path.display()
            ),
        ),
        None => CheckResult::doubtful(
            "runtime",
            "which TFLite library runs cannot be told; landmarks may differ in the last digits",
        ),
    }
}

fn decoding(config: &Config) -> Vec<CheckResult> {
    let choice = &config.run.decoder;
    if let Err(error) = clip::init() {
        return vec![CheckResult::bad(Exit::Bug, "decoder", error.to_string())];
    }
    if let Err(error) = decoder::check(choice) {
        let exit = match choice {
            DecoderChoice::Named(_) => Exit::Config,
            _ => Exit::Bug,
        };
        return vec![CheckResult::bad(
            exit,
            "decoder",
            Audience::Keys.describe(&error),
        )];
    }
    let found = format!("{choice}, GStreamer {}", clip::version());
    vec![if *choice == DecoderChoice::Software {
        CheckResult::fine("decoder", found)
    } else {
        CheckResult::doubtful("decoder", format!("{found}; only software is proven exact"))
    }]
}
