use super::*;
use crate::camera::FormatRequest;
use crate::hand::DetectorOptions;
use crate::sequence::segmenter::EndReason;
use crate::sequence::{FrameRecord, FrameTotal, Sequence, sampling::Window};
use crate::sequence::{Profile, SequenceSpec};
use crate::storage::atomic_file::file_sha256;
use crate::storage::batches::{self, FINAL_NAME};
use crate::storage::ledger::{Ledger, OutboxLimits};
use crate::storage::manifest::MANIFEST_NAME;
use crate::storage::npz::NpzReader;
use ndarray::Array2;
use serde_json::json;
use std::num::NonZeroU64;
use std::time::Duration;

fn sign(gloss: &str, with_hand: usize) -> Sign {
    let frames = (0..40).step_by(2).map(|n| FrameRecord {
        frame_index: n,
        ..FrameRecord::of(0, &[])
    });
    Sign {
        gloss: gloss.into(),
        sequence: Sequence {
            features: Array2::from_elem((32, 126), with_hand as f32),
            mask: vec![[true; 2]; 32],
            filled: vec![[false; 2]; 32],
            frames: frames.collect(),
            frames_with_hand: with_hand,
            window: Window { start: 0, end: 40 },
            total_frames: Some(FrameTotal::Declared(40)),
            ..Sequence::default()
        },
        frame_times: (0..20).map(|n| Duration::from_millis(80) * n).collect(),
        begin: Duration::from_secs(3),
        end: Duration::from_secs(5),
        seen: 41,
        end_reason: EndReason::Pause,
    }
}

fn capture() -> CaptureSettings {
    CaptureSettings {
        want: FormatRequest::default(),
        profile: Profile::Notebook,
        shape: SequenceSpec {
            length: 32,
            stride: NonZeroU64::MIN,
            tracking: true,
            options: Profile::Notebook.options(),
        },
        min_frames: 8,
        detector: DetectorOptions::default(),
        dataset_fps: 25.0,
        start_frames: 3,
        end_frames: 10,
        min_seconds: 0.5,
        max_seconds: 8.0,
        prefix: "take".into(),
        batch_size: 3,
    }
}

fn open(out: &Path) -> TakeStore {
    TakeStore::open(out, json!({"source": "camera"}), &capture(), 7, "val").unwrap()
}

fn add(store: &mut TakeStore, gloss: &str, with_hand: usize) -> StoredTake {
    let stored = store.add(&sign(gloss, with_hand), "cam", "cpu").unwrap();
    store.seal_due().unwrap();
    stored
}

fn undo(store: &mut TakeStore) -> String {
    let undone = store.undo().unwrap().unwrap();
    store.seal_due().unwrap();
    undone.id
}

fn ids(path: &Path) -> Vec<String> {
    NpzReader::open(path).unwrap().strings("video_ids").unwrap()
}

/// As after a mirror was copied back, or the ledger got lost.
#[test]
fn takes_without_a_ledger_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let settings = json!({"source": "camera"});
    let mut store = open(out);
    store.add(&sign("book", 20), "cam", "cpu").unwrap();
    store.close(&json!({"settings": settings})).unwrap();
    drop(store);
    std::fs::remove_file(out.join("ledger.sqlite")).unwrap();
    let refused = TakeStore::open(out, settings, &capture(), 7, "val")
        .err()
        .unwrap();
    assert!(matches!(refused, StoreError::Unknown { .. }), "{refused}");
    assert_eq!(ids(&batches::batch_path(out, 0)), ["take-00000"]);
}

/// As after damage of the ledger's log: SQLite then drops what was recorded last.
#[test]
fn takes_that_the_ledger_has_lost_are_kept_from_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let (out, path) = (dir.path(), dir.path().join("ledger.sqlite"));
    let mut store = open(out);
    add(&mut store, "book", 20);
    drop(store);
    let early = std::fs::read(&path).unwrap();
    let mut store = open(out);
    for gloss in ["cup", "cup", "hat"] {
        add(&mut store, gloss, 20);
    }
    drop(store);
    std::fs::write(&path, early).unwrap();
    let mut store = open(out);
    assert_eq!(store.accepted(), 3);
    assert_eq!(add(&mut store, "pen", 20).id, "take-00003");
    store
        .close(&json!({"settings": {"source": "camera"}}))
        .unwrap();
    // The hat was in the ledger alone.
    assert_eq!(
        ids(&out.join(FINAL_NAME)),
        ["take-00000", "take-00001", "take-00002", "take-00003"]
    );
    let manifest = std::fs::read_to_string(out.join(MANIFEST_NAME)).unwrap();
    assert_eq!(manifest.lines().count(), 4);
    drop(store);
    // One lost record of a sealed batch.
    Ledger::open(out).unwrap().lose_clip(1);
    let mut store = open(out);
    assert_eq!(store.accepted(), 4);
    assert_eq!(undo(&mut store), "take-00003");
    assert_eq!(undo(&mut store), "take-00002");
    assert_eq!(
        ids(&batches::batch_path(out, 0)),
        ["take-00000", "take-00001"]
    );
}

