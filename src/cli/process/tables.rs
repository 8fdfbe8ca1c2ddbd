//! The tables that `process` prints for people.

use crate::dataset::acceptance::{State, StateCounts};
use crate::dataset::plan::PlanRecord;
use crate::dataset::selection::AbsentClip;
use crate::job::{JobReport, SequenceTotals, skip_reason};
use crate::sequence::SequenceSpec;
use crate::sequence::options::Slots;
use std::fmt::Write as _;
use std::time::Duration;

/// A rate over less time than this is chance.
const RATE_DELAY: Duration = Duration::from_secs(1);

/// Clips a minute; `None` without a clip or within the first second.
pub(super) fn clips_per_min(clips: usize, elapsed: Duration) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts of clips")]
    let rate = clips as f64 / elapsed.as_secs_f64() * 60.0;
    (clips > 0 && elapsed >= RATE_DELAY).then_some(rate)
}

/// The closing table, in the notebook's order: processed, skipped, by reason, per gloss. This process processed `clips`
/// of them.
pub(super) fn closing_table(report: &JobReport, clips: usize) -> String {
    let count = |state: &State| report.counts.get(state).copied().unwrap_or(0);
    let mut out = format!(
        "\nProcessing complete!\n  Total processed: {}\n",
        count(&State::Accepted)
    );
    let skipped = [State::TooShort, State::Empty, State::Unreadable];
    let not_opened = [State::Missing, State::OverLimit, State::NotSelected];
    // Writing to a String cannot fail.
    for (title, states) in [("Total skipped", skipped), ("Not opened", not_opened)] {
        let total: usize = states.iter().map(count).sum();
        if total > 0 || states == skipped {
            writeln!(out, "  {title}: {total}").ok();
        }
        for state in states.iter().filter(|state| count(state) > 0) {
            let (name, meaning) = (state.name(), state.meaning());
            writeln!(out, "    {name:<13}{:>7}  {meaning}", count(state)).ok();
        }
    }
    if report.absent > 0 {
        let absent = report.absent;
        writeln!(
            out,
            "  Clips of the splits file that the metadata lacks: {absent}"
        )
        .ok();
    }
    if clips > 0 {
        let rate = clips_per_min(clips, report.elapsed);
        let rate = rate.map_or_else(String::new, |rate| format!(", {rate:.0} clips/min"));
        let seconds = report.elapsed.as_secs_f64();
        writeln!(out, "  {clips} clips in {seconds:.1} s{rate}").ok();
    }
    out.push_str("\n  Sample distribution:\n");
    for (gloss, n) in report.clip_acceptance.per_gloss() {
        writeln!(out, "    {gloss}: {n}").ok();
    }
    out
}

/// What the sequences of a finished job leave out or mix, and which option changes it.
pub(super) fn notices(totals: SequenceTotals, spec: &SequenceSpec) -> Vec<String> {
    let mut notices = Vec::new();
    if totals.truncated_clips > 0 {
        let (clips, reach) = (
            totals.truncated_clips,
            spec.stride.get().saturating_mul(spec.length as u64),
        );
        let are = if clips == 1 { "clip is" } else { "clips are" };
        notices.push(format!(
            "{clips} {are} longer than {reach} frames; --sampling uniform covers all of them"
        ));
    }
    if totals.slot_swaps > 0 {
        let hint = match spec.options.slots {
            Slots::Detected => "; --slots sides keeps left and right apart",
            Slots::Sides => "",
        };
        notices.push(format!(
            "hands change slots between {} of {} consecutive frames with two hands{hint}",
            totals.slot_swaps, totals.two_hand_pairs
        ));
    }
    notices
}

/// Records of the plan, one line an instance, and the clips that it lacks.
pub(super) fn plan_table<'a>(
    records: impl Iterator<Item = &'a PlanRecord>,
    absent: &[AbsentClip],
) -> String {
    let mut out = String::new();
    for record in records {
        let skipped = skip_reason(record);
        let (what, reason) = match &skipped {
            Some((state, reason)) => (state.name(), reason.as_str()),
            None => ("process", ""),
        };
        let id = record.video_id.as_deref().unwrap_or("-");
        // Writing to a String cannot fail.
        writeln!(out, "{what:<13} {id:<8} {:<20} {reason}", record.gloss).ok();
    }
    for clip in absent {
        let (id, gloss) = (&clip.video_id, clip.gloss.as_deref().unwrap_or("-"));
        let reason = format!("{}, in the splits file and not in the metadata", clip.split);
        writeln!(out, "{:<13} {id:<8} {gloss:<20} {reason}", "absent").ok();
    }
    out
}

/// `3 accepted, 1 too_short`.
pub(in crate::cli) fn counts_text(counts: &StateCounts) -> String {
    let parts = counts
        .iter()
        .map(|(state, n)| format!("{n} {}", state.name()));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_number_that_is_none_is_called_that() {
        let meaning = State::Unreadable.meaning();
        assert!(
            meaning.contains("a frame number is not a number"),
            "{meaning}"
        );
    }

    #[test]
    fn counts_are_listed_with_their_states() {
        let counts = StateCounts::from([(State::Accepted, 3), (State::TooShort, 1)]);
        assert_eq!(counts_text(&counts), "3 accepted, 1 too_short");
        assert_eq!(clips_per_min(5, Duration::from_millis(999)), None);
        assert_eq!(clips_per_min(5, Duration::from_secs(10)), Some(30.0));
    }
}
