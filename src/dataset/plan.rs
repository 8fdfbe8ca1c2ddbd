//! Which instances of the metadata are processed, and in which order.
//!
//! Reproduces the notebook's scan, quirks included: clips are counted per gloss as spelt, but an instance is processed
//! only when its gloss in lower case is among the kept ones. Whether a clip exists is asked through a function; this
//! file touches no disk.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::dataset::wlasl::{Entry, FrameNumber};
use warnings::warnings;

mod warnings;

pub use warnings::Warning;

/// What a user can choose about the plan. The defaults are the notebook's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// A gloss with fewer clips on disk is not processed.
    pub min_videos_per_gloss: usize,
    /// Keep only this many glosses, those with the most instances in the metadata; `None` keeps all. Without effect
    /// when glosses are selected by name.
    pub max_glosses: Option<usize>,
    /// Keep only these glosses, as spelt in the metadata; empty keeps all.
    pub selected_glosses: Vec<String>,
    /// At most this many accepted clips per gloss; `None` and 0 mean no limit. Not applied here: it depends on what
    /// the clips give.
    pub max_samples_per_gloss: Option<usize>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            min_videos_per_gloss: 5,
            max_glosses: None,
            selected_glosses: Vec::new(),
            max_samples_per_gloss: None,
        }
    }
}

/// What the plan has for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanDecision {
    /// It is processed.
    Process {
        /// Its place in [`Plan::jobs`].
        position: usize,
    },
    /// Its gloss is not wanted; asked first, so it holds for missing clips too.
    NotSelected {
        /// Why not.
        reason: String,
    },
    /// Its clip is not there.
    Missing {
        /// What exactly is not there.
        reason: String,
    },
    /// Its clip is there but its frame numbers are not numbers, so the notebook skips it before any decoding.
    Unreadable {
        /// The notebook's message.
        reason: String,
    },
}

/// An instance of the metadata and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRecord {
    /// Index of its entry in the metadata.
    pub entry: usize,
    /// Its index in the entry.
    pub instance: usize,
    /// As spelt; empty when the entry has none.
    pub gloss: Arc<str>,
    /// `None` when the metadata gives none.
    pub video_id: Option<Arc<str>>,
    /// As in the metadata.
    pub frame_start: FrameNumber,
    /// As in the metadata.
    pub frame_end: FrameNumber,
    /// `train`, `val`, `test` or whatever the metadata says.
    pub split: String,
    /// Who signs, −1 when unknown.
    pub signer_id: i64,
    /// What becomes of it.
    pub decision: PlanDecision,
}

/// An instance to process: all that a worker needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedClip {
    /// Place in [`Plan::jobs`], which is the order of results.
    pub position: usize,
    /// Index in [`Plan::records`].
    pub record: usize,
    /// The label, as spelt.
    pub gloss: Arc<str>,
    /// Names the clip.
    pub video_id: Arc<str>,
    /// As in the metadata.
    pub frame_start: i64,
    /// As in the metadata.
    pub frame_end: i64,
}

/// What the notebook prints after its scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries in the metadata.
    pub entries: usize,
    /// Instances in the metadata; as many as there are records.
    pub instances: usize,
    /// Glosses with at least one clip on disk.
    pub glosses_seen: usize,
    /// Of these, glosses with enough clips.
    pub glosses_with_enough: usize,
    /// Of these, glosses with too few.
    pub glosses_dropped: usize,
}

/// The plan: every instance with its fate, and the jobs in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One for each instance, in metadata order.
    pub records: Vec<PlanRecord>,
    /// The instances to process, in metadata order.
    pub jobs: Vec<PlannedClip>,
    /// The kept glosses as spelt, in the order of the first clip found: the npz file's `glosses`.
    pub glosses: Vec<Arc<str>>,
    /// Clips on disk per gloss as spelt, in the order of the first clip found.
    pub gloss_file_counts: Vec<(Arc<str>, usize)>,
    /// For the printout.
    pub counts: Counts,
    /// For the user.
    pub warnings: Vec<Warning>,
    /// As they were when the plan was made.
    pub plan_options: PlanOptions,
}

