//! The daemon's takes on a disk that fills up.

use super::harness::{Disk, Harness, PAGE, check_ledger, within};
use handloom::draw::scene::signing_scene;
use handloom::storage::batches::FINAL_NAME;
use handloom::storage::npz::NpzReader;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use test_support::{digests, manifest, scratch};

#[test]
fn takes_wait_for_space_report_it_and_are_complete() {
    let Some(disk) = Disk::mount(16 << 20) else {
        return;
    };
    let folder = scratch();
    let (hand, out) = (folder.path().join("hand.png"), folder.path().join("out"));
    let scene = signing_scene(0, 10, 320, 240);
    image::save_buffer(&hand, scene.pixels(), 320, 240, image::ColorType::Rgb8).unwrap();
    let takes = disk.path().join("takes");
    let (device, path) = (
        format!("file:{}", hand.display()),
        takes.display().to_string(),
    );
    let camera =
        format!("[camera]\ndevice = {device:?}\npath = {path:?}\nfps = 10\nmax_seconds = 1.2\n");
    let edit = |text| format!("{text}{camera}");
    let mut harness = Harness::start_with(folder.path(), Path::new(""), &out, &[], edit);
    harness.wait_state("capturing");
    // Space for nothing, then for a part of what is written.
    let free_pages = [0, 3, 6];
    for (n, pages) in free_pages.into_iter().enumerate() {
        disk.fill(pages * PAGE);
        let id = format!("pages-{pages}");
        let request = json!({"id": id, "gloss": "book"}).to_string();
        harness
            .listener
            .publish("handloom/box/cmd/record", false, request);
        harness.wait("state", "waiting takes", |state| {
            let reason = state["reason"].as_str().unwrap_or_default();
            state["state"] == "degraded" && reason.contains("takes wait for room")
        });
        within(Duration::from_mins(2), "a fault", || {
            harness.faults("disk").len() == n + 1
        });
        assert_eq!(harness.replies(&id), ["accepted"]);
        disk.clear();
        within(Duration::from_mins(2), "the final reply", || {
            harness.replies(&id).len() == 2
        });
        assert_eq!(harness.replies(&id), ["accepted", "succeeded"]);
        harness.wait_state("capturing");
    }
    assert_eq!(harness.daemon.stop(), Some(0));
    for fault in harness.faults("disk") {
        let reason = fault["reason"].as_str().unwrap();
        // Reported by the ledger or by the file system.
        let words = ["disk is full", "os error 28"];
        assert!(words.iter().any(|w| reason.contains(w)), "{reason}");
    }
    let states: Vec<_> = manifest(&takes)
        .iter()
        .map(|l| l["state"].clone())
        .collect();
    assert_eq!(states, ["accepted"; 3]);
    let mut all = NpzReader::open(&takes.join(FINAL_NAME)).unwrap();
    assert_eq!(all.strings("labels").unwrap(), ["book"; 3]);
    assert_eq!(all.numbers::<f32>("sequences").unwrap().1, [3, 32, 126]);
    check_ledger(&takes);
    // The last message about the batch matches the file.
    let batch = harness.last("batch");
    let name = Path::new(batch["path"].as_str().unwrap())
        .file_name()
        .unwrap();
    let digests = digests(&takes);
    let of_batch = |(path, _): &(&String, &String)| Path::new(path).file_name() == Some(name);
    let found = digests
        .iter()
        .find(of_batch)
        .map(|(_, sha256)| sha256.as_str());
    assert_eq!(batch["sha256"].as_str(), found, "{batch}");
}
