//! Chooses the backend that runs from the benchmark outcomes.

use super::{Agreement, BackendPreference, CPU, DEFAULT_ORDER};
use serde::{Deserialize, Serialize};

/// Minimum speed-up over the backend in place. Of two backends that are equally fast within a tenth, one appeared up
/// to 1.42 times as fast as the other on two cores at a load of nine.
const SPEEDUP_MIN: f64 = 1.5;

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
/// CPU's, in fractions of the image size. `incumbent` is the backend that was the fastest of this machine before.
///
/// # Errors
/// The reason, when the required backend cannot be used.
pub fn choose(
    preference: &BackendPreference,
    outcomes: &[BenchmarkOutcome],
    tolerance: f32,
    incumbent: Option<&str>,
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
        BackendPreference::Auto => in_order(&results),
        BackendPreference::Fastest => fastest(&results, incumbent),
    };
    let is_second_best = match preference {
        BackendPreference::Auto => (DEFAULT_ORDER.iter().take_while(|other| **other != name))
            .any(|other| result_of(other).is_some()),
        _ => preference.name().is_some_and(|other| other != name),
    };
    let refused = results
        .iter()
        .filter(|(other, _)| *other != name && *other != CPU)
        .map(|(other, result)| RejectedBackend {
            name: (*other).to_owned(),
            reason: match result {
                Ok(metrics) => match preference {
                    BackendPreference::Fastest => format!("not clearly faster: {}", rate(metrics)),
                    _ => format!("{preference} does not take it"),
                },
                Err(reason) => reason.clone(),
            },
        })
        .collect();
    Ok(BackendChoice {
        name: name.to_owned(),
        reason,
        refused,
        is_second_best,
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

type Results<'a> = [(&'a str, Result<&'a BackendMetrics, String>)];

/// The first of [`DEFAULT_ORDER`] that works.
fn in_order(results: &Results<'_>) -> (&'static str, String) {
    let mut failed = None;
    for name in DEFAULT_ORDER.into_iter().filter(|name| *name != CPU) {
        match results.iter().find(|(other, _)| *other == name) {
            Some((_, Ok(_))) => return (name, "the first in the default order".to_owned()),
            Some((_, Err(reason))) => {
                failed.get_or_insert(format!("{name} is installed, but {reason}"));
            }
            None => {}
        }
    }
    let reason = failed.unwrap_or_else(|| "LiteRT is not installed".to_owned());
    (CPU, reason)
}

/// The fastest that works, if it is clearly faster than the one in place: `incumbent`, else the default.
fn fastest<'a>(results: &Results<'a>, incumbent: Option<&str>) -> (&'a str, String) {
    let usable: Vec<(&str, &BackendMetrics)> = results
        .iter()
        .filter_map(|(name, result)| Some((*name, *result.as_ref().ok()?)))
        .collect();
    let measured = |name: &str| usable.iter().find(|(other, _)| *other == name).copied();
    // Without results of the CPU there is no reference.
    let in_place = measured(CPU).and_then(|cpu| {
        let default = DEFAULT_ORDER.into_iter().find_map(measured);
        incumbent.and_then(measured).or(default).or(Some(cpu))
    });
    let Some((name, metrics)) = in_place else {
        return (CPU, "the CPU could not be measured".to_owned());
    };
    let best = (usable.iter()).max_by(|(_, a), (_, b)| a.images_per_s.total_cmp(&b.images_per_s));
    match best {
        Some((best, faster)) if faster.images_per_s >= metrics.images_per_s * SPEEDUP_MIN => {
            let text = format!(
                "fastest backend that agrees with the CPU: {}, {name} {}{}",
                rate(faster),
                rate(metrics),
                partial(faster)
            );
            (best, text)
        }
        _ if usable.len() == 1 => (name, "no other backend works and agrees with it".to_owned()),
        _ => {
            let text = format!("no other backend is clearly faster: {}", rate(metrics));
            (name, text + &partial(metrics))
        }
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
    use crate::selection::LITERT_CPU;

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
    fn the_default_depends_on_what_is_installed_and_on_no_speed() {
        let check = |others: &[BenchmarkOutcome], expected: &str, reason: &str, is_second_best| {
            let outcomes = [&[outcome(CPU, 40.0, 0.0)], others].concat();
            for incumbent in [None, Some("a"), Some(CPU)] {
                let choice = choose(&BackendPreference::Auto, &outcomes, 1e-3, incumbent).unwrap();
                assert_eq!(choice.name, expected, "{choice:?}");
                assert!(choice.reason.contains(reason), "{choice:?}");
                assert_eq!(choice.is_second_best, is_second_best, "{choice:?}");
            }
        };
        check(&[], CPU, "not installed", false);
        check(&[outcome("a", 400.0, 0.0)], CPU, "not installed", false);
        for images_per_s in [1.0, 40.0, 400.0] {
            let litert = outcome(LITERT_CPU, images_per_s, 1e-6);
            let others = [litert, outcome("a", 900.0, 0.0)];
            check(&others, LITERT_CPU, "default order", false);
        }
        check(&[broken(LITERT_CPU)], CPU, "but it hung", true);
        check(&[outcome(LITERT_CPU, 90.0, 0.1)], CPU, "landmarks", true);
    }

    #[test]
    fn the_fastest_must_be_clearly_faster_than_the_one_in_place() {
        let check = |outcomes: &[BenchmarkOutcome], incumbent, expected: &str, reason: &str| {
            let choice = choose(&BackendPreference::Fastest, outcomes, 1e-3, incumbent).unwrap();
            assert_eq!(choice.name, expected, "{choice:?}");
            assert!(choice.reason.contains(reason), "{choice:?}");
            assert!(!choice.is_second_best);
        };
        let cpu = outcome(CPU, 40.0, 0.0);
        let with = |name: &str, images_per_s: f64, max: f32| {
            [cpu.clone(), outcome(name, images_per_s, max)]
        };
        check(std::slice::from_ref(&cpu), None, CPU, "no other");
        check(&with("a", 80.0, 1e-4), None, "a", "80.0 images/s, cpu 40.0");
        check(&with("a", 80.0, 2e-3), None, CPU, "no other");
        check(&with("a", 59.0, 0.0), None, CPU, "clearly faster");
        check(&with("a", 61.0, 0.0), None, "a", "fastest");
        check(&[cpu.clone(), broken("a")], None, CPU, "no other");
        check(
            &[broken(CPU), outcome("a", 80.0, 0.0)],
            None,
            CPU,
            "could not",
        );
        // The one in place stays until another is clearly faster than it.
        check(&with("a", 27.0, 0.0), Some("a"), "a", "clearly faster");
        check(
            &with("a", 26.0, 0.0),
            Some("a"),
            CPU,
            "40.0 images/s, a 26.0",
        );
        check(&with("a", 27.0, 0.1), Some("a"), CPU, "no other");
        check(&with("a", 59.0, 0.0), Some("gone"), CPU, "clearly faster");
        // Of those that are installed, the default is in place.
        check(&with(LITERT_CPU, 27.0, 0.0), None, LITERT_CPU, "clearly");
        check(&with(LITERT_CPU, 26.0, 0.0), None, CPU, "fastest");
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
                None,
            )
        };
        let prefer = |name: &str| {
            let preference = BackendPreference::Prefer(name.to_owned());
            choose(&preference, &outcomes, 1e-3, None).unwrap()
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
            choose(&BackendPreference::Cpu, &outcomes, 0.0, None)
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
            BackendPreference::Fastest,
            BackendPreference::Require("a".to_owned()),
        ] {
            let choice = choose(
                &preference,
                &[outcome(CPU, 40.0, 0.0), partial.clone()],
                1e-3,
                None,
            )
            .unwrap();
            assert!(choice.reason.contains("only 3 of 9 nodes"), "{choice:?}");
        }
    }
}
