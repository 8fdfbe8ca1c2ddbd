//! The README's description of the 126 numbers is correct, and its recipe sorts hands by side.

use super::examples::FOLDER;
use super::pages::README;
use handloom::frame::ClipFormat;
use handloom::sequence::FrameRecord;
use handloom::storage::batches::{BATCH_FOLDER, BatchRow, batch_path, read_batch, write_batch};
use handloom::storage::npz::NpzReader;
use ndarray::Array2;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use test_support::print_note;

const LENGTH: usize = 32;
const SLOT: usize = 63;

/// The README's formula.
fn index(slot: usize, landmark: usize, axis: usize) -> usize {
    slot * 63 + landmark * 3 + axis
}

/// x and y relative to the wrist, in units of the distance wrist → middle knuckle.
fn normalized(hand: &[[f32; 3]; 21], width: f32, height: f32) -> Vec<[f32; 2]> {
    let at = |p: &[f32; 3]| [(p[0] - hand[0][0]) * width, (p[1] - hand[0][1]) * height];
    let [x, y] = at(&hand[9]);
    let scale = x.hypot(y);
    hand.iter().map(|p| at(p).map(|v| v / scale)).collect()
}

fn is_near(a: f32, b: f32) -> bool {
    (a - b).abs() < 1e-4
}

#[test]
fn the_numbers_are_as_described() {
    let out = FOLDER.join("out");
    let rows = read_batch(&out, 0).unwrap();
    let (mut hands, mut missing, mut padding) = (0, 0, 0);
    for row in &rows {
        for (frame, numbers) in row.features.outer_iter().enumerate() {
            let Some(record) = row.frames.get(frame) else {
                padding += 1;
                assert!(numbers.iter().all(|v| *v == 0.0));
                continue;
            };
            for slot in 0..2 {
                let number = |landmark, axis| numbers[index(slot, landmark, axis)];
                if slot >= usize::from(record.hand_count) {
                    missing += 1;
                    let all = numbers.iter().skip(slot * SLOT).take(SLOT);
                    assert!(all.copied().all(|v| v == 0.0));
                    assert_eq!(record.handedness[slot], -1);
                    continue;
                }
                hands += 1;
                assert!([0, 1].contains(&record.handedness[slot]));
                let hand = &record.landmarks[slot];
                let plain = normalized(hand, 1.0, 1.0);
                let in_pixels = normalized(hand, 320.0, 240.0);
                let shape = |l| [number(l, 0), number(l, 1) * 240.0 / 320.0];
                let knuckle = shape(9)[0].hypot(shape(9)[1]);
                for landmark in 0..21 {
                    for axis in 0..2 {
                        assert!(is_near(number(landmark, axis), plain[landmark][axis]));
                        let corrected = shape(landmark)[axis] / knuckle;
                        assert!(is_near(corrected, in_pixels[landmark][axis]));
                    }
                    assert_eq!(number(landmark, 2).to_bits(), hand[landmark][2].to_bits());
                }
                assert!(number(0, 0) == 0.0 && number(0, 1) == 0.0);
                assert!(number(0, 2) != 0.0 && number(0, 2).abs() < 1e-3);
            }
        }
    }
    assert!(hands > 50 && missing > 50, "{hands} hands, {missing} none");
    let mut npz = NpzReader::open(&batch_path(&out, 0)).unwrap();
    let (indexes, _) = npz.numbers::<i32>("frame_index").unwrap();
    assert_eq!(indexes.iter().filter(|i| **i == -1).count(), padding);
}

