//! What a person sees, at three sizes; and that no size breaks the view.

use super::*;
use crate::fleet::screen::view::KeyAction;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

const NOW: Duration = Duration::from_secs(500);

fn take(view: &mut FleetView, at: u64, device: &str, channel: &str, seq: u64, body: &Value) {
    let mut message = json!({"v": 1, "ts": "2026-01-31T12:00:00.000Z", "clock_synced": device != "nano", "seq": seq});
    for (key, value) in body.as_object().into_iter().flatten() {
        message[key] = value.clone();
    }
    let topic = format!("handloom/{device}/{channel}");
    let payload = message.to_string();
    view.fleet
        .take(Duration::from_secs(at), &topic, payload.as_bytes(), false);
}

fn state(name: &str, reason: Option<&str>) -> Value {
    json!({
        "state": name, "reason": reason, "run": "r1", "backend": "cpu", "backend_reason": "the fastest that agrees",
        "workers": 3, "workers_max": 4,
    })
}

fn progress(done: usize) -> Value {
    json!({
        "run": "7f3a", "total": 11_980, "done": done, "states": {"accepted": done - 2, "too_short": 2},
        "clips_per_min": 31.2, "eta_s": 11_100.0, "clip": {"gloss": "book", "video_id": "12306"},
    })
}

/// Four devices, one of each kind of trouble.
fn fleet() -> FleetView {
    let mut view = FleetView::new("mqtt://broker.local:1883".to_owned());
    view.link = BrokerLink::Connected;
    let online = json!({"status": "online", "version": "0.2.0"});
    let health = json!({
        "uptime_s": 90_000, "temperature_c": 61.2, "throttled": false, "load_1min": 3.9, "memory_available_mib": 900,
        "memory_resident_mib": 210, "disk_free_mib": 9000, "frames_per_s": 41.0, "queue": 2, "outbox": 7,
        "outbox_dropped": 0, "telemetry_dropped": 0, "connects": 1, "mirror_waiting": 3,
    });
    for (device, at, done) in [
        ("pi-1", 498, 5_000),
        ("pi-2", 497, 11_979),
        ("jetson-lab-2", 300, 120),
    ] {
        take(&mut view, at, device, "status", 1, &online);
        take(
            &mut view,
            at,
            device,
            "state",
            1,
            &state("processing", None),
        );
        take(&mut view, at, device, "progress", 1, &progress(done));
        take(&mut view, at, device, "health", 1, &health);
    }
    take(
        &mut view,
        310,
        "jetson-lab-2",
        "status",
        2,
        &json!({"status": "offline", "version": "0.2.0"}),
    );
    take(&mut view, 499, "nano", "status", 1, &online);
    take(
        &mut view,
        499,
        "nano",
        "state",
        1,
        &state("paused", Some("120 MiB left on /data, 500 are kept free")),
    );
    take(&mut view, 499, "nano", "health", 3, &health);
    for (seq, clip, reason) in [
        (4, "12306", "no frame could be decoded"),
        (5, "12310", "the decoder did not answer for 60 s"),
    ] {
        let fault = json!({
            "run": "7f3a", "component": "clip", "clip": {"gloss": "book", "video_id": clip}, "reason": reason,
            "action": "recorded as unreadable; replace the file and send retry-failed",
        });
        take(&mut view, 400, "jetson-lab-2", "fault", seq, &fault);
        take(&mut view, 400, "nano", "fault", seq, &fault);
    }
    view
}

fn frame(view: &FleetView, width: u16, height: u16) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, NOW)).unwrap();
    terminal.backend().clone()
}

/// Compares the screen with the snapshot `name` in tests/interface/snapshots.
fn check(name: &str, view: &FleetView, width: u16, height: u16) {
    insta::with_settings!({snapshot_path => "../../../../tests/interface/snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(format!("watch__{name}_{width}x{height}"), frame(view, width, height));
    });
}

