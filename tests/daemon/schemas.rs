//! The wire format: one message of each channel, with placeholders for values that differ between runs.

use crate::fixture::{
    DaemonFixture, broker, command_with_result, is_done, published, write_metadata,
};
use handloom::messages::topics;
use serde_json::Value;
use std::fmt::Write as _;

/// Fields whose values differ between runs.
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

/// Fields that are null at some times or on some machines.
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

/// Replaces each value that differs with the name of its type. With `all`, replaces every value but the version.
fn redact(message: &mut Value, all: bool) {
    for (key, value) in message.as_object_mut().into_iter().flatten() {
        if value.is_object() {
            redact(value, all);
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
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(4, Some(broker.port()), "");
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    write_metadata(fixture.dataset(), &ids(&["000", "001"]), &ids(&["003"]));
    let mut daemon = fixture.start(&[]);
    daemon.until("the end", |_| is_done(&subscriber));
    command_with_result(&mut daemon, &subscriber, "rescan", "3f2a", "succeeded");
    let last = |channel: &str| published(&subscriber, channel).pop();
    let channels = [
        topics::STATUS,
        topics::STATE,
        topics::PROGRESS,
        topics::BATCH,
        topics::FAULT,
        topics::HEALTH,
        topics::REPLY,
    ];
    daemon.until("a message of each channel", |_| {
        channels.iter().all(|channel| last(channel).is_some())
            && last(topics::PROGRESS).is_some_and(|p| p["done"] == 3)
            && is_done(&subscriber)
    });
    let mut text = String::new();
    for channel in channels {
        let mut message = last(channel).unwrap();
        redact(&mut message, channel == topics::HEALTH);
        writeln!(text, "{channel} {message:#}").unwrap();
    }
    insta::assert_snapshot!(text);
}
