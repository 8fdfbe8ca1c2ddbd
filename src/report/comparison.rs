//! Compares two output folders: states, coverage, hands, swaps, classes. Pure.

use super::output::{InstanceRecord, OutputFolder};
use super::totals::Totals;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Two runs compared: `before` is the other run, `after` is the run that the report is about.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Settings that differ: name, before, after.
    pub settings: Vec<(String, String, String)>,
    /// Totals of the other run. Those of this run are in [`super::ReportData`].
    pub before: Totals,
    /// Instances whose state changed, as names of clips, keyed by the states before and after.
    pub changes: BTreeMap<(String, String), Vec<String>>,
    /// Number of instances in both runs, only in the other run, and only in this run.
    pub matched: [usize; 3],
    /// Classes whose number of accepted clips differs: gloss, before, after.
    pub classes: Vec<(String, usize, usize)>,
}

/// Identifies an instance in both runs: gloss, clip, frame range. Unfinished jobs have no index in the metadata.
type InstanceKey<'a> = (&'a str, Option<&'a str>, Option<i64>, Option<i64>);

fn key(record: &InstanceRecord) -> InstanceKey<'_> {
    let id = record.video_id.as_deref();
    (&record.gloss, id, record.frame_start, record.frame_end)
}

impl Comparison {
    /// Compares the folder `now` with the folder `other`. `before` and `after` are the totals of `other` and `now`.
    #[must_use]
    pub fn of(other: &OutputFolder, before: Totals, now: &OutputFolder, after: &Totals) -> Self {
        let known: BTreeMap<InstanceKey<'_>, &InstanceRecord> = other
            .instances
            .iter()
            .map(|record| (key(record), record))
            .collect();
        let mut changes: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let mut both = 0;
        for record in &now.instances {
            let Some(old) = known.get(&key(record)) else {
                continue;
            };
            both += 1;
            if old.state != record.state {
                let change = changes.entry((old.state.clone(), record.state.clone()));
                change.or_default().push(record.id().to_owned());
            }
        }
        let glosses: BTreeSet<&String> =
            before.classes.keys().chain(after.classes.keys()).collect();
        let accepted =
            |totals: &Totals, gloss: &str| totals.classes.get(gloss).map_or(0, |c| c.accepted);
        let counts = glosses.into_iter().map(|gloss| {
            (
                gloss.clone(),
                accepted(&before, gloss),
                accepted(after, gloss),
            )
        });
        let classes = counts
            .filter(|(_, before, after)| before != after)
            .collect();
        let lone = |all: usize| all.saturating_sub(both);
        Self {
            settings: settings(&other.run["settings"], &now.run["settings"]),
            changes,
            matched: [both, lone(known.len()), lone(now.instances.len())],
            classes,
            before,
        }
    }
}

/// The settings that differ: name, before, after.
fn settings(before: &Value, after: &Value) -> Vec<(String, String, String)> {
    let keys = [before, after].into_iter().filter_map(Value::as_object);
    let keys: BTreeSet<&String> = keys.flat_map(|settings| settings.keys()).collect();
    let show = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let both = keys.into_iter().map(|key| (key, &before[key], &after[key]));
    let differing = both.filter(|(_, before, after)| before != after);
    differing
        .map(|(key, before, after)| (key.clone(), show(before), show(after)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn folder(profile: &str, instances: &[(&str, &str, &str)]) -> OutputFolder {
        let record = |(gloss, id, state): &(&str, &str, &str)| InstanceRecord {
            gloss: (*gloss).to_owned(),
            video_id: Some((*id).to_owned()),
            state: (*state).to_owned(),
            ..InstanceRecord::default()
        };
        OutputFolder {
            path: "out".into(),
            run: json!({"settings": {"profile": profile, "min_frames": 8}}),
            is_finished: true,
            instances: instances.iter().map(record).collect(),
            batches: BTreeSet::new(),
        }
    }

    #[test]
    fn changes_are_found_by_clip() {
        let other = [
            ("book", "1", "empty"),
            ("book", "2", "empty"),
            ("deaf", "3", "accepted"),
            ("old", "4", "missing"),
        ];
        let now = [
            ("deaf", "3", "accepted"),
            ("book", "2", "accepted"),
            ("book", "1", "accepted"),
        ];
        let (other, now) = (folder("notebook", &other), folder("corrected", &now));
        let [before, after] = [&other, &now].map(|f| Totals::of(&f.instances, 32));
        let found = Comparison::of(&other, before, &now, &after);
        let change = ("empty".to_owned(), "accepted".to_owned());
        let ids = vec!["2".to_owned(), "1".to_owned()];
        assert_eq!(found.changes, BTreeMap::from([(change, ids)]));
        assert_eq!(found.matched, [3, 1, 0]);
        assert_eq!(found.classes, [("book".to_owned(), 0, 2)]);
        let profile = (
            "profile".to_owned(),
            "notebook".to_owned(),
            "corrected".to_owned(),
        );
        assert_eq!(found.settings, [profile]);
    }
}
