//! Which instances of the metadata are processed, and in which order.
//!
//! Reproduces the notebook's scan, including its quirks: clips are counted per gloss as spelt, but an instance is
//! processed only when its lower-case gloss is kept, unless [`PlanOptions::folds_case`] is off. The caller's function
//! answers whether a clip exists; this module never reads the disk.

use super::acceptance::State;
use super::class_list::ClassOrder;
use super::format::FormatName;
use super::instance::{Entry, ExtraColumns, FrameNumber, Instance};
use super::selection::{AbsentClip, Selection};
use clips::{check_clip, present_clips};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use warnings::warnings;

mod clips;
mod warnings;

pub use warnings::Warning;

/// The user's choices for the plan. The defaults are the notebook's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// A gloss with fewer clips on disk is not processed.
    pub min_videos_per_gloss: usize,
    /// Keep at most this many glosses, those with the most instances in the metadata; `None` keeps all. Has no effect
    /// when glosses are selected by name.
    pub max_glosses: Option<usize>,
    /// Keep only these glosses, as spelt in the metadata; empty keeps all.
    pub selected_glosses: Vec<String>,
    /// At most this many accepted clips per gloss; `None` and 0 mean no limit. Not applied in the plan: it depends on
    /// the contents of the clips.
    pub max_samples_per_gloss: Option<usize>,
    /// Process only the instances of this split; `None` processes all.
    pub only_split: Option<String>,
    /// Whether an instance is processed only when its lower-case gloss is kept, as in the notebook. Otherwise glosses
    /// are compared as spelt.
    pub folds_case: bool,
    /// Whether to also read the clips that only the other comparison of glosses processes, for their frames only.
    pub keeps_other_frames: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            min_videos_per_gloss: 5,
            max_glosses: None,
            selected_glosses: Vec::new(),
            max_samples_per_gloss: None,
            only_split: None,
            folds_case: true,
            keeps_other_frames: false,
        }
    }
}

impl PlanOptions {
    /// The options for a dataset of `format`. Only WLASL's glosses are compared as in the notebook.
    #[must_use]
    pub fn for_format(&self, format: FormatName) -> Self {
        let is_wlasl = format == FormatName::Wlasl;
        Self {
            folds_case: self.folds_case && is_wlasl,
            keeps_other_frames: self.keeps_other_frames && is_wlasl,
            ..self.clone()
        }
    }
}

/// The result for an instance under the comparison of glosses that [`PlanOptions::folds_case`] does not choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherComparison {
    /// The instance is processed.
    Processed,
    /// The instance is not processed, with its state and the reason.
    Skipped(State, String),
}

/// An instance of the metadata, with the reason why it is not processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRecord {
    /// Index of the instance in its entry of the metadata.
    pub instance: usize,
    /// The gloss as spelt; empty when the entry has none.
    pub gloss: Arc<str>,
    /// Id of the clip; `None` when the metadata gives none.
    pub video_id: Option<Arc<str>>,
    /// The clip's path in the dataset; `None` for WLASL's rule.
    pub path: Option<Arc<str>>,
    /// First frame of the sign, as the metadata gives it.
    pub frame_start: FrameNumber,
    /// Last frame of the sign, as the metadata gives it.
    pub frame_end: FrameNumber,
    /// `train`, `val`, `test` or another split of the metadata. A splits file overrides it.
    pub split: String,
    /// Number of the signer, −1 when unknown.
    pub signer_id: i64,
    /// The other values of the table's row.
    pub columns: Option<Arc<ExtraColumns>>,
    /// The final state and the reason when the instance is not processed, else `None`.
    pub skipped: Option<(State, String)>,
    /// The result under the other comparison of glosses, if it differs and [`PlanOptions::keeps_other_frames`] is
    /// set.
    pub otherwise: Option<OtherComparison>,
}

/// An instance to process, with everything that a worker needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedClip {
    /// Index in [`Plan::jobs`], which is the order of results.
    pub position: usize,
    /// Index in [`Plan::records`].
    pub record: usize,
    /// The label, as spelt.
    pub gloss: Arc<str>,
    /// Id of the clip.
    pub video_id: Arc<str>,
    /// First frame of the sign, as the metadata gives it.
    pub frame_start: i64,
    /// Last frame of the sign, as the metadata gives it.
    pub frame_end: i64,
    /// Whether the clip is read for its frames only, because its record is not processed.
    pub is_frames_only: bool,
}

/// The plan: a record for every instance of the metadata, and the clips to process, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One record per instance, in metadata order.
    pub records: Vec<PlanRecord>,
    /// The instances to process, in metadata order, followed by those that are read for their frames only.
    pub jobs: Vec<PlannedClip>,
    /// The kept glosses as spelt, in the order of the first existing clip: the npz file's `glosses`.
    pub glosses: Vec<Arc<str>>,
    /// Number of existing clips per gloss as spelt, in the order of the first existing clip.
    pub gloss_file_counts: Vec<(Arc<str>, usize)>,
    /// Number of entries in the metadata.
    pub entries: usize,
    /// Number of glosses with enough existing clips.
    pub glosses_with_enough: usize,
    /// All classes in the order of their numbers, when that order is known.
    pub class_order: Option<ClassOrder>,
    /// Clips of the splits file that the metadata does not have.
    pub absent: Vec<AbsentClip>,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
    /// The options with which the plan was made.
    pub plan_options: PlanOptions,
}

