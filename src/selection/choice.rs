//! Chooses the backend that runs from the benchmark outcomes.

use super::{Agreement, BackendPreference, CPU};
use serde::{Deserialize, Serialize};

/// Minimum speed-up over the CPU: two benchmarks of the same backend differ by less.
const SPEEDUP_MIN: f64 = 1.1;

/// Benchmark results of a backend that works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendMetrics {
    /// Median run time of the palm model, milliseconds.
    pub palm_ms: f64,
    /// Median run time of the hand model, milliseconds.
    pub hand_ms: f64,
    /// Images per second with all workers.
    #[serde(rename = "pictures_per_s")]
    pub images_per_s: f64,
    /// Number of workers.
    pub workers: usize,
    /// How much of the models a delegate runs; `None` for backends that run all of them.
    pub nodes: Option<String>,
    /// Whether the CPU runs a part of the models.
    pub is_partial: bool,
    /// Difference to the CPU.
    pub agreement: Agreement,
}

/// Outcome of the benchmark of one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkOutcome {
    /// Name of the backend.
    pub name: String,
    /// Its results, or why it does not work.
    pub result: Result<BackendMetrics, String>,
}

/// A backend that was tried and not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedBackend {
    /// Name of the backend.
    pub name: String,
    /// Human-readable reason.
    pub reason: String,
}

/// The backend that runs the models, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendChoice {
    /// Name of the backend.
    pub name: String,
    /// Human-readable reason.
    pub reason: String,
    /// The other backends that were tried.
    pub refused: Vec<RejectedBackend>,
    /// Whether the user requested another backend.
    pub is_second_best: bool,
}

/// Chooses one of `outcomes`, which include the CPU. `tolerance` is the largest allowed difference of a landmark to the
/// CPU's, in fractions of the image size.
///
/// # Errors
/// The reason, when the required backend cannot be used.
pub fn choose(
    preference: &BackendPreference,
    outcomes: &[BenchmarkOutcome],
    tolerance: f32,
) -> Result<BackendChoice, String> {
    let results: Vec<(&str, Result<&BackendMetrics, String>)> = outcomes
        .iter()
        .map(|outcome| (outcome.name.as_str(), usable(outcome, tolerance)))
        .collect();
    let result_of = |name: &str| results.iter().find(|(n, _)| *n == name).map(|(_, j)| j);
    let (name, reason) = match preference {
        BackendPreference::Cpu => (CPU, "requested".to_owned()),
        BackendPreference::Require(name) | BackendPreference::Prefer(name) => {
            match result_of(name) {
                Some(Ok(metrics)) => (name.as_str(), format!("requested{}", partial(metrics))),
                result => {
                    let error = result.and_then(|result| result.as_ref().err());
                    let reason = error.map_or("it is not available on this machine", |e| e);
                    if matches!(preference, BackendPreference::Require(_)) {
                        return Err(reason.to_owned());
                    }
                    (CPU, format!("{name} was requested, but {reason}"))
                }
            }
        }
        BackendPreference::Auto => fastest(&results),
    };
    let refused = results
        .iter()
        .filter(|(other, _)| *other != name && *other != CPU)
        .map(|(other, result)| RejectedBackend {
            name: (*other).to_owned(),
            reason: match result {
                Ok(metrics) => format!("slower: {}", rate(metrics)),
                Err(reason) => reason.clone(),
            },
        })
        .collect();
    Ok(BackendChoice {
        name: name.to_owned(),
        reason,
        refused,
        is_second_best: preference.name().is_some_and(|other| other != name),
    })
}

/// The results, if the backend agrees with the CPU.
fn usable(outcome: &BenchmarkOutcome, tolerance: f32) -> Result<&BackendMetrics, String> {
    let metrics = outcome.result.as_ref().map_err(Clone::clone)?;
    match metrics.agreement.mismatch(tolerance) {
        Some(mismatch) if outcome.name != CPU => Err(mismatch),
        _ => Ok(metrics),
    }
}

