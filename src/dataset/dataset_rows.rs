//! The rows that a reader finds, with what the plan needs: existing paths, unique ids, signer numbers.

use super::file_tree::{FileTree, is_clip, path_below, stem_of};
use super::instance::{
    DatasetContents, Entry, ExtraColumns, FrameNumber, Instance, SourceLine, UNKNOWN_SIGNER,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// Largest number of rows in a dataset; ASL Citizen has 83,399.
pub const ROWS_MAX: usize = 200_000;

/// Largest size of all tables of a dataset together, in bytes. Memory holds a few copies of them.
pub const TABLES_BYTES_MAX: u64 = 32 << 20;

/// Longest gloss, id and split, in bytes, as for WLASL.
const NAME_BYTES_MAX: usize = 255;

/// The row of a clip, as a reader finds it.
#[derive(Debug)]
pub struct ClipRow {
    /// The gloss as spelt in the table.
    pub gloss: String,
    /// Candidates for the clip's path, the likeliest first. A candidate is a path in the dataset, or a name without
    /// an ending, which matches a clip in the named folder, or in any folder when it names none.
    pub paths: Vec<String>,
    /// The id of the clip; empty when the table gives none.
    pub id: String,
    /// Empty when unknown.
    pub split: String,
    /// Empty when unknown.
    pub signer: String,
    /// First frame, counted from 1 as in WLASL; 0 means the first frame of the clip.
    pub frame_start: FrameNumber,
    /// Last frame; −1 means the last frame of the clip.
    pub frame_end: FrameNumber,
    /// First and last frame that apply when the clip is found at the last of `paths`.
    pub range_of_last: Option<(i64, i64)>,
    /// The place of the row in its table.
    pub source: Option<SourceLine>,
    /// The other values of the row.
    pub columns: Option<Arc<ExtraColumns>>,
    /// Why the row is not processed, if one of its values is the reason.
    pub refused: Option<String>,
}

impl Default for ClipRow {
    fn default() -> Self {
        Self {
            gloss: String::new(),
            paths: Vec::new(),
            id: String::new(),
            split: String::new(),
            signer: String::new(),
            frame_start: Ok(0),
            frame_end: Ok(-1),
            range_of_last: None,
            source: None,
            columns: None,
            refused: None,
        }
    }
}

/// The rows that a reader has found.
#[derive(Debug, Default)]
pub struct DatasetRows {
    /// The classes, of a format whose clips have no paths.
    pub entries: Vec<Entry>,
    /// All classes in the order of their numbers, if that order is known. They come first in the plan.
    pub class_order: Option<Vec<Arc<str>>>,
    /// What the user probably did not intend.
    pub warnings: Vec<String>,
    /// The gloss of each official number, with the place where it first appears.
    pub(super) labels: BTreeMap<i64, (Arc<str>, SourceLine)>,
    /// Number of rows that give a number another gloss, and a message about the first.
    pub(super) label_conflicts: Option<(usize, String)>,
    /// Whether the list of classes gives their numbers.
    pub(super) has_numbers: bool,
    rows: Vec<(Option<Arc<str>>, Instance)>,
    /// First and last frame that apply with the last candidate path of a row, by index of the row.
    ranges: HashMap<usize, (i64, i64)>,
    /// The names of signers, numbered from 0 in order of appearance.
    signers: HashMap<Box<str>, i64>,
    /// One shared copy of each gloss.
    texts: HashMap<Box<str>, Arc<str>>,
}

/// The locations of clips whose paths a dataset gives.
#[derive(Debug, Default)]
pub struct ClipPaths {
    /// The path of each existing clip, by id.
    pub present: HashMap<Arc<str>, Arc<str>>,
    /// A hint for each clip that was not found, by id: where a similar file is, and what to do.
    pub elsewhere: HashMap<Arc<str>, String>,
}

impl DatasetRows {
    /// Whether the rows have reached the limit [`ROWS_MAX`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows.len() >= ROWS_MAX
    }

    /// The gloss of each row that has one.
    pub fn glosses(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(|(gloss, _)| gloss.as_deref())
    }

    /// The place of the first row with `gloss`, for messages.
    pub(super) fn place_of(&self, gloss: &str) -> String {
        let mut rows = self.rows.iter();
        let first = rows.find(|(known, _)| known.as_deref() == Some(gloss));
        place(first.and_then(|(_, instance)| instance.source.as_ref()))
    }

    /// Adds a row. [`DatasetRows::finish`] looks for its clip.
    pub fn push(&mut self, row: ClipRow) {
        let gloss = row.gloss.trim();
        let mut refused = row.refused;
        for (what, text) in [("gloss", gloss), ("id", &row.id), ("split", &row.split)] {
            if text.len() > NAME_BYTES_MAX {
                let problem =
                    format!("its {what} has more than the {NAME_BYTES_MAX} bytes allowed");
                refused.get_or_insert(problem);
            } else if text.contains(['\n', '\r', '\0']) {
                let problem = format!("its {what} has a line break: is a closing quote missing?");
                refused.get_or_insert(problem);
            }
        }
        if gloss.is_empty() {
            refused.get_or_insert("it has no gloss".to_owned());
        }
        let is_refused = refused.is_some();
        let is_label = !gloss.is_empty() && gloss.len() <= NAME_BYTES_MAX && !gloss.contains('\n');
        let gloss = is_label.then(|| self.text(gloss));
        let mut paths = Vec::new();
        for path in &row.paths {
            match path_below(path) {
                Ok(path) => paths.push(path),
                Err(problem) => _ = refused.get_or_insert(problem),
            }
        }
        // Until the clip is looked for, candidates are joined by NUL, which no path contains.
        let path = (!paths.is_empty()).then(|| paths.join("\0").into());
        let signers = self.signers.len();
        let signer_id = match row.signer.trim() {
            "" => UNKNOWN_SIGNER,
            name => {
                let next = i64::try_from(signers).unwrap_or(UNKNOWN_SIGNER);
                *self.signers.entry(name.into()).or_insert(next)
            }
        };
        let instance = Instance {
            video_id: (!row.id.is_empty() && !is_refused).then(|| row.id.as_str().into()),
            path,
            source: row.source,
            frame_start: row.frame_start,
            frame_end: row.frame_end,
            split: if is_refused { String::new() } else { row.split },
            signer_id,
            columns: row.columns,
            refused,
            excluded: None,
        };
        if let Some(range) = row.range_of_last {
            self.ranges.insert(self.rows.len(), range);
        }
        self.rows.push((gloss, instance));
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = text.into();
        self.texts.insert(text.into(), Arc::clone(&shared));
        shared
    }

    /// Completes the dataset: finds each row's clip in `files`, sets its id, and refuses rows that repeat a clip or
    /// an id.
    #[must_use]
    pub fn finish(mut self, files: &FileTree) -> (DatasetContents, ClipPaths) {
        let mut hints = HashMap::new();
        for (index, (_, instance)) in self.rows.iter_mut().enumerate() {
            let Some(candidates) = instance.path.take() else {
                continue;
            };
            match find(&candidates, files) {
                Ok((path, is_last)) => {
                    instance.path = Some(path.into());
                    if let Some((start, end)) = self.ranges.get(&index).filter(|_| is_last) {
                        (instance.frame_start, instance.frame_end) = (Ok(*start), Ok(*end));
                    }
                }
                Err((path, hint)) => {
                    instance.path = Some(path.into());
                    hints.extend(hint.map(|hint| (index, hint)));
                }
            }
        }
        self.name_clips(files);
        self.number_signers();
        let mut clips = ClipPaths::default();
        for (index, (_, instance)) in self.rows.iter().enumerate() {
            let (Some(id), Some(path), None) =
                (&instance.video_id, &instance.path, &instance.refused)
            else {
                continue;
            };
            if let Some(hint) = hints.remove(&index) {
                clips.elsewhere.insert(Arc::clone(id), hint);
            } else if files.contains(path) {
                clips.present.insert(Arc::clone(id), Arc::clone(path));
            }
        }
        let contents = DatasetContents {
            entries: self.entries,
            class_order: self.class_order,
            warnings: self.warnings,
        };
        (entries(contents, self.rows), clips)
    }

    /// Sets the missing ids: the file's name when it is unique, else its path, followed by the frames when several
    /// rows use the file. Refuses a row that repeats the clip and frames, or the id, of another row. The other row
    /// comes earlier, or its clip exists and this one's does not.
    fn name_clips(&mut self, files: &FileTree) {
        let mut uses: HashMap<Arc<str>, HashSet<(i64, i64)>> = HashMap::new();
        let mut stems: HashMap<Box<str>, usize> = HashMap::new();
        for (_, instance) in &self.rows {
            let (Some((path, start, end)), None) = (clip_range(instance), &instance.video_id)
            else {
                continue;
            };
            let stretches = uses.entry(Arc::clone(&path)).or_default();
            if stretches.is_empty() {
                *stems.entry(stem_of(&path).into()).or_default() += 1;
            }
            stretches.insert((start, end));
        }
        let is_usable: Vec<bool> = { self.rows.iter() }
            .map(|(_, row)| clip_range(row).is_some_and(|(path, ..)| files.contains(&path)))
            .collect();
        let mut clips: HashMap<_, Option<SourceLine>> = HashMap::new();
        let mut ids: HashMap<Arc<str>, Option<SourceLine>> = HashMap::new();
        for is_first in [true, false] {
            let rows = self.rows.iter_mut().zip(&is_usable);
            for ((_, instance), _) in rows.filter(|(_, is_usable)| **is_usable == is_first) {
                if instance.refused.is_some() {
                    continue;
                }
                let Some(path) = instance.path.clone() else {
                    continue;
                };
                let clip = clip_range(instance);
                if let Some(earlier) = clip.as_ref().and_then(|clip| clips.get(clip)) {
                    let problem = format!("{path} is already named in {}", place(earlier.as_ref()));
                    instance.refused = Some(problem);
                    continue;
                }
                let id = instance.video_id.clone().unwrap_or_else(|| {
                    let stem = stem_of(&path);
                    let is_unique = stems.get(stem).is_none_or(|count| *count == 1);
                    let mut id = if is_unique { stem } else { &*path }.to_owned();
                    let is_divided = uses.get(&path).is_some_and(|uses| uses.len() > 1);
                    if let (Some((_, start, end)), true) = (&clip, is_divided) {
                        // Writing to a String cannot fail.
                        write!(id, ":{start}-{end}").ok();
                    }
                    id.into()
                });
                let problem = if id.len() > NAME_BYTES_MAX {
                    format!("{path} gives an id of more than {NAME_BYTES_MAX} bytes")
                } else if let Some(earlier) = ids.get(&id) {
                    let frames = [&instance.frame_start, &instance.frame_end];
                    let fault = frames.into_iter().find_map(|frame| frame.as_ref().err());
                    fault.cloned().unwrap_or_else(|| {
                        format!("the id {id} is already used in {}", place(earlier.as_ref()))
                    })
                } else {
                    ids.insert(Arc::clone(&id), instance.source.clone());
                    clips.extend(clip.map(|clip| (clip, instance.source.clone())));
                    instance.video_id = Some(id);
                    continue;
                };
                instance.refused = Some(problem);
                instance.video_id = None;
            }
        }
    }

    /// Numbers the signers by the numbers in their names, if all names are one word with different numbers, as in
    /// P12.
    fn number_signers(&mut self) {
        let mut word = None;
        let mut numbers: HashMap<i64, i64> = HashMap::new();
        for (name, index) in &self.signers {
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            let before = &name[..name.len() - digits.len()];
            let Ok(number) = digits.parse::<i64>() else {
                return;
            };
            if *word.get_or_insert(before) != before {
                return;
            }
            numbers.insert(*index, number);
        }
        let mut distinct: Vec<_> = numbers.values().collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() == numbers.len() {
            for (_, instance) in &mut self.rows {
                let number = numbers.get(&instance.signer_id);
                instance.signer_id = number.copied().unwrap_or(UNKNOWN_SIGNER);
            }
        }
    }
}

