//! Charts and skeletons as inline SVG. The colors are Okabe and Ito's, which color-blind people can tell apart. Each
//! chart also has its numbers as text.

use super::figures::has_hand;
use crate::hand::landmarks::LANDMARKS;
use crate::sequence::FrameRecord;
use crate::sequence::normalize::SLOTS;
use maud::{Markup, html};
use std::fmt::Write as _;

/// Width of a column chart with its axis, in SVG units.
const CHART_WIDTH: usize = 360;
/// Height of the columns, in SVG units.
const CHART_HEIGHT: usize = 110;
/// Space for the axis: left of the columns and below them.
const AXIS: [usize; 2] = [34, 18];
/// Largest number of labels below the columns.
const LABELS_MAX: usize = 9;
/// Largest number of columns.
const COLUMNS_MAX: usize = 64;

/// One column of a chart.
pub(super) struct Column {
    /// Label below the column.
    pub(super) label: String,
    /// Values of the pieces, from the bottom up.
    pub(super) values: Vec<usize>,
}

/// A chart of stacked columns. `series` names the pieces. With `is_share` a piece is a share of its column.
pub(super) fn columns(title: &str, series: &[&str], columns: &[Column], is_share: bool) -> Markup {
    let columns = joined(columns);
    let sums = || {
        columns
            .iter()
            .map(|column| column.values.iter().sum::<usize>())
    };
    let highest = sums().max().unwrap_or(0).max(1);
    let [left, below] = AXIS;
    let step = (CHART_WIDTH - left) / columns.len().max(1);
    let (step, width) = (step.max(2), (step * 4 / 5).max(1));
    let label_step = columns.len().div_ceil(LABELS_MAX).max(1);
    let (top_label, middle_label) = if is_share {
        ("100 %".to_owned(), "50 %".to_owned())
    } else {
        (highest.to_string(), String::new())
    };
    html! {
        figure.chart {
            figcaption { (title) }
            @if series.len() > 1 {
                p.legend { @for (n, name) in series.iter().enumerate() {
                    span.{ "key s" (n) } {} " " (name) " "
                } }
            }
            svg viewBox={ "0 0 " (CHART_WIDTH) " " (CHART_HEIGHT + below + 8) } role="img" aria-label=(title) {
                text.axis x=(left - 4) y="12" { (top_label) }
                text.axis x=(left - 4) y=(8 + CHART_HEIGHT / 2) { (middle_label) }
                text.axis x=(left - 4) y=(8 + CHART_HEIGHT) { "0" }
                path.frame d={ "M" (left) " 8V" (8 + CHART_HEIGHT) "H" (CHART_WIDTH) } {}
                @for (n, (column, sum)) in columns.iter().zip(sums()).enumerate() {
                    g {
                        title { (described(column, series, sum, is_share)) }
                        (stack(column, left + n * step + 1, width, if is_share { sum.max(1) } else { highest }))
                    }
                    @if n % label_step == 0 {
                        text.tick x=(left + n * step + 1 + width / 2) y=(CHART_HEIGHT + below + 4) { (column.label) }
                    }
                }
            }
        }
    }
}

/// Joins neighboring columns until there are at most [`COLUMNS_MAX`].
fn joined(columns: &[Column]) -> Vec<Column> {
    let size = columns.len().div_ceil(COLUMNS_MAX).max(1);
    let join = |group: &[Column]| {
        let mut values = vec![0; group.iter().map(|c| c.values.len()).max().unwrap_or(0)];
        for column in group {
            for (sum, value) in values.iter_mut().zip(&column.values) {
                *sum += value;
            }
        }
        Column {
            label: group[0].label.clone(),
            values,
        }
    };
    columns.chunks(size).map(join).collect()
}

/// The rectangles of a stacked column.
fn stack(column: &Column, x: usize, width: usize, whole: usize) -> Markup {
    let mut below = 0;
    let pieces = column.values.iter().enumerate().map(|(n, value)| {
        // Edges are rounded instead of heights, so that no gap opens between two pieces.
        let edge = |value: usize| value * CHART_HEIGHT * 10 / whole;
        let (bottom, top) = (edge(below), edge(below + value));
        below += value;
        (n, 80 + CHART_HEIGHT * 10 - top, top - bottom)
    });
    let pieces: Vec<_> = pieces.filter(|(_, _, height)| *height > 0).collect();
    html! {
        @for (n, y, height) in pieces {
            rect.{ "s" (n) } x=(x) y=(tenths(y)) width=(width) height=(tenths(height)) {}
        }
    }
}

fn tenths(value: usize) -> String {
    format!("{}.{}", value / 10, value % 10)
}

