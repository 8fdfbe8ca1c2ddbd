//! From what was measured to the backend that runs.

use super::{Agreement, BackendPreference, CPU};
use serde::{Deserialize, Serialize};

/// A backend must be so much faster than the CPU to be taken in its place: less is within what two measurements of the
/// same differ by.
const GAIN_MIN: f64 = 1.1;

/// What was measured of a backend that works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendMetrics {
    /// Median time of a run of the palm model, milliseconds.
    pub palm_ms: f64,
    /// Median time of a run of the hand model, milliseconds.
    pub hand_ms: f64,
    /// Pictures per second with all workers.
    pub pictures_per_s: f64,
    /// Those workers.
    pub workers: usize,
    /// How much of the two models it runs, where it can leave a part to the CPU.
    pub nodes: Option<String>,
    /// Whether a part is left to the CPU.
    pub is_partial: bool,
    /// Against the CPU.
    pub agreement: Agreement,
}

/// A backend that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkOutcome {
    /// Its name.
    pub name: String,
    /// What was measured, or why it does not work.
    pub result: Result<BackendMetrics, String>,
}

/// A backend that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedBackend {
    /// Its name.
    pub name: String,
    /// In words.
    pub reason: String,
}

/// What runs, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendChoice {
    /// The backend's name.
    pub name: String,
    /// In words.
    pub reason: String,
    /// The others that were tried.
    pub refused: Vec<RejectedBackend>,
    /// Whether the user asked for another one.
    pub is_second_best: bool,
}

impl BackendChoice {
    /// Nothing was measured.
    #[must_use]
    pub fn cpu(reason: &str) -> Self {
        Self {
            name: CPU.to_owned(),
            reason: reason.to_owned(),
            refused: Vec::new(),
            is_second_best: false,
        }
    }
}

/// Takes one of `trials`, of which one is the CPU's. A landmark may be `tolerance` of the picture from where the CPU
/// sees it.
///
/// # Errors
/// With the reason when the required one cannot be had.
pub fn choose(
    wish: &BackendPreference,
    trials: &[BenchmarkOutcome],
    tolerance: f32,
) -> Result<BackendChoice, String> {
    let judged: Vec<(&str, Result<&BackendMetrics, String>)> = trials
        .iter()
        .map(|trial| (trial.name.as_str(), judge(trial, tolerance)))
        .collect();
    let fitness = |name: &str| judged.iter().find(|(n, _)| *n == name).map(|(_, j)| j);
    let (name, reason) = match wish {
        BackendPreference::Cpu => (CPU, "asked for".to_owned()),
        BackendPreference::Require(name) | BackendPreference::Prefer(name) => {
            match (fitness(name), wish) {
                (Some(Ok(measured)), _) => (name.as_str(), format!("asked for{}", part(measured))),
                (mismatch, BackendPreference::Require(_)) => return Err(why_not(mismatch)),
                (mismatch, _) => (
                    CPU,
                    format!("{name} was asked for, but {}", why_not(mismatch)),
                ),
            }
        }
        BackendPreference::Auto => fastest(&judged),
    };
    let refused = judged
        .iter()
        .filter(|(other, _)| *other != name && *other != CPU)
        .map(|(other, judgement)| RejectedBackend {
            name: (*other).to_owned(),
            reason: match judgement {
                Ok(measured) => format!("slower: {}", pace(measured)),
                Err(reason) => reason.clone(),
            },
        })
        .collect();
    Ok(BackendChoice {
        name: name.to_owned(),
        reason,
        refused,
        is_second_best: wish.name().is_some_and(|wished| wished != name),
    })
}

/// What was measured, if the backend may be taken for the CPU.
fn judge(trial: &BenchmarkOutcome, tolerance: f32) -> Result<&BackendMetrics, String> {
    let measured = trial.result.as_ref().map_err(Clone::clone)?;
    match measured.agreement.mismatch(tolerance) {
        Some(mismatch) if trial.name != CPU => Err(mismatch),
        _ => Ok(measured),
    }
}

fn why_not(judgement: Option<&Result<&BackendMetrics, String>>) -> String {
    match judgement {
        Some(Err(reason)) => reason.clone(),
        _ => "it was not found on this machine".to_owned(),
    }
}

fn fastest<'a>(judged: &[(&'a str, Result<&BackendMetrics, String>)]) -> (&'a str, String) {
    let cpu = judged.iter().find(|(name, _)| *name == CPU);
    let cpu = cpu.and_then(|(_, judgement)| judgement.as_ref().ok());
    let others = judged.iter().filter(|(name, _)| *name != CPU);
    let best = others
        .filter_map(|(name, judgement)| Some((*name, *judgement.as_ref().ok()?)))
        .max_by(|(_, a), (_, b)| a.pictures_per_s.total_cmp(&b.pictures_per_s));
    match (best, cpu) {
        (Some((name, best)), Some(cpu)) if best.pictures_per_s >= cpu.pictures_per_s * GAIN_MIN => {
            let text = format!(
                "the fastest that agrees with the CPU: {}, the CPU {}{}",
                pace(best),
                pace(cpu),
                part(best)
            );
            (name, text)
        }
        // Without the CPU there is nothing that it could agree with.
        (Some(_), Some(cpu)) => (CPU, format!("no accelerator is much faster: {}", pace(cpu))),
        _ if judged.iter().all(|(name, _)| *name == CPU) => {
            (CPU, "nothing else can be used here".to_owned())
        }
        _ => (CPU, "no accelerator works and agrees with it".to_owned()),
    }
}

