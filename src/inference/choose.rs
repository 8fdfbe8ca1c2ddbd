//! Chooses the backend that runs the models: lists the candidates of this machine, benchmarks each in a process of its
//! own or takes the cached result, and applies the rules of [`crate::selection`].

use super::backend_request::ChosenBackend;
use super::candidates::{self, BackendCandidate, MissingRequirement};
use super::hardware::Hardware;
use super::model_files::ModelRole;
use super::probe::{self, ProbeError};
use super::probe_cache::ProbeCache;
use super::{
    BackendError, BackendRequest, BackendSpec, BenchmarkOptions, LiteRt, LiteRtTarget, ModelFiles,
    ModelPaths, ShutdownFlag, delegate_library, model_files,
};
use crate::digest::sha256_hex;
use crate::selection::{
    Agreement, BackendMetrics, BackendPreference, BenchmarkOutcome, CPU, CUSTOM, DEFAULT_ORDER,
    Precision, RejectedBackend, choose, published_error,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;

/// Duration of each of the two measurements of a backend, seconds.
const BENCHMARK_S: f64 = 1.0;

/// Why no backend runs the models.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// A model file cannot be used, or a backend cannot load or open the models.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The required accelerator cannot be used; the text has the reason and the fix.
    #[error("{0}")]
    Unavailable(String),
    /// The backend that the earlier results come from cannot be used; the text has the reason.
    #[error("{0}")]
    Gone(String),
    /// The process shuts down.
    #[error("stopped before a backend was ready to run the models")]
    Stopped,
}

impl SelectionError {
    /// Whether the accelerator is at fault, not a model file or the caller.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Gone(_) => true,
            Self::Backend(error) => !matches!(error, BackendError::Model(_)),
            Self::Stopped => false,
        }
    }

    /// The required accelerator failed for good while it was in use.
    #[must_use]
    pub fn lost(reason: &str) -> Self {
        Self::Unavailable(format!(
            "the accelerator of these results failed for good: {reason}; recorded results are kept, run the same command again when it works"
        ))
    }
}

/// What a caller adds to a [`BackendRequest`].
pub struct SelectionContext<'a> {
    /// Number of clips that are processed in parallel. It does not affect the choice.
    pub workers: usize,
    /// Called with the name of each backend before it is benchmarked, which takes seconds.
    pub on_probe: &'a mut dyn FnMut(&str),
    /// Whether the caller no longer waits for the choice.
    pub is_stopped: &'a dyn Fn() -> bool,
    /// Whether the process shuts down; also observed while the device is in use.
    pub shutdown: &'a ShutdownFlag,
}

/// The reason for a choice that earlier results determine.
const RESUMED: &str = "the results in the output folder began on it";

/// Chooses a backend. One that must agree with the CPU or be fast is judged by cached results where they are still
/// valid, else by benchmarks run now.
///
/// # Errors
/// [`SelectionError::Unavailable`] when the required backend cannot be used, [`SelectionError::Stopped`].
pub(super) fn choose_backend(
    request: &BackendRequest,
    models: &ModelPaths,
    files: &ModelFiles,
    context: &mut SelectionContext<'_>,
) -> Result<ChosenBackend, SelectionError> {
    let preference = &request.in_force();
    let is_resumed = request.is_resumed();
    if *preference == BackendPreference::Cpu {
        let reason = if is_resumed { RESUMED } else { "requested" };
        return Ok(ChosenBackend::cpu(reason));
    }
    let hardware = Hardware::here();
    let all = candidates::all(&request.delegate, models, &hardware);
    let named = preference.name();
    let is_tried = |candidate: &&BackendCandidate| match preference {
        BackendPreference::Auto => {
            candidate.missing.is_empty() && DEFAULT_ORDER.contains(&candidate.name.as_str())
        }
        BackendPreference::Fastest => {
            let is_open = !candidate.spec.is_reduced() || candidate.name == CUSTOM;
            is_open && candidate.missing.is_empty()
        }
        BackendPreference::Fast => {
            let published = published_error(&candidate.name);
            let is_open = published.is_none_or(|e| e.refusal(request.tolerance.fast).is_none());
            is_open && candidate.missing.is_empty()
        }
        _ => named == Some(candidate.name.as_str()),
    };
    let tried: Vec<&BackendCandidate> = all.iter().filter(is_tried).collect();
    if tried.is_empty() && request.preference.is_open() && !is_resumed {
        let reason = match preference {
            BackendPreference::Auto => "LiteRT is not installed",
            _ => "no accelerator was found; `handloom check` lists what is missing",
        };
        return Ok(ChosenBackend::cpu(reason));
    }
    let options = BenchmarkOptions {
        models: models.clone(),
        workers: thread::available_parallelism().map_or(1, usize::from),
        seconds: BENCHMARK_S,
        timeout_s: request.timeout.as_secs_f64(),
        // A user who names the backend accepts a software device.
        allow_software: named.is_some(),
    };
    let mut cache = ProbeCache::open(&hardware.boot());
    let is_named = named.is_some();
    let outcomes = outcomes(
        &tried, is_named, &hardware, files, &options, context, &mut cache,
    );
    if (context.is_stopped)() {
        cache.save();
        return Err(SelectionError::Stopped);
    }
    let mut hardware = hardware.name();
    if *preference == BackendPreference::Fast {
        hardware += " (fast)";
    }
    let incumbent = cache.fastest(&hardware).map(str::to_owned);
    let choice = choose(
        preference,
        &outcomes,
        request.tolerance,
        incumbent.as_deref(),
    );
    let is_measured = matches!(
        preference,
        BackendPreference::Fastest | BackendPreference::Fast
    );
    if let (true, Ok(choice)) = (is_measured, &choice) {
        cache.set_fastest(&hardware, &choice.name);
    }
    cache.save();
    let mut choice = choice.map_err(|reason| {
        let missing = tried.iter().flat_map(|c| &c.missing);
        unavailable(preference, is_resumed, &reason, missing)
    })?;
    if is_resumed {
        RESUMED.clone_into(&mut choice.reason);
    }
    for RejectedBackend { name, reason } in &choice.refused {
        tracing::info!(name, reason, "accelerator not chosen");
    }
    let chosen = tried.iter().find(|c| c.name == choice.name);
    Ok(ChosenBackend {
        spec: chosen.map_or(BackendSpec::Cpu, |c| c.spec.clone()),
        files: chosen.map(|c| own_files(c, models)).unwrap_or_default(),
        choice,
    })
}

