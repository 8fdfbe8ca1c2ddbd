//! The HTML page: head, findings, sections, settings and versions. Text from metadata and files is escaped, so that
//! it can neither inject markup nor change the direction of the text around it.

use super::ReportData;
use super::doubt::share;
use super::sections::{self, count, percent};
use crate::dataset::acceptance::State;
use crate::untrusted;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use std::borrow::Cow;

/// A larger share of steps with swapped hands is reported.
const SWAPS_MIN: f64 = 0.02;

const STYLE: &str = include_str!("style.css");

/// Escapes control characters in untrusted text. The markup escapes the rest.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    untrusted::escape(text)
}

/// The whole page as HTML. Equal data give equal bytes.
#[must_use]
pub fn page(data: &ReportData) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Handloom: report about a dataset" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "What is in this dataset" }
                    p { (introduction(&data.folder.run)) }
                    @if !data.folder.is_finished {
                        p.warning { strong { "The job has not finished." } " This page shows the " (count(data.folder.instances.len()))
                            " clips that are done so far. Run the job to its end, then make the report again." }
                    }
                    @let missing = data.folder.missing_shards();
                    @if !missing.is_empty() {
                        p.warning { strong { "Shards are missing." } " These results were joined without the shards "
                            (missing.join(", ")) ". Make them and merge again, then make the report again." }
                    }
                    (tiles(data))
                    (findings(data))
                }
                main {
                    (sections::states(data))
                    (sections::hands(data))
                    (sections::swaps(data))
                    (sections::truncation(data))
                    (sections::classes(data))
                    (sections::clips(data))
                    (sections::duplicates(data))
                    (sections::unreadable(data))
                    (sections::doubtful(data))
                    @if let Some(comparison) = &data.comparison { (sections::comparison(comparison, data)) }
                    (provenance(&data.folder.run))
                }
            }
        }
    };
    markup.into_string()
}

fn introduction(run: &Value) -> String {
    let settings = &run["settings"];
    let profile = settings["profile"]
        .as_str()
        .map_or_else(String::new, |name| {
            format!(" with the profile {}", shown(name))
        });
    let source = run["dataset"]["path"].as_str();
    let source = source.map_or_else(String::new, |path| format!(" from {}", shown(path)));
    format!(
        "Sequences that Handloom made{source}{profile}. Each section says what its numbers mean and what to do about them."
    )
}

/// The most important numbers, as tiles.
fn tiles(data: &ReportData) -> Markup {
    let totals = &data.totals;
    let classes = totals
        .classes
        .values()
        .filter(|class| class.accepted > 0)
        .count();
    let frames = &totals.frames;
    let tiles = [
        (
            count(totals.accepted),
            format!(
                "accepted of {} instances",
                count(data.folder.instances.len())
            ),
        ),
        (count(classes), "classes with an accepted clip".to_owned()),
        (
            percent(frames.with_hand(), frames.frames()),
            "of the sampled frames have a hand".to_owned(),
        ),
        (
            count(totals.truncated.len()),
            "clips are longer than their sequence".to_owned(),
        ),
    ];
    html! {
        ul.tiles { @for (number, text) in &tiles { li { strong { (number) } " " (text) } } }
    }
}

/// The findings and what to do about them.
fn findings(data: &ReportData) -> Markup {
    let totals = &data.totals;
    let frames = &totals.frames;
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut find = |section, text: String| found.push((section, text));
    if totals.accepted == 0 {
        find(
            "states",
            "No clip was accepted: the reasons are in the table of states.".to_owned(),
        );
    }
    let mut find_some = |section, number: usize, what: &str, advice: &str| {
        if number > 0 {
            find(section, format!("{what}: {}. {advice}", count(number)));
        }
    };
    let unreadable = totals.count(State::Unreadable);
    find_some(
        "unreadable",
        unreadable,
        "Clips that cannot be read",
        "Fetch them again.",
    );
    let empty = totals.count(State::Empty);
    let advice = "They were trimmed before; the option frame_range = auto reads them whole.";
    find_some(
        "states",
        empty,
        "Clips whose frame range begins after their end",
        advice,
    );
    let cut = totals.truncated.len();
    let advice = "The option sampling = uniform covers the whole sign.";
    find_some("truncation", cut, "Clips whose end is cut off", advice);
    if share(frames.swaps, frames.pairs) > SWAPS_MIN {
        let advice = "The option slots = sides keeps each hand in its own slot.";
        find_some(
            "swaps",
            frames.swaps,
            "Steps in which the hands change slots",
            advice,
        );
    }
    for split in ["train", "val", "test"]
        .into_iter()
        .filter(|s| totals.splits.contains_key(*s))
    {
        let without = totals.without_split(split).count();
        let what = format!("Classes without an accepted clip in {split}");
        find_some("classes", without, &what, "Leave them out, or split anew.");
    }
    let advice = "A test on them says little about new signers.";
    find_some(
        "classes",
        totals.signers_in_splits,
        "Signers in more than one split",
        advice,
    );
    let equal = data.equal_files.as_ref().map_or(0, Vec::len);
    let equal = equal.max(totals.duplicates.len());
    find_some(
        "duplicates",
        equal,
        "Groups of clips with equal content",
        "Keep one of each.",
    );
    let doubtful = data.doubtful.clips().len();
    find_some(
        "doubtful",
        doubtful,
        "Clips to inspect",
        "The last section shows them.",
    );
    html! {
        nav {
            h2 { "What to do first" }
            ul { @for (section, text) in &found { li { a href={ "#" (section) } { (text) } } } }
            @if found.is_empty() { p { "Nothing stands out." } }
        }
    }
}

/// The section with settings and versions.
fn provenance(run: &Value) -> Markup {
    let show = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rows = vec![("handloom".to_owned(), show(&run["handloom"]))];
    let backend = &run["backend"]["name"];
    if !backend.is_null() {
        rows.push(("backend".to_owned(), show(backend)));
    }
    for (key, value) in run["settings"].as_object().into_iter().flatten() {
        if !value.is_object() {
            rows.push((key.clone(), show(value)));
        }
    }
    html! {
        section #provenance {
            h2 { "Where the numbers come from" }
            p { "The settings that made these sequences, from " code { "run.json" } ". The same settings, models and clips give the same bytes." }
            details {
                summary { "Settings" }
                (sections::table(&["setting", "value"], &rows.iter().map(|(key, value)| vec![
                    html! { (shown(key)) }, html! { code { (shown(value)) } },
                ]).collect::<Vec<_>>()))
            }
        }
    }
}
