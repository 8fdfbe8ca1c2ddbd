//! Explains what a file or a folder is that was given as a dataset and is not one, and what to do about it.

use super::clip_table::{check_header, utf8_head, values};
use super::file_kind::FileKind;
use super::file_tree::{CLIP_SUFFIXES, FileTree, has_suffix, is_clip};
use super::format::{FormatName, Recognition};
use super::wlasl::{self, FILE_NAME};
use crate::sequence::options::NamedChoice;
use csv::ByteRecord;
use std::collections::BTreeMap;

/// Kinds of files that are recognized by their endings: endings, name and advice.
const OTHERS: [(&[&str], &str, &str); 5] = [
    (
        &[".jpg", ".jpeg", ".png", ".bmp"],
        "images",
        "a job reads videos: make one video from the images of each clip, in the folder of its gloss, as in `ffmpeg -framerate 25 -pattern_type glob -i '*.jpg' 1.mp4`",
    ),
    (
        &[
            ".npy",
            ".npz",
            ".pkl",
            ".pickle",
            ".parquet",
            ".h5",
            ".hdf5",
            ".mat",
            ".tfrecord",
        ],
        "files of numbers",
        "a job reads videos: give the clips from which they were made",
    ),
    (
        &[
            ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar",
        ],
        "archives",
        "give a zip archive itself, and unpack another one",
    ),
    (
        &[".swf", ".flv.part", ".crdownload", ".part"],
        "unfinished or Flash files",
        "download the clips again",
    ),
    (
        &[".html", ".htm"],
        "web pages",
        "download the clips themselves",
    ),
];

/// An example of the first lines of a table, for messages.
const EXAMPLE: &str = "`path,gloss`, then for example `clips/1.mp4,book`";

/// The advice for formats that do not accept a separate metadata file.
pub const WITHOUT_METADATA: &str = "give the dataset without a metadata file";

/// The advice when a dataset does not have the requested format. `found` is the format that it has, if any.
#[must_use]
pub fn of_other_format(found: Option<(FormatName, Recognition)>) -> String {
    found.map_or_else(
        || "add what is missing, or give the folder that has it".to_owned(),
        |(other, _)| {
            format!(
                "it is one of the format {}: give that one, or none",
                other.name()
            )
        },
    )
}

/// Whether the file `name` that starts with `head` is a list of clips; an error names what is missing. `None` for an
/// empty file, another kind of file, and a file with neither the ending nor the columns of a table.
#[must_use]
pub fn is_list_of_clips(name: &str, head: &[u8]) -> Option<Result<(), String>> {
    let is_named = has_suffix(name, &[".csv", ".tsv"]);
    if FileKind::of_no_table(head).is_some() || head.trim_ascii().is_empty() {
        return None;
    }
    let checked = check_header(head);
    (is_named || checked.is_ok()).then_some(checked)
}