/// Path and frames of a row; `None` for a refused row.
fn clip_range(instance: &Instance) -> Option<(Arc<str>, i64, i64)> {
    let path = instance
        .path
        .clone()
        .filter(|_| instance.refused.is_none())?;
    let (Ok(start), Ok(end)) = (&instance.frame_start, &instance.frame_end) else {
        return None;
    };
    Some((path, *start, *end))
}

/// The place of an earlier row, for messages.
fn place(earlier: Option<&SourceLine>) -> String {
    let place = earlier.map(ToString::to_string);
    place.unwrap_or_else(|| "an earlier row".to_owned())
}

/// Adds `rows` to the entries of their glosses. The entries of the class order come first.
fn entries(
    mut contents: DatasetContents,
    rows: Vec<(Option<Arc<str>>, Instance)>,
) -> DatasetContents {
    let mut indexes: HashMap<Option<Arc<str>>, usize> = HashMap::new();
    let entries = &mut contents.entries;
    let order = contents.class_order.iter().flatten().cloned().map(Some);
    let mut of = |gloss: Option<Arc<str>>| {
        *indexes.entry(gloss).or_insert_with_key(|gloss| {
            entries.push(Entry {
                gloss: gloss.clone(),
                ..Entry::default()
            });
            entries.len() - 1
        })
    };
    for gloss in order {
        of(gloss);
    }
    let places: Vec<_> = rows.iter().map(|(gloss, _)| of(gloss.clone())).collect();
    for (place, (_, instance)) in places.into_iter().zip(rows) {
        contents.entries[place].instances.push(instance);
    }
    contents
}