/// The error when a required backend, or that of earlier results, cannot be used. It lists what is missing, except
/// what has a path that the text contains already, because the reason then has a fix for it.
pub(super) fn unavailable<'a>(
    preference: &BackendPreference,
    is_resumed: bool,
    reason: &str,
    missing: impl Iterator<Item = &'a MissingRequirement>,
) -> SelectionError {
    let mut text = if is_resumed {
        let name = preference.name().unwrap_or(CPU);
        format!("the results in the output folder began on {name}, which cannot be used: {reason}")
    } else {
        format!(
            "the accelerator of {preference} cannot be used: {reason}; fix it, or use prefer: to continue without it"
        )
    };
    for MissingRequirement { what, fix } in missing {
        let line = format!("\n  {what}: {fix}");
        let is_separator = |c: char| c.is_whitespace() || ",;:()`".contains(c);
        let mut paths = line.split(is_separator).filter(|w| w.starts_with('/'));
        if !paths.any(|path| text.contains(path)) {
            text.push_str(&line);
        }
    }
    if is_resumed {
        SelectionError::Gone(text)
    } else {
        SelectionError::Unavailable(text)
    }
}

/// The outcomes of the CPU and of `tried`: cached, or benchmarked now when one is missing.
fn outcomes(
    tried: &[&BackendCandidate],
    is_named: bool,
    hardware: &Hardware,
    files: &ModelFiles,
    options: &BenchmarkOptions,
    context: &mut SelectionContext<'_>,
    cache: &mut ProbeCache,
) -> Vec<BenchmarkOutcome> {
    let environment = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "hardware": hardware.name(),
        "kernel": hardware.kernel(),
        "runtime": model_files::loaded_runtime().map(|(_, sha256)| sha256),
        "palm": files.palm.sha256,
        "hand": files.hand.sha256,
    });
    let cpu = BackendCandidate::cpu();
    let candidates: Vec<&BackendCandidate> =
        std::iter::once(&cpu).chain(tried.iter().copied()).collect();
    let key = |candidate: &&BackendCandidate| cache_key(&environment, options, candidate);
    let keys: Vec<String> = candidates.iter().map(key).collect();
    // A user who names a backend may just have repaired it: a cached failure does not count then.
    let is_valid = |outcome: &BenchmarkOutcome| outcome.result.is_ok() || !is_named;
    let cached = keys.iter().map(|key| cache.get(key).filter(is_valid));
    if let Some(cached) = cached.collect() {
        return cached;
    }
    let measurements = benchmark_all(&candidates, options, context);
    for (key, measurement) in keys.iter().zip(&measurements) {
        if measurement.is_lasting {
            cache.put(key, measurement.outcome.clone());
        }
    }
    measurements.into_iter().map(|m| m.outcome).collect()
}

/// The outcome of a benchmark that was run now.
pub struct Measurement {
    /// The outcome.
    pub outcome: BenchmarkOutcome,
    /// Whether a repetition would end the same way, so that the outcome is worth caching.
    pub is_lasting: bool,
}

