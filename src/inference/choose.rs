//! Which backend runs the models: [`candidates`] says what the machine has, [`probe`] has each measured in a process of
//! its own, [`verdicts`] keeps what was measured, [`crate::selection`] chooses. [`engine`] is what was chosen, open;
//! [`pool`] has one for all who ask, [`tools`] is what one of them works with.

use super::candidates::BackendCandidate;
use super::probe::ProbeError;
use crate::digest::sha256_hex;
use crate::error::{CliError, Exit};
use crate::inference::benchmark::{BenchmarkReport, BenchmarkTask};
use crate::inference::probe_cache::ProbeCache;
use crate::inference::{
    BackendRequest, BackendSpec, LiteRt, LiteRtTarget, ModelFiles, ModelPaths, ShutdownFlag,
    candidates, delegate_library, model_files, probe,
};
use crate::selection::{
    Agreement, BackendChoice, BackendMetrics, BackendPreference, BenchmarkOutcome, CPU, choose,
};
use crate::storage::atomic_file::file_sha256;
use crate::system::Hardware;
use anyhow::anyhow;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A backend is run for so long before it is judged.
const SECONDS: f64 = 1.0;

/// The accelerator that is required cannot be had, with the reason and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// What runs the models.
#[derive(Clone, Debug)]
pub struct ChosenBackend {
    /// Its name, and why.
    pub choice: BackendChoice,
    /// How it is opened.
    pub spec: BackendSpec,
    /// SHA-256 of the files that it brings, by path.
    pub files: BTreeMap<String, String>,
}

impl ChosenBackend {
    fn cpu(reason: &str) -> Self {
        Self {
            choice: BackendChoice::cpu(reason),
            spec: BackendSpec::Cpu,
            files: BTreeMap::new(),
        }
    }
}

/// What of the choice decides the numbers: one backend with its files, or any that agrees so well.
pub(super) fn identity(wanted: &BackendRequest, chosen: &ChosenBackend) -> Value {
    match wanted.preference.fixed() {
        None => json!(format!("any within {} of cpu", wanted.tolerance)),
        Some(CPU) => json!(CPU),
        Some(name) => json!({name: chosen.spec, "files": chosen.files}),
    }
}

/// The same before anything is opened, for results that `known` was the identity of: that of the files of a named
/// backend is taken to be what it was.
#[must_use]
pub fn identity_beside(wanted: &BackendRequest, known: &Value) -> Value {
    match wanted.preference.fixed() {
        Some(name) if name != CPU && known.get(name).is_some() => known.clone(),
        Some(name) if name != CPU => json!({name: null}),
        _ => identity(wanted, &ChosenBackend::cpu("")),
    }
}

/// Who asks for a choice.
pub struct SelectionContext<'a> {
    /// Clips at a time.
    pub workers: usize,
    /// Gets the name of a backend that is measured now, which takes some seconds.
    pub on_probe: &'a mut dyn FnMut(&str),
    /// Whether nobody waits for the answer any more.
    pub is_stopped: &'a dyn Fn() -> bool,
    /// Whether nobody waits for a device any more, now and as long as it is open.
    pub shutdown: &'a ShutdownFlag,
}

/// Nobody waits any more.
#[must_use]
pub fn stopped() -> CliError {
    let stopped = anyhow!("stopped before it was ready what runs the models");
    CliError::new(Exit::Stopped, stopped)
}

