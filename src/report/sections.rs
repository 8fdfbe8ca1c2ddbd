//! The sections of the page about one folder. Each begins with what its numbers mean and what to do about them.

mod compared;
mod grouped;

pub(super) use compared::comparison;
pub(super) use grouped::{classes, duplicates, unreadable};

use super::ReportData;
use super::doubt::{DoubtfulClip, FRAMES_SHOWN, share};
use super::figures::{FrameFigures, JUMP_MIN};
use super::images::StripImage;
use super::output::InstanceRecord;
use super::page::shown;
use super::svg::{Column, bar, columns, skeleton};
use crate::dataset::acceptance::State;
use maud::{Markup, html};

/// Largest number of clips in a list of the worst.
const WORST_MAX: usize = 10;
/// Largest number of rows in a folded list.
const ROWS_MAX: usize = 500;

/// Formats a number with a comma between thousands.
pub(super) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats `part` of `whole` as a percentage; `-` when `whole` is 0.
pub(super) fn percent(part: usize, whole: usize) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1}\u{a0}%", 100.0 * share(part, whole))
}

/// A table. A `>` before a heading marks a column of numbers.
pub(super) fn table(headings: &[&str], rows: &[Vec<Markup>]) -> Markup {
    let is_number = |n: usize| {
        headings
            .get(n)
            .is_some_and(|heading| heading.starts_with('>'))
    };
    html! {
        div.scroll { table {
            thead { tr { @for (n, heading) in headings.iter().enumerate() {
                @if is_number(n) { th.n scope="col" { (&heading[1..]) } } @else { th scope="col" { (heading) } }
            } } }
            tbody { @for row in rows { tr { @for (n, cell) in row.iter().enumerate() {
                @if is_number(n) { td.n { (cell) } } @else { td { (cell) } }
            } } } }
        } }
    }
}

/// A collapsed table with the first [`ROWS_MAX`] rows, and the number of the others.
fn folded(title: &str, headings: &[&str], rows: &[Vec<Markup>]) -> Markup {
    let more = rows.len().saturating_sub(ROWS_MAX);
    html! {
        details {
            summary { (title) " (" (count(rows.len())) ")" }
            (table(headings, &rows[..rows.len() - more]))
            @if more > 0 { p { "… and " (count(more)) " more: " code { "manifest.jsonl" } " has all." } }
        }
    }
}

fn note(text: &str) -> Markup {
    html! { p.note { (text) } }
}

fn number(value: usize) -> Markup {
    html! { (count(value)) }
}

fn text(value: &str) -> Markup {
    html! { (shown(value)) }
}

/// The instances with the highest value of a statistic, at most [`WORST_MAX`]. Instances with 0 are left out.
fn worst(
    data: &ReportData,
    of: impl Fn(&FrameFigures) -> usize,
) -> Vec<(&InstanceRecord, &FrameFigures)> {
    let clips = data.folder.instances.iter();
    let clips = clips.filter_map(|record| Some((record, record.frames.as_ref()?)));
    let mut clips: Vec<_> = clips.filter(|(_, figures)| of(figures) > 0).collect();
    clips.sort_by_key(|(_, figures)| std::cmp::Reverse(of(figures)));
    clips.truncate(WORST_MAX);
    clips
}

/// The number of values between neighboring `limits`: at or above one limit and below the next. The last column has
/// no upper limit.
fn histogram(values: impl Iterator<Item = usize>, limits: &[usize]) -> Vec<Column> {
    let mut counts = vec![0; limits.len()];
    for value in values {
        let at = limits.partition_point(|limit| *limit <= value);
        if let Some(count) = counts.get_mut(at.saturating_sub(1)) {
            *count += 1;
        }
    }
    let label = |n: usize| match limits.get(n + 1) {
        Some(end) if *end == limits[n] + 1 => limits[n].to_string(),
        Some(end) => format!("{}–{}", limits[n], end - 1),
        None => format!("{}+", limits[n]),
    };
    let columns = counts.into_iter().enumerate();
    columns
        .map(|(n, value)| Column {
            label: label(n),
            values: vec![value],
        })
        .collect()
}