#[test]
fn takes_are_kept_discarded_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let mut store = open(out);
    assert_eq!(store.undo().unwrap(), None);
    let states: Vec<&str> = [20, 7, 9, 12]
        .into_iter()
        .map(|n| add(&mut store, "book", n).state)
        .collect();
    assert_eq!(states, [ACCEPTED, TOO_SHORT, ACCEPTED, ACCEPTED]);
    // The first batch is full and on disk; discarding reaches into it.
    assert_eq!(
        ids(&batches::batch_path(out, 0)),
        ["take-00000", "take-00002"]
    );
    assert_eq!(undo(&mut store), "take-00003");
    assert_eq!(undo(&mut store), "take-00002");
    assert_eq!(ids(&batches::batch_path(out, 0)), ["take-00000"]);
    // A crash loses nothing.
    drop(store);
    let mut store = open(out);
    assert_eq!(add(&mut store, "deaf", 8).id, "take-00004");
    store
        .close(&json!({"settings": {"source": "camera"}}))
        .unwrap();
    assert_eq!(ids(&out.join(FINAL_NAME)), ["take-00000", "take-00004"]);
    drop(store);
    // The last batch was closed half full, and grows again.
    let mut store = open(out);
    assert_eq!(store.accepted(), 2);
    assert_eq!(add(&mut store, "cat", 32).id, "take-00005");
    store
        .close(&json!({"settings": {"source": "camera"}}))
        .unwrap();
    let mut joined = NpzReader::open(&out.join(FINAL_NAME)).unwrap();
    assert_eq!(joined.strings("glosses").unwrap(), ["book", "deaf", "cat"]);
    assert_eq!(
        ids(&batches::batch_path(out, 1)),
        ["take-00004", "take-00005"]
    );
    let times = NpzReader::open(&batches::batch_path(out, 1))
        .unwrap()
        .numbers::<f32>("frame_time")
        .unwrap();
    assert_eq!(
        (times.1, times.0[1], times.0[20]),
        (vec![2, 32], 0.08, -1.0)
    );
    let manifest = std::fs::read_to_string(out.join(MANIFEST_NAME)).unwrap();
    let lines: Vec<Value> = manifest
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let states: Vec<&str> = lines.iter().map(|l| l["state"].as_str().unwrap()).collect();
    assert_eq!(
        states,
        [
            ACCEPTED, TOO_SHORT, DISCARDED, DISCARDED, ACCEPTED, ACCEPTED
        ]
    );
    assert_eq!(lines[5]["stored"], json!({"batch": 1, "row": 1}));
    assert_eq!(lines[4]["clip"]["frame_times_ms"][1], 80.0);
}

#[test]
fn a_file_that_cannot_be_written_neither_doubles_nor_takes_a_take() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let mut store = open(out);
    // A folder in the place of the file cannot be replaced: writing fails as on a full disk.
    let file = batches::batch_path(out, 0);
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    for n in [20, 21, 22] {
        store.add(&sign("book", n), "cam", "cpu").unwrap();
    }
    for _ in 0..2 {
        store.seal_due().unwrap_err();
    }
    assert_eq!(store.undo().unwrap().unwrap().id, "take-00002");
    store.seal_due().unwrap_err();
    std::fs::remove_dir_all(&file).unwrap();
    store.seal_due().unwrap();
    assert_eq!(ids(&file), ["take-00000", "take-00001"]);
    assert_eq!(store.accepted(), 2);
    assert_eq!(add(&mut store, "deaf", 20).id, "take-00003");
}

