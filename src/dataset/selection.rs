//! Applies an official subset and a splits file to the entries of a dataset: which instances remain, with which
//! split, and which number each class has.

use super::class_list::{CLASS_LIST_NAME, ClassOrder, Subset, official_order};
use super::instance::{Entry, Instance};
use super::plan::Warning;
use super::splits::{SplitIndex, SplitLabel, SplitRow, SplitsError, SplitsFile};
use crate::sequence::options::NamedChoice;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Largest number of names in a warning.
const SHOWN_MAX: usize = 20;

/// The user's selection, and what the dataset contains about its classes.
#[derive(Clone, Debug, Default)]
pub struct SelectionRequest<'a> {
    /// An official subset of WLASL.
    pub subset: Option<Subset>,
    /// The splits file, with the clips and their splits.
    pub splits: Option<&'a SplitsFile>,
    /// The classes in the order of their numbers, as the dataset's own format gives them.
    pub class_order: Option<Vec<Arc<str>>>,
    /// The classes of WLASL's class list, when that file is beside the metadata.
    pub class_list: Option<Vec<Arc<str>>>,
    /// Name of the metadata file, for messages.
    pub metadata: String,
}

/// A clip of the splits file that the metadata does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentClip {
    /// The id of the clip.
    pub video_id: String,
    /// Its split in the splits file.
    pub split: &'static str,
    /// Its gloss, when the splits file gives its class.
    pub gloss: Option<Arc<str>>,
}

/// The results of the selection for the whole dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// All classes in the order of their numbers, when that order is known.
    pub class_order: Option<ClassOrder>,
    /// Clips of the splits file that the metadata does not have.
    pub absent: Vec<AbsentClip>,
    /// The differences between the files.
    pub warnings: Vec<Warning>,
}

/// Excludes the instances of `entries` that `request` does not select, and sets the split of the others from the
/// splits file.
///
/// # Errors
/// Fails when the order of the classes is needed but unknown, or the splits file belongs to another dataset.
pub fn select(
    entries: &mut [Entry],
    request: &SelectionRequest<'_>,
) -> Result<Selection, SplitsError> {
    let numbered = request.splits.filter(|splits| splits.classes.is_some());
    let order = match numbered {
        Some(splits) => Some(numbered_classes(entries, splits, request)?),
        None => known_classes(entries, request)?,
    };
    let is_limited = request.subset.is_some() || numbered.is_some();
    let glosses = order.as_ref().map_or(&[][..], |order| &order.glosses);
    let kept: HashSet<&str> = glosses.iter().map(|gloss| &**gloss).collect();
    let name = request.splits.map(|file| file.name.as_str());
    let (name, metadata) = (name.unwrap_or_default(), &request.metadata);
    let classes = request.subset.map_or(name, |subset| subset.name());
    let rows = request.splits.map_or(&[][..], |file| &file.rows);
    let index = SplitIndex::of(rows);
    let (mut seen, mut moved, mut relabelled) = (HashSet::new(), Vec::new(), Vec::new());
    exclude(entries, |gloss, instance| {
        let row = index.row(instance);
        if let Some(row) = row {
            let id = &*row.video_id;
            seen.insert(row.key());
            let label = row.label.gloss(glosses);
            if let (None, Some(class)) = (label, row.label.class()) {
                return Some(format!("class {class} is not in {classes}"));
            }
            if let Some(label) = label.filter(|label| *label != gloss) {
                relabelled.push(format!("{id} ({label:?}, not {gloss:?})"));
                return Some(format!("{name} has it as {label:?}"));
            }
        } else if request.splits.is_some() {
            return Some(format!("not in {name}"));
        }
        if is_limited && !kept.contains(gloss) {
            return Some(format!("gloss {gloss:?} is not in {classes}"));
        }
        if let Some(row) = row.filter(|row| row.split != instance.split) {
            let (id, was, now) = (&row.video_id, &instance.split, row.split);
            moved.push(format!("{id} ({now}, not {was:?})"));
            now.clone_into(&mut instance.split);
        }
        None
    });
    if let Some(first) = rows.first().filter(|_| seen.is_empty()) {
        let (first, count) = (&first.video_id, rows.len());
        return Err(SplitsError(format!(
            "{name}: none of its {count} clips, of which {first:?} is the first, is in {metadata}; give the splits file of this \
             dataset, with its ids as they are spelt there"
        )));
    }
    let is_wanted = |row: &&SplitRow| {
        let gloss = row.label.gloss(glosses);
        !seen.contains(row.key())
            && gloss.map_or(row.label == SplitLabel::Unknown, |gloss| {
                !is_limited || kept.contains(gloss)
            })
    };
    let absent: Vec<AbsentClip> = rows
        .iter()
        .filter(is_wanted)
        .map(|row| AbsentClip {
            video_id: row.video_id.clone(),
            split: row.split,
            gloss: row.label.gloss(glosses).map(Arc::from),
        })
        .collect();
    let ids = absent.iter().map(|clip| clip.video_id.clone()).collect();
    let warnings = [
        (
            moved,
            format!("have another split in {name} than in {metadata}; that of {name} is used"),
        ),
        (
            relabelled,
            format!("have another gloss in {name} than in {metadata}; they are not processed"),
        ),
        (
            ids,
            format!("of {name} are not in {metadata}, so they are not processed"),
        ),
    ];
    let warnings = warnings.into_iter().filter(|(ids, _)| !ids.is_empty());
    Ok(Selection {
        class_order: order,
        warnings: warnings.map(|(ids, what)| named(&ids, &what)).collect(),
        absent,
    })
}

