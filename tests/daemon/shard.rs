//! Daemons that each make a shard of one job in one folder.

use crate::stage::{LONG, Stage, broker, is_done, said, set};
use handloom::messages::topics;
use serde_json::json;
use std::fs;
use test_support::npz_files;

const FIRST: &str = "[run]\nworkers = 1\nshard = \"0/2\"\n";
/// The flags of the device that makes the second shard.
const SECOND: [&str; 4] = ["--set", "run.shard=1/2", "--set", "device.id=box"];

#[test]
fn two_shards_are_the_whole_job() {
    let set = set(LONG);
    let (broker, ears) = broker();
    let stage = Stage::over(&set.dataset, Some(broker.port()), FIRST);
    let folder = |index: usize| stage.out().join(format!("shard-0000{index}-of-00002"));
    let mut first = stage.start(&[]);
    first.until("the end of the shard", |_| is_done(&ears));
    assert!(folder(0).join("shard.json").exists());
    let channels = [topics::STATE, topics::PROGRESS, topics::BATCH];
    first.until("a message of each kind", |_| {
        channels.iter().all(|kind| !said(&ears, kind).is_empty())
    });
    let last = |channel: &str| said(&ears, channel).pop().unwrap();
    let plan = last(topics::STATE)["shard"]["plan"].clone();
    let shard = json!({"index": 0, "count": 2, "plan": plan});
    for channel in channels {
        assert_eq!(last(channel)["shard"], shard, "{channel}");
    }
    first.until("the counts of the shard", |_| {
        last(topics::PROGRESS)["done"] == last(topics::PROGRESS)["total"]
    });
    assert_eq!(first.stop(), Some(0));
    // Its folder is that of the shard from now on.
    let mut again = stage.start(&["--once"]);
    assert_eq!(again.wait(), Some(0));
    assert_eq!(again.read_twice(), [""; 0]);
    drop(again);

    let mut second = stage.start(&SECOND);
    let before = second.recorded().len();
    second.until("some clips", |daemon| daemon.recorded().len() >= before + 5);
    second.kill();
    let mut second = stage.start(&SECOND);
    second.until("some more", |daemon| daemon.recorded().len() >= before + 8);
    assert_eq!(second.stop(), Some(75));
    let mut second = stage.start(&[&SECOND[..], &["--once"]].concat());
    assert_eq!(second.wait(), Some(0));
    assert_eq!(second.read_twice(), [""; 0]);

    let mut wanted = npz_files(&set.reference);
    wanted.remove("wlasl_landmarks.npz").unwrap();
    let mut files = npz_files(&folder(0));
    files.extend(npz_files(&folder(1)));
    assert!(files == wanted, "{:?} {:?}", files.keys(), wanted.keys());
    let names = fs::read_dir(stage.out()).unwrap().count();
    assert_eq!(names, 2, "no attempt is left");
}