fn figures(data: &ReportData) -> impl Iterator<Item = &FrameFigures> {
    data.folder
        .instances
        .iter()
        .filter_map(|record| record.frames.as_ref())
}

pub(super) fn states(data: &ReportData) -> Markup {
    let all = data.folder.instances.len();
    let states: Vec<_> = data
        .totals
        .states
        .iter()
        .filter(|(_, state)| state.count > 0)
        .collect();
    let rows: Vec<Vec<Markup>> = states
        .iter()
        .map(|(name, state)| {
            let meaning = State::from_name(name).map_or("", State::meaning);
            vec![
                html! { code { (shown(name)) } },
                number(state.count),
                bar(state.count, all),
                text(meaning),
            ]
        })
        .collect();
    let reasons: Vec<Vec<Markup>> = states
        .iter()
        .flat_map(|(name, state)| {
            let mut reasons: Vec<_> = state.reasons.iter().collect();
            reasons.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
            reasons.into_iter().map(move |(reason, (count, id))| {
                vec![
                    html! { code { (shown(name)) } },
                    number(*count),
                    text(reason),
                    text(id),
                ]
            })
        })
        .collect();
    html! {
        section #states {
            h2 { "What became of every instance" }
            (note("Each instance of the metadata ends in one state. Only accepted clips have a sequence; the others are data about the dataset, not failures. Where many are lost for one reason, that reason is worth fixing first."))
            (table(&["state", ">instances", "", "meaning"], &rows))
            @if !reasons.is_empty() {
                (folded("Reasons, with the first clip of each", &["state", ">instances", "reason", "first clip"], &reasons))
            }
        }
    }
}

pub(super) fn hands(data: &ReportData) -> Markup {
    let frames = &data.totals.frames;
    let positions: Vec<Column> = data
        .positions
        .0
        .iter()
        .enumerate()
        .map(|(n, [none, one, two])| Column {
            label: (n + 1).to_string(),
            values: vec![*two, *one, *none],
        })
        .collect();
    let tenths: Vec<usize> = (0..=10).collect();
    let mut shares = histogram(
        figures(data).map(|f| 10 * f.with_hand() / f.frames().max(1)),
        &tenths,
    );
    for (n, column) in shares.iter_mut().enumerate() {
        column.label = format!("{} %", n * 10);
    }
    let gaps = histogram(
        figures(data).map(|f| f.longest_gap),
        &[0, 1, 2, 3, 4, 6, 8, 12, 16],
    );
    let rows: Vec<Vec<Markup>> = worst(data, |f| f.longest_gap)
        .into_iter()
        .map(|(record, f)| {
            vec![
                text(record.id()),
                text(&record.gloss),
                number(f.longest_gap),
                number(f.with_hand()),
                number(f.frames()),
            ]
        })
        .collect();
    html! {
        section #hands {
            h2 { "Hands found" }
            (note("A frame without a hand is a row of zeros, which a model takes for a place. Few hands at the first and last positions mean clips that begin before the sign or end after it. A gap is a run of frames without a hand within the sign: motion blur, a hand before the face or outside the image. The option missing = interpolate fills short gaps."))
            (table(&["sampled frames with", ">frames", "", ">share"], &[("two hands", 2), ("one hand", 1), ("no hand", 0)].map(|(name, n)| {
                vec![text(name), number(frames.by_hands[n]), bar(frames.by_hands[n], frames.frames()), html! { (percent(frames.by_hands[n], frames.frames())) }]
            })))
            @if data.totals.filled > 0 {
                p { (count(data.totals.filled)) " frames have a hand that was filled between two that show it; " code { "filled" } " in the batches marks them." }
            }
            div.charts {
                (columns("Hands by position in the sequence", &["two hands", "one hand", "no hand"], &positions, true))
                (columns("Clips by their share of frames with a hand", &["clips"], &shares, false))
                (columns("Clips by their longest gap, in sampled frames", &["clips"], &gaps, false))
            }
            @if !rows.is_empty() {
                h3 { "Longest gaps" }
                (table(&["clip", "class", ">gap", ">with a hand", ">of frames"], &rows))
            }
        }
    }
}

