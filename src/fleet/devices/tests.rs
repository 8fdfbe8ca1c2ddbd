//! Laws of the model, and what single messages do to it.

use super::*;
use crate::fleet::fleet_table;
use crate::fleet::fleet_table::Attention;
use proptest::prelude::*;
use serde_json::{Value, json};

const START: Duration = Duration::from_secs(100);

fn message(seq: u64, mut body: Value) -> Vec<u8> {
    body["v"] = json!(1);
    body["seq"] = json!(seq);
    body["clock_synced"] = json!(true);
    if body["ts"].is_null() {
        body["ts"] = json!(format!("2026-01-31T12:{:02}:00.000Z", seq % 60));
    }
    body.to_string().into_bytes()
}

fn status(name: &str) -> Value {
    json!({"status": name, "version": "0.1.0"})
}

fn state(name: &str, reason: Option<&str>) -> Value {
    json!({
        "state": name, "reason": reason, "run": "r1", "backend": "cpu", "backend_reason": "fastest",
        "workers": 3, "workers_max": 4,
    })
}

fn progress(done: usize) -> Value {
    json!({
        "run": "r1", "total": 200, "done": done, "states": {"accepted": done}, "clips_per_min": 31.25, "eta_s": 11_100.0,
        "clip": {"gloss": "book", "video_id": "12306"},
    })
}

fn health() -> Value {
    json!({
        "uptime_s": 60, "temperature_c": 61.2, "throttled": false, "load_1min": 3.9, "memory_available_mib": 900,
        "memory_resident_mib": 210, "disk_free_mib": 9000, "frames_per_s": 41.0, "queue": 2, "outbox": 7,
        "outbox_dropped": 0, "telemetry_dropped": 0, "connects": 1, "mirror_waiting": null,
    })
}

fn fault(reason: &str) -> Value {
    json!({"run": "r1", "component": "clip", "clip": {"gloss": "book", "video_id": "1"}, "reason": reason, "action": "skipped"})
}

fn batch(number: usize) -> Value {
    json!({"run": "r1", "batch": number, "path": "b", "rows": 9, "sha256": "00", "clips": [0, 9], "last": false})
}

/// Takes one message of the device and channel `topic`, which the broker did not keep.
fn receive(fleet: &mut Fleet, now: Duration, topic: &str, payload: &[u8]) {
    fleet.take(now, &format!("handloom/{topic}"), payload, false);
}

/// A fleet of one, `pi`, that took `messages` at the start.
fn fleet(messages: &[(&str, Vec<u8>)]) -> Fleet {
    let mut fleet = Fleet::default();
    for (channel, payload) in messages {
        receive(&mut fleet, START, &format!("pi/{channel}"), payload);
    }
    fleet
}

fn pi(fleet: &Fleet) -> &FleetDevice {
    &fleet.devices["pi"]
}

#[test]
fn each_channel_finds_its_place() {
    let fleet = fleet(&[
        ("status", message(1, status("online"))),
        ("state", message(1, state("processing", None))),
        ("progress", message(1, progress(50))),
        ("health", message(1, health())),
        ("fault", message(9, fault("no frame"))),
        ("batch", message(4, batch(0))),
        (
            "reply",
            message(
                2,
                json!({"id": "a", "command": "pause", "state": "succeeded", "reason": null}),
            ),
        ),
        ("snapshot", b"\xff\xd8jpeg".to_vec()),
    ]);
    let device = pi(&fleet);
    assert_eq!(
        (device.unreadable, device.missing(), device.batches),
        (0, 0, 1)
    );
    assert_eq!((device.faults.len(), fleet.online(START)), (1, 1));
    let cells = fleet_table::DeviceRow::of("pi", device, START + Duration::from_secs(3));
    let shown = [
        cells.status,
        cells.state,
        &cells.percent_text(),
        &cells.done,
        &cells.clips_per_min,
        &cells.eta,
        &cells.temperature,
        &cells.outbox,
        &cells.age,
    ];
    assert_eq!(
        shown,
        [
            "online",
            "processing",
            "25%",
            "50/200",
            "31.2",
            "3h05m",
            "61°C",
            "7",
            "3s"
        ]
    );
    assert_eq!(fleet_table::attention(device, START).0, Attention::None);
}

