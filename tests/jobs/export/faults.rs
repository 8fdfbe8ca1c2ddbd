//! Faults of an export: overlapping folders, a missing label map, a clip that a format cannot hold.

use super::{GLOSSES, clip, export, tree, write_results};
use handloom::sequence::FrameRecord;
use handloom::storage::batches::write_batch;
use ndarray::Array2;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use test_support::{TestRng, scratch};

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_files_lie_outside_the_results() {
    let folder = scratch();
    let out = folder.path().join("around/out");
    write_results(&out, 3);
    let before = tree(&out);
    symlink(&out, folder.path().join("link")).unwrap();
    for dest in [
        "around/out",
        "around/out/frames",
        "link/new/deep",
        "around",
        "x/../link",
    ] {
        export(&out, "npy", &folder.path().join(dest), &[])
            .ends(64)
            .stderr_contains(&["stays unchanged", "choose a folder elsewhere"]);
    }
    assert_eq!(tree(&out), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    export(&out, "npy", &folder.path().join("around/out2"), &[]).ends(0);
}

#[test]
fn a_label_map_that_the_job_wrote_must_be_there() {
    let folder = scratch();
    let (out, dest) = (folder.path().join("out"), folder.path().join("dest"));
    write_results(&out, 3);
    let run = out.join("run.json");
    let plain = read_json(&run);
    for (key, record) in [
        ("finished", json!({"files": {"label_map.json": "00"}})),
        ("settings", json!({"class_order_sha256": "00"})),
    ] {
        let mut named = plain.clone();
        named[key] = record;
        fs::write(&run, named.to_string()).unwrap();
        export(&out, "npy", &dest, &[]).ends(65).stderr_contains(&[
            "label_map.json is missing or has changed",
            "run the job again",
        ]);
        assert!(!dest.exists());
    }
    fs::write(&run, plain.to_string()).unwrap();
    export(&out, "npy", &dest, &[]).ends(0);
}

#[test]
fn a_clip_that_asl_signs_cannot_number_is_left_out_and_named() {
    let folder = scratch();
    let (out, dest) = (folder.path().join("out"), folder.path().join("dest"));
    write_results(&out, 3);
    // Rewrites one batch with a clip of 32768 frames. Its last index is 32768.
    let length = 1 << 15;
    let mut rng = TestRng::new(7);
    let mut rows: Vec<_> = (0..3).map(|n| clip(n, &mut rng).1).collect();
    rows[1].frames = (1..=length).map(|n| FrameRecord::of(n, &[])).collect();
    let length = rows[1].frames.len();
    for row in &mut rows {
        row.features = Array2::zeros((length, 126));
        row.mask = vec![[false; 2]; length];
        row.filled = vec![[false; 2]; length];
    }
    write_batch(&out, 0, &rows, &GLOSSES.map(Arc::from), length).unwrap();
    let run = export(&out, "asl-signs", &dest, &[])
        .ends(0)
        .stderr_contains(&["\"id/1\" has 32768 frames", "left out"]);
    assert_eq!(run.event("done")["clips"], 2);
    assert_eq!(run.event("done")["left_out"], 1);
    let dataset = read_json(&dest.join("dataset.json"));
    let file = "train_landmark_files/0/1.parquet";
    assert_eq!(
        dataset["left_out"],
        json!([{"file": file, "video_id": "id/1", "frames": 32768}])
    );
    assert!(dataset["files"].get(file).is_none() && !dest.join(file).exists());
    let table = fs::read_to_string(dest.join("train.csv")).unwrap();
    assert!(
        table.lines().count() == 3 && !table.contains(file),
        "{table}"
    );
    assert!(table.contains("/2.parquet"), "{table}");
    export(&out, "asl-signs", &dest, &[])
        .ends(0)
        .event("was_done");
    // Other formats can hold the clip.
    let run = export(&out, "npy", &folder.path().join("npy"), &[]).ends(0);
    assert_eq!(run.event("done")["clips"], 3);
}