/// The first of the NUL-separated `candidates` that is in `files`, and whether it is the last candidate. The error
/// has the first candidate, and a hint about a similar file.
fn find<'a>(
    candidates: &'a str,
    files: &'a FileTree,
) -> Result<(&'a str, bool), (String, Option<String>)> {
    let mut hint = None;
    let mut rest = candidates.split('\0').peekable();
    while let Some(candidate) = rest.next() {
        let is_last = rest.peek().is_none();
        if let Some(path) = files.find(candidate) {
            return Ok((path, is_last));
        }
        let named = files.clips_named(stem_of(candidate));
        let folder = candidate.rsplit_once('/').map(|(folder, _)| folder);
        let fits = |path: &&&str| {
            let is_here = folder.is_none() || path.rsplit_once('/').map(|(f, _)| f) == folder;
            !is_clip(candidate)
                && is_here
                && stem_of(path) == candidate.rsplit('/').next().unwrap_or_default()
        };
        match named.iter().filter(fits).collect::<Vec<_>>()[..] {
            [one] => return Ok((*one, is_last)),
            [one, other, ..] => {
                hint.get_or_insert(format!(
                    "{one} and {other} have this name: write the whole path"
                ));
            }
            [] => {
                if let Some(other) = named.first() {
                    hint.get_or_insert(format!(
                        "found {other}: correct the path, or move the file"
                    ));
                }
            }
        }
    }
    let first = candidates.split('\0').next().unwrap_or_default();
    let has_ending = first
        .rsplit('/')
        .next()
        .is_some_and(|name| name.contains('.'));
    let ending = if has_ending { "" } else { ".mp4" };
    Err((format!("{first}{ending}"), hint))
}
