use super::*;
use crate::frame::ClipFormat;
use crate::sequence::normalize::FEATURES;
use crate::sequence::{FrameRecord, Profile};
use crate::storage::batches::BATCH_FOLDER;
use crate::storage::batches::FINAL_NAME;
use crate::storage::ledger::{JobIdentity, LEDGER_NAME, OutboxLimits};
use crate::storage::output_dir::{OpenMode, claim, open};
use ndarray::Array2;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

const CLIPS: usize = 10;
const BATCH: usize = 4;
const LENGTH: usize = 4;

/// A job over clips that need no decoder: the numbers of a clip follow from its position.
struct Fixture {
    dir: TempDir,
}

/// Outcome of a job with a flipped bit.
#[derive(Debug, PartialEq)]
enum Reaction {
    /// Nothing was reported, and the results are right.
    Silent,
    /// Something was reported, and the results are right.
    Repaired,
    /// It ended with an error.
    Refused(String),
}

impl Fixture {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn row(position: usize) -> BatchRow {
        let mut numbers = fastrand::Rng::with_seed(position as u64);
        let frame = |index| FrameRecord {
            frame_index: index,
            hand_count: 2,
            landmarks: [[[0.25; 3]; 21]; 2],
            handedness: [1, 0],
            handedness_score: [0.9, 0.8],
            world: [[[0.01; 3]; 21]; 2],
        };
        BatchRow {
            gloss: "book".into(),
            video_id: format!("{position:05}").into(),
            split: "train".into(),
            signer_id: 7,
            features: Array2::from_shape_simple_fn((LENGTH, FEATURES), || numbers.f32()),
            mask: vec![[true; 2]; LENGTH],
            filled: vec![[false; 2]; LENGTH],
            frames: (0..4).map(frame).collect(),
            frame_times: Vec::new(),
            format: ClipFormat::default(),
        }
    }

    /// Clips 3 and 7 are too short.
    fn record(recorder: &Recorder, position: usize) -> Result<(), StoreError> {
        let row = (position % 4 != 3).then(|| Self::row(position));
        let state = if row.is_some() { ACCEPTED } else { "too_short" };
        let clip = ClipRecord {
            key: format!("key {position}"),
            state: state.to_owned(),
            reason: row.is_none().then(|| "short".to_owned()),
            clip: Some(json!({"frames": position}).to_string()),
            part: None,
        };
        let at = Timestamp::default();
        let message = Message::new(topics::FAULT, &json!({"clip": position}));
        recorder.record(position, &clip, row.as_ref(), &[message], &at)
    }

    /// Runs the job to its end, or until `stop` clips are recorded, with `meddle` before each step. Returns whether
    /// something was reported.
    fn run(&self, stop: usize, meddle: &mut dyn FnMut()) -> Result<bool, StoreError> {
        let (_lock, mut ledger) = open(&self.out(), OpenMode::Resume)?;
        ledger.set_outbox_limits(Some(OutboxLimits {
            messages: 1000,
            age_s: 1,
        }));
        let job = JobIdentity {
            settings: json!({"a": 1}),
            run: "r".into(),
        };
        claim(&self.out(), &mut ledger, &job, OpenMode::Resume)?;
        let mut recorder = Recorder::new(&self.out(), SharedLedger::new(ledger), BATCH, LENGTH);
        let mut has_reported = false;
        for _ in 0..4 {
            for damage in recorder.damage(&[0, 1, 2], CLIPS)? {
                has_reported = true;
                let at = Timestamp::default();
                match damage {
                    Damage::Batch { batch, .. } => {
                        recorder.discard_batch(batch, CLIPS, &[], &at)?;
                    }
                    Damage::Clip(at_position) => {
                        recorder
                            .ledger()
                            .forget_positions(&[at_position], &[], &at)?;
                    }
                }
            }
            match self.pass(&mut recorder, stop, meddle) {
                Err(StoreError::Lost { positions, .. }) => {
                    has_reported = true;
                    let at = Timestamp::default();
                    recorder.ledger().forget_positions(&positions, &[], &at)?;
                }
                Err(StoreError::Broken { .. }) => has_reported = true,
                done => {
                    done?;
                    has_reported |= has_fault(&recorder);
                    return Ok(has_reported);
                }
            }
        }
        panic!("lost again and again");
    }

    fn pass(
        &self,
        recorder: &mut Recorder,
        stop: usize,
        meddle: &mut dyn FnMut(),
    ) -> Result<(), StoreError> {
        let glosses: Vec<Arc<str>> = vec!["book".into()];
        for position in 0..CLIPS {
            meddle();
            if position == stop {
                return Ok(());
            }
            let known = recorder.ledger().clips_in(position..position + 1)?;
            if known.is_empty() {
                Self::record(recorder, position)?;
            }
            let is_last = (position + 1).is_multiple_of(BATCH) || position + 1 == CLIPS;
            let batch = recorder.batch_of(position);
            if is_last && !recorder.ledger().sealed()?.contains_key(&batch) {
                recorder.seal(batch, CLIPS, &glosses, &Timestamp::default())?;
            }
        }
        meddle();
        let clips = recorder.ledger().clips()?;
        let lost: Vec<usize> = (0..CLIPS).filter(|p| !clips.contains_key(p)).collect();
        if !lost.is_empty() {
            let path = self.out().join(LEDGER_NAME);
            return Err(StoreError::Lost {
                path,
                positions: lost,
            });
        }
        let mut place = recorder.row_counter();
        let line = |(&position, clip): (&usize, &ClipRecord)| ManifestLine {
            video_id: Some(clip.key.clone()),
            reason: clip.reason.clone(),
            clip: clip
                .clip
                .as_ref()
                .map(|json| serde_json::from_str(json).unwrap()),
            stored: (clip.state == ACCEPTED).then(|| place(position)),
            ..ManifestLine::default()
        };
        let manifest: Vec<ManifestLine> = clips.iter().map(line).collect();
        recorder.close(
            recorder.batches(CLIPS),
            &glosses,
            Profile::Notebook,
            &manifest,
            &json!({"run": "r"}),
        )
    }