/// Sets `excluded` of each instance to the result of `reason` for its gloss. Instances without a gloss are not
/// changed.
fn exclude(entries: &mut [Entry], mut reason: impl FnMut(&str, &mut Instance) -> Option<String>) {
    for entry in entries {
        let Some(gloss) = &entry.gloss else { continue };
        for instance in &mut entry.instances {
            instance.excluded = reason(gloss, instance);
        }
    }
}

/// The warning `3 clips <what>: a, b, c`.
fn named(ids: &[String], what: &str) -> Warning {
    let shown = ids[..ids.len().min(SHOWN_MAX)].join(", ");
    let more = match ids.len().saturating_sub(SHOWN_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Warning::OtherSplits(format!("{} clips {what}: {shown}{more}", ids.len()))
}

/// The classes behind the numbers in `splits`. A class has the gloss that most of its clips have in the metadata.
fn numbered_classes(
    entries: &[Entry],
    splits: &SplitsFile,
    request: &SelectionRequest<'_>,
) -> Result<ClassOrder, SplitsError> {
    let (name, classes) = (&splits.name, splits.classes.unwrap_or(0));
    let wanted = request.subset.map_or(classes, Subset::classes);
    if wanted > classes {
        return Err(SplitsError(format!(
            "{name} has {classes} classes, but the subset has {wanted}; give nslt_{wanted}.json, or a smaller subset"
        )));
    }
    let index = SplitIndex::of(&splits.rows);
    let mut votes: Vec<BTreeMap<Arc<str>, usize>> = vec![BTreeMap::new(); wanted];
    for entry in entries {
        let rows = entry.instances.iter().filter_map(|i| index.row(i));
        let classes = rows.filter_map(|row| row.label.class());
        if let Some(gloss) = &entry.gloss {
            for class in classes.filter(|class| *class < wanted) {
                *votes[class].entry(Arc::clone(gloss)).or_default() += 1;
            }
        }
    }
    let list = official_order(entries, wanted).or_else(|| request.class_list.clone());
    let mut glosses: Vec<Arc<str>> = Vec::with_capacity(wanted);
    let mut known: HashMap<Arc<str>, usize> = HashMap::new();
    let voted: HashSet<&Arc<str>> = votes.iter().flat_map(BTreeMap::keys).collect();
    for (class, votes) in votes.iter().enumerate() {
        let most = votes.iter().max_by_key(|(_, count)| **count);
        // A class without a clip in the metadata takes its gloss from the list.
        let listed = list.as_ref().and_then(|list| list.get(class));
        let listed = listed.filter(|gloss| !voted.contains(gloss));
        let gloss = most.map(|(gloss, _)| gloss).or(listed);
        let gloss = gloss.map_or_else(|| format!("class {class}").into(), Arc::clone);
        if let Some(other) = known.insert(Arc::clone(&gloss), class) {
            return Err(SplitsError(format!(
                "{name}: the clips of class {other} and of class {class} have the same gloss {gloss:?} in {}; give the splits \
                 file of this dataset",
                request.metadata
            )));
        }
        glosses.push(gloss);
    }
    Ok(ClassOrder {
        glosses,
        source: format!(
            "the class numbers of {name} and the glosses of {}",
            request.metadata
        ),
    })
}

/// The classes in the metadata's official order, in WLASL's class list or from the dataset's format; `None` when no
/// subset needs them and the format has no order.
fn known_classes(
    entries: &[Entry],
    request: &SelectionRequest<'_>,
) -> Result<Option<ClassOrder>, SplitsError> {
    let metadata = &request.metadata;
    let of_format = request.class_order.clone();
    let Some(subset) = request.subset else {
        let source = format!("the classes of {metadata}");
        return Ok(of_format.map(|mut glosses| {
            // Add the glosses that the list lacks, so that each gloss has a number.
            let mut known: HashSet<Arc<str>> = glosses.iter().cloned().collect();
            let all = entries.iter().filter_map(|entry| entry.gloss.clone());
            glosses.extend(all.filter(|gloss| known.insert(Arc::clone(gloss))));
            ClassOrder { glosses, source }
        }));
    };
    let count = subset.classes();
    let of_list = || Some((request.class_list.clone()?, CLASS_LIST_NAME.to_owned()));
    let of_format = || of_format.map(|glosses| (glosses, format!("the classes of {metadata}")));
    let known = official_order(entries, count)
        .map(|glosses| (glosses, format!("the order of {metadata}")))
        .or_else(of_list)
        .or_else(of_format)
        .filter(|(glosses, _)| glosses.len() >= count);
    let Some((mut glosses, source)) = known else {
        return Err(SplitsError(format!(
            "{metadata} does not begin with the {count} classes of {} in the official order, so they are not known; give \
             WLASL's own file, its nslt_{count}.json as the splits file, or put {CLASS_LIST_NAME} beside {metadata}",
            subset.name()
        )));
    };
    glosses.truncate(count);
    Ok(Some(ClassOrder { glosses, source }))
}

#[cfg(test)]
mod tests;
