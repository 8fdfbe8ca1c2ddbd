//! Topic names: `handloom/<device>/<channel>`, fixed depth, so that one wildcard reads a fleet.

/// First level of every topic.
pub const ROOT: &str = "handloom";

/// Every channel that a device publishes on.
pub const CHANNELS: [&str; 8] = [
    STATUS, STATE, PROGRESS, BATCH, FAULT, HEALTH, REPLY, SNAPSHOT,
];
/// `online`, `stopped`, `offline`: retained, `QoS` 1, the last will.
pub const STATUS: &str = "status";
/// What the job does and why: retained, `QoS` 1.
pub const STATE: &str = "state";
/// Counts, rate, time left: retained, `QoS` 1, at most one a second.
pub const PROGRESS: &str = "progress";
/// A sealed batch file: `QoS` 1, from the outbox.
pub const BATCH: &str = "batch";
/// Something went wrong and what was done about it: `QoS` 1, from the outbox.
pub const FAULT: &str = "fault";
/// The machine: `QoS` 0.
pub const HEALTH: &str = "health";
/// What became of a command: `QoS` 1, from the outbox.
pub const REPLY: &str = "reply";
/// A JPEG, on command only: `QoS` 1, never stored.
pub const SNAPSHOT: &str = "snapshot";

/// `handloom/<device>/<channel>`.
///
/// ```
/// use handloom::messages::topics::{BATCH, command_name, split, topic};
///
/// assert_eq!(topic("pi-1", BATCH), "handloom/pi-1/batch");
/// assert_eq!(split("handloom/pi-1/batch"), Some(("pi-1", "batch")));
/// assert_eq!(command_name("pi-1", "handloom/pi-1/cmd/pause"), Some("pause"));
/// ```
#[must_use]
pub fn topic(device: &str, channel: &str) -> String {
    format!("{ROOT}/{device}/{channel}")
}

/// What a device subscribes to: its commands.
#[must_use]
pub fn command_filter(device: &str) -> String {
    format!("{ROOT}/{device}/cmd/+")
}

/// The command's name of a topic that [`command_filter`] matches.
#[must_use]
pub fn command_name<'a>(device: &str, topic: &'a str) -> Option<&'a str> {
    let name = topic
        .strip_prefix(ROOT)?
        .strip_prefix('/')?
        .strip_prefix(device)?
        .strip_prefix("/cmd/")?;
    (!name.contains('/')).then_some(name)
}

/// Device and channel of a topic of any device.
#[must_use]
pub fn split(topic: &str) -> Option<(&str, &str)> {
    let (device, channel) = topic
        .strip_prefix(ROOT)?
        .strip_prefix('/')?
        .split_once('/')?;
    (!device.is_empty() && !channel.contains('/')).then_some((device, channel))
}

/// Whether `id` can be one level of a topic: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[must_use]
pub fn is_device_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_taken_apart_as_they_are_made() {
        assert_eq!(split(&topic("pi-1", BATCH)), Some(("pi-1", "batch")));
        assert_eq!(split("handloom/pi-1/cmd/pause"), None);
        assert_eq!(split("other/pi-1/batch"), None);
        assert_eq!(command_name("pi", "handloom/pi/cmd/pause"), Some("pause"));
        for other in [
            "handloom/pi2/cmd/pause",
            "handloom/pi/cmd/a/b",
            "handloom/pi/state",
        ] {
            assert_eq!(command_name("pi", other), None, "{other}");
        }
        for bad in ["", "a/b", "a+b", "a#", "a b", "ä"] {
            assert!(!is_device_id(bad), "{bad}");
        }
        assert!(is_device_id("pi-lab_3.local"));
    }
}
