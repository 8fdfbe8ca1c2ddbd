//! Reads each format back with an independent reader and compares it with the clips.

use super::{Clip, GLOSSES, RESULTS, bits, exported};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Shape and values of an `.npy` file of f32.
pub(super) fn parse_npy(bytes: &[u8]) -> (Vec<usize>, Vec<f32>) {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(end % 64, 0);
    let header = std::str::from_utf8(&bytes[10..end]).unwrap();
    assert!(
        header.contains("'descr': '<f4', 'fortran_order': False"),
        "{header}"
    );
    let shape = header.split(['(', ')']).nth(1).unwrap();
    let shape = shape.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape = shape.map(|n| n.parse().unwrap()).collect();
    (shape, floats(&bytes[end..]))
}

pub(super) fn read_npy(path: &Path) -> (Vec<usize>, Vec<f32>) {
    parse_npy(&fs::read(path).unwrap())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    assert_eq!(bytes.len() % 4, 0);
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// The lines of a CSV file without its header, which must be `header`.
fn table(path: &Path, header: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    assert_eq!(
        reader
            .headers()
            .unwrap()
            .iter()
            .collect::<Vec<_>>()
            .join(","),
        header
    );
    let lines = reader
        .records()
        .map(|line| line.unwrap().iter().map(str::to_owned).collect());
    lines.collect()
}

pub(super) fn index(folder: &Path) -> Vec<Vec<String>> {
    let header = "path,video_id,label,label_id,split,signer_id,frame_start,frame_end,frames,fps,width,height,same_side_frames";
    table(&folder.join("index.csv"), header)
}

fn label_id(clip: &Clip) -> i64 {
    let id = GLOSSES.iter().position(|gloss| *gloss == clip.gloss);
    i64::try_from(id.unwrap()).unwrap()
}

/// Compares `index.csv` with the clips, whose files end in `ending`.
fn check_index(folder: &Path, ending: &str) {
    let lines = index(folder);
    assert_eq!(lines.len(), RESULTS.clips.len());
    for (line, clip) in lines.iter().zip(&RESULTS.clips) {
        let number = |n: usize| n.to_string();
        let wanted = [
            format!("{}/{}.{ending}", clip.split(), clip.key),
            clip.video_id.clone(),
            clip.gloss.to_owned(),
            label_id(clip).to_string(),
            clip.split().to_owned(),
            clip.signer.to_string(),
            "1".to_owned(),
            "-1".to_owned(),
            number(clip.hands.len()),
            clip.fps.map_or_else(String::new, |fps| fps.to_string()),
            clip.format.width.to_string(),
            clip.format.height.to_string(),
            number(clip.same_side.iter().filter(|same| **same).count()),
        ];
        assert_eq!(line[..], wanted);
    }
    let labels: Value =
        serde_json::from_slice(&fs::read(folder.join("label_map.json")).unwrap()).unwrap();
    assert_eq!(labels, json!({GLOSSES[0]: 0, GLOSSES[1]: 1, GLOSSES[2]: 2}));
}

#[test]
fn npy_files_hold_the_clips() {
    let folder = exported("npy");
    check_index(folder.path(), "npy");
    for clip in &RESULTS.clips {
        let (shape, values) = read_npy(&folder.path().join(format!(
            "{}/{}.npy",
            clip.split(),
            clip.key
        )));
        assert_eq!(shape, [clip.hands.len(), 42, 3]);
        assert_eq!(bits(&values), clip.values(), "{}", clip.key);
    }
    // The fixture has frames with two hands of one side.
    let same_side = RESULTS
        .clips
        .iter()
        .flat_map(|clip| &clip.same_side)
        .filter(|same| **same);
    assert!(same_side.count() > 3);
}

/// Reads a `.pose` file piece by piece.
struct PoseReader<'a>(&'a [u8]);

impl<'a> PoseReader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn float(&mut self) -> f32 {
        f32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn short(&mut self) -> usize {
        u16::from_le_bytes(self.take(2).try_into().unwrap()).into()
    }

    fn text(&mut self) -> &'a str {
        let length = self.short();
        std::str::from_utf8(self.take(length)).unwrap()
    }
}

