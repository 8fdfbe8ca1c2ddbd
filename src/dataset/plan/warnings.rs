//! What the user should hear of a plan.

use super::PlanOptions;
use crate::dataset::wlasl::Entry;
use std::collections::HashSet;
use std::sync::Arc;

/// Something that the user probably did not intend. The job goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Selected, but not in the metadata.
    #[error("selected gloss \"{gloss}\" is not in the metadata{}", did_you_mean(.similar.as_deref()))]
    UnknownGloss {
        /// As the user wrote it.
        gloss: String,
        /// The same but for capitals.
        similar: Option<String>,
    },
    /// Selected, but with too few clips on disk.
    #[error("selected gloss \"{gloss}\" has {found} clips on disk, {needed} are needed")]
    TooFewVideos {
        /// As the user wrote it.
        gloss: String,
        /// Clips on disk.
        found: usize,
        /// Clips that it takes.
        needed: usize,
    },
    /// Kept, but its lower-case twin is not, so the notebook's comparison drops all its clips.
    #[error(
        "gloss \"{gloss}\" is kept with {found} clips but, as in the notebook, none is processed, for \"{lower}\" is not kept"
    )]
    CapitalsDropped {
        /// As spelt.
        gloss: String,
        /// What it is compared as.
        lower: String,
        /// Clips on disk.
        found: usize,
    },
}

fn did_you_mean(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |gloss| format!("; did you mean \"{gloss}\"?"))
}

/// What is odd about the user's choice, given what was found and kept.
pub(super) fn warnings(
    entries: &[Entry],
    plan_options: &PlanOptions,
    gloss_file_counts: &[(Arc<str>, usize)],
    glosses: &[Arc<str>],
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut seen = HashSet::new();
    for gloss in &plan_options.selected_glosses {
        if !seen.insert(gloss) || glosses.iter().any(|kept| kept.as_ref() == gloss) {
            continue;
        }
        let mut spelt = entries.iter().filter_map(|entry| entry.gloss.as_deref());
        if spelt.clone().any(|known| known == gloss) {
            warnings.push(Warning::TooFewVideos {
                gloss: gloss.clone(),
                found: files_of(gloss_file_counts, gloss),
                needed: plan_options.min_videos_per_gloss,
            });
        } else {
            let lower = gloss.to_lowercase();
            warnings.push(Warning::UnknownGloss {
                gloss: gloss.clone(),
                similar: spelt
                    .find(|known| known.to_lowercase() == lower)
                    .map(ToOwned::to_owned),
            });
        }
    }
    for gloss in glosses {
        let lower = gloss.to_lowercase();
        if lower != gloss.as_ref() && !glosses.iter().any(|kept| kept.as_ref() == lower) {
            warnings.push(Warning::CapitalsDropped {
                gloss: gloss.to_string(),
                found: files_of(gloss_file_counts, gloss),
                lower,
            });
        }
    }
    warnings
}

fn files_of(gloss_file_counts: &[(Arc<str>, usize)], gloss: &str) -> usize {
    let mut counts = gloss_file_counts.iter();
    counts
        .find(|(name, _)| name.as_ref() == gloss)
        .map_or(0, |&(_, count)| count)
}