#[test]
fn a_sealed_batch_is_announced_in_the_outbox_of_another_ledger() {
    let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let out = dir.path();
    let limits = Some(OutboxLimits {
        messages: 10,
        age_s: 3600,
    });
    let outbox = SharedLedger::new(Ledger::open(other.path()).unwrap());
    outbox.lock().set_outbox_limits(limits);
    let bodies = || -> Vec<Value> {
        let waiting = outbox.lock().pending_messages(0, 100).unwrap();
        let bodies = waiting.iter().map(|w| serde_json::from_slice(&w.payload));
        bodies.map(Result::unwrap).collect()
    };
    let mut store = open(out);
    // Nothing is published before `publish_to`.
    for n in [20, 21, 22] {
        add(&mut store, "book", n);
    }
    store.publish_to(outbox.clone()).unwrap();
    for n in [20, 7, 22] {
        add(&mut store, "book", n);
    }
    let sealed = file_sha256(&batches::batch_path(out, 1)).unwrap();
    let mut announced = bodies();
    assert_eq!(announced.len(), 1);
    assert!(!announced[0]["ts"].as_str().unwrap().is_empty());
    announced[0]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| !["v", "ts", "clock_synced"].contains(&key.as_str()));
    assert_eq!(
        announced[0],
        json!({
            "seq": 1, "run": "camera", "batch": 1, "path": "batches/00001.npz", "rows": 2, "sha256": sealed,
            "clips": [3, 5], "last": false,
        })
    );
    // A full disk between announcement and mark: the next attempt does not announce it again.
    for n in [20, 21] {
        add(&mut store, "book", n);
    }
    store.add(&sign("book", 22), "cam", "cpu").unwrap();
    let reader = rusqlite::Connection::open(out.join("ledger.sqlite")).unwrap();
    let trigger = "CREATE TRIGGER no BEFORE INSERT ON batch BEGIN SELECT RAISE(ABORT, 'no'); END";
    reader.execute_batch(trigger).unwrap();
    for _ in 0..2 {
        store.seal_due().unwrap_err();
        assert_eq!(bodies().len(), 2);
    }
    reader.execute_batch("DROP TRIGGER no").unwrap();
    store.seal_due().unwrap();
    assert_eq!(bodies().len(), 2);
}

#[test]
fn a_half_full_batch_resumes_without_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let provenance = json!({"settings": {"source": "camera"}});
    let mut store = open(out);
    add(&mut store, "book", 20);
    store.close(&provenance).unwrap();
    let file = batches::batch_path(out, 0);
    std::fs::remove_file(&file).unwrap();
    add(&mut store, "book", 20);
    store.close(&provenance).unwrap();
    assert_eq!(ids(&file), ["take-00000", "take-00001"]);
    // A folder of an earlier version has its rows in the file only.
    let mut ledger = store.recorder.ledger();
    let sealed = ledger.sealed().unwrap().remove(&0).unwrap();
    ledger
        .seal(0, 0..3, &sealed, &[], &clock::timestamp())
        .unwrap();
    drop(ledger);
    add(&mut store, "book", 20);
    assert_eq!(ids(&file).len(), 3);
    assert!(store.recorder.ledger().staged(0..3).unwrap().is_empty());
}

#[test]
fn what_is_not_joined_is_known_to_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let provenance = json!({"settings": {"source": "camera"}});
    let joined = || ids(&out.join(FINAL_NAME));
    let mut store = open(out);
    assert!(!store.is_behind());
    add(&mut store, "book", 20);
    store.seal_all().unwrap();
    // Its batch is there, and another may follow.
    assert_eq!(ids(&batches::batch_path(out, 0)), ["take-00000"]);
    assert!(!out.join(FINAL_NAME).exists() && store.is_behind());
    assert!(!store.files().unwrap().is_all);
    drop(store);
    let mut store = open(out);
    assert!(store.is_behind());
    store.close(&provenance).unwrap();
    assert_eq!(joined(), ["take-00000"]);
    assert!(!store.is_behind() && store.files().unwrap().is_all);
    add(&mut store, "book", 20);
    store.close(&provenance).unwrap();
    assert_eq!(joined().len(), 2);
    store.undo().unwrap();
    store.seal_due().unwrap();
    assert_eq!(ids(&batches::batch_path(out, 0)).len(), 1);
    assert_eq!(joined().len(), 2);
    assert!(store.is_behind() && !store.files().unwrap().is_all);
    drop(store);
    let mut store = open(out);
    store.close(&provenance).unwrap();
    assert_eq!(joined(), ["take-00000"]);
    drop(store);
    assert!(!open(out).is_behind());
}