/// Explains what the file `name` in `folder` is, which starts with `head`, and what to do, as in "it is a tar
/// archive: unpack it with `tar xf FILE` and give the folder".
#[must_use]
pub fn of_file(folder: &str, name: &str, head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let process = format!("`handloom process {folder}`");
    if let Some(kind) = FileKind::of(head).filter(|_| FileKind::of_no_table(head).is_some()) {
        return format!(
            "it is {}: {}",
            kind.name,
            kind.dataset_advice().replace("FILE", name)
        );
    }
    if wlasl::is_metadata(head) && name != FILE_NAME {
        return format!(
            "it is metadata as WLASL's: give the folder that has videos/, and this file with \
             `handloom process DATASET --metadata {name}`"
        );
    }
    if wlasl::is_metadata(head) {
        return format!(
            "it is WLASL's metadata: give the folder that has it as {FILE_NAME} beside videos/, as in {process}"
        );
    }
    if text.starts_with('{') && text.contains("\"subset\"") && text.contains("\"action\"") {
        return format!(
            "it is a list of splits as nslt_100.json, without glosses: give the folder of WLASL, and this file with \
             `handloom process DATASET --splits {name}`"
        );
    }
    if text.starts_with('[') && (text.contains("\"clean_text\"") || text.contains("\"org_text\"")) {
        return format!(
            "it is a table of MS-ASL: give the folder that has MSASL_train.json and the clips, as in {process}; a clip is \
             named YTID_START_END.mp4 or train_N.mp4 when it was cut out, YTID.mp4 when it is the whole video"
        );
    }
    if text.starts_with(['{', '[']) {
        return format!(
            "it is a JSON file of an unknown layout: if it lists clips, write them into a table, list.csv beside them, that \
             begins with {EXAMPLE}, and give that; else give the folder of the dataset, as in {process}"
        );
    }
    if let Some(kind) = FileKind::of(head) {
        return format!(
            "it is {}: give the folder of the dataset, as in {process}",
            kind.name
        );
    }
    if let Some(Err(problem)) = is_list_of_clips(name, head) {
        return format!("it is a table, but {problem}; a table of clips begins with {EXAMPLE}");
    }
    if head.trim_ascii().is_empty() {
        return "the file is empty: copy or download it again".to_owned();
    }
    if FileKind::of_text(head).is_none() {
        return "it is a file of an unknown kind: give the folder of the dataset, or a zip archive of it".to_owned();
    }
    let utf8 = utf8_head(head);
    let mut first = ByteRecord::new();
    let is_table = values(&utf8).read_byte_record(&mut first).is_ok() && first.len() > 1;
    let what = if is_table {
        "a table in text"
    } else {
        "a text"
    };
    format!(
        "it is {what}: to list clips, save it as list.csv beside them, beginning with {EXAMPLE}, and give list.csv; else give \
         the folder of the dataset"
    )
}

/// Explains why `files` are not a dataset, and what to do.
#[must_use]
pub fn of_tree(files: &FileTree) -> String {
    let clips = files.clips().count();
    let at_top = files.tables(&CLIP_SUFFIXES).count();
    let mut advice = Vec::new();
    for table in files.tables(&[".csv", ".tsv"]) {
        if let Some(Err(problem)) = is_list_of_clips(table, files.head(table)) {
            advice.push(format!("{table} is no list of clips: {problem}"));
        }
    }
    if at_top > 0 {
        advice.push(format!(
            "{at_top} clips lie directly in it, so that their glosses are not known: move them into folders that have the \
             glosses as names, GLOSS/1.mp4, or list them in a table, list.csv, that begins with {EXAMPLE}"
        ));
    } else if clips > 0 {
        let first = files.clips().next().unwrap_or_default();
        advice.push(format!(
            "{clips} clips lie in it as {first}, and a class folder has its clips directly in it, as GLOSS/1.mp4 or \
             train/GLOSS/1.mp4: give the folder of the class folders, or list the clips in a table, list.csv, that begins \
             with {EXAMPLE}"
        ));
    }
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for path in files.paths().filter(|path| !is_clip(path)) {
        let kind = OTHERS
            .iter()
            .position(|(endings, ..)| has_suffix(path, endings));
        *counts.entry(kind.unwrap_or(OTHERS.len())).or_default() += 1;
    }
    if clips == 0 {
        for (kind, count) in counts {
            advice.push(match OTHERS.get(kind) {
                Some((_, name, what)) => format!("it has {count} {name}: {what}"),
                None => format!(
                    "it has {count} files of other kinds and no clip ({})",
                    CLIP_SUFFIXES.join(" ")
                ),
            });
        }
    }
    if advice.is_empty() {
        advice.push("it is empty: is it the right path, and is the disk mounted?".to_owned());
    }
    advice.join("\n  ")
}

/// Explains what the zip archive `name` is, which holds the files `names`; `None` when it may be a dataset.
#[must_use]
pub fn of_archive<'a>(
    name: &str,
    mut names: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    let mut all = names.clone().peekable();
    if all.peek().is_some() && all.all(|name| has_suffix(name, &[".npy"])) {
        return Some(format!(
            "it is a NumPy file (.npz), which holds numbers: give the dataset from which it was made; `handloom inspect \
             {name}` shows what is in it"
        ));
    }
    let is_office = names.any(|name| name == "[Content_Types].xml" || name == "mimetype");
    is_office.then(|| {
        format!("it is an Office document: save the table in it as .csv that begins with {EXAMPLE}, beside the clips")
    })
}
