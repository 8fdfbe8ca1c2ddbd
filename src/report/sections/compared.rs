//! The section that compares two runs.

use super::{count, folded, note, number, percent, table, text};
use crate::report::ReportData;
use crate::report::comparison::Comparison;
use crate::report::page::shown;
use crate::report::totals::Totals;
use maud::{Markup, html};

/// Largest number of clip names in a cell.
const IDS_MAX: usize = 20;

pub(in crate::report) fn comparison(comparison: &Comparison, data: &ReportData) -> Markup {
    let [both, before_alone, after_alone] = comparison.matched;
    let settings: Vec<Vec<Markup>> = comparison
        .settings
        .iter()
        .map(|(name, before, after)| {
            vec![html! { code { (shown(name)) } }, text(before), text(after)]
        })
        .collect();
    let changes: Vec<Vec<Markup>> = comparison
        .changes
        .iter()
        .map(|((before, after), ids)| {
            vec![
                text(before),
                text(after),
                number(ids.len()),
                text(&listed(ids)),
            ]
        })
        .collect();
    let classes: Vec<Vec<Markup>> = comparison
        .classes
        .iter()
        .map(|(gloss, before, after)| vec![text(gloss), number(*before), number(*after)])
        .collect();
    let headings = ["what", ">other run", ">this run", "meaning"];
    let measures: Vec<Vec<Markup>> = measures(&comparison.before)
        .into_iter()
        .zip(measures(&data.totals))
        .map(|((name, meaning, before), (_, _, after))| {
            vec![text(name), text(&before), text(&after), text(meaning)]
        })
        .collect();
    html! {
        section #comparison {
            h2 { "Beside another run" }
            (note("The same instances in two output folders, matched by class, clip and frame range. More accepted clips and more frames with hands are better only if the skeletons are right: inspect some of the clips whose state changed."))
            p { (count(both)) " instances are in both runs, " (count(before_alone)) " in the other one alone, " (count(after_alone)) " in this one alone." }
            (table(&headings, &measures))
            h3 { "Settings that differ" }
            @if settings.is_empty() { p { "None." } } @else { (table(&["setting", "other run", "this run"], &settings)) }
            h3 { "Instances whose state changed" }
            @if changes.is_empty() { p { "None." } }
            @else { (table(&["other run", "this run", ">instances", "clips"], &changes)) }
            @if !classes.is_empty() {
                (folded("Classes with another number of accepted clips", &["class", ">other run", ">this run"], &classes))
            }
        }
    }
}

fn listed(ids: &[String]) -> String {
    let mut list = ids[..ids.len().min(IDS_MAX)].join(", ");
    if ids.len() > IDS_MAX {
        list.push_str(", …");
    }
    list
}

/// Name, meaning and value of each compared number.
fn measures(totals: &Totals) -> Vec<(&'static str, &'static str, String)> {
    let frames = &totals.frames;
    let [in_range, covered] = totals
        .coverage
        .map(|frames| usize::try_from(frames).unwrap_or(usize::MAX));
    vec![
        (
            "accepted clips",
            "sequences to train with",
            count(totals.accepted),
        ),
        (
            "frames of the signs covered",
            "what is not covered is lost",
            percent(covered, in_range),
        ),
        (
            "clips that are cut off",
            "their end is lost",
            count(totals.truncated.len()),
        ),
        (
            "sampled frames with a hand",
            "frames without one are zeros",
            percent(frames.with_hand(), frames.frames()),
        ),
        (
            "sampled frames with two hands",
            "of all sampled frames",
            percent(frames.by_hands[2], frames.frames()),
        ),
        (
            "frames with a filled hand",
            "a gap that was filled linearly",
            count(totals.filled),
        ),
        (
            "slot swaps",
            "of steps between frames with two hands",
            percent(frames.swaps, frames.pairs),
        ),
        (
            "side changes",
            "of the same steps",
            percent(frames.side_changes, frames.pairs),
        ),
        (
            "jumps",
            "steps in which a wrist moves too far",
            count(frames.jumps),
        ),
        (
            "longest gap",
            "frames without a hand within a sign",
            count(frames.longest_gap),
        ),
    ]
}
