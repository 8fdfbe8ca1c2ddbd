//! Chooses the backend that runs from the benchmark outcomes.

use super::{
    Agreement, BackendPreference, CPU, CUSTOM, DEFAULT_ORDER, Tolerance, published_error,
    reduced_precision,
};
use serde::{Deserialize, Serialize};

/// Minimum speed-up over the backend in place. Of two backends that are equally fast within a tenth, one appeared up
/// to 1.42 times as fast as the other on two cores at a load of nine.
const SPEEDUP_MIN: f64 = 1.5;
/// Minimum speed-up over the default at which the first choice of [`BackendPreference::Fast`] takes another backend.
const FAST_SPEEDUP_MIN: f64 = 1.1;

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
    /// Whether it computes in fewer than 32 bits, or on models of its own.
    pub is_reduced: bool,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendChoice {
    /// Name of the backend.
    pub name: String,
    /// Human-readable reason.
    pub reason: String,
    /// The other backends that were tried.
    pub refused: Vec<RejectedBackend>,
    /// Whether the user requested another backend.
    pub is_second_best: bool,
    /// Its difference to the CPU in the built-in images; `None` for the CPU and where nothing was measured.
    pub agreement: Option<Agreement>,
}

impl BackendChoice {
    /// Why the backend was chosen. For reduced precision also what it computes in, and its error.
    #[must_use]
    pub fn explanation(&self) -> String {
        let Some([palm, hand]) = reduced_precision(&self.name) else {
            return self.reason.clone();
        };
        let published = published_error(&self.name).map_or_else(String::new, |error| {
            let p95 = error.p95;
            format!(", 95 % of x and y within {p95:.1e} of the CPU's in published clips")
        });
        let measured = self
            .agreement
            .as_ref()
            .map_or_else(String::new, |agreement| {
                format!(", {:.1e} in the built-in images here", agreement.xy_p95)
            });
        let reason = &self.reason;
        format!("{reason}; palm model in {palm}, hand model in {hand}{published}{measured}")
    }
}

/// Chooses one of `outcomes`, which include the CPU. `incumbent` is the backend that the same preference chose on this
/// machine before.
///
/// # Errors
/// Returns the reason when the required backend cannot be used.
pub fn choose(
    preference: &BackendPreference,
    outcomes: &[BenchmarkOutcome],
    tolerance: Tolerance,
    incumbent: Option<&str>,
) -> Result<BackendChoice, String> {
    let results: Vec<(&str, Result<&BackendMetrics, String>)> = outcomes
        .iter()
        .map(|outcome| {
            (
                outcome.name.as_str(),
                usable(outcome, preference, tolerance),
            )
        })
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
        BackendPreference::Fastest => fastest(&results, incumbent, SPEEDUP_MIN),
        BackendPreference::Fast => fastest(&results, incumbent, FAST_SPEEDUP_MIN),
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
                    BackendPreference::Fastest | BackendPreference::Fast => {
                        format!("not clearly faster: {}", rate(metrics))
                    }
                    _ => format!("{preference} does not take it"),
                },
                Err(reason) => reason.clone(),
            },
        })
        .collect();
    let agreement = match result_of(name) {
        Some(Ok(metrics)) if name != CPU => Some(metrics.agreement.clone()),
        _ => None,
    };
    Ok(BackendChoice {
        name: name.to_owned(),
        reason,
        refused,
        is_second_best,
        agreement,
    })
}

/// The results, if `preference` may choose the backend and it agrees with the CPU.
fn usable<'a>(
    outcome: &'a BenchmarkOutcome,
    preference: &BackendPreference,
    tolerance: Tolerance,
) -> Result<&'a BackendMetrics, String> {
    let name = outcome.name.as_str();
    let metrics = outcome.result.as_ref().map_err(Clone::clone)?;
    if name == CPU {
        return Ok(metrics);
    }
    // A delegate's own models have no published error: the limits of 32 bits apply unless the user names it.
    let is_named = preference.name().is_some();
    let is_reduced = metrics.is_reduced && (is_named || name != CUSTOM);
    let refusal = if !is_reduced || is_named {
        None
    } else if *preference == BackendPreference::Fast {
        match published_error(name) {
            Some(error) => error.refusal(tolerance.fast),
            None => Some("its error is not published".to_owned()),
        }
    } else {
        Some("it computes in reduced precision, which fast or its name chooses".to_owned())
    };
    let mismatch = || metrics.agreement.mismatch(tolerance, is_reduced);
    refusal.or_else(mismatch).map_or(Ok(metrics), Err)
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