pub(super) fn swaps(data: &ReportData) -> Markup {
    let frames = &data.totals.frames;
    let swapped: Vec<Vec<Markup>> = worst(data, |f| f.swaps)
        .into_iter()
        .map(|(record, f)| {
            vec![
                text(record.id()),
                text(&record.gloss),
                number(f.swaps),
                number(f.pairs),
                number(f.side_changes),
            ]
        })
        .collect();
    let jumping: Vec<Vec<Markup>> = worst(data, |f| f.jumps)
        .into_iter()
        .map(|(record, f)| {
            vec![
                text(record.id()),
                text(&record.gloss),
                number(f.jumps),
                number(f.frames()),
            ]
        })
        .collect();
    let limit = format!("{:.0} %", JUMP_MIN * 100.0);
    html! {
        section #swaps {
            h2 { "Swaps and jumps" }
            (note("Two hands have changed slots when they lie nearer to each other's earlier places than to their own. The numbers of one hand then continue in the other's place, which a model sees as a leap. The option slots = sides sorts hands by side. A side is the detector's guess: it can change while the hand does not, and both hands can get the same one."))
            (table(&["what", ">how often", ">of", ">share"], &[
                vec![text("hands change slots from one frame to the next"), number(frames.swaps), number(frames.pairs), html! { (percent(frames.swaps, frames.pairs)) }],
                vec![text("a hand gets the other side"), number(frames.side_changes), number(frames.pairs), html! { (percent(frames.side_changes, frames.pairs)) }],
                vec![text("both hands have the same side"), number(frames.same_side), number(frames.by_hands[2]), html! { (percent(frames.same_side, frames.by_hands[2])) }],
            ]))
            @if !swapped.is_empty() {
                h3 { "Most swaps" }
                (table(&["clip", "class", ">swaps", ">of steps", ">side changes"], &swapped))
            }
            h3 { "Jumps" }
            p.note { "A wrist jumps when it moves by more than " (limit) " of the image between neighboring sampled frames. Hands are rarely that fast: mostly the detector found another person's hand, a face or the wrong hand. Such steps: "
                (count(frames.jumps)) ". Inspect the clips, and drop those whose skeletons are wrong." }
            @if !jumping.is_empty() { (table(&["clip", "class", ">jumps", ">of frames"], &jumping)) }
        }
    }
}

pub(super) fn truncation(data: &ReportData) -> Markup {
    let totals = &data.totals;
    let [in_range, covered] = totals
        .coverage
        .map(|frames| usize::try_from(frames).unwrap_or(usize::MAX));
    let rows: Vec<Vec<Markup>> = totals
        .truncated
        .iter()
        .map(|(n, in_range, beyond)| {
            let record = &data.folder.instances[*n];
            vec![
                text(record.id()),
                text(&record.gloss),
                html! { (in_range) },
                html! { (beyond) },
            ]
        })
        .collect();
    html! {
        section #truncation {
            h2 { "Signs that are cut off" }
            (note("A sequence of L frames with stride S covers L × S frames of the clip; what comes after is lost. A sign whose end is lost can look like another one. The option sampling = uniform spreads the frames over the whole sign. With sampling = stride, a larger stride or a longer sequence covers more."))
            p { strong { (count(totals.truncated.len())) } " of " (count(totals.with_frames)) " accepted clips are longer than their sequence covers. "
                "The sequences cover " strong { (percent(covered, in_range)) } " of the " (count(in_range)) " frames in the signs' frame ranges." }
            @if !rows.is_empty() { (folded("Clips that are cut off", &["clip", "class", ">frames of the sign", ">frames lost"], &rows)) }
        }
    }
}