#[test]
fn pose_files_hold_the_clips() {
    let folder = exported("pose");
    check_index(folder.path(), "pose");
    for clip in &RESULTS.clips {
        let bytes = fs::read(
            folder
                .path()
                .join(format!("{}/{}.pose", clip.split(), clip.key)),
        )
        .unwrap();
        let mut pose = PoseReader(&bytes);
        assert_eq!(pose.float(), 0.2);
        let [width, height] =
            [clip.format.width, clip.format.height].map(|side| side.max(1) as usize);
        assert_eq!([(); 4].map(|()| pose.short()), [width, height, 0, 2]);
        for name in ["LEFT_HAND_LANDMARKS", "RIGHT_HAND_LANDMARKS"] {
            assert_eq!((pose.text(), pose.text()), (name, "XYZC"));
            let [points, limbs, colors] = [(); 3].map(|()| pose.short());
            assert_eq!([points, limbs, colors], [21, 21, 21]);
            let names: Vec<&str> = (0..points).map(|_| pose.text()).collect();
            assert_eq!(
                (names[0], names[9], names[20]),
                ("WRIST", "MIDDLE_FINGER_MCP", "PINKY_TIP")
            );
            assert!((0..2 * limbs).all(|_| pose.short() < 21));
            assert!((0..3 * colors).all(|_| pose.short() < 256));
        }
        assert_eq!(pose.float(), clip.fps.unwrap_or(25.0));
        let frames = u32::from_le_bytes(pose.take(4).try_into().unwrap()) as usize;
        assert_eq!((frames, pose.short()), (clip.hands.len(), 1));
        let values = floats(pose.take(frames * 126 * 4));
        let confidences = floats(pose.0);
        let scale = [width as f32, height as f32, 1.0];
        let hands = clip.hands.iter().flatten();
        let wanted = hands.flat_map(|hand| hand.unwrap_or_default()).flatten();
        let wanted: Vec<f32> = wanted
            .zip(scale.into_iter().cycle())
            .map(|(v, s)| v * s)
            .collect();
        assert_eq!(bits(&values), bits(&wanted), "{}", clip.key);
        let wanted: Vec<f32> = clip
            .scores
            .iter()
            .flatten()
            .flat_map(|score| [*score; 21])
            .collect();
        assert_eq!(bits(&confidences), bits(&wanted), "{}", clip.key);
    }
}

fn read_parquet(path: &Path) -> Vec<RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    builder.build().unwrap().map(Result::unwrap).collect()
}

/// The clips of `split`, in the order of the plan.
fn of_split(split: &str) -> Vec<&'static Clip> {
    RESULTS
        .clips
        .iter()
        .filter(|clip| clip.split() == split)
        .collect()
}

#[test]
fn parquet_files_hold_the_clips() {
    let folder = exported("parquet");
    let card = fs::read_to_string(folder.path().join("README.md")).unwrap();
    assert!(
        card.starts_with("---\nconfigs:\n") && card.contains("path: \"data/val-*.parquet\""),
        "{card}"
    );
    for (split, shards) in [("train", 5), ("val", 2)] {
        let mut clips = of_split(split).into_iter();
        for shard in 0..shards {
            let path = folder
                .path()
                .join(format!("data/{split}-{shard:05}-of-{shards:05}.parquet"));
            for rows in read_parquet(&path) {
                for row in 0..rows.num_rows() {
                    check_row(&rows, row, clips.next().unwrap());
                }
            }
        }
        assert_eq!(clips.count(), 0, "{split}");
    }
}

fn check_row(rows: &RecordBatch, row: usize, clip: &Clip) {
    let column = |name: &str| rows.column_by_name(name).unwrap();
    let text = |name: &str| column(name).as_string::<i32>().value(row);
    let number = |name: &str| column(name).as_primitive::<Int64Type>().value(row);
    let list = |name: &str| column(name).as_list::<i32>().value(row);
    assert_eq!(
        (text("video_id"), text("label")),
        (&*clip.video_id, clip.gloss)
    );
    assert_eq!(
        [number("label_id"), number("signer_id"), number("frame_end")],
        [label_id(clip), clip.signer, -1]
    );
    let rate = column("fps").as_primitive::<Float32Type>();
    assert_eq!((!rate.is_null(row)).then(|| rate.value(row)), clip.fps);
    assert_eq!(
        column("width").as_primitive::<Int32Type>().value(row),
        clip.format.width as i32
    );
    assert_eq!(
        list("frame_index").as_primitive::<Int32Type>().values()[..],
        clip.indexes
    );
    assert_eq!(list("time_s").null_count(), clip.hands.len());
    let sides = list("same_side");
    assert_eq!(
        sides.as_boolean().iter().flatten().collect::<Vec<_>>(),
        clip.same_side
    );
    let scores = list("scores");
    let scores = scores.as_fixed_size_list().values();
    assert_eq!(
        scores.as_primitive::<Float32Type>().values()[..],
        *clip.scores.as_flattened()
    );
    let mut landmarks = list("landmarks");
    for size in [2, 21, 3] {
        let inner = landmarks.as_fixed_size_list();
        assert_eq!(inner.value_length(), size);
        // A sliced list keeps its whole child array.
        let from = inner.value_offset_at(0);
        landmarks = inner.values().slice(from, inner.len() * size as usize);
    }
    assert_eq!(
        bits(landmarks.as_primitive::<Float32Type>().values()),
        clip.values(),
        "{}",
        clip.key
    );
}