/// The fastest that works, if it is clearly faster than the one in place: `incumbent`, else the default, which it must
/// exceed `speedup_min` times.
fn fastest<'a>(
    results: &Results<'a>,
    incumbent: Option<&str>,
    speedup_min: f64,
) -> (&'a str, String) {
    let usable: Vec<(&str, &BackendMetrics)> = results
        .iter()
        .filter_map(|(name, result)| Some((*name, *result.as_ref().ok()?)))
        .collect();
    let measured = |name: &str| usable.iter().find(|(other, _)| *other == name).copied();
    // Without results of the CPU there is no reference.
    let in_place = measured(CPU).map(|cpu| {
        let default = DEFAULT_ORDER.into_iter().find_map(measured);
        match incumbent.and_then(measured) {
            Some(incumbent) => (incumbent, SPEEDUP_MIN),
            None => (default.unwrap_or(cpu), speedup_min),
        }
    });
    let Some(((name, metrics), speedup_min)) = in_place else {
        return (CPU, "the CPU could not be measured".to_owned());
    };
    let best = (usable.iter()).max_by(|(_, a), (_, b)| a.images_per_s.total_cmp(&b.images_per_s));
    match best {
        Some((best, faster)) if faster.images_per_s >= metrics.images_per_s * speedup_min => {
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
    use crate::selection::{CPU_FP16, CPU_INT8, LITERT_CPU};

    const TOLERANCE: Tolerance = Tolerance {
        exact: 1e-3,
        fast: 2.3e-3,
    };

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
                is_reduced: reduced_precision(name).is_some(),
                agreement: Agreement {
                    images: 8,
                    landmarks: 210,
                    xy_p95: max,
                    p99: max,
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
                let choice =
                    choose(&BackendPreference::Auto, &outcomes, TOLERANCE, incumbent).unwrap();
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
            let choice =
                choose(&BackendPreference::Fastest, outcomes, TOLERANCE, incumbent).unwrap();
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
                TOLERANCE,
                None,
            )
        };
        let prefer = |name: &str| {
            let preference = BackendPreference::Prefer(name.to_owned());
            choose(&preference, &outcomes, TOLERANCE, None).unwrap()
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
            choose(&BackendPreference::Cpu, &outcomes, TOLERANCE, None)
                .unwrap()
                .name,
            CPU
        );
    }

    #[test]
    fn only_fast_or_its_name_chooses_reduced_precision() {
        let outcomes = [
            outcome(CPU, 40.0, 0.0),
            outcome(LITERT_CPU, 44.0, 0.0),
            outcome(CPU_INT8, 400.0, 1e-4),
        ];
        let choose = |preference: &str, outcomes: &[BenchmarkOutcome], incumbent| {
            let preference = BackendPreference::parse(preference).unwrap();
            choose(&preference, outcomes, TOLERANCE, incumbent).unwrap()
        };
        for (preference, expected) in [
            ("auto", LITERT_CPU),
            ("fastest", LITERT_CPU),
            ("fast", CPU_INT8),
            ("require:cpu:int8", CPU_INT8),
            ("prefer:cpu:int8", CPU_INT8),
        ] {
            let choice = choose(preference, &outcomes, None);
            assert_eq!(choice.name, expected, "{choice:?}");
            let explanation = choice.explanation();
            let has_error =
                ["hand model in int8", "1.2e-3", "1.0e-4"].map(|part| explanation.contains(part));
            assert_eq!(has_error, [expected == CPU_INT8; 3], "{explanation}");
        }
        let fastest = choose("fastest", &outcomes, None);
        let refused = fastest.refused.iter().find(|r| r.name == CPU_INT8);
        assert!(refused.unwrap().reason.contains("reduced precision"));
    }

    #[test]
    fn fast_takes_the_fastest_within_its_tolerance_and_keeps_it() {
        let check = |others: &[BenchmarkOutcome], incumbent, expected: &str| {
            let outcomes = [&[outcome(CPU, 40.0, 0.0)], others].concat();
            let choice = choose(&BackendPreference::Fast, &outcomes, TOLERANCE, incumbent).unwrap();
            assert_eq!(choice.name, expected, "{choice:?}");
        };
        check(&[outcome(CPU_INT8, 45.0, 1e-3)], None, CPU_INT8);
        check(&[outcome(CPU_INT8, 43.0, 1e-3)], None, CPU);
        // Too far from the CPU here.
        check(&[outcome(CPU_INT8, 90.0, 2.4e-3)], None, CPU);
        let both = |fp16: f64| [outcome(CPU_INT8, 60.0, 1e-3), outcome(CPU_FP16, fp16, 1e-3)];
        check(&both(70.0), None, CPU_FP16);
        check(&both(70.0), Some(CPU_INT8), CPU_INT8);
        check(&both(91.0), Some(CPU_INT8), CPU_FP16);
        check(&both(30.0), Some(CPU_FP16), CPU_INT8);
        // A delegate with models of its own is held to the limits of 32 bits.
        let own = |max| {
            let mut own = outcome(CUSTOM, 90.0, max);
            own.result.as_mut().unwrap().is_reduced = true;
            own
        };
        check(&[own(9e-4)], None, CUSTOM);
        check(&[own(2e-3)], None, CPU);
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
                TOLERANCE,
                None,
            )
            .unwrap();
            assert!(choice.reason.contains("only 3 of 9 nodes"), "{choice:?}");
        }
    }
}