/// Chooses a backend, from what was measured before where that still holds, else measuring now.
///
/// # Errors
/// When the required one cannot be had: [`Exit::Unavailable`]; when it was stopped: [`Exit::Stopped`].
pub(super) fn resolve(
    wanted: &BackendRequest,
    models: &ModelPaths,
    bundle: &ModelFiles,
    context: &mut SelectionContext<'_>,
) -> Result<ChosenBackend, CliError> {
    if wanted.preference == BackendPreference::Cpu {
        return Ok(ChosenBackend::cpu("asked for"));
    }
    let hardware = Hardware::here();
    let all = candidates::all(&wanted.delegate, &hardware);
    let named = wanted.preference.name();
    let tried: Vec<&BackendCandidate> = match named {
        Some(name) => all.iter().filter(|c| c.name == name).collect(),
        None => all.iter().filter(|c| c.lacks.is_empty()).collect(),
    };
    if tried.is_empty() && wanted.preference == BackendPreference::Auto {
        let reason = "no accelerator was found; `handloom check` lists what is missing";
        return Ok(ChosenBackend::cpu(reason));
    }
    let world = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "hardware": hardware.name(),
        "kernel": hardware.kernel(),
        "runtime": model_files::loaded_runtime().map(|(_, sha256)| sha256),
        "palm": bundle.palm.sha256,
        "hand": bundle.hand.sha256,
        "workers": context.workers,
    });
    let options = BenchmarkOptions {
        models,
        workers: context.workers,
        seconds: SECONDS,
        timeout: wanted.timeout,
        // Somebody who names it knows.
        software: named.is_some(),
    };
    let mut verdicts = ProbeCache::open(&hardware.boot());
    let trials = trials(&tried, &mut verdicts, &world, &options, named, context);
    if (context.is_stopped)() {
        return Err(stopped());
    }
    let choice = choose(&wanted.preference, &trials, wanted.tolerance).map_err(|reason| {
        let lacks = tried.iter().flat_map(|c| &c.lacks);
        let lacks = lacks.map(|lack| format!("\n  {}: {}", lack.what, lack.mend));
        let (wish, lacks) = (&wanted.preference, lacks.collect::<String>());
        Unavailable(format!(
            "the accelerator of {wish} cannot be used: {reason}; mend it, or say prefer: to go on without{lacks}"
        ))
    })?;
    for refused in &choice.refused {
        tracing::info!(
            name = refused.name,
            reason = refused.reason,
            "accelerator not taken"
        );
    }
    let taken = tried.iter().find(|c| c.name == choice.name);
    Ok(ChosenBackend {
        spec: taken.map_or(BackendSpec::Cpu, |c| c.spec.clone()),
        files: taken.map(|c| files(c)).unwrap_or_default(),
        choice,
    })
}

/// What is known of the CPU and of `tried`, measured now where nothing is known.
fn trials(
    tried: &[&BackendCandidate],
    verdicts: &mut ProbeCache,
    world: &Value,
    options: &BenchmarkOptions<'_>,
    named: Option<&str>,
    context: &mut SelectionContext<'_>,
) -> Vec<BenchmarkOutcome> {
    let cpu = BackendCandidate::cpu();
    let keyed: Vec<(String, &BackendCandidate)> = std::iter::once(&cpu)
        .chain(tried.iter().copied())
        .map(|candidate| (key(world, options, candidate), candidate))
        .collect();
    // Somebody who names it may just have mended it.
    let known = |key: &str| {
        verdicts
            .get(key)
            .filter(|t| t.result.is_ok() || named.is_none())
    };
    if let Some(known) = keyed.iter().map(|(key, _)| known(key)).collect() {
        return known;
    }
    let candidates: Vec<&BackendCandidate> = keyed.iter().map(|(_, c)| *c).collect();
    let measured = measure(&candidates, options, context);
    for ((key, _), Measurement { trial, is_lasting }) in keyed.iter().zip(&measured) {
        if *is_lasting {
            verdicts.put(key, trial.clone());
        }
    }
    verdicts.save();
    measured.into_iter().map(|m| m.trial).collect()
}

/// How backends are measured.
pub struct BenchmarkOptions<'a> {
    /// The models.
    pub models: &'a ModelPaths,
    /// Clips at a time.
    pub workers: usize,
    /// How long each is run.
    pub seconds: f64,
    /// How long one may take to get ready.
    pub timeout: Duration,
    /// Whether a Vulkan device may be a program.
    pub software: bool,
}

/// A trial, and whether another would end alike.
pub struct Measurement {
    /// How it went.
    pub trial: BenchmarkOutcome,
    /// Whether it is worth keeping.
    pub is_lasting: bool,
}

