use super::*;
use crate::shard::partition::owners;
use crate::storage::manifest::{ManifestLine, ManifestPlace};
use proptest::prelude::*;

/// Number of the gloss, and state of an instance when it is processed; a state of `None` means that it is not
/// processed.
type Instance = (usize, Option<State>);

/// The lines of each batch of a job over `instances`, as the recorder writes them. The job processes the batches
/// `own`.
fn job_lines(
    instances: &[Instance],
    (batch_size, limit): (usize, Option<usize>),
    own: &dyn Fn(usize) -> bool,
) -> BTreeMap<usize, Vec<String>> {
    let mut clip_acceptance = ClipAcceptance::new(0, limit);
    let mut lines: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    let mut processed = 0_usize;
    for (gloss, found) in instances {
        processed += usize::from(found.is_some());
        let batch = processed.saturating_sub(1) / batch_size;
        if !own(batch) {
            continue;
        }
        let mut line = ManifestLine {
            gloss: format!("gloss {gloss}"),
            video_id: Some(processed.to_string()),
            state: State::Missing.name(),
            columns: Some(json!({"b": "2", "a": "1"})),
            ..ManifestLine::default()
        };
        if let Some(found) = found {
            let reason = (*found != State::Accepted).then(|| format!("{found:?}"));
            let verdict = clip_acceptance.decide(
                &line.gloss.as_str().into(),
                Outcome::Known(*found, reason.clone()),
            );
            line.state = verdict.state.name();
            line.reason = verdict.reason;
            line.position = Some(processed - 1);
            let is_read = ![State::OverLimit, State::Unreadable].contains(&verdict.state);
            line.clip = is_read.then(|| json!({"fps": 29.97, "z": 1e-300, "backend": "cpu"}));
            line.stored = (verdict.state == State::Accepted).then(|| {
                let row = rows.entry(batch).or_default();
                *row += 1;
                ManifestPlace {
                    batch,
                    row: *row - 1,
                }
            });
        }
        let line = serde_json::to_string(&line).unwrap() + "\n";
        lines.entry(batch).or_default().push(line);
    }
    lines
}

fn found() -> impl Strategy<Value = Option<State>> {
    prop_oneof![
        1 => Just(None),
        6 => Just(Some(State::Accepted)),
        1 => Just(Some(State::TooShort)),
        1 => Just(Some(State::Unreadable)),
    ]
}

proptest! {
    #[test]
    fn the_lines_of_shards_are_those_of_one_job(
        instances in prop::collection::vec((0_usize..4, found()), 0..80),
        batch_size in 1_usize..9,
        bytes in prop::collection::vec(0_u64..1000, 80),
        count in 1_usize..8,
        limit in prop::option::of(0_usize..6),
    ) {
        let job = (batch_size, limit);
        let whole = job_lines(&instances, job, &|_| true);
        let owner = owners(&bytes, count);
        let dir = tempfile::tempdir().unwrap();
        let shards: Vec<_> = (0..count)
            .map(|shard| {
                let lines = job_lines(&instances, job, &|batch| owner[batch] == shard);
                let path = dir.path().join(shard.to_string());
                let all: String = lines.values().flatten().map(String::as_str).collect();
                std::fs::write(&path, all).unwrap();
                (path, lines)
            })
            .collect();
        let mut limited = ManifestMerger::new(limit);
        let mut offsets = vec![0; count];
        for (batch, wanted) in &whole {
            let shard = owner[*batch];
            let (path, lines) = &shards[shard];
            let mut joined = Vec::new();
            let lines = &lines[batch];
            let at = (&mut offsets[shard], lines.len());
            let (rows, dropped) = limited.pass_batch(path, at, *batch, &mut joined).unwrap();
            prop_assert_eq!(String::from_utf8(joined).unwrap(), wanted.concat());
            let stored = |lines: &[String]| lines.iter().filter(|l| l.contains("stored")).count();
            prop_assert_eq!(rows, stored(lines));
            prop_assert_eq!(rows - dropped.rows.len(), stored(wanted));
            let changed = lines.iter().zip(wanted).filter(|(shard, whole)| {
                whole.contains("over_limit") && !shard.contains("over_limit")
            });
            prop_assert_eq!(changed.count(), dropped.positions.len());
        }
        let wanted = whole.values().flatten();
        let over = wanted.clone().filter(|line| line.contains("over_limit")).count();
        prop_assert_eq!(limited.counts().get(&State::OverLimit).copied().unwrap_or(0), over);
        prop_assert_eq!(limited.counts().values().sum::<usize>(), instances.len());
        let read = wanted.filter(|line| line.contains("\"backend\"")).count();
        prop_assert_eq!(limited.backends().get("cpu").copied().unwrap_or(0), read);
    }
}

#[test]
fn lines_of_another_batch_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manifest.jsonl");
    let lines = job_lines(&[(0, Some(State::Accepted)); 3], (3, None), &|_| true);
    std::fs::write(&path, lines[&0].concat()).unwrap();
    let pass = |batch, lines| {
        let mut limited = ManifestMerger::new(None);
        let passed = limited.pass_batch(&path, (&mut 0, lines), batch, &mut Vec::new());
        passed.map(|(rows, _)| rows).map_err(|e| e.to_string())
    };
    assert_eq!(pass(0, 3).unwrap(), 3);
    for error in [pass(1, 3), pass(0, 4)].map(Result::unwrap_err) {
        assert!(error.contains("in a line of batch"), "{error}");
    }
}
