use super::*;
use crate::dataset::class_list::{ClassOrder, JobClasses};
use crate::sequence::Profile;

fn row(id: &str, frames: usize) -> BatchRow {
    let frame = |i: i32| FrameRecord {
        frame_index: i * 2,
        hand_count: 1,
        landmarks: [[[0.25; 3]; 21]; 2],
        handedness: [1, -1],
        handedness_score: [0.9, 0.0],
        world: [[[0.01; 3]; 21]; 2],
    };
    BatchRow {
        gloss: "book".into(),
        video_id: id.into(),
        split: "train".into(),
        signer_id: 7,
        features: Array2::from_elem((32, 126), 0.5),
        mask: (0..32).map(|n| [n < frames, false]).collect(),
        filled: vec![[false; 2]; 32],
        frames: (0..).take(frames).map(frame).collect(),
        frame_times: Vec::new(),
        format: ClipFormat {
            width: 320,
            height: 240,
            fps: Some(25.0),
        },
    }
}

#[test]
fn rows_come_back_as_they_went() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(BATCH_FOLDER)).unwrap();
    let mut rows = vec![row("1", 32), row("café", 9), row("3", 0)];
    rows[1].features[[3, 5]] = -0.0;
    rows[1].frames[8].landmarks[1][20][2] = f32::MIN_POSITIVE;
    rows[1].filled[3][1] = true;
    rows[2].format = ClipFormat::default();
    let mut live = row("take-1", 2);
    live.frame_times = vec![0.0, 0.08];
    for row in rows.iter().chain([&live]) {
        let back = row_from_bytes(&row_bytes(row, 32).unwrap()).unwrap();
        assert_eq!(back, *row);
        assert_eq!(row_bytes(&back, 32).unwrap(), row_bytes(row, 32).unwrap());
    }
    let glosses: Vec<Arc<str>> = vec!["book".into()];
    let file = write_batch(dir.path(), 4, &rows, &glosses, 32).unwrap();
    assert_eq!(file.rows, 3);
    assert!(is_intact(dir.path(), 4, &file.sha256));
    let back = read_batch(dir.path(), 4).unwrap();
    assert_eq!(back, rows);
    let again = write_batch(dir.path(), 4, &back, &glosses, 32).unwrap();
    assert_eq!(again, file);
    assert!(row_from_bytes(b"PK").is_err());
    assert!(!is_intact(dir.path(), 5, &file.sha256));
}

#[test]
fn the_final_file_joins_the_batches() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(BATCH_FOLDER)).unwrap();
    let glosses: Vec<Arc<str>> = vec!["book".into(), "deaf".into()];
    let all = [
        vec![row("1", 32), row("2", 9)],
        vec![],
        vec![row("00003", 8)],
    ];
    for (number, rows) in all.iter().enumerate() {
        write_batch(dir.path(), number, rows, &glosses, 32).unwrap();
    }
    let classes = JobClasses::from(&glosses);
    let written = write_final(dir.path(), &[0, 1, 2], classes, 32, Profile::Notebook).unwrap();
    assert_eq!(
        written.sha256,
        file_sha256(&dir.path().join(FINAL_NAME)).unwrap()
    );

    let mut batch = NpzReader::open(&batch_path(dir.path(), 0)).unwrap();
    let (index, shape) = batch.numbers::<i32>("frame_index").unwrap();
    assert_eq!(shape, [2, 32]);
    assert_eq!((index[31], index[32 + 8], index[32 + 9]), (62, 16, -1));
    assert_eq!(
        batch.numbers::<f32>("landmarks").unwrap().1,
        [2, 32, 2, 21, 3]
    );
    assert_eq!(
        batch.numbers::<i8>("handedness").unwrap().0[2 * (32 + 9)..][..2],
        [-1, -1]
    );

    let mut whole = NpzReader::open(&dir.path().join(FINAL_NAME)).unwrap();
    assert_eq!(
        whole.names(),
        ["sequences", "labels", "video_ids", "glosses"]
    );
    assert_eq!(
        whole.header("sequences").unwrap(),
        ("<f4".to_owned(), vec![3, 32, 126])
    );
    assert_eq!(whole.strings("video_ids").unwrap(), ["1", "2", "00003"]);
    assert_eq!(whole.strings("glosses").unwrap(), ["book", "deaf"]);
    assert_eq!(
        whole.numbers::<f32>("sequences").unwrap().0.len(),
        3 * 32 * 126
    );

    let written = write_final(dir.path(), &[0, 1, 2], classes, 32, Profile::Corrected).unwrap();
    assert_eq!(written.glosses, ["book".into()]);
    let mut whole = NpzReader::open(&dir.path().join(FINAL_NAME)).unwrap();
    let names = "sequences labels video_ids glosses mask label_ids split";
    assert_eq!(whole.names().join(" "), names);
    // Only the classes that are present.
    assert_eq!(whole.strings("glosses").unwrap(), ["book"]);
    assert_eq!(whole.numbers::<i64>("label_ids").unwrap().0, [0, 0, 0]);
    assert_eq!(whole.strings("split").unwrap(), ["train"; 3]);
    let (mask, shape) = whole.numbers::<bool>("mask").unwrap();
    assert_eq!(shape, [3, 32, 2]);
    assert_eq!(mask.iter().filter(|seen| **seen).count(), 32 + 9 + 8);

    let order = ClassOrder {
        glosses: ["go", "book", "deaf"].map(Into::into).to_vec(),
        source: "a test".to_owned(),
    };
    let classes = JobClasses {
        order: Some(&order),
        ..classes
    };
    let open = |profile| {
        write_final(dir.path(), &[0, 1, 2], classes, 32, profile).unwrap();
        NpzReader::open(&dir.path().join(FINAL_NAME)).unwrap()
    };
    let mut whole = open(Profile::Corrected);
    assert_eq!(whole.strings("glosses").unwrap(), ["go", "book", "deaf"]);
    assert_eq!(whole.numbers::<i64>("label_ids").unwrap().0, [1, 1, 1]);
    let mut whole = open(Profile::Notebook);
    assert_eq!(whole.strings("glosses").unwrap(), ["book", "deaf"]);
}

#[test]
fn labels_are_numbered_by_the_glosses() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(BATCH_FOLDER)).unwrap();
    let mut rows = [row("1", 9), row("2", 9), row("3", 9)];
    rows[1].gloss = "deaf".into();
    rows[2].gloss = "gone".into();
    let glosses: Vec<Arc<str>> = ["deaf", "book"].map(Into::into).to_vec();
    write_batch(dir.path(), 0, &rows, &glosses, 32).unwrap();
    let mut batch = NpzReader::open(&batch_path(dir.path(), 0)).unwrap();
    assert_eq!(batch.numbers::<i64>("label_id").unwrap().0, [1, 0, -1]);
    assert_eq!(batch.numbers::<i32>("width").unwrap().0, [320; 3]);
    assert_eq!(batch.numbers::<f32>("fps").unwrap().0, [25.0; 3]);
    let world = batch.header("world_landmarks").unwrap();
    assert_eq!(world, ("<f4".to_owned(), vec![3, 32, 2, 21, 3]));
}