/// Makes the plan. `exists` tells whether the clip of a video id is there; it is asked once per id, and only with ids
/// that are plain file names.
///
/// ```
/// use handloom::dataset::{plan::{PlanOptions, plan}, wlasl::parse};
///
/// let metadata = br#"[{"gloss": "book", "instances": [{"video_id": "1"}, {"video_id": "2"}]}]"#;
/// let entries = parse(metadata).expect("WLASL's layout");
/// let options = PlanOptions { min_videos_per_gloss: 1, ..PlanOptions::default() };
/// let plan = plan(&entries, &options, &|id| id == "2");
/// assert_eq!(plan.records.len(), 2); // Every instance has a record …
/// assert_eq!(&*plan.jobs[0].video_id, "2"); // … and the one whose clip exists is processed.
/// ```
#[must_use]
pub fn plan(entries: &[Entry], plan_options: &PlanOptions, exists: &dyn Fn(&str) -> bool) -> Plan {
    let mut clips = Clips {
        exists,
        known: HashMap::new(),
    };
    let gloss_file_counts = count_files(entries, &mut clips);
    let enough: Vec<_> = gloss_file_counts
        .iter()
        .filter(|(_, count)| *count >= plan_options.min_videos_per_gloss)
        .map(|(gloss, _)| Arc::clone(gloss))
        .collect();
    let chosen = choose_glosses(entries, plan_options);
    let glosses: Vec<_> = match &chosen {
        Some(chosen) => {
            let is_chosen = |gloss: &&Arc<str>| chosen.contains(gloss.as_ref());
            enough.iter().filter(is_chosen).cloned().collect()
        }
        None => enough.clone(),
    };
    let mut plan = Plan {
        records: Vec::new(),
        jobs: Vec::new(),
        counts: Counts {
            entries: entries.len(),
            instances: entries.iter().map(|entry| entry.instances.len()).sum(),
            glosses_seen: gloss_file_counts.len(),
            glosses_with_enough: enough.len(),
            glosses_dropped: gloss_file_counts.len() - enough.len(),
        },
        warnings: warnings(entries, plan_options, &gloss_file_counts, &glosses),
        plan_options: plan_options.clone(),
        glosses,
        gloss_file_counts,
    };
    plan.decide(entries, &mut clips);
    plan
}

impl Plan {
    /// The text that the notebook prints around its scan, with a line about the choice of glosses when there was one.
    #[must_use]
    pub fn scan_report(&self) -> String {
        let counts = &self.counts;
        let needed = self.plan_options.min_videos_per_gloss;
        let mut report = format!(
            "Loaded {} entries from metadata\n\n\
             Scanning disk for glosses with >= {needed} videos...\n\
             Scan complete.\n  \
             Total unique glosses in metadata: {}\n  \
             Glosses with >= {needed} videos: {}\n  \
             Glosses dropped (too few videos): {}\n",
            counts.entries, counts.glosses_seen, counts.glosses_with_enough, counts.glosses_dropped,
        );
        if self.glosses.len() < counts.glosses_with_enough {
            // Writing to a String cannot fail, and a lost line would be no harm.
            writeln!(
                report,
                "  Glosses kept after selection: {}",
                self.glosses.len()
            )
            .ok();
        }
        report
    }

    fn decide(&mut self, entries: &[Entry], clips: &mut Clips) {
        let kept: HashSet<Arc<str>> = self.glosses.iter().cloned().collect();
        let files: HashMap<Arc<str>, usize> = self.gloss_file_counts.iter().cloned().collect();
        self.records.reserve(self.counts.instances);
        for (entry_index, entry) in entries.iter().enumerate() {
            let gloss: Arc<str> = entry.gloss.as_deref().unwrap_or_default().into();
            let lower = gloss.to_lowercase();
            let refusal = (!kept.contains(lower.as_str())).then(|| {
                if kept.contains(&gloss) {
                    format!("gloss has capitals, and \"{lower}\" is not kept")
                } else {
                    let found = files.get(lower.as_str()).copied().unwrap_or(0);
                    refusal(&lower, found, self.plan_options.min_videos_per_gloss)
                }
            });
            for (instance_index, instance) in entry.instances.iter().enumerate() {
                let video_id = instance.video_id.as_deref().map(Arc::<str>::from);
                let decision = match &refusal {
                    Some(reason) => PlanDecision::NotSelected {
                        reason: reason.clone(),
                    },
                    None => match find_clip(video_id.as_ref(), clips) {
                        Err(reason) => PlanDecision::Missing { reason },
                        Ok(video_id) => match (&instance.frame_start, &instance.frame_end) {
                            // The notebook reads the start first, so its complaint is the one reported.
                            (Err(reason), _) | (_, Err(reason)) => PlanDecision::Unreadable {
                                reason: reason.clone(),
                            },
                            (&Ok(frame_start), &Ok(frame_end)) => {
                                let position = self.jobs.len();
                                self.jobs.push(PlannedClip {
                                    position,
                                    record: self.records.len(),
                                    gloss: Arc::clone(&gloss),
                                    video_id: Arc::clone(video_id),
                                    frame_start,
                                    frame_end,
                                });
                                PlanDecision::Process { position }
                            }
                        },
                    },
                };
                self.records.push(PlanRecord {
                    entry: entry_index,
                    instance: instance_index,
                    gloss: Arc::clone(&gloss),
                    video_id,
                    frame_start: instance.frame_start.clone(),
                    frame_end: instance.frame_end.clone(),
                    split: instance.split.clone(),
                    signer_id: instance.signer_id,
                    decision,
                });
            }
        }
    }
}

