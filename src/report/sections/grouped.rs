//! Sections about groups of clips: classes, splits and signers, duplicates, files that cannot be read.

use super::{bar, count, folded, note, number, table, text};
use crate::dataset::acceptance::State;
use crate::report::ReportData;
use crate::report::page::shown;
use crate::report::sections::percent;
use crate::report::svg::columns;
use maud::{Markup, html};
use std::collections::BTreeSet;

/// Splits whose absence is reported for a class, when any class has them.
const SPLITS: [&str; 3] = ["train", "val", "test"];
/// Largest number of glosses that are listed without folding.
const GLOSSES_MAX: usize = 40;

pub(in crate::report) fn classes(data: &ReportData) -> Markup {
    let totals = &data.totals;
    let splits: Vec<&String> = totals.splits.keys().collect();
    let mut headings = vec!["class", ">instances", ">accepted"];
    let split_headings: Vec<String> = splits
        .iter()
        .map(|split| format!(">{}", split_name(split)))
        .collect();
    headings.extend(split_headings.iter().map(String::as_str));
    headings.extend([">signers", ">frames with a hand"]);
    let rows: Vec<Vec<Markup>> = totals
        .classes
        .iter()
        .map(|(gloss, class)| {
            let mut row = vec![text(gloss), number(class.instances), number(class.accepted)];
            row.extend(
                splits
                    .iter()
                    .map(|split| number(class.splits.get(*split).copied().unwrap_or(0))),
            );
            row.push(number(class.signers.len()));
            row.push(html! { (percent(class.with_hand, class.frames)) });
            row
        })
        .collect();
    let accepted = totals.classes.values().map(|class| class.accepted);
    let sizes = super::histogram(accepted, &[0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30]);
    let signers: Vec<Vec<Markup>> = totals
        .signers
        .iter()
        .map(|(signer, clips)| {
            vec![
                html! { (signer) },
                number(*clips),
                bar(*clips, totals.accepted),
            ]
        })
        .collect();
    html! {
        section #classes {
            h2 { "Classes, splits and signers" }
            (note("A class without clips in train cannot be learned, one without clips in test is not tested. A class with few clips is learned badly. Where a signer is in train and in test, the test says little about people whom the model has never seen: split by signer for that."))
            (table(&["split", ">accepted clips", "", ">classes without any"], &totals.splits.iter().map(|(split, clips)| vec![
                text(split_name(split)), number(*clips), bar(*clips, totals.accepted), number(totals.without_split(split).count()),
            ]).collect::<Vec<_>>()))
            @for split in SPLITS.into_iter().filter(|split| totals.splits.contains_key(*split)) {
                (without(split, &totals.without_split(split).collect::<Vec<_>>()))
            }
            @if totals.signers.is_empty() { p { "The metadata name no signers." } }
            @else { p { "Known signers: " (count(totals.signers.len())) ". In more than one split: " (count(totals.signers_in_splits)) "." } }
            div.charts { (columns("Classes by their number of accepted clips", &["classes"], &sizes, false)) }
            (folded("All classes", &headings, &rows))
            @if !signers.is_empty() { (folded("Clips by signer", &["signer", ">accepted clips", ""], &signers)) }
        }
    }
}

fn split_name(split: &str) -> &str {
    if split.is_empty() { "no split" } else { split }
}

fn without(split: &str, glosses: &[&str]) -> Markup {
    let list = glosses.join(", ");
    html! {
        @if glosses.len() > GLOSSES_MAX {
            details { summary { (count(glosses.len())) " classes without a clip in " (split) } p { (shown(&list)) } }
        } @else if !glosses.is_empty() {
            p { strong { "Without a clip in " (split) ": " } (shown(&list)) }
        }
    }
}

pub(in crate::report) fn duplicates(data: &ReportData) -> Markup {
    let files = data.equal_files.as_deref();
    html! {
        section #duplicates {
            h2 { "Duplicates" }
            (note("Clips with equal content count twice in training, and in two splits they make a test too easy. Keep one of each group; where the classes differ, one label is wrong."))
            @if data.totals.duplicates.is_empty() { p { "No two sequences have equal landmarks." } }
            @else { (folded("Sequences with equal landmarks, in groups", HEADINGS, &groups(data, &data.totals.duplicates))) }
            @match files {
                None => p { "Give the dataset to compare its files as well." },
                Some([]) => p { "No two clips of the dataset are equal files." },
                Some(equal) => (folded("Clips that are equal files, in groups", HEADINGS, &groups(data, equal))),
            }
        }
    }
}

const HEADINGS: &[&str] = &["clips", "classes", "splits", "what to do"];

fn groups(data: &ReportData, groups: &[Vec<usize>]) -> Vec<Vec<Markup>> {
    let row = |group: &Vec<usize>| {
        let records: Vec<_> = group.iter().map(|n| &data.folder.instances[*n]).collect();
        let list = |values: BTreeSet<&str>| values.into_iter().collect::<Vec<_>>().join(", ");
        let ids: BTreeSet<&str> = records.iter().map(|record| record.id()).collect();
        let glosses: BTreeSet<&str> = records.iter().map(|record| &*record.gloss).collect();
        let splits: BTreeSet<&str> = records
            .iter()
            .map(|record| split_name(&record.split))
            .collect();
        let advice = match (glosses.len(), splits.len()) {
            (2.., _) => "one label is wrong",
            (_, 2..) => "across splits: keep one",
            _ => "keep one",
        };
        vec![
            text(&list(ids)),
            text(&list(glosses)),
            text(&list(splits)),
            text(advice),
        ]
    };
    groups.iter().map(row).collect()
}

pub(in crate::report) fn unreadable(data: &ReportData) -> Markup {
    let unreadable = State::Unreadable.name();
    let records = data
        .folder
        .instances
        .iter()
        .filter(|record| record.state == unreadable);
    let rows: Vec<Vec<Markup>> = records
        .map(|record| {
            vec![
                text(record.id()),
                text(&record.gloss),
                text(record.reason.as_deref().unwrap_or("-")),
            ]
        })
        .collect();
    html! {
        section #unreadable {
            h2 { "Files that cannot be read" }
            (note("Dead links are often saved as web pages named .mp4, and a broken download ends in the middle. Fetch these clips again, or remove them from the metadata."))
            @if rows.is_empty() { p { "Every clip on disk can be read." } }
            @else { (folded("Files with the decoder's reason", &["clip", "class", "reason"], &rows)) }
        }
    }
}