fn fastest<'a>(results: &[(&'a str, Result<&BackendMetrics, String>)]) -> (&'a str, String) {
    let cpu = results.iter().find(|(name, _)| *name == CPU);
    let cpu = cpu.and_then(|(_, result)| result.as_ref().ok());
    let others = results.iter().filter(|(name, _)| *name != CPU);
    let best = others
        .filter_map(|(name, result)| Some((*name, *result.as_ref().ok()?)))
        .max_by(|(_, a), (_, b)| a.images_per_s.total_cmp(&b.images_per_s));
    match (best, cpu) {
        (Some((name, best)), Some(cpu)) if best.images_per_s >= cpu.images_per_s * SPEEDUP_MIN => {
            let text = format!(
                "fastest backend that agrees with the CPU: {}, the CPU {}{}",
                rate(best),
                rate(cpu),
                partial(best)
            );
            (name, text)
        }
        // Without results of the CPU there is no reference.
        (Some(_), Some(cpu)) => (CPU, format!("no accelerator is much faster: {}", rate(cpu))),
        _ if results.iter().all(|(name, _)| *name == CPU) => {
            (CPU, "no other backend is available".to_owned())
        }
        _ => (
            CPU,
            "no accelerator works and agrees with the CPU".to_owned(),
        ),
    }
}

fn rate(metrics: &BackendMetrics) -> String {
    format!("{:.1} images/s", metrics.images_per_s)
}

fn partial(metrics: &BackendMetrics) -> String {
    match &metrics.nodes {
        Some(nodes) if metrics.is_partial => format!("; it runs only {nodes}, the CPU the rest"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, images_per_s: f64, max: f32) -> BenchmarkOutcome {
        BenchmarkOutcome {
            name: name.to_owned(),
            result: Ok(BackendMetrics {
                palm_ms: 10.0,
                hand_ms: 8.0,
                images_per_s,
                workers: 4,
                nodes: None,
                is_partial: false,
                agreement: Agreement {
                    images: 8,
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
        let check = |outcomes: &[BenchmarkOutcome], expected: &str, reason: &str| {
            let choice = choose(&BackendPreference::Auto, outcomes, 1e-3).unwrap();
            assert_eq!(choice.name, expected, "{choice:?}");
            assert!(choice.reason.contains(reason), "{choice:?}");
            assert_eq!(
                choice.refused.len(),
                outcomes.len() - 1 - usize::from(expected != CPU)
            );
            assert!(!choice.is_second_best);
        };
        let cpu = outcome(CPU, 40.0, 0.0);
        check(std::slice::from_ref(&cpu), CPU, "no other");
        check(
            &[cpu.clone(), outcome("a", 80.0, 1e-4)],
            "a",
            "80.0 images/s, the CPU 40.0",
        );
        check(
            &[
                cpu.clone(),
                outcome("a", 80.0, 1e-4),
                outcome("b", 90.0, 1e-4),
            ],
            "b",
            "90.0",
        );
        check(
            &[
                cpu.clone(),
                outcome("a", 80.0, 1e-4),
                outcome("b", 90.0, 2e-3),
            ],
            "a",
            "80.0",
        );
        check(&[cpu.clone(), outcome("a", 41.0, 0.0)], CPU, "much faster");
        check(&[cpu.clone(), outcome("a", 20.0, 0.0)], CPU, "much faster");
        check(&[cpu.clone(), broken("a")], CPU, "no accelerator");
        check(
            &[broken(CPU), outcome("a", 80.0, 0.0)],
            CPU,
            "no accelerator",
        );
    }

    #[test]
    fn a_named_backend_is_chosen_or_refused_with_a_reason() {
        let outcomes = [
            outcome(CPU, 40.0, 0.0),
            outcome("slow", 2.0, 0.0),
            outcome("wrong", 90.0, 0.3),
            broken("hung"),
        ];
        let require = |name: &str| {
            choose(
                &BackendPreference::Require(name.to_owned()),
                &outcomes,
                1e-3,
            )
        };
        let prefer = |name: &str| {
            choose(&BackendPreference::Prefer(name.to_owned()), &outcomes, 1e-3).unwrap()
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
            ("gone", "not available"),
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
            choose(&BackendPreference::Cpu, &outcomes, 0.0)
                .unwrap()
                .name,
            CPU
        );
    }

    #[test]
    fn a_partial_backend_names_what_the_cpu_runs() {
        let mut partial = outcome("a", 80.0, 0.0);
        if let Ok(metrics) = &mut partial.result {
            metrics.nodes = Some("3 of 9 nodes".to_owned());
            metrics.is_partial = true;
        }
        for preference in [
            BackendPreference::Auto,
            BackendPreference::Require("a".to_owned()),
        ] {
            let choice = choose(
                &preference,
                &[outcome(CPU, 40.0, 0.0), partial.clone()],
                1e-3,
            )
            .unwrap();
            assert!(choice.reason.contains("only 3 of 9 nodes"), "{choice:?}");
        }
    }
}