/// Makes the plan. `exists` returns whether the clip of a video id exists. It is called once per id, and only for ids
/// that are plain file names or whose clip has a path.
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
    let present = present_clips(entries, exists);
    let gloss_file_counts = count_by_gloss(entries, |entry| {
        let ids = kept_instances(entry).filter_map(|i| i.video_id.as_deref());
        let found = ids.filter(|id| present.contains(id)).count();
        (found > 0).then_some(found)
    });
    let files: HashMap<&str, usize> = gloss_file_counts.iter().map(|(g, n)| (&**g, *n)).collect();
    let needed = plan_options.min_videos_per_gloss;
    let enough = gloss_file_counts
        .iter()
        .filter(|(_, count)| *count >= needed);
    let glosses_with_enough = enough.clone().count();
    let mut glosses: Vec<Arc<str>> = enough.map(|(gloss, _)| Arc::clone(gloss)).collect();
    if let Some(chosen) = choose_glosses(entries, plan_options) {
        glosses.retain(|gloss| chosen.contains(gloss));
    }
    let kept: HashSet<&str> = glosses.iter().map(|gloss| &**gloss).collect();

    let (mut records, mut jobs, mut frames_only) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let gloss = entry.gloss.clone().unwrap_or_default();
        for (index, instance) in entry.instances.iter().enumerate() {
            // An unusable instance is reported as such, whether or not its gloss is processed.
            let refused = instance.refused.as_ref().or(entry.refused.as_ref());
            let refused = refused.map(|reason| (State::Unreadable, reason.clone()));
            let skipped = refused.or_else(|| {
                let reason = unselected(instance, plan_options.only_split.as_deref());
                reason.map(|reason| (State::NotSelected, reason))
            });
            let by_comparison = |folds| {
                let refusal = || refusal(&gloss, &kept, &files, needed, folds);
                let by_gloss = || refusal().map(|reason| (State::NotSelected, reason));
                match skipped.clone().or_else(by_gloss) {
                    Some(skipped) => Err(skipped),
                    None => check_clip(instance, instance.video_id.as_ref(), &present),
                }
            };
            let folds = plan_options.folds_case;
            let [planned, other] = [folds, !folds].map(by_comparison);
            let clip = |(video_id, frame_start, frame_end), is_frames_only| PlannedClip {
                position: 0,
                record: records.len(),
                gloss: Arc::clone(&gloss),
                video_id,
                frame_start,
                frame_end,
                is_frames_only,
            };
            let is_other = plan_options.keeps_other_frames && planned != other;
            let otherwise = is_other.then(|| match other {
                Ok(other) => {
                    frames_only.push(clip(other, true));
                    OtherComparison::Processed
                }
                Err((state, reason)) => OtherComparison::Skipped(state, reason),
            });
            let skipped = planned.map(|planned| jobs.push(clip(planned, false))).err();
            records.push(PlanRecord {
                instance: index,
                gloss: Arc::clone(&gloss),
                video_id: instance.video_id.clone(),
                path: instance.path.clone(),
                frame_start: instance.frame_start.clone(),
                frame_end: instance.frame_end.clone(),
                split: instance.split.clone(),
                signer_id: instance.signer_id,
                columns: instance.columns.clone(),
                skipped,
                otherwise,
            });
        }
    }
    jobs.append(&mut frames_only);
    for (position, job) in jobs.iter_mut().enumerate() {
        job.position = position;
    }
    Plan {
        records,
        jobs,
        entries: entries.len(),
        glosses_with_enough,
        class_order: None,
        absent: Vec::new(),
        warnings: warnings(entries, plan_options, &files, &glosses),
        plan_options: plan_options.clone(),
        glosses,
        gloss_file_counts,
    }
}

impl Plan {
    /// Adds the results of the selection of instances.
    pub fn add_selection(&mut self, selection: Selection) {
        self.class_order = selection.class_order;
        self.absent = selection.absent;
        self.warnings.extend(selection.warnings);
    }

    /// Number of glosses with some existing clips, but too few.
    #[must_use]
    pub fn glosses_dropped(&self) -> usize {
        self.gloss_file_counts.len() - self.glosses_with_enough
    }

    /// Appends to the reason of each missing clip where it was found: `elsewhere` returns that for its id, such as
    /// another name or folder. The notebook does not find such a clip, so it is not read.
    pub fn explain_missing(&mut self, elsewhere: &dyn Fn(&str) -> Option<String>) {
        let mut count = 0;
        let mut first = None;
        for record in &mut self.records {
            let Some(id) = &record.video_id else { continue };
            if let Some(OtherComparison::Skipped(State::Missing, reason)) = &mut record.otherwise
                && let Some(found) = elsewhere(id)
            {
                reason.push_str("; ");
                reason.push_str(&found);
            }
            if let Some((State::Missing, reason)) = &mut record.skipped
                && let Some(found) = elsewhere(id)
            {
                reason.push_str("; ");
                reason.push_str(&found);
                count += 1;
                first.get_or_insert(found);
            }
        }
        if let Some(first) = first {
            let text = format!("{count} missing clips are there under another name: {first}");
            self.warnings.push(Warning::OtherNames(text));
        }
    }

