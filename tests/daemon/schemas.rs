//! The messages as they are on the wire: one of each channel, with what differs from run to run blotted out.

use crate::stage::{Stage, broker, is_done, obeys, said, write_metadata};
use handloom::messages::topics;
use serde_json::Value;
use std::fmt::Write as _;

/// What differs from run to run.
const VARIES: [&str; 8] = [
    "ts",
    "seq",
    "clock_synced",
    "run",
    "version",
    "sha256",
    "workers",
    "workers_max",
];

/// What not every moment or machine has.
const MAY_BE_NULL: [&str; 9] = [
    "clips_per_min",
    "eta_s",
    "temperature_c",
    "throttled",
    "load_1min",
    "memory_available_mib",
    "memory_resident_mib",
    "disk_free_mib",
    "mirror_waiting",
];

/// Puts its type in the place of every value that differs; of all values but the version when `all`.
fn blot(message: &mut Value, all: bool) {
    for (key, value) in message.as_object_mut().into_iter().flatten() {
        if value.is_object() {
            blot(value, all);
        } else if MAY_BE_NULL.contains(&key.as_str()) {
            *value = "[may be null]".into();
        } else if VARIES.contains(&key.as_str()) || (all && key != "v") {
            *value = match value {
                Value::String(_) => "[string]",
                Value::Bool(_) => "[boolean]",
                Value::Number(_) => "[number]",
                _ => "[null]",
            }
            .into();
        }
    }
}

#[test]
fn the_messages_of_all_channels() {
    let (broker, ears) = broker();
    let stage = Stage::with_own(4, Some(broker.port()), "");
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    write_metadata(stage.dataset(), &ids(&["000", "001"]), &ids(&["003"]));
    let mut daemon = stage.start(&[]);
    daemon.until("the end", |_| is_done(&ears));
    obeys(&mut daemon, &ears, "rescan", "3f2a", "succeeded");
    let last = |channel: &str| said(&ears, channel).pop();
    let told = [
        topics::STATUS,
        topics::STATE,
        topics::PROGRESS,
        topics::BATCH,
        topics::FAULT,
        topics::HEALTH,
        topics::REPLY,
    ];
    daemon.until("a message of each channel", |_| {
        told.iter().all(|channel| last(channel).is_some())
            && last(topics::PROGRESS).is_some_and(|p| p["done"] == 3)
            && is_done(&ears)
    });
    let mut text = String::new();
    for channel in told {
        let mut message = last(channel).unwrap();
        blot(&mut message, channel == topics::HEALTH);
        writeln!(text, "{channel} {message:#}").unwrap();
    }
    insta::assert_snapshot!(text);
}