/// Why no instance of a gloss that has `found` clips is processed.
fn refusal(lower: &str, found: usize, needed: usize) -> String {
    if lower.is_empty() {
        "no gloss".to_owned()
    } else if found >= needed.max(1) {
        format!("gloss \"{lower}\" is not among the selected")
    } else {
        format!("gloss \"{lower}\" has {found} clips on disk, {needed} are needed")
    }
}

/// What is on disk, each id asked for once.
struct Clips<'a> {
    exists: &'a dyn Fn(&str) -> bool,
    known: HashMap<String, bool>,
}

impl Clips<'_> {
    fn has(&mut self, video_id: &str) -> bool {
        if let Some(&known) = self.known.get(video_id) {
            return known;
        }
        let there = (self.exists)(video_id);
        self.known.insert(video_id.to_owned(), there);
        there
    }
}

/// The id of a clip that is there, or why there is none.
fn find_clip<'a>(
    video_id: Option<&'a Arc<str>>,
    clips: &mut Clips,
) -> Result<&'a Arc<str>, String> {
    let Some(video_id) = video_id else {
        return Err("no video_id".to_owned());
    };
    if !is_plain_file_name(video_id) {
        return Err(format!(
            "video_id {video_id:?} is not a plain file name, so no file is looked for"
        ));
    }
    if clips.has(video_id) {
        Ok(video_id)
    } else {
        Err(format!("no file {video_id}.mp4"))
    }
}

/// Whether `video_id` names a file in the video folder itself. The notebook would follow a path out of it.
#[must_use]
pub fn is_plain_file_name(video_id: &str) -> bool {
    !video_id.is_empty()
        && video_id != "."
        && video_id != ".."
        && !video_id.contains(['/', '\\', '\0'])
}

/// Clips on disk per gloss as spelt, in the order of the first clip found.
fn count_files(entries: &[Entry], clips: &mut Clips) -> Vec<(Arc<str>, usize)> {
    let mut counts: Vec<(Arc<str>, usize)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for entry in entries {
        let Some(gloss) = entry.gloss.as_deref() else {
            continue;
        };
        let ids = entry
            .instances
            .iter()
            .filter_map(|instance| instance.video_id.as_deref());
        let found = ids
            .filter(|id| is_plain_file_name(id) && clips.has(id))
            .count();
        if found == 0 {
            continue;
        }
        let place = *places.entry(gloss).or_insert_with(|| {
            counts.push((gloss.into(), 0));
            counts.len() - 1
        });
        if let Some((_, count)) = counts.get_mut(place) {
            *count += found;
        }
    }
    counts
}

/// The notebook's `choose_glosses`: those selected, else the most frequent in the metadata; `None` means all.
fn choose_glosses<'a>(
    entries: &'a [Entry],
    plan_options: &'a PlanOptions,
) -> Option<HashSet<&'a str>> {
    if !plan_options.selected_glosses.is_empty() {
        return Some(
            plan_options
                .selected_glosses
                .iter()
                .map(String::as_str)
                .collect(),
        );
    }
    let wanted = plan_options.max_glosses?;
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for entry in entries {
        let Some(gloss) = entry.gloss.as_deref() else {
            continue;
        };
        let place = *places.entry(gloss).or_insert_with(|| {
            counts.push((gloss, 0));
            counts.len() - 1
        });
        if let Some((_, count)) = counts.get_mut(place) {
            *count += entry.instances.len();
        }
    }
    // A stable sort keeps ties in the order of first appearance, as Counter.most_common does.
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    Some(
        counts
            .into_iter()
            .take(wanted)
            .map(|(gloss, _)| gloss)
            .collect(),
    )
}

#[cfg(test)]
mod tests;