pub(super) fn clips(data: &ReportData) -> Markup {
    let totals = &data.totals;
    let accepted = data
        .folder
        .instances
        .iter()
        .filter(|record| record.is_accepted());
    let lengths = accepted.filter_map(|record| usize::try_from(record.clip.declared_frames?).ok());
    let lengths = histogram(
        lengths,
        &[0, 16, 32, 48, 64, 80, 96, 128, 160, 192, 256, 512],
    );
    let sizes: Vec<Vec<Markup>> = totals
        .sizes
        .iter()
        .map(|((width, height), clips)| {
            vec![
                html! { (width) " × " (height) },
                number(*clips),
                bar(*clips, totals.accepted),
            ]
        })
        .collect();
    let rates: Vec<Vec<Markup>> = totals
        .rates
        .iter()
        .map(|(tenths, clips)| {
            vec![
                html! { (tenths / 10) "." (tenths % 10) },
                number(*clips),
                bar(*clips, totals.accepted),
            ]
        })
        .collect();
    html! {
        section #clips {
            h2 { "Lengths, sizes and rates" }
            (note("Lengths are frames of the whole clip. Clips of different rates show the same sign in different numbers of frames, and images of different shapes distort a hand differently as long as x and y are shares of the image: the option aspect keeps its shape."))
            div.charts { (columns("Accepted clips by length, in frames", &["clips"], &lengths, false)) }
            @if sizes.is_empty() && rates.is_empty() {
                p { "The manifest records no sizes and rates." }
            }
            @if !sizes.is_empty() { (table(&["width × height", ">clips", ""], &sizes)) }
            @if !rates.is_empty() { (table(&["frames a second", ">clips", ""], &rates)) }
        }
    }
}

pub(super) fn doubtful(data: &ReportData) -> Markup {
    let clips = data.doubtful.clips();
    html! {
        section #doubtful {
            h2 { "Clips to inspect first" }
            (note("The accepted clips with most against them, the most doubtful first, with what was found in eight of their sampled frames. A frame with a colored border is one of the two where the worst happens. Drop a clip whose skeletons are wrong; keep one where the sign is only unusual."))
            @if clips.is_empty() { p { "There is nothing against any clip." } }
            @else { p.legend { span.{ "key k0" } {} " first detected hand " span.{ "key k1" } {} " second detected hand" } }
            @for (n, clip) in clips.iter().enumerate() {
                (strip(clip, data.images.get(n).map_or(&[], Vec::as_slice)))
            }
        }
    }
}

/// The strip of a doubtful clip: its reasons and its frames.
fn strip(clip: &DoubtfulClip, images: &[StripImage]) -> Markup {
    let record = &clip.record;
    #[expect(clippy::cast_precision_loss, reason = "sizes of images")]
    let shape = match (images.first(), record.clip.width, record.clip.height) {
        (Some(image), ..) => image.shape,
        (_, Some(width), Some(height)) => height as f32 / width as f32,
        _ => 0.75,
    };
    let shape = shape.clamp(0.25, 4.0);
    let worst = record.frames.as_ref().and_then(|figures| figures.worst_at);
    let is_worst = |at: usize| worst.is_some_and(|worst| at == worst || at + 1 == worst);
    html! {
        figure.strip {
            figcaption { (shown(&record.gloss)) " · " (shown(record.id())) }
            p { (shown(&clip.reasons.join("; "))) "." }
            div.frames {
                @for (n, (at, frame)) in clip.frames.iter().enumerate().take(FRAMES_SHOWN) {
                    @let title = format!("frame {} of the clip, position {} of the sequence", frame.frame_index, at + 1);
                    @let image = images.get(n).map(|image| image.address.as_str());
                    (skeleton(&title, frame, shape, image, is_worst(*at)))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let shown = [0, 999, 1000, 12_345, 1_234_567].map(count);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(
            (percent(1, 8), percent(1, 0)),
            ("12.5\u{a0}%".to_owned(), "-".to_owned())
        );
    }

    #[test]
    fn a_histogram_has_each_value_once() {
        let columns = histogram([0, 1, 2, 3, 3, 99].into_iter(), &[0, 1, 2, 4]);
        let found: Vec<_> = columns
            .iter()
            .map(|c| (c.label.as_str(), c.values[0]))
            .collect();
        assert_eq!(found, [("0", 1), ("1", 1), ("2–3", 3), ("4+", 1)]);
    }
}
