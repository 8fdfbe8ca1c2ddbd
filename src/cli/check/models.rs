//! The models, the library that runs them, and the accelerators.

use super::CheckStatus::{Absent, Bad, Doubtful, Fine};
use super::{CheckResult, CheckResults};
use crate::config::Config;
use crate::error::Exit;
use crate::inference::candidates::{self, BackendCandidate};
use crate::inference::{BackendSpec, Hardware, LoadedModels, ModelFiles, model_files, probe};
use crate::selection::{
    BackendPreference, LITERT_CPU, LITERT_GPU, published_error, reduced_precision,
};

/// The model files.
pub(super) fn models(config: &Config) -> CheckResults {
    let files = ModelFiles::load(&config.model_paths())?;
    LoadedModels::load(&BackendSpec::Cpu, &files)?.open()?;
    let origins = format!("{}, {}", files.palm.origin, files.hand.origin);
    let is_pinned = [&files.palm, &files.hand]
        .iter()
        .all(|file| [&file.spec.sha256, &file.spec.bundle_sha256].contains(&&file.sha256));
    Ok(vec![if is_pinned {
        Fine.with(origins)
    } else {
        let doubt = "not the pinned files, accepted because of models.trust; the landmarks are another model's";
        Doubtful.with(format!("{origins}: {doubt}"))
    }])
}

/// The TFLite library.
#[expect(clippy::unnecessary_wraps, reason = "as every check")]
pub(super) fn runtime(_config: &Config) -> CheckResults {
    Ok(vec![match model_files::loaded_runtime() {
        Some((path, sha256)) if model_files::is_pinned_runtime(&sha256) => {
            Fine.with(path.display().to_string())
        }
        Some((path, sha256)) => Doubtful.with(format!(
            "{} has SHA-256 {sha256}, which is not pinned; landmarks may differ in the last digits: run `make setup` (a package: install it again)",
            path.display()
        )),
        None => Doubtful.with(
            "the file of the TFLite library is unknown; landmarks may differ in the last digits",
        ),
    }])
}

/// Checks all backends. A missing requirement is a failure only for a required backend.
#[expect(clippy::unnecessary_wraps, reason = "as every check")]
pub(super) fn accelerators(config: &Config) -> CheckResults {
    let request = config.backend_request();
    let all = candidates::all(&request.delegate, &config.model_paths(), &Hardware::here());
    let preference = &request.preference;
    let is_open = |candidate: &&BackendCandidate| {
        let is_reduced = reduced_precision(&candidate.name).is_some();
        candidate.missing.is_empty() && (*preference == BackendPreference::Fast || !is_reduced)
    };
    let usable = all.iter().filter(is_open);
    let usable: Vec<&str> = usable.map(|c| c.name.as_str()).collect();
    let choice = match (preference, usable.as_slice()) {
        (BackendPreference::Auto, usable) if usable.contains(&LITERT_CPU) => {
            format!("auto: {LITERT_CPU}, whose kernels are MediaPipe's")
        }
        (BackendPreference::Auto, _) => "auto: the CPU, because LiteRT is not installed".to_owned(),
        (BackendPreference::Fastest, []) => {
            "fastest: the CPU, because no other backend is available".to_owned()
        }
        (BackendPreference::Fastest, usable) => format!(
            "fastest: the fastest of the CPU and {} that agrees with the CPU; `handloom bench` compares them",
            usable.join(", ")
        ),
        (BackendPreference::Fast, usable) => format!(
            "fast: the fastest of the CPU and {} whose error is below fast_tolerance; `handloom bench` compares them",
            usable.join(", ")
        ),
        (preference, _) => preference.to_string(),
    };
    let mut results = vec![Fine.with(choice)];
    let named = preference.name();
    let (shown, absent): (Vec<&BackendCandidate>, Vec<&BackendCandidate>) = all
        .iter()
        .partition(|c| c.is_present() || named == Some(c.name.as_str()));
    results.extend(shown.into_iter().map(|c| result(c, preference)));
    if !absent.is_empty() {
        let names = absent.iter().map(|c| format!("{} ({})", c.name, c.what));
        let names: Vec<String> = names.collect();
        let hint = "`handloom check --set run.accelerator=prefer:NAME` says what a backend needs";
        let detail = format!("no device and no library for: {}\n{hint}", names.join(", "));
        results.push(Absent.with(detail));
    }
    Ok(results)
}

fn result(candidate: &BackendCandidate, preference: &BackendPreference) -> CheckResult {
    let BackendCandidate {
        name,
        what,
        devices,
        missing,
        ..
    } = candidate;
    let mut detail = format!("{name} ({what})");
    if let Some(error) = published_error(name) {
        let p95 = error.p95;
        detail =
            format!("{detail}, 95 % of x and y within {p95:.1e} of the CPU's in published clips");
    }
    if !devices.is_empty() {
        detail = format!("{detail}, {}", devices.join(", "));
    }
    if missing.is_empty() {
        let (vulkan, is_usable) = if name == LITERT_GPU {
            vulkan_devices()
        } else {
            (String::new(), true)
        };
        let status = if is_usable { Fine } else { Doubtful };
        return status.with(format!("{detail}{vulkan}"));
    }
    for requirement in missing {
        let (what, fix) = (&requirement.what, &requirement.fix);
        detail = format!("{detail}\nlacks {what}: {fix}");
    }
    match preference {
        BackendPreference::Require(required) if required == name => {
            Bad(Exit::Unavailable).with(detail)
        }
        BackendPreference::Prefer(preferred) if preferred == name => Doubtful.with(detail),
        _ => Absent.with(detail),
    }
}

/// One line for each Vulkan device, and whether the first is hardware.
fn vulkan_devices() -> (String, bool) {
    match probe::vulkan_devices() {
        Ok((devices, is_hardware)) => (format!("\n{}", devices.join("\n")), is_hardware),
        Err(error) => (format!("\n{}", error.reason), false),
    }
}