#[test]
fn devices_that_need_help_are_listed_with_the_reason() {
    let check = |messages: &[(&str, Vec<u8>)],
                 after: u64,
                 status: &str,
                 attention: Attention,
                 why: &str| {
        let fleet = fleet(messages);
        let now = START + Duration::from_secs(after);
        let (found, words) = fleet_table::attention(pi(&fleet), now);
        let shown = fleet_table::DeviceRow::of("pi", pi(&fleet), now).status;
        assert_eq!((found, shown), (attention, status), "{words}");
        assert!(words.contains(why), "{words}");
    };
    let online = ("status", message(1, status("online")));
    let alone = std::slice::from_ref(&online);
    check(alone, 60, "online", Attention::None, "");
    check(alone, 61, "silent", Attention::Critical, "silent for 1m");
    check(
        &[("status", message(1, status("offline")))],
        0,
        "offline",
        Attention::Critical,
        "power",
    );
    check(
        &[("status", message(1, status("stopped")))],
        999,
        "stopped",
        Attention::None,
        "",
    );
    check(
        &[("state", message(1, state("idle", None)))],
        999,
        "unknown",
        Attention::None,
        "",
    );
    let warned = |channel, payload: Vec<u8>, why: &str| {
        let messages = [online.clone(), (channel, payload)];
        check(&messages, 0, "online", Attention::Warning, why);
    };
    let paused = state("paused", Some("disk full"));
    warned("state", message(1, paused), "paused: disk full");
    warned("state", message(1, state("degraded", None)), "degraded");
    warned("health", b"{}".to_vec(), "1 messages cannot");
    warned("health", br#"{"v":2}"#.to_vec(), "newer");
    let mut sick = health();
    sick["throttled"] = json!(true);
    warned("health", message(1, sick.clone()), "cooling");
    sick["throttled"] = json!(null);
    sick["outbox_dropped"] = json!(5);
    warned("health", message(1, sick), "5 messages lost");
    let error = message(1, state("error", Some("dataset gone")));
    check(
        &[online, ("state", error)],
        0,
        "online",
        Attention::Critical,
        "error: dataset gone",
    );
}

/// A device that stops cleanly is idle before; one in error ended by itself.
#[test]
fn who_ended_in_error_needs_help() {
    for (last, expected, why) in [
        ("idle", Attention::None, ""),
        (
            "error",
            Attention::Critical,
            "ended with an error: no accelerator",
        ),
    ] {
        let fleet = fleet(&[
            ("state", message(1, state(last, Some("no accelerator")))),
            ("status", message(1, status("stopped"))),
        ]);
        let (attention, words) = fleet_table::attention(pi(&fleet), START);
        assert_eq!((attention, words.as_str()), (expected, why));
    }
}

#[test]
fn retained_messages_do_not_count_as_recent() {
    let mut fleet = Fleet::default();
    for (channel, body) in [("status", status("online")), ("progress", progress(1))] {
        fleet.take(
            START,
            &format!("handloom/pi/{channel}"),
            &message(1, body),
            true,
        );
    }
    let later = START + Duration::from_secs(61);
    assert_eq!(pi(&fleet).age(later), None);
    assert!(pi(&fleet).is_stale(later));
    receive(&mut fleet, later, "pi/health", &message(1, health()));
    assert!(!pi(&fleet).is_stale(later));
    // Neither are a repetition and the last will.
    let latest = later + Duration::from_secs(5);
    receive(&mut fleet, latest, "pi/health", &message(1, health()));
    let will = message(1, status("offline"));
    receive(&mut fleet, latest, "pi/status", &will);
    assert_eq!(pi(&fleet).age(latest), Some(Duration::from_secs(5)));
}

#[test]
fn our_own_absence_is_not_its_silence() {
    let mut fleet = fleet(&[("status", message(1, status("online")))]);
    let back = START + Duration::from_mins(10);
    assert_eq!(fleet.online(back), 0);
    fleet.rejoin(back);
    assert_eq!(fleet.online(back + STALE_AFTER), 1);
    assert_eq!(fleet.online(back + STALE_AFTER * 2), 0);
    assert_eq!(pi(&fleet).age(back), Some(Duration::from_mins(10)));
}

#[test]
fn a_gone_device_promises_nothing() {
    let fleet = fleet(&[
        ("progress", message(1, progress(50))),
        ("status", message(1, status("offline"))),
    ]);
    let cells = fleet_table::DeviceRow::of("pi", pi(&fleet), START);
    assert_eq!(
        (
            cells.eta.as_str(),
            cells.clips_per_min.as_str(),
            cells.done.as_str()
        ),
        ("-", "-", "50/200")
    );
}

#[test]
fn gaps_are_counted_per_channel_and_not_while_we_were_away() {
    let mut fleet = fleet(&[
        ("health", message(3, health())),
        ("health", message(5, health())),
        ("fault", message(7, fault("a"))),
        ("fault", message(9, fault("b"))),
        ("status", message(4, status("online"))),
        ("status", message(2, status("offline"))),
        ("status", message(9, status("online"))),
    ]);
    assert_eq!(pi(&fleet).missing(), 2);
    fleet.rejoin(START);
    receive(&mut fleet, START, "pi/health", &message(50, health()));
    receive(&mut fleet, START, "pi/fault", &message(50, fault("c")));
    assert_eq!(pi(&fleet).missing(), 2);
}

#[test]
fn faults_are_kept_newest_first_each_once() {
    let mut messages: Vec<_> = (1..=30)
        .map(|seq| ("fault", message(seq, fault("x"))))
        .collect();
    messages.extend([
        ("fault", message(30, fault("again"))),
        ("fault", message(20, fault("again"))),
    ]);
    let fleet = fleet(&messages);
    let seqs: Vec<u64> = pi(&fleet).faults.iter().map(|f| f.message.seq).collect();
    assert_eq!(seqs, (11..=30).rev().collect::<Vec<_>>());
    assert!(
        pi(&fleet)
            .faults
            .iter()
            .all(|f| f.message.body.reason == "x")
    );
}

#[test]
fn texts_cannot_steer_the_terminal() {
    let text = format!("\u{1b}[2J\n\u{202e}{}", "ü".repeat(9000));
    let fleet = fleet(&[("fault", message(1, fault(&text)))]);
    let reason = &pi(&fleet).faults[0].message.body.reason;
    assert!(reason.starts_with(" [2J ü"), "{reason}");
    assert_eq!(reason.chars().count(), TEXT_MAX);
}

#[test]
fn unknown_and_surplus_devices_are_ignored_and_counted() {
    let mut fleet = Fleet::default();
    let online = message(1, status("online"));
    for topic in ["a b/status", "\u{1b}[2J/status"] {
        receive(&mut fleet, START, topic, &online);
    }
    assert_eq!((fleet.ignored(), fleet.devices().len()), (2, 0));
    for n in 0..DEVICES_MAX + 5 {
        receive(&mut fleet, START, &format!("d{n}/status"), &online);
    }
    assert_eq!((fleet.ignored(), fleet.devices().len()), (7, DEVICES_MAX));
    let names: Vec<&str> = fleet.devices().map(|(id, _)| id).collect();
    assert!(names.is_sorted());
    // Not a channel of a device.
    receive(&mut fleet, START, "d1/cmd/pause", b"{}");
    fleet.take(START, "other/d1/status", b"{}", false);
    assert_eq!((fleet.ignored(), fleet.devices["d1"].unreadable), (7, 0));
}

#[test]
fn a_device_whose_retained_messages_are_taken_away_is_forgotten() {
    let mut fleet = fleet(&[
        ("status", message(1, status("offline"))),
        ("state", message(1, state("idle", None))),
    ]);
    receive(&mut fleet, START, "pi/status", b"");
    assert!(pi(&fleet).status.is_none() && pi(&fleet).state.is_some());
    receive(&mut fleet, START, "pi/state", b"");
    receive(&mut fleet, START, "other/state", b"");
    assert_eq!(fleet.devices().len(), 0);
}

#[test]
fn the_plain_table_has_as_many_cells_as_heads() {
    let mut fleet = fleet(&[
        ("status", message(1, status("online"))),
        ("progress", message(1, progress(50))),
        ("health", message(1, health())),
        ("fault", message(1, fault("no frame"))),
    ]);
    let offline = message(1, status("offline"));
    receive(&mut fleet, START, "other/status", &offline);
    let table = fleet_table::table(&fleet, START);
    let (rows, rest) = table.split_once("\n\n").unwrap();
    for row in rows.lines() {
        assert_eq!(row.split_whitespace().count(), 11, "{row}");
    }
    assert!(rest.starts_with("other NEEDS HELP: offline"), "{rest}");
    assert!(
        rest.ends_with("pi:\n  2026-01-31 12:01:00 clip book 1: no frame\n    skipped\n"),
        "{rest}"
    );
}

/// A message of ours, of any channel, device and number.
fn any_message() -> impl Strategy<Value = (String, Vec<u8>)> {
    (0_usize..7, 0_u64..6, "pi|jet", 0_usize..3).prop_map(|(channel, seq, device, n)| {
        let (channel, body) = match channel {
            0 => ("status", status(["online", "stopped", "offline"][n])),
            1 => ("state", state(["idle", "error", "paused"][n], None)),
            2 => ("progress", progress(n)),
            3 => ("health", health()),
            4 => ("fault", fault(["a", "b", "c"][n])),
            5 => ("batch", batch(n)),
            _ => ("snapshot", json!({})),
        };
        (format!("handloom/{device}/{channel}"), message(seq, body))
    })
}

/// Bytes that are not a message, or almost one.
fn any_bytes() -> impl Strategy<Value = (String, Vec<u8>)> {
    let topic = prop_oneof![
        "handloom/(pi|jet)/(status|state|progress|batch|fault|health|reply|snapshot|else)",
        "\\PC{0,30}",
    ];
    let almost = (any_message(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |((_, mut bytes), at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        },
    );
    let bytes = prop_oneof![prop::collection::vec(any::<u8>(), 0..80), almost];
    (topic, bytes)
}

proptest! {
    #[test]
    fn nothing_that_comes_breaks_the_model(
        messages in prop::collection::vec((prop_oneof![any_message(), any_bytes()], 0_u64..200, any::<bool>()), 0..60)
    ) {
        let mut fleet = Fleet::default();
        for ((topic, payload), at, live) in &messages {
            let now = Duration::from_secs(*at);
            fleet.take(now, topic, payload, !live);
        }
        for (_, device) in fleet.devices() {
            prop_assert!(device.faults.len() <= FAULTS_MAX);
            prop_assert!(!fleet_table::details(device).is_empty());
        }
        let table = fleet_table::table(&fleet, Duration::from_secs(50));
        prop_assert!(!table.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn a_repeated_message_changes_nothing(messages in prop::collection::vec(any_message(), 0..40)) {
        let (mut once, mut twice) = (Fleet::default(), Fleet::default());
        for (topic, payload) in &messages {
            once.take(START, topic, payload, false);
            twice.take(START, topic, payload, false);
            twice.take(START, topic, payload, false);
        }
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn faults_are_the_same_in_whatever_order_and_how_often_they_come(
        order in prop::collection::vec(2_u64..40, 0..80)
    ) {
        // Message 1 comes first and all times are equal, so that all messages belong to one ledger.
        let take = |seqs: &[u64]| {
            let mut fleet = Fleet::default();
            for seq in [1].iter().chain(seqs) {
                let mut body = fault(&seq.to_string());
                body["ts"] = json!("2026-01-31T12:00:00.000Z");
                receive(&mut fleet, START, "pi/fault", &message(*seq, body));
            }
            (pi(&fleet).faults.clone(), pi(&fleet).missing())
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(take(&order), take(&sorted));
    }
}
