//! Which accelerators the machine has, and what is missing to use the others.

use super::CheckResult;
use crate::config::Config;
use crate::error::Exit;
use crate::inference::candidates;
use crate::inference::candidates::BackendCandidate;
use crate::inference::probe;
use crate::selection::BackendPreference;
use crate::selection::LITERT_GPU;
use crate::system::Hardware;

const SUBJECT: &str = "accel";

/// Looks at all that are known. What is missing is a failure only where it is required.
pub(super) fn accelerators(config: &Config) -> Vec<CheckResult> {
    let wanted = config.backend_request();
    let all = candidates::all(&wanted.delegate, &Hardware::here());
    let named = wanted.preference.name();
    let usable: Vec<&str> = all
        .iter()
        .filter(|c| c.lacks.is_empty())
        .map(|c| c.name.as_str())
        .collect();
    let choice = match (&wanted.preference, usable.as_slice()) {
        (BackendPreference::Auto, []) => "auto: the CPU, for nothing else can be used".to_owned(),
        (BackendPreference::Auto, usable) => format!(
            "auto: the CPU or {}, whichever is measured to be the fastest that agrees; `handloom bench` shows it",
            usable.join(", ")
        ),
        (wish, _) => wish.to_string(),
    };
    let mut findings = vec![CheckResult::fine(SUBJECT, choice)];
    let (shown, absent): (Vec<&BackendCandidate>, Vec<&BackendCandidate>) = all
        .iter()
        .partition(|c| c.is_here() || named == Some(c.name.as_str()));
    findings.extend(shown.into_iter().map(|c| finding(c, &wanted.preference)));
    if !absent.is_empty() {
        let names: Vec<String> = absent
            .iter()
            .map(|c| format!("{} ({})", c.name, c.what))
            .collect();
        let advice = "`handloom check --set run.accelerator=prefer:NAME` says what one needs";
        let detail = format!("neither device nor library: {}\n{advice}", names.join(", "));
        findings.push(CheckResult::absent(SUBJECT, detail));
    }
    findings
}

fn finding(candidate: &BackendCandidate, wish: &BackendPreference) -> CheckResult {
    let BackendCandidate {
        name,
        what,
        devices,
        lacks,
        ..
    } = candidate;
    let mut detail = format!("{name} ({what})");
    if !devices.is_empty() {
        detail = format!("{detail}, {}", devices.join(", "));
    }
    let mut is_doubtful = false;
    if name == LITERT_GPU && lacks.is_empty() {
        match probe::vulkan_devices() {
            Ok((devices, is_gpu)) => {
                is_doubtful = !is_gpu;
                detail = format!("{detail}\n{}", devices.join("\n"));
            }
            Err(trouble) => {
                is_doubtful = true;
                detail = format!("{detail}\n{}", trouble.reason);
            }
        }
    }
    if lacks.is_empty() {
        return if is_doubtful {
            CheckResult::doubtful(SUBJECT, detail)
        } else {
            CheckResult::fine(SUBJECT, detail)
        };
    }
    for lack in lacks {
        detail = format!("{detail}\nlacks {}: {}", lack.what, lack.mend);
    }
    match wish {
        BackendPreference::Require(wished) if wished == name => {
            CheckResult::bad(Exit::Unavailable, SUBJECT, detail)
        }
        BackendPreference::Prefer(wished) if wished == name => {
            CheckResult::doubtful(SUBJECT, detail)
        }
        _ => CheckResult::absent(SUBJECT, detail),
    }
}
