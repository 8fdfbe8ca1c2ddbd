//! Which backend runs the models: [`candidates`] says what the machine has, [`probe`] has each measured in a process of
//! its own, [`verdicts`] keeps what was measured, [`crate::selection`] chooses. [`engine`] is what was chosen, open;
//! [`pool`] has one for all who ask, [`tools`] is what one of them works with.

mod backend_cache;
mod backend_handle;
mod benchmark;
pub mod candidates;
pub mod probe;
mod probe_cache;
mod worker_detector;

use crate::digest::sha256_hex;
use crate::error::{CliError, Exit};
pub use crate::inference::probing::backend_cache::Pool;
pub use crate::inference::probing::backend_handle::{AcceleratorNews, Engine};
use crate::inference::probing::benchmark::{Found, Task};
use crate::inference::probing::probe_cache::Verdicts;
pub use crate::inference::probing::worker_detector::Tools;
use crate::inference::{
    BackendSpec, Bundle, Ending, LiteRt, Selection, Target, Wanted, library, model_files,
};
use crate::selection::{Agreement, CPU, Choice, Measured, Trial, Wish, choose};
use crate::storage::atomic_file::file_sha256;
use crate::system::Hardware;
use anyhow::anyhow;
use candidates::Candidate;
use probe::Trouble;
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
pub struct Chosen {
    /// Its name, and why.
    pub choice: Choice,
    /// How it is opened.
    pub spec: BackendSpec,
    /// SHA-256 of the files that it brings, by path.
    pub files: BTreeMap<String, String>,
}

impl Chosen {
    fn cpu(reason: &str) -> Self {
        Self {
            choice: Choice::cpu(reason),
            spec: BackendSpec::Cpu,
            files: BTreeMap::new(),
        }
    }
}

/// What of the choice decides the numbers: one backend with its files, or any that agrees so well.
fn identity(wanted: &Wanted, chosen: &Chosen) -> Value {
    match wanted.wish.fixed() {
        None => json!(format!("any within {} of cpu", wanted.tolerance)),
        Some(CPU) => json!(CPU),
        Some(name) => json!({name: chosen.spec, "files": chosen.files}),
    }
}

/// The same before anything is opened, for results that `known` was the identity of: that of the files of a named
/// backend is taken to be what it was.
#[must_use]
pub fn identity_beside(wanted: &Wanted, known: &Value) -> Value {
    match wanted.wish.fixed() {
        Some(name) if name != CPU && known.get(name).is_some() => known.clone(),
        Some(name) if name != CPU => json!({name: null}),
        _ => identity(wanted, &Chosen::cpu("")),
    }
}

/// Who asks for a choice.
pub struct Asker<'a> {
    /// Clips at a time.
    pub workers: usize,
    /// Gets the name of a backend that is measured now, which takes some seconds.
    pub tell: &'a mut dyn FnMut(&str),
    /// Whether nobody waits for the answer any more.
    pub is_stopped: &'a dyn Fn() -> bool,
    /// Whether nobody waits for a device any more, now and as long as it is open.
    pub ending: &'a Ending,
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
fn resolve(
    wanted: &Wanted,
    models: &Selection,
    bundle: &Bundle,
    asker: &mut Asker<'_>,
) -> Result<Chosen, CliError> {
    if wanted.wish == Wish::Cpu {
        return Ok(Chosen::cpu("asked for"));
    }
    let hardware = Hardware::here();
    let all = candidates::all(&wanted.delegate, &hardware);
    let named = wanted.wish.name();
    let tried: Vec<&Candidate> = match named {
        Some(name) => all.iter().filter(|c| c.name == name).collect(),
        None => all.iter().filter(|c| c.lacks.is_empty()).collect(),
    };
    if tried.is_empty() && wanted.wish == Wish::Auto {
        let reason = "no accelerator was found; `handloom check` lists what is missing";
        return Ok(Chosen::cpu(reason));
    }
    let world = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "hardware": hardware.name(),
        "kernel": hardware.kernel(),
        "runtime": model_files::loaded_runtime().map(|(_, sha256)| sha256),
        "palm": bundle.palm.sha256,
        "hand": bundle.hand.sha256,
        "workers": asker.workers,
    });
    let effort = Effort {
        models,
        workers: asker.workers,
        seconds: SECONDS,
        patience: wanted.patience,
        // Somebody who names it knows.
        software: named.is_some(),
    };
    let mut verdicts = Verdicts::open(&hardware.boot());
    let trials = trials(&tried, &mut verdicts, &world, &effort, named, asker);
    if (asker.is_stopped)() {
        return Err(stopped());
    }
    let choice = choose(&wanted.wish, &trials, wanted.tolerance).map_err(|reason| {
        let lacks = tried.iter().flat_map(|c| &c.lacks);
        let lacks = lacks.map(|lack| format!("\n  {}: {}", lack.what, lack.mend));
        let (wish, lacks) = (&wanted.wish, lacks.collect::<String>());
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
    Ok(Chosen {
        spec: taken.map_or(BackendSpec::Cpu, |c| c.spec.clone()),
        files: taken.map(|c| files(c)).unwrap_or_default(),
        choice,
    })
}

/// What is known of the CPU and of `tried`, measured now where nothing is known.
fn trials(
    tried: &[&Candidate],
    verdicts: &mut Verdicts,
    world: &Value,
    effort: &Effort<'_>,
    named: Option<&str>,
    asker: &mut Asker<'_>,
) -> Vec<Trial> {
    let cpu = Candidate::cpu();
    let keyed: Vec<(String, &Candidate)> = std::iter::once(&cpu)
        .chain(tried.iter().copied())
        .map(|candidate| (key(world, effort, candidate), candidate))
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
    let candidates: Vec<&Candidate> = keyed.iter().map(|(_, c)| *c).collect();
    let measured = measure(&candidates, effort, asker);
    for ((key, _), Measurement { trial, is_lasting }) in keyed.iter().zip(&measured) {
        if *is_lasting {
            verdicts.put(key, trial.clone());
        }
    }
    verdicts.save();
    measured.into_iter().map(|m| m.trial).collect()
}

/// How backends are measured.
pub struct Effort<'a> {
    /// The models.
    pub models: &'a Selection,
    /// Clips at a time.
    pub workers: usize,
    /// How long each is run.
    pub seconds: f64,
    /// How long one may take to get ready.
    pub patience: Duration,
    /// Whether a Vulkan device may be a program.
    pub software: bool,
}

