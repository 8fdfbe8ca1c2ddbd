//! Daemons that each process one shard of a job, in a common output folder.

use crate::fixture::{DaemonFixture, LONG, broker, is_done, published, reference_job};
use handloom::messages::topics;
use serde_json::json;
use std::fs;
use test_support::npz_files;

const FIRST: &str = "[run]\nworkers = 1\nshard = \"0/2\"\n";
/// Flags of the device that processes the second shard.
const SECOND: [&str; 4] = ["--set", "run.shard=1/2", "--set", "device.id=box"];

#[test]
fn two_shards_are_the_whole_job() {
    let reference = reference_job(LONG);
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_dataset(&reference.dataset, Some(broker.port()), FIRST);
    let folder = |index: usize| fixture.out().join(format!("shard-0000{index}-of-00002"));
    let mut first = fixture.start(&[]);
    first.until("the end of the shard", |_| is_done(&subscriber));
    assert!(folder(0).join("shard.json").exists());
    let channels = [topics::STATE, topics::PROGRESS, topics::BATCH];
    first.until("a message of each kind", |_| {
        channels
            .iter()
            .all(|kind| !published(&subscriber, kind).is_empty())
    });
    let last = |channel: &str| published(&subscriber, channel).pop().unwrap();
    let plan = last(topics::STATE)["shard"]["plan"].clone();
    let shard = json!({"index": 0, "count": 2, "plan": plan});
    for channel in channels {
        assert_eq!(last(channel)["shard"], shard, "{channel}");
    }
    first.until("the counts of the shard", |_| {
        last(topics::PROGRESS)["done"] == last(topics::PROGRESS)["total"]
    });
    assert_eq!(first.stop(), Some(0));
    // A restart continues in the shard's folder and finds nothing left to do.
    let mut again = fixture.start(&["--once"]);
    assert_eq!(again.wait(), Some(0));
    assert_eq!(again.reprocessed_clips(), [""; 0]);
    drop(again);

    let mut second = fixture.start(&SECOND);
    let before = second.recorded().len();
    second.until("some clips", |daemon| daemon.recorded().len() >= before + 5);
    second.kill();
    let mut second = fixture.start(&SECOND);
    second.until("more clips", |daemon| daemon.recorded().len() >= before + 8);
    assert_eq!(second.stop(), Some(75));
    let mut second = fixture.start(&[&SECOND[..], &["--once"]].concat());
    assert_eq!(second.wait(), Some(0));
    assert_eq!(second.reprocessed_clips(), [""; 0]);

    let mut wanted = npz_files(&reference.out);
    wanted.remove("wlasl_landmarks.npz").unwrap();
    let mut files = npz_files(&folder(0));
    files.extend(npz_files(&folder(1)));
    assert!(files == wanted, "{:?} {:?}", files.keys(), wanted.keys());
    let names = fs::read_dir(fixture.out()).unwrap().count();
    assert_eq!(names, 2, "only the two shard folders remain");
}
