//! Warnings about a plan that the user probably did not intend.

use super::PlanOptions;
use crate::dataset::instance::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A result that the user probably did not intend. The job runs nevertheless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub enum Warning {
    /// A selected gloss is not in the metadata.
    UnknownGloss(String),
    /// A selected gloss has too few clips on disk.
    TooFewVideos(String),
    /// A gloss is kept but its lower-case twin is not, so the notebook's comparison drops all its clips.
    CapitalsDropped(String),
    /// Values of the metadata cannot be used, and the entries or instances with them are not processed.
    OddValues(String),
    /// Clips exist under other names than the notebook expects.
    OtherNames(String),
    /// The splits file and the metadata differ.
    OtherSplits(String),
    /// Parts of the dataset are not read.
    Layout(String),
}

/// Compares the user's choice with the glosses found and kept. `files` are the existing clips per gloss.
pub(super) fn warnings(
    entries: &[Entry],
    plan_options: &PlanOptions,
    files: &HashMap<&str, usize>,
    glosses: &[Arc<str>],
) -> Vec<Warning> {
    let kept: HashSet<&str> = glosses.iter().map(|gloss| &**gloss).collect();
    let found = |gloss: &str| files.get(gloss).copied().unwrap_or(0);
    let mut warnings: Vec<Warning> = odd_values(entries).into_iter().collect();
    let needed = plan_options.min_videos_per_gloss;
    let most = files
        .iter()
        .max_by_key(|(gloss, count)| (**count, std::cmp::Reverse(**gloss)));
    if let Some((gloss, most)) = most.filter(|(_, most)| **most < needed) {
        warnings.push(Warning::TooFewVideos(format!(
            "none of {} glosses has {needed} clips on disk, so no clip is processed; the most has \"{gloss}\" with {most}",
            files.len()
        )));
    }
    let mut seen = kept.clone();
    for gloss in &plan_options.selected_glosses {
        if !seen.insert(gloss) {
            continue;
        }
        let mut spelt = entries.iter().filter_map(|entry| entry.gloss.as_deref());
        let same = |entry: &&Entry| entry.gloss.as_deref() == Some(gloss.as_str());
        let excluded = entries.iter().filter(same).flat_map(|e| &e.instances);
        let excluded: Option<Vec<&String>> = excluded.map(|i| i.excluded.as_ref()).collect();
        let excluded = excluded.and_then(|reasons| reasons.first().copied());
        warnings.push(if let Some(reason) = excluded {
            Warning::UnknownGloss(format!("selected gloss \"{gloss}\" is left out: {reason}"))
        } else if spelt.clone().any(|known| known == gloss) {
            let (found, needed) = (found(gloss), plan_options.min_videos_per_gloss);
            Warning::TooFewVideos(format!(
                "selected gloss \"{gloss}\" has {found} clips on disk, {needed} are needed"
            ))
        } else {
            let lower = gloss.to_lowercase();
            let similar = spelt.find(|known| known.to_lowercase() == lower);
            let hint = similar.map(|similar| format!("; did you mean \"{similar}\"?"));
            Warning::UnknownGloss(format!(
                "selected gloss \"{gloss}\" is not in the metadata{}",
                hint.unwrap_or_default()
            ))
        });
    }
    for gloss in glosses {
        let lower = gloss.to_lowercase();
        if plan_options.folds_case && lower != **gloss && !kept.contains(lower.as_str()) {
            warnings.push(Warning::CapitalsDropped(format!(
                "gloss \"{gloss}\" is kept with {} clips but, as in the notebook, none is processed, because \
                 \"{lower}\" is not kept",
                found(gloss)
            )));
        }
    }
    warnings
}

/// Counts the refused entries and instances, and describes the first one.
fn odd_values(entries: &[Entry]) -> Option<Warning> {
    let all = entries.iter().enumerate().flat_map(|(index, entry)| {
        let of_entry = entry.refused.as_ref();
        let of_entry = of_entry.map(|reason| (format!("[{index}]"), reason));
        let of_instances = entry.instances.iter().enumerate();
        let of_instances = of_instances.filter_map(move |(n, instance)| {
            let place = || {
                let of_table = instance.source.as_ref().map(ToString::to_string);
                of_table.unwrap_or_else(|| format!("[{index}].instances[{n}]"))
            };
            instance.refused.as_ref().map(|reason| (place(), reason))
        });
        of_entry.into_iter().chain(of_instances)
    });
    let count = all.clone().count();
    let (place, reason) = { all }.next()?;
    Some(Warning::OddValues(format!(
        "{count} glosses or instances of the metadata have values that cannot be used and are not processed; the first, \
         {place}: {reason}"
    )))
}