fn pace(measured: &BackendMetrics) -> String {
    format!("{:.1} pictures/s", measured.pictures_per_s)
}

fn part(measured: &BackendMetrics) -> String {
    match &measured.nodes {
        Some(nodes) if measured.is_partial => format!("; it runs only {nodes}, the CPU the others"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(name: &str, pictures_per_s: f64, max: f32) -> BenchmarkOutcome {
        BenchmarkOutcome {
            name: name.to_owned(),
            result: Ok(BackendMetrics {
                palm_ms: 10.0,
                hand_ms: 8.0,
                pictures_per_s,
                workers: 4,
                nodes: None,
                is_partial: false,
                agreement: Agreement {
                    pictures: 8,
                    landmarks: 210,
                    max,
                    ..Agreement::default()
                },
            }),
        }
    }

    fn broken(name: &str) -> BenchmarkOutcome {
        BenchmarkOutcome {
            name: name.to_owned(),
            result: Err("it hung".to_owned()),
        }
    }

    fn names(choice: &BackendChoice) -> Vec<&str> {
        choice.refused.iter().map(|r| r.name.as_str()).collect()
    }

    #[test]
    fn the_fastest_that_agrees_is_taken() {
        let check = |trials: &[BenchmarkOutcome], expected: &str, reason: &str| {
            let choice = choose(&BackendPreference::Auto, trials, 1e-3).unwrap();
            assert_eq!(choice.name, expected, "{choice:?}");
            assert!(choice.reason.contains(reason), "{choice:?}");
            assert_eq!(
                choice.refused.len(),
                trials.len() - 1 - usize::from(expected != CPU)
            );
            assert!(!choice.is_second_best);
        };
        let cpu = trial(CPU, 40.0, 0.0);
        check(std::slice::from_ref(&cpu), CPU, "nothing else");
        check(
            &[cpu.clone(), trial("a", 80.0, 1e-4)],
            "a",
            "80.0 pictures/s, the CPU 40.0",
        );
        check(
            &[cpu.clone(), trial("a", 80.0, 1e-4), trial("b", 90.0, 1e-4)],
            "b",
            "90.0",
        );
        check(
            &[cpu.clone(), trial("a", 80.0, 1e-4), trial("b", 90.0, 2e-3)],
            "a",
            "80.0",
        );
        check(&[cpu.clone(), trial("a", 41.0, 0.0)], CPU, "much faster");
        check(&[cpu.clone(), trial("a", 20.0, 0.0)], CPU, "much faster");
        check(&[cpu.clone(), broken("a")], CPU, "no accelerator");
        check(&[broken(CPU), trial("a", 80.0, 0.0)], CPU, "no accelerator");
    }

    #[test]
    fn the_named_one_is_taken_or_refused_aloud() {
        let trials = [
            trial(CPU, 40.0, 0.0),
            trial("slow", 2.0, 0.0),
            trial("wrong", 90.0, 0.3),
            broken("hung"),
        ];
        let require =
            |name: &str| choose(&BackendPreference::Require(name.to_owned()), &trials, 1e-3);
        let prefer = |name: &str| {
            choose(&BackendPreference::Prefer(name.to_owned()), &trials, 1e-3).unwrap()
        };
        let choice = require("slow").unwrap();
        assert_eq!(
            (choice.name.as_str(), choice.is_second_best),
            ("slow", false)
        );
        assert_eq!(names(&choice), ["wrong", "hung"]);
        assert_eq!(prefer("slow").name, "slow");
        for (name, reason) in [
            ("wrong", "landmarks"),
            ("hung", "it hung"),
            ("gone", "not found"),
        ] {
            assert!(require(name).unwrap_err().contains(reason), "{name}");
            let choice = prefer(name);
            assert_eq!((choice.name.as_str(), choice.is_second_best), (CPU, true));
            assert!(
                choice.reason.contains(name) && choice.reason.contains(reason),
                "{choice:?}"
            );
        }
        assert_eq!(
            choose(&BackendPreference::Cpu, &trials, 0.0).unwrap().name,
            CPU
        );
    }

    #[test]
    fn what_is_left_to_the_cpu_is_said() {
        let mut partial = trial("a", 80.0, 0.0);
        if let Ok(measured) = &mut partial.result {
            measured.nodes = Some("3 of 9 nodes".to_owned());
            measured.is_partial = true;
        }
        for wish in [
            BackendPreference::Auto,
            BackendPreference::Require("a".to_owned()),
        ] {
            let choice = choose(&wish, &[trial(CPU, 40.0, 0.0), partial.clone()], 1e-3).unwrap();
            assert!(choice.reason.contains("only 3 of 9 nodes"), "{choice:?}");
        }
    }
}