/// Benchmarks `candidates` one after the other. The first must be the CPU, the reference of all others.
pub fn benchmark_all(
    candidates: &[&BackendCandidate],
    options: &BenchmarkOptions,
    context: &mut SelectionContext<'_>,
) -> Vec<Measurement> {
    let mut reference = Err(ProbeError::passing("it was not benchmarked"));
    let mut measurements = Vec::new();
    for candidate in candidates {
        let name = &candidate.name;
        (context.on_probe)(name);
        let report = probe::benchmark(&candidate.spec, options, context.is_stopped);
        if name == CPU {
            reference.clone_from(&report);
        }
        let result = report.and_then(|report| match &reference {
            Ok(reference) => Ok(BackendMetrics {
                agreement: Agreement::of(&reference.hands, &report.hands),
                ..report.metrics
            }),
            Err(ProbeError { reason, .. }) => Err(ProbeError::passing(format!(
                "the CPU could not be benchmarked: {reason}"
            ))),
        });
        match &result {
            Ok(metrics) => tracing::info!(
                name,
                palm_ms = metrics.palm_ms,
                hand_ms = metrics.hand_ms,
                images_per_s = metrics.images_per_s,
                largest_difference = metrics.agreement.max,
                "backend benchmarked"
            ),
            Err(ProbeError { reason, .. }) => tracing::info!(name, reason, "backend does not work"),
        }
        measurements.push(Measurement {
            is_lasting: result.as_ref().err().is_none_or(|error| error.is_lasting),
            outcome: BenchmarkOutcome {
                name: name.clone(),
                result: result.map_err(|error| error.reason),
            },
        });
    }
    measurements
}

/// The cache key of a benchmark: a hash of everything that the result for `candidate` depends on.
fn cache_key(
    environment: &Value,
    options: &BenchmarkOptions,
    candidate: &BackendCandidate,
) -> String {
    let timeout_s = options.timeout_s.round();
    let (limits, drivers) = match candidate.spec {
        BackendSpec::Cpu | BackendSpec::CpuReduced(_) => (None, Vec::new()),
        BackendSpec::LiteRt(LiteRtTarget::Gpu) => (
            Some((timeout_s, options.allow_software)),
            candidates::vulkan_drivers(),
        ),
        _ => (Some((timeout_s, false)), Vec::new()),
    };
    let key = json!([
        environment,
        candidate.name,
        candidate.spec,
        own_files(candidate, &options.models),
        candidate.devices,
        limits,
        drivers
    ]);
    sha256_hex(key.to_string().as_bytes())
}

/// SHA-256 of the files that a backend brings, by path; empty for a file that cannot be read.
fn own_files(candidate: &BackendCandidate, models: &ModelPaths) -> BTreeMap<String, String> {
    let int8 = || models.int8(ModelRole::Hand).ok();
    let library = || LiteRt::locate().ok().into_iter().map(|located| located.0);
    let paths: Vec<PathBuf> = match &candidate.spec {
        BackendSpec::CpuReduced([_, Precision::Int8]) => int8().into_iter().collect(),
        BackendSpec::Cpu | BackendSpec::CpuReduced(_) => Vec::new(),
        BackendSpec::LiteRt(LiteRtTarget::CpuInt8) => library().chain(int8()).collect(),
        BackendSpec::LiteRt(_) => library().collect(),
        BackendSpec::Delegate(spec) => {
            let library = delegate_library::locate(&spec.library);
            let files = [library, spec.palm.clone(), spec.hand.clone()];
            files.into_iter().flatten().collect()
        }
    };
    let hash = |path: PathBuf| {
        let sha256 = fs::read(&path).map(|bytes| sha256_hex(&bytes));
        (path.display().to_string(), sha256.unwrap_or_default())
    };
    paths.into_iter().map(hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_backend_names_each_path_once() {
        let missing = [
            ("its library", "no libLiteRt.so in /opt/a, /opt/b; run x"),
            ("its library /opt/c.so", "install it"),
            ("permission to use /dev/dri/renderD128", "join a group"),
        ];
        let missing = missing.map(|(what, fix)| MissingRequirement {
            what: what.to_owned(),
            fix: fix.to_owned(),
        });
        let check = |reason: &str, is_listed: [bool; 3]| {
            let preference = BackendPreference::Require("litert:gpu".to_owned());
            let text = unavailable(&preference, false, reason, missing.iter()).to_string();
            assert!(text.contains(reason), "{text}");
            for ((path, is_listed), missing) in ["/opt/b", "/opt/c.so", "/dev/dri/renderD128"]
                .iter()
                .zip(is_listed)
                .zip(&missing)
            {
                assert_eq!(text.matches(path).count(), 1, "{text}");
                let line = format!("\n  {}: ", missing.what);
                assert_eq!(text.contains(&line), is_listed, "{text}");
            }
        };
        check("it hung", [true, true, true]);
        check(
            "no libLiteRt.so in /opt/a, /opt/b; run x",
            [false, true, true],
        );
        check("delegate library /opt/c.so not found", [true, false, true]);
    }
}
