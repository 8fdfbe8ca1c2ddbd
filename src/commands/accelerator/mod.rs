//! Which backend runs the models: [`candidates`] says what the machine has, [`probe`] measures each in a process of its
//! own, [`verdicts`] keeps what was measured, [`crate::selection`] chooses.

pub mod candidates;
pub mod probe;
mod verdicts;

use crate::digest::sha256_hex;
use crate::exit::{Exit, Failure};
use crate::inference::{BackendSpec, Bundle, Selection, Wanted, bundle, library};
use crate::machine::Hardware;
use crate::selection::{Agreement, CPU, Choice, Measured, Trial, Wish, choose};
use crate::store::durable::file_sha256;
use anyhow::anyhow;
use candidates::Candidate;
use probe::{Found, Task};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use verdicts::Verdicts;

/// A backend is run for so long before it is judged.
const SECONDS: f64 = 1.0;

/// What runs the models.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Its name, and why.
    pub choice: Choice,
    /// How it is opened.
    pub spec: BackendSpec,
}

/// Chooses a backend, from what was measured before where that still holds, else measuring now; `tell` is told first.
///
/// # Errors
/// When the required one cannot be had: [`Exit::Unavailable`].
pub fn resolve(
    wanted: &Wanted,
    models: &Selection,
    bundle: &Bundle,
    workers: usize,
    tell: &mut dyn FnMut(&str),
) -> Result<Chosen, Failure> {
    if wanted.wish == Wish::Cpu {
        return Ok(Chosen {
            choice: Choice::cpu("asked for"),
            spec: BackendSpec::Cpu,
        });
    }
    let hardware = Hardware::here();
    let all = candidates::all(&wanted.delegate, &hardware);
    let tried: Vec<&Candidate> = match wanted.wish.name() {
        Some(name) => all.iter().filter(|c| c.name == name).collect(),
        None => all.iter().filter(|c| c.lacks.is_empty()).collect(),
    };
    if tried.is_empty() && wanted.wish == Wish::Auto {
        let reason = "no accelerator was found; `handloom check` lists what is missing";
        return Ok(Chosen {
            choice: Choice::cpu(reason),
            spec: BackendSpec::Cpu,
        });
    }
    let mut verdicts = Verdicts::open(&hardware.boot());
    let world = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "hardware": hardware.name(),
        "runtime": bundle::loaded_runtime().map(|(_, sha256)| sha256),
        "palm": bundle.palm.sha256,
        "hand": bundle.hand.sha256,
        "workers": workers,
    });
    let trials = trials(&tried, &mut verdicts, &world, wanted, models, workers, tell);
    let choice = choose(&wanted.wish, &trials, wanted.tolerance).map_err(|reason| {
        let lacks: Vec<String> = tried
            .iter()
            .flat_map(|c| c.lacks.iter().map(|l| format!("\n  {}: {}", l.what, l.mend)))
            .collect();
        let wish = &wanted.wish;
        Failure::new(
            Exit::Unavailable,
            anyhow!(
                "the accelerator of {wish} cannot be used: {reason}; mend it, or say prefer: to go on without{}",
                lacks.concat()
            ),
        )
    })?;
    for refused in &choice.refused {
        tracing::info!(
            name = refused.name,
            reason = refused.reason,
            "accelerator not taken"
        );
    }
    let spec = tried
        .iter()
        .find(|c| c.name == choice.name)
        .map_or(BackendSpec::Cpu, |c| c.spec.clone());
    Ok(Chosen { choice, spec })
}

/// What is known of the CPU and of `tried`, measured now where nothing is known.
fn trials(
    tried: &[&Candidate],
    verdicts: &mut Verdicts,
    world: &Value,
    wanted: &Wanted,
    models: &Selection,
    workers: usize,
    tell: &mut dyn FnMut(&str),
) -> Vec<Trial> {
    let cpu = Candidate::cpu();
    let keyed: Vec<(String, &Candidate)> = std::iter::once(&cpu)
        .chain(tried.iter().copied())
        .map(|candidate| (key(world, candidate), candidate))
        .collect();
    if let Some(known) = keyed
        .iter()
        .map(|(key, _)| verdicts.get(key))
        .collect::<Option<Vec<Trial>>>()
    {
        return known;
    }
    let measured = measure(
        &keyed.iter().map(|(_, c)| *c).collect::<Vec<_>>(),
        &Effort {
            models,
            workers,
            seconds: SECONDS,
            patience: wanted.patience,
            // Somebody who names it knows.
            software: wanted.wish.name().is_some(),
        },
        tell,
    );
    for ((key, _), trial) in keyed.iter().zip(&measured) {
        verdicts.put(key, trial.clone());
    }
    verdicts.save();
    measured
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

/// Measures `candidates` one after the other, the first of which must be the CPU.
pub fn measure(
    candidates: &[&Candidate],
    effort: &Effort<'_>,
    tell: &mut dyn FnMut(&str),
) -> Vec<Trial> {
    let mut reference: Result<Found, String> = Err("it was not measured".to_owned());
    let mut trials = Vec::new();
    for candidate in candidates {
        tell(&candidate.name);
        let found = probe::run(
            &Task {
                backend: candidate.spec.clone(),
                models: effort.models.clone(),
                workers: effort.workers,
                seconds: effort.seconds,
                patience_s: effort.patience.as_secs_f64(),
                software: effort.software,
            },
            effort.patience,
        );
        if candidate.name == CPU {
            reference.clone_from(&found);
        }
        let result = found.and_then(|found| {
            let reference = reference
                .as_ref()
                .map_err(|reason| format!("the CPU could not be measured: {reason}"))?;
            Ok(measured(reference, found))
        });
        tracing::info!(name = candidate.name, ?result, "accelerator measured");
        trials.push(Trial {
            name: candidate.name.clone(),
            result,
        });
    }
    trials
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
fn key(world: &Value, candidate: &Candidate) -> String {
    // A file that cannot be read is told apart from all that can.
    let hash = |path: &Path| file_sha256(path).unwrap_or_default();
    let files: Vec<String> = match &candidate.spec {
        BackendSpec::Cpu => Vec::new(),
        // Another file than the pinned one is not loaded.
        BackendSpec::LiteRt(_) => bundle::pinned_litert()
            .unwrap_or_default()
            .into_iter()
            .map(|library| library.sha256)
            .collect(),
        BackendSpec::Delegate(spec) => {
            let library = library::locate(&spec.library);
            let files = [
                library.as_deref(),
                spec.palm.as_deref(),
                spec.hand.as_deref(),
            ];
            files.into_iter().flatten().map(hash).collect()
        }
    };
    let key = json!([
        world,
        candidate.name,
        candidate.spec,
        files,
        candidate.devices
    ]);
    sha256_hex(key.to_string().as_bytes())
}