/// A trial, and whether another would end alike.
pub struct Measurement {
    /// How it went.
    pub trial: Trial,
    /// Whether it is worth keeping.
    pub is_lasting: bool,
}

/// Measures `candidates` one after the other, the first of which must be the CPU.
pub fn measure(
    candidates: &[&Candidate],
    effort: &Effort<'_>,
    asker: &mut Asker<'_>,
) -> Vec<Measurement> {
    let mut reference: Result<Found, Trouble> = Err(Trouble::passing("it was not measured"));
    let mut measurements = Vec::new();
    for candidate in candidates {
        (asker.tell)(&candidate.name);
        let task = Task {
            backend: candidate.spec.clone(),
            models: effort.models.clone(),
            workers: effort.workers,
            seconds: effort.seconds,
            patience_s: effort.patience.as_secs_f64(),
            software: effort.software,
        };
        let found = probe::run(&task, asker.is_stopped);
        if candidate.name == CPU {
            reference.clone_from(&found);
        }
        let result = found.and_then(|found| match &reference {
            Ok(reference) => Ok(measured(reference, found)),
            Err(trouble) => Err(Trouble::passing(format!(
                "the CPU could not be measured: {}",
                trouble.reason
            ))),
        });
        match &result {
            Ok(Measured {
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
            Err(Trouble { reason, .. }) => {
                tracing::info!(name = candidate.name, reason, "accelerator does not work");
            }
        }
        measurements.push(Measurement {
            is_lasting: result
                .as_ref()
                .err()
                .is_none_or(|trouble| trouble.is_lasting),
            trial: Trial {
                name: candidate.name.clone(),
                result: result.map_err(|trouble| trouble.reason),
            },
        });
    }
    measurements
}

fn measured(reference: &Found, found: Found) -> Measured {
    let is_partial = found.claim.as_ref().is_some_and(|claim| claim.is_partial);
    Measured {
        palm_ms: found.palm_ms,
        hand_ms: found.hand_ms,
        pictures_per_s: found.pictures_per_s,
        workers: found.workers,
        nodes: found.claim.map(|claim| claim.text),
        is_partial,
        agreement: Agreement::of(&reference.seen, &found.seen),
    }
}

/// Names all that a measurement of `candidate` depends on.
fn key(world: &Value, effort: &Effort<'_>, candidate: &Candidate) -> String {
    let Candidate {
        name,
        spec,
        devices,
        ..
    } = candidate;
    let (patience, drivers) = match spec {
        BackendSpec::Cpu => (None, Vec::new()),
        BackendSpec::LiteRt(Target::Gpu) => (
            Some((effort.patience.as_secs(), effort.software)),
            candidates::vulkan_drivers(),
        ),
        _ => (Some((effort.patience.as_secs(), false)), Vec::new()),
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
fn files(candidate: &Candidate) -> BTreeMap<String, String> {
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
            let library = library::locate(&spec.library);
            let files = [library, spec.palm.clone(), spec.hand.clone()];
            files.into_iter().flatten().map(hash).collect()
        }
    }
}