/// Frames with every pair of sides, either score first.
fn row() -> BatchRow {
    let sides = [[-1, -1], [0, -1], [1, -1], [0, 1], [1, 0], [0, 0], [1, 1]];
    let frames = sides.into_iter().flat_map(|handedness| {
        [[0.9_f32, 0.8], [0.8, 0.9], [0.9, 0.9]].map(|score| FrameRecord {
            frame_index: 0,
            hand_count: handedness.iter().map(|side| u8::from(*side >= 0)).sum(),
            landmarks: [[[0.0; 3]; 21]; 2],
            handedness,
            handedness_score: [0, 1].map(|s| if handedness[s] < 0 { 0.0 } else { score[s] }),
            world: [[[0.0; 3]; 21]; 2],
        })
    });
    let frames: Vec<FrameRecord> = frames
        .zip(0..)
        .map(|(frame, frame_index)| FrameRecord {
            frame_index,
            ..frame
        })
        .collect();
    let mut features = Array2::zeros((LENGTH, 2 * SLOT));
    for (at, record) in frames.iter().enumerate() {
        for slot in (0..2).filter(|slot| record.handedness[*slot] >= 0) {
            for n in 0..SLOT {
                features[[at, slot * SLOT + n]] =
                    f32::from(u16::try_from(1000 * at + 100 * slot + n).unwrap());
            }
        }
    }
    BatchRow {
        gloss: "book".into(),
        video_id: "1".into(),
        split: "train".into(),
        signer_id: -1,
        features,
        mask: (0..LENGTH)
            .map(|n| {
                frames
                    .get(n)
                    .map_or([false; 2], |f| f.handedness.map(|side| side >= 0))
            })
            .collect(),
        filled: vec![[false; 2]; LENGTH],
        frames,
        frame_times: Vec::new(),
        format: ClipFormat::default(),
    }
}

/// The slots of the left and the right hand, as the README describes them.
fn slots(record: &FrameRecord) -> [Option<usize>; 2] {
    let (side, score) = (record.handedness, record.handedness_score);
    let mut slots = [None; 2];
    let best_first = if score[1] > score[0] { [1, 0] } else { [0, 1] };
    for slot in best_first {
        match usize::try_from(side[slot]) {
            Ok(side) if slots[side].is_none() => slots[side] = Some(slot),
            Ok(side) => slots[1 - side] = Some(slot),
            Err(_) => {}
        }
    }
    slots
}

fn python(folder: &Path, script: &str) -> std::io::Result<Output> {
    let mut command = Command::new("python3");
    command.args(["-c", script]).current_dir(folder).output()
}

#[test]
fn the_recipe_sorts_hands_by_side() {
    let examples = README.examples("run with numpy", "python");
    assert_eq!(examples.len(), 1, "the README must have one recipe");
    let folder = tempfile::tempdir().unwrap();
    if !python(folder.path(), "import numpy").is_ok_and(|o| o.status.success()) {
        print_note("SKIPPED: python3 with numpy is not installed");
        return;
    }
    let out = folder.path().join("out");
    fs::create_dir_all(out.join(BATCH_FOLDER)).unwrap();
    let row = row();
    write_batch(&out, 0, std::slice::from_ref(&row), &[], LENGTH).unwrap();
    let save = "np.savez('sides.npz', left=left, right=right, seen=seen.astype('u1'), same=same.astype('u1'), \
                padding=padding.astype('u1'))";
    let done = python(folder.path(), &format!("{}\n{save}\n", examples[0])).unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let mut npz = NpzReader::open(&folder.path().join("sides.npz")).unwrap();
    let (left, shape) = npz.numbers::<f32>("left").unwrap();
    assert_eq!(shape, [1, LENGTH, 21, 3]);
    let right = npz.numbers::<f32>("right").unwrap().0;
    let flags = ["seen", "same", "padding"].map(|name| npz.numbers::<u8>(name).unwrap().0);
    let [seen, same, padding] = flags;
    for at in 0..LENGTH {
        let record = row.frames.get(at);
        assert_eq!(padding[at] == 1, record.is_none());
        let slots = record.map_or([None; 2], slots);
        let is_same =
            record.is_some_and(|r| r.handedness[0] == r.handedness[1] && r.hand_count == 2);
        assert_eq!(same[at] == 1, is_same, "frame {at}");
        for (side, hands) in [&left, &right].into_iter().enumerate() {
            assert_eq!(
                seen[at * 2 + side] == 1,
                slots[side].is_some(),
                "frame {at}"
            );
            let found = &hands[at * SLOT..][..SLOT];
            let expected = slots[side].map_or_else(
                || vec![0.0; SLOT],
                |slot| row.features.row(at).to_vec()[slot * SLOT..][..SLOT].to_vec(),
            );
            assert_eq!(found, expected, "frame {at}, side {side}");
        }
    }
}