#[test]
fn the_worst_device_is_seen_at_once() {
    for (width, height) in [(100, 30), (60, 20), (40, 10)] {
        check("fleet", &fleet(), width, height);
    }
}

#[test]
fn details_are_of_the_chosen_device() {
    let mut view = fleet();
    view.press(KeyAction::Down, NOW);
    view.press(KeyAction::Details, NOW);
    assert_eq!(view.chosen.as_deref(), Some("nano"));
    for (width, height) in [(100, 30), (60, 20)] {
        check("details", &view, width, height);
    }
}

#[test]
fn an_empty_fleet_and_a_lost_connection_are_shown() {
    let mut view = FleetView::new("mqtt://broker.local:1883".to_owned());
    let reason = "Connection refused (os error 111); is a broker running there?";
    view.lose(reason.to_owned(), NOW);
    check("lost", &view, 100, 10);
}

#[test]
fn no_device_is_called_silent_while_disconnected() {
    let mut view = fleet();
    let online = |view: &FleetView, at| view.fleet.online(view.clock(at));
    let later = NOW + Duration::from_mins(5);
    assert_eq!((online(&view, NOW), online(&view, later)), (3, 0));
    view.lose("gone".to_owned(), NOW);
    view.lose("still gone".to_owned(), later);
    assert_eq!(online(&view, later), 3);
    view.join(later);
    assert_eq!(online(&view, later), 3);
}

#[test]
fn no_size_breaks_the_view() {
    let mut detailed = fleet();
    detailed.press(KeyAction::Details, NOW);
    let mut crowd = fleet();
    for n in 0..300 {
        let id = format!("a-device-with-a-rather-long-name-{n}");
        take(
            &mut crowd,
            499,
            &id,
            "status",
            1,
            &json!({"status": "online", "version": "1"}),
        );
    }
    crowd.chosen = Some("pi-2".to_owned());
    for view in [&FleetView::new(String::new()), &fleet(), &detailed, &crowd] {
        for width in 1..=110 {
            for height in [1, 2, 3, 4, 5, 7, 8, 10, 31] {
                frame(view, width, height);
            }
        }
    }
    // However long the list, the selected one is on the screen.
    let seen = frame(&crowd, 100, 20).to_string();
    assert!(
        seen.contains(">   pi-2") || seen.contains("> pi-2"),
        "{seen}"
    );
}

#[test]
fn columns_fit_and_the_important_ones_stay() {
    for room in 1..=200 {
        let (columns, bar) = columns(room, 12);
        let width: usize = columns.iter().map(|(_, w)| w + 1).sum();
        assert!(width <= room.max(17), "{room}: {width}");
        assert!(columns.iter().any(|(c, _)| c.head == DEVICE) && bar <= BAR_MAX);
        if room >= 100 {
            assert_eq!(columns.len(), COLUMNS.len(), "{room}");
        }
        if room >= 40 {
            assert!(columns.iter().any(|(c, _)| c.head == "STATE"), "{room}");
        }
    }
}

#[test]
fn a_choice_stays_with_its_device() {
    let mut view = fleet();
    // The offline one is selected by itself; up from the first stays.
    assert_eq!(view.selected(NOW), Some(0));
    view.press(KeyAction::Up, NOW);
    view.press(KeyAction::Down, NOW);
    view.press(KeyAction::Down, NOW);
    assert_eq!(view.chosen.as_deref(), Some("pi-1"));
    take(
        &mut view,
        499,
        "a-new-one",
        "status",
        1,
        &json!({"status": "offline", "version": "1"}),
    );
    assert_eq!(view.selected(NOW), Some(3));
    for _ in 0..9 {
        view.press(KeyAction::Down, NOW);
    }
    assert_eq!(view.chosen.as_deref(), Some("pi-2"));
    // A device that is gone gives the selection back.
    view.chosen = Some("gone".to_owned());
    assert_eq!(view.selected(NOW), Some(0));
}