#[test]
fn asl_signs_files_have_543_rows_a_frame() {
    let folder = exported("asl-signs");
    let lines = table(
        &folder.path().join("train.csv"),
        "path,participant_id,sequence_id,sign,video_id,split",
    );
    assert_eq!(lines.len(), RESULTS.clips.len());
    for (n, (line, clip)) in lines.iter().zip(&RESULTS.clips).enumerate() {
        let path = format!("train_landmark_files/{}/{n}.parquet", clip.signer);
        let wanted = [
            &path,
            &*clip.signer.to_string(),
            &n.to_string(),
            clip.gloss,
            &clip.video_id,
            clip.split(),
        ];
        assert_eq!(line[..], wanted.map(str::to_owned));
        let mut frames = 0;
        let mut values = Vec::new();
        for rows in read_parquet(&folder.path().join(path)) {
            let axes = ["x", "y", "z"].map(|name| {
                rows.column_by_name(name)
                    .unwrap()
                    .as_primitive::<Float64Type>()
                    .clone()
            });
            let [numbers, indexes] = ["frame", "landmark_index"].map(|name| {
                rows.column_by_name(name)
                    .unwrap()
                    .as_primitive::<Int16Type>()
                    .clone()
            });
            let types = rows.column_by_name("type").unwrap().as_string::<i32>();
            let ids = rows.column_by_name("row_id").unwrap().as_string::<i32>();
            for row in 0..rows.num_rows() {
                let at = frames % 543;
                let (name, first) = match at {
                    0..468 => ("face", 0),
                    468..489 => ("left_hand", 468),
                    489..522 => ("pose", 489),
                    _ => ("right_hand", 522),
                };
                let frame = clip.indexes[frames / 543];
                assert_eq!(
                    (i32::from(numbers.value(row)), types.value(row)),
                    (frame, name)
                );
                assert_eq!(indexes.value(row) as usize, at - first);
                assert_eq!(ids.value(row), format!("{frame}-{name}-{}", at - first));
                let point = axes.each_ref().map(|axis| {
                    if axis.is_null(row) {
                        f64::NAN
                    } else {
                        axis.value(row)
                    }
                });
                if name.ends_with("hand") {
                    values.extend(point.map(|value| value as f32));
                } else {
                    assert!(point.iter().all(|value| value.is_nan()));
                }
                frames += 1;
            }
        }
        assert_eq!(frames, 543 * clip.hands.len());
        assert_eq!(bits(&values), clip.values(), "{}", clip.key);
    }
    let map = fs::read(folder.path().join("sign_to_prediction_index_map.json")).unwrap();
    let map: BTreeMap<String, i64> = serde_json::from_slice(&map).unwrap();
    assert_eq!(map[GLOSSES[2]], 2);
}

#[test]
fn webdataset_shards_hold_the_clips_in_order() {
    let folder = exported("webdataset");
    for (split, shards) in [("train", 5), ("val", 2)] {
        let mut clips = of_split(split).into_iter();
        for shard in 0..shards {
            let path = folder.path().join(format!("{split}-{shard:06}.tar"));
            let mut archive = tar::Archive::new(File::open(path).unwrap());
            let mut members = archive.entries().unwrap().map(|member| {
                let mut member = member.unwrap();
                let header = member.header();
                assert_eq!(
                    (
                        header.mtime().unwrap(),
                        header.uid().unwrap(),
                        header.mode().unwrap()
                    ),
                    (0, 0, 0o644)
                );
                let name = member.path().unwrap().to_str().unwrap().to_owned();
                let mut bytes = Vec::new();
                member.read_to_end(&mut bytes).unwrap();
                (name, bytes)
            });
            while let Some((name, bytes)) = members.next() {
                let clip = clips.next().unwrap();
                assert_eq!(name, format!("{}.json", clip.key));
                let facts: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(facts["video_id"], clip.video_id.as_str());
                assert_eq!(
                    (&facts["label"], &facts["label_id"]),
                    (&json!(clip.gloss), &json!(label_id(clip)))
                );
                assert_eq!(facts["frame_index"], json!(clip.indexes));
                assert_eq!(facts["same_side"], json!(clip.same_side));
                assert_eq!(facts["scores"], json!(clip.scores));
                assert_eq!(facts["fps"], json!(clip.fps));
                let (name, bytes) = members.next().unwrap();
                assert_eq!(name, format!("{}.landmarks.npy", clip.key));
                let (shape, values) = parse_npy(&bytes);
                assert_eq!(shape, [clip.hands.len(), 42, 3]);
                assert_eq!(bits(&values), clip.values(), "{}", clip.key);
            }
        }
        assert_eq!(clips.count(), 0, "{split}");
    }
}