fn described(column: &Column, series: &[&str], sum: usize, is_share: bool) -> String {
    let mut text = format!("{}:", column.label);
    for (name, value) in series.iter().zip(&column.values) {
        // Writing to a String cannot fail.
        if is_share {
            write!(text, " {name} {} %,", value * 100 / sum.max(1)).ok();
        } else {
            write!(text, " {value} {name},").ok();
        }
    }
    text.trim_end_matches(',').to_owned()
}

/// A bar for a cell of a table: `value` of `whole`.
pub(super) fn bar(value: usize, whole: usize) -> Markup {
    html! {
        svg.bar viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.s0 width=(value * 1000 / whole.max(1)) height="10" {}
        }
    }
}

/// Chains of landmarks, each drawn as one line: the palm's edge, then five fingers.
const CHAINS: [&[usize]; 6] = [
    &[0, 5, 9, 13, 17, 0],
    &[0, 1, 2, 3, 4],
    &[5, 6, 7, 8],
    &[9, 10, 11, 12],
    &[13, 14, 15, 16],
    &[17, 18, 19, 20],
];

/// Width of a skeleton's image in SVG units.
const STRIP_WIDTH: f32 = 160.0;

/// A frame of a clip: its hands, drawn over `image` (a `data:` URL) if there is one. `shape` is height / width.
pub(super) fn skeleton(
    title: &str,
    frame: &FrameRecord,
    shape: f32,
    image: Option<&str>,
    is_worst: bool,
) -> Markup {
    let height = STRIP_WIDTH * shape;
    let hands = (0..SLOTS).filter(|slot| has_hand(frame, *slot));
    let hands: Vec<(usize, String)> = hands
        .map(|slot| (slot, chains(&frame.landmarks[slot], height)))
        .collect();
    html! {
        svg.skeleton.worst[is_worst] viewBox={ "0 0 " (STRIP_WIDTH) " " (height.round()) } role="img" aria-label=(title) {
            title { (title) }
            @if let Some(image) = image {
                image href=(image) width=(STRIP_WIDTH) height=(height.round()) preserveAspectRatio="none" {}
            }
            @for (slot, line) in &hands {
                @if image.is_some() { path.rim d=(line) {} }
                path.{ "hand" (slot) } d=(line) {}
            }
            @if hands.is_empty() && image.is_none() {
                text.none x=(STRIP_WIDTH / 2.0) y=(height.round() / 2.0) { "no hand" }
            }
        }
    }
}

/// The bones of a hand as the lines of a path, in whole units. Points that are not finite are left out.
fn chains(hand: &[[f32; 3]; LANDMARKS], height: f32) -> String {
    let mut path = String::new();
    for chain in CHAINS {
        let mut command = 'M';
        for [x, y, _] in chain.iter().map(|landmark| hand[*landmark]) {
            if x.is_finite() && y.is_finite() {
                // Points far outside of the image are clamped to just outside.
                let [x, y] = [x, y].map(|share| share.clamp(-2.0, 3.0));
                write!(path, "{command}{:.0} {:.0}", x * STRIP_WIDTH, y * height).ok();
                command = 'L';
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_high_as_their_values() {
        let column = |label: &str, values: &[usize]| Column {
            label: label.to_owned(),
            values: values.to_vec(),
        };
        let two = [column("1", &[1, 3]), column("<2>", &[0, 2])];
        let html = columns("a & b", &["x", "y"], &two, false).into_string();
        assert!(
            html.contains("a &amp; b") && html.contains("&lt;2&gt;"),
            "{html}"
        );
        for part in [
            r#"height="27.5""#,
            r#"height="82.5""#,
            r#"height="55.0""#,
            "1: 1 x, 3 y",
        ] {
            assert!(html.contains(part), "no {part} in {html}");
        }
        assert_eq!(html.matches("<rect").count(), 3);
        let share = columns("c", &["x", "y"], &two, true).into_string();
        assert!(share.contains("1: x 25 %, y 75 %"), "{share}");
        let many: Vec<Column> = (0..1000).map(|n| column(&n.to_string(), &[1])).collect();
        let joined = joined(&many);
        assert_eq!(
            (joined.len(), joined[0].values[0], &*joined[1].label),
            (63, 16, "16")
        );
        assert!(
            columns("nothing", &["x"], &[], false)
                .into_string()
                .contains("<svg")
        );
    }

    #[test]
    fn a_hand_is_a_path_and_odd_numbers_are_left_out() {
        let mut hand = [[0.5, 0.5, 0.0]; LANDMARKS];
        assert_eq!(chains(&hand, 120.0).matches("80 60").count(), 27);
        hand[4] = [f32::NAN, 0.5, 0.0];
        hand[8] = [1.0e9, f32::NEG_INFINITY, 0.0];
        hand[12] = [1.0e9, -1.0e9, 0.0];
        let path = chains(&hand, 120.0);
        assert_eq!(path.matches("80 60").count(), 24);
        assert!(
            path.contains("L480 -240") && !path.contains("NaN"),
            "{path}"
        );
    }
}
