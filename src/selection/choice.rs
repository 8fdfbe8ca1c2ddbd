//! From what was measured to the backend that runs.

use super::{Agreement, CPU, Wish};
use serde::{Deserialize, Serialize};

/// A backend must be so much faster than the CPU to be taken in its place: less is within what two measurements of the
/// same differ by.
const GAIN_MIN: f64 = 1.1;

/// What was measured of a backend that works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
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
pub struct Trial {
    /// Its name.
    pub name: String,
    /// What was measured, or why it does not work.
    pub result: Result<Measured, String>,
}

/// A backend that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its name.
    pub name: String,
    /// In words.
    pub reason: String,
}

/// What runs, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The backend's name.
    pub name: String,
    /// In words.
    pub reason: String,
    /// The others that were tried.
    pub refused: Vec<Refused>,
    /// Whether the user asked for another one.
    pub is_second_best: bool,
}

impl Choice {
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
pub fn choose(wish: &Wish, trials: &[Trial], tolerance: f32) -> Result<Choice, String> {
    let judged: Vec<(&str, Result<&Measured, String>)> = trials
        .iter()
        .map(|trial| (trial.name.as_str(), judge(trial, tolerance)))
        .collect();
    let fitness = |name: &str| judged.iter().find(|(n, _)| *n == name).map(|(_, j)| j);
    let (name, reason) = match wish {
        Wish::Cpu => (CPU, "asked for".to_owned()),
        Wish::Require(name) | Wish::Prefer(name) => match (fitness(name), wish) {
            (Some(Ok(measured)), _) => (name.as_str(), format!("asked for{}", part(measured))),
            (objection, Wish::Require(_)) => return Err(why_not(objection)),
            (objection, _) => (
                CPU,
                format!("{name} was asked for, but {}", why_not(objection)),
            ),
        },
        Wish::Auto => fastest(&judged),
    };
    let refused = judged
        .iter()
        .filter(|(other, _)| *other != name && *other != CPU)
        .map(|(other, judgement)| Refused {
            name: (*other).to_owned(),
            reason: match judgement {
                Ok(measured) => format!("slower: {}", pace(measured)),
                Err(reason) => reason.clone(),
            },
        })
        .collect();
    Ok(Choice {
        name: name.to_owned(),
        reason,
        refused,
        is_second_best: wish.name().is_some_and(|wished| wished != name),
    })
}

/// What was measured, if the backend may be taken for the CPU.
fn judge(trial: &Trial, tolerance: f32) -> Result<&Measured, String> {
    let measured = trial.result.as_ref().map_err(Clone::clone)?;
    match measured.agreement.objection(tolerance) {
        Some(objection) if trial.name != CPU => Err(objection),
        _ => Ok(measured),
    }
}

fn why_not(judgement: Option<&Result<&Measured, String>>) -> String {
    match judgement {
        Some(Err(reason)) => reason.clone(),
        _ => "it was not found on this machine".to_owned(),
    }
}

fn fastest<'a>(judged: &[(&'a str, Result<&Measured, String>)]) -> (&'a str, String) {
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

fn pace(measured: &Measured) -> String {
    format!("{:.1} pictures/s", measured.pictures_per_s)
}

fn part(measured: &Measured) -> String {
    match &measured.nodes {
        Some(nodes) if measured.is_partial => format!("; it runs only {nodes}, the CPU the others"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(name: &str, pictures_per_s: f64, max: f32) -> Trial {
        Trial {
            name: name.to_owned(),
            result: Ok(Measured {
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

    fn broken(name: &str) -> Trial {
        Trial {
            name: name.to_owned(),
            result: Err("it hung".to_owned()),
        }
    }

    fn names(choice: &Choice) -> Vec<&str> {
        choice.refused.iter().map(|r| r.name.as_str()).collect()
    }

    #[test]
    fn the_fastest_that_agrees_is_taken() {
        let check = |trials: &[Trial], expected: &str, reason: &str| {
            let choice = choose(&Wish::Auto, trials, 1e-3).unwrap();
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
        let require = |name: &str| choose(&Wish::Require(name.to_owned()), &trials, 1e-3);
        let prefer = |name: &str| choose(&Wish::Prefer(name.to_owned()), &trials, 1e-3).unwrap();
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
        assert_eq!(choose(&Wish::Cpu, &trials, 0.0).unwrap().name, CPU);
    }

    #[test]
    fn what_is_left_to_the_cpu_is_said() {
        let mut partial = trial("a", 80.0, 0.0);
        if let Ok(measured) = &mut partial.result {
            measured.nodes = Some("3 of 9 nodes".to_owned());
            measured.is_partial = true;
        }
        for wish in [Wish::Auto, Wish::Require("a".to_owned())] {
            let choice = choose(&wish, &[trial(CPU, 40.0, 0.0), partial.clone()], 1e-3).unwrap();
            assert!(choice.reason.contains("only 3 of 9 nodes"), "{choice:?}");
        }
    }
}