    /// Adds the warnings of a reader about the dataset.
    pub fn warn(&mut self, warnings: Vec<String>) {
        self.warnings
            .extend(warnings.into_iter().map(Warning::Layout));
    }

    /// The text that the notebook prints around its scan, plus lines about kept glosses, classes and clips read for
    /// frames only.
    #[must_use]
    pub fn scan_report(&self) -> String {
        let needed = self.plan_options.min_videos_per_gloss;
        let mut report = format!(
            "Loaded {} entries from metadata\n\n\
             Scanning disk for glosses with >= {needed} videos...\n\
             Scan complete.\n  \
             Total unique glosses in metadata: {}\n  \
             Glosses with >= {needed} videos: {}\n  \
             Glosses dropped (too few videos): {}\n",
            self.entries,
            self.gloss_file_counts.len(),
            self.glosses_with_enough,
            self.glosses_dropped(),
        );
        let kept = self.glosses.len();
        if kept < self.glosses_with_enough {
            // Writing to a String cannot fail.
            writeln!(report, "  Glosses kept after selection: {kept}").ok();
        }
        if let Some(order) = &self.class_order {
            let (count, source) = (order.glosses.len(), &order.source);
            writeln!(report, "  Classes: {count}, numbered by {source}").ok();
        }
        let frames_only = self.jobs.iter().filter(|job| job.is_frames_only).count();
        if frames_only > 0 {
            writeln!(report, "  Clips read for their frames alone: {frames_only}").ok();
        }
        report
    }
}

/// Why no instance of `gloss` is processed, or `None`. `files` are existing clips per gloss; a gloss needs `needed`
/// of them.
fn refusal(
    gloss: &str,
    kept: &HashSet<&str>,
    files: &HashMap<&str, usize>,
    needed: usize,
    folds_case: bool,
) -> Option<String> {
    let lower = if folds_case {
        gloss.to_lowercase()
    } else {
        gloss.to_owned()
    };
    let lower = lower.as_str();
    if kept.contains(lower) {
        return None;
    }
    let found = files.get(lower).copied().unwrap_or(0);
    Some(if kept.contains(gloss) {
        format!("gloss has capitals, and \"{lower}\" is not kept")
    } else if lower.is_empty() {
        "no gloss".to_owned()
    } else if found >= needed.max(1) {
        format!("gloss \"{lower}\" is not among the selected")
    } else {
        format!("gloss \"{lower}\" has {found} clips on disk, {needed} are needed")
    })
}

/// The instances of `entry` that the subset and the splits file do not exclude, of any split.
fn kept_instances(entry: &Entry) -> impl Iterator<Item = &Instance> {
    let instances = entry.instances.iter();
    instances.filter(|instance| instance.excluded.is_none())
}

/// Why the subset, the splits file or the selected split excludes `instance`, or `None`.
fn unselected(instance: &Instance, only_split: Option<&str>) -> Option<String> {
    let only = only_split.filter(|only| *only != instance.split);
    let other_split = || only.map(|only| format!("split {:?} is not {only}", instance.split));
    instance.excluded.clone().or_else(other_split)
}

/// Sums `count` per gloss as spelt, in the order of the first entry whose count is not `None`.
fn count_by_gloss(
    entries: &[Entry],
    count: impl Fn(&Entry) -> Option<usize>,
) -> Vec<(Arc<str>, usize)> {
    let mut counts: Vec<(Arc<str>, usize)> = Vec::new();
    let mut indexes: HashMap<&str, usize> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.refused.is_none()) {
        if let (Some(gloss), Some(count)) = (entry.gloss.as_deref(), count(entry)) {
            let index = *indexes.entry(gloss).or_insert(counts.len());
            if index == counts.len() {
                counts.push((gloss.into(), 0));
            }
            counts[index].1 += count;
        }
    }
    counts
}

/// The notebook's `choose_glosses`: the selected glosses, else the most frequent in the metadata; `None` means all.
fn choose_glosses(entries: &[Entry], plan_options: &PlanOptions) -> Option<HashSet<Arc<str>>> {
    let selected = &plan_options.selected_glosses;
    if !selected.is_empty() {
        return Some(selected.iter().map(|gloss| gloss.as_str().into()).collect());
    }
    let most = plan_options.max_glosses?;
    let mut counts = count_by_gloss(entries, |entry| Some(kept_instances(entry).count()));
    // A stable sort keeps ties in the order of first appearance, as Counter.most_common does.
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts.truncate(most);
    Some(counts.into_iter().map(|(gloss, _)| gloss).collect())
}

#[cfg(test)]
mod tests;