    /// The results: name and bytes.
    fn results(&self) -> BTreeMap<String, Vec<u8>> {
        let batches = (0..3).map(batches::batch_name);
        let names =
            batches.chain([FINAL_NAME, MANIFEST_NAME, LABEL_MAP_NAME, RUN_NAME].map(str::to_owned));
        names
            .map(|name| {
                (
                    name.clone(),
                    fs::read(self.out().join(name)).unwrap_or_default(),
                )
            })
            .collect()
    }

    /// Flips a bit of the ledger, its log or a result. Returns where; `None` when there is nothing yet.
    fn flip(&self, rng: &mut fastrand::Rng) -> Option<String> {
        let log = format!("{LEDGER_NAME}-wal");
        let mut names = vec![
            LEDGER_NAME.to_owned(),
            LEDGER_NAME.to_owned(),
            log.clone(),
            log,
        ];
        names.extend(self.results().into_keys());
        let name = rng.choice(names)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.out().join(&name))
            .ok()?;
        let size = file.metadata().unwrap().len();
        let at = (size > 0).then(|| rng.u64(..size))?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 1 << rng.u8(..8);
        file.write_all_at(&byte, at).unwrap();
        Some(format!("{name} at {at}"))
    }
}

/// Whether the ledger has dropped a row and reported it.
fn has_fault(recorder: &Recorder) -> bool {
    let messages = recorder.ledger().pending_messages(0, 1000).unwrap();
    let is_fault = |payload: &[u8]| {
        String::from_utf8_lossy(payload).contains("has changed since it was written")
    };
    recorder.ledger().has_dropped() || messages.iter().any(|m| is_fault(&m.payload))
}

/// A job with a flipped bit at a random moment, in the running job or between two parts of it.
fn trial(seed: u64, wanted: &BTreeMap<String, Vec<u8>>) -> (Option<String>, Reaction) {
    let fixture = Fixture::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    let (stop, is_running) = (rng.usize(1..=CLIPS), rng.bool());
    let mut at = rng.usize(..CLIPS);
    let mut place = None;
    let mut run = |stop, is_flipping: bool| {
        fixture.run(stop, &mut || {
            if is_flipping && place.is_none() && at == 0 {
                place = fixture.flip(&mut rng);
            }
            at = at.saturating_sub(1);
        })
    };
    let first = run(stop, is_running);
    if !is_running {
        place = fixture.flip(&mut rng);
    }
    let both = first.and_then(|before| Ok(before | fixture.run(usize::MAX, &mut || {})?));
    match both {
        Err(error) => (place, Reaction::Refused(error.to_string())),
        Ok(has_reported) => {
            let found = fixture.results();
            // A file that nothing reads again after it was closed stays as it is until the next run.
            assert!(
                &found == wanted,
                "seed {seed}: wrong results without a word: {place:?}"
            );
            let reaction = if has_reported {
                Reaction::Repaired
            } else {
                Reaction::Silent
            };
            (place, reaction)
        }
    }
}

#[test]
fn a_flipped_bit_makes_no_wrong_number() {
    let reference = Fixture::new();
    assert!(!reference.run(usize::MAX, &mut || {}).unwrap());
    let wanted = reference.results();
    let is_full = std::env::var("HANDLOOM_SWEEP").is_ok_and(|sweep| sweep == "full");
    let trials = if is_full { 5000 } else { 60 };
    let mut reactions = BTreeMap::<String, usize>::new();
    for seed in 0..trials {
        let (place, reaction) = trial(seed, &wanted);
        let file = place
            .as_deref()
            .and_then(|p| p.split(' ').next())
            .unwrap_or("nothing");
        let kind = match &reaction {
            Reaction::Refused(error) => {
                format!("refused: {}", error.split(':').next_back().unwrap())
            }
            other => format!("{other:?}"),
        };
        *reactions.entry(format!("{file}: {kind}")).or_default() += 1;
    }
    for (what, count) in &reactions {
        println!("{count:>5} {what}");
    }
    assert!(
        reactions.keys().any(|what| what.ends_with("Repaired")),
        "{reactions:?}"
    );
}

#[test]
fn a_changed_number_of_a_staged_clip_is_read_again() {
    let fixture = Fixture::new();
    fixture.run(3, &mut || {}).unwrap();
    let db = rusqlite::Connection::open(fixture.out().join(LEDGER_NAME)).unwrap();
    // One bit of a float, as it lies on the disk.
    let row: Vec<u8> = db
        .query_row("SELECT row FROM staged WHERE position = 1", [], |r| {
            r.get(0)
        })
        .unwrap();
    let mut changed = row.clone();
    changed[300] ^= 1;
    db.execute("UPDATE staged SET row = ?1 WHERE position = 1", [changed])
        .unwrap();
    drop(db);
    assert!(fixture.run(usize::MAX, &mut || {}).unwrap());
    let reference = Fixture::new();
    reference.run(usize::MAX, &mut || {}).unwrap();
    assert!(fixture.results() == reference.results());
    assert!(fixture.out().join(BATCH_FOLDER).is_dir());
}