/// Measures `candidates` one after the other, the first of which must be the CPU.
pub fn measure(
    candidates: &[&BackendCandidate],
    options: &BenchmarkOptions<'_>,
    context: &mut SelectionContext<'_>,
) -> Vec<Measurement> {
    let mut reference: Result<BenchmarkReport, ProbeError> =
        Err(ProbeError::passing("it was not measured"));
    let mut measurements = Vec::new();
    for candidate in candidates {
        (context.on_probe)(&candidate.name);
        let task = BenchmarkTask {
            backend: candidate.spec.clone(),
            models: options.models.clone(),
            workers: options.workers,
            seconds: options.seconds,
            patience_s: options.timeout.as_secs_f64(),
            software: options.software,
        };
        let found = probe::run(&task, context.is_stopped);
        if candidate.name == CPU {
            reference.clone_from(&found);
        }
        let result = found.and_then(|found| match &reference {
            Ok(reference) => Ok(measured(reference, found)),
            Err(trouble) => Err(ProbeError::passing(format!(
                "the CPU could not be measured: {}",
                trouble.reason
            ))),
        });
        match &result {
            Ok(BackendMetrics {
                palm_ms,
                hand_ms,
                pictures_per_s,
                agreement,
                ..
            }) => tracing::info!(
                name = candidate.name,
                palm_ms,
                hand_ms,
                pictures_per_s,
                largest_difference = agreement.max,
                "accelerator measured"
            ),
            Err(ProbeError { reason, .. }) => {
                tracing::info!(name = candidate.name, reason, "accelerator does not work");
            }
        }
        measurements.push(Measurement {
            is_lasting: result
                .as_ref()
                .err()
                .is_none_or(|trouble| trouble.is_lasting),
            trial: BenchmarkOutcome {
                name: candidate.name.clone(),
                result: result.map_err(|trouble| trouble.reason),
            },
        });
    }
    measurements
}

fn measured(reference: &BenchmarkReport, found: BenchmarkReport) -> BackendMetrics {
    let is_partial = found
        .coverage
        .as_ref()
        .is_some_and(|coverage| coverage.is_partial);
    BackendMetrics {
        palm_ms: found.palm_ms,
        hand_ms: found.hand_ms,
        pictures_per_s: found.pictures_per_s,
        workers: found.workers,
        nodes: found.coverage.map(|coverage| coverage.text),
        is_partial,
        agreement: Agreement::of(&reference.seen, &found.seen),
    }
}

/// Names all that a measurement of `candidate` depends on.
fn key(world: &Value, options: &BenchmarkOptions<'_>, candidate: &BackendCandidate) -> String {
    let BackendCandidate {
        name,
        spec,
        devices,
        ..
    } = candidate;
    let (patience, drivers) = match spec {
        BackendSpec::Cpu => (None, Vec::new()),
        BackendSpec::LiteRt(LiteRtTarget::Gpu) => (
            Some((options.timeout.as_secs(), options.software)),
            candidates::vulkan_drivers(),
        ),
        _ => (Some((options.timeout.as_secs(), false)), Vec::new()),
    };
    let key = json!([
        world,
        name,
        spec,
        files(candidate),
        devices,
        patience,
        drivers
    ]);
    sha256_hex(key.to_string().as_bytes())
}

/// SHA-256 of the files that a backend brings, by path; empty where one cannot be read.
fn files(candidate: &BackendCandidate) -> BTreeMap<String, String> {
    let hash = |path: PathBuf| {
        let sha256 = file_sha256(&path).unwrap_or_default();
        (path.display().to_string(), sha256)
    };
    match &candidate.spec {
        BackendSpec::Cpu => BTreeMap::new(),
        BackendSpec::LiteRt(_) => {
            let located = LiteRt::locate().ok();
            located.map(|(path, _)| hash(path)).into_iter().collect()
        }
        BackendSpec::Delegate(spec) => {
            let library = delegate_library::locate(&spec.library);
            let files = [library, spec.palm.clone(), spec.hand.clone()];
            files.into_iter().flatten().map(hash).collect()
        }
    }
}
