//! Which backends this machine can use, and what the others need.

use super::CheckResult;
use crate::config::Config;
use crate::error::Exit;
use crate::inference::candidates::{self, BackendCandidate};
use crate::inference::{Hardware, probe};
use crate::selection::{BackendPreference, LITERT_GPU};

const SUBJECT: &str = "accel";

/// Checks all backends. A missing requirement is a failure only for a required backend.
pub(super) fn accelerators(config: &Config) -> Vec<CheckResult> {
    let request = config.backend_request();
    let all = candidates::all(&request.delegate, &Hardware::here());
    let preference = &request.preference;
    let usable = all.iter().filter(|c| c.missing.is_empty());
    let usable: Vec<&str> = usable.map(|c| c.name.as_str()).collect();
    let choice = match (preference, usable.as_slice()) {
        (BackendPreference::Auto, []) => {
            "auto: the CPU, because no other backend is available".to_owned()
        }
        (BackendPreference::Auto, usable) => format!(
            "auto: the fastest of the CPU and {} that agrees with the CPU; `handloom bench` compares them",
            usable.join(", ")
        ),
        (preference, _) => preference.to_string(),
    };
    let mut results = vec![CheckResult::fine(SUBJECT, choice)];
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
        results.push(CheckResult::absent(SUBJECT, detail));
    }
    results
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
    if !devices.is_empty() {
        detail = format!("{detail}, {}", devices.join(", "));
    }
    if missing.is_empty() {
        let (vulkan, is_usable) = if name == LITERT_GPU {
            vulkan_devices()
        } else {
            (String::new(), true)
        };
        let status = if is_usable {
            CheckResult::fine
        } else {
            CheckResult::doubtful
        };
        return status(SUBJECT, format!("{detail}{vulkan}"));
    }
    for requirement in missing {
        let (what, fix) = (&requirement.what, &requirement.fix);
        detail = format!("{detail}\nlacks {what}: {fix}");
    }
    match preference {
        BackendPreference::Require(required) if required == name => {
            CheckResult::bad(Exit::Unavailable, SUBJECT, detail)
        }
        BackendPreference::Prefer(preferred) if preferred == name => {
            CheckResult::doubtful(SUBJECT, detail)
        }
        _ => CheckResult::absent(SUBJECT, detail),
    }
}

/// One line for each Vulkan device, and whether the first is hardware.
fn vulkan_devices() -> (String, bool) {
    match probe::vulkan_devices() {
        Ok((devices, is_hardware)) => (format!("\n{}", devices.join("\n")), is_hardware),
        Err(error) => (format!("\n{}", error.reason), false),
    }
}
