//! Malformed commands: the daemon answers each one, and none ends it.

use crate::fixture::{
    DaemonFixture, assert_no_gap, broker, command_with_result, is_done, published, state,
};
use handloom::messages::request::{CommandName, parse};
use handloom::messages::topics;
use serde_json::{Value, json};
use test_support::TestRng;
use test_support::stub_broker::{Packet, StubBroker};

/// Commands that are sent before the test waits for their answers; the daemon queues 64.
const BURST: usize = 20;
const COMMANDS: usize = 100;
const SEED: u64 = 20_260_131;

/// A name and a payload that are no valid command. A name with a `/` does not match the daemon's topic filter.
fn malformed(rng: &mut TestRng) -> (String, Vec<u8>) {
    loop {
        let (name, payload) = (name(rng), payload(rng));
        if parse(&name, &payload).is_err() {
            return (name, payload);
        }
    }
}

fn name(rng: &mut TestRng) -> String {
    let known = CommandName::ALL[rng.below(CommandName::ALL.len())].name();
    match rng.below(12) {
        0 => String::new(),
        1 => known.to_uppercase(),
        2 => format!("{known} "),
        3 => "x".repeat(1 + rng.below(2000)),
        4 => "päuse\u{202e}日本🤟".chars().skip(rng.below(6)).collect(),
        5 => format!("{known}/{known}"),
        6 => format!("/{known}"),
        7 => random_text(rng),
        _ => known.to_owned(),
    }
}

/// Printable characters that a topic may have.
fn random_text(rng: &mut TestRng) -> String {
    let length = 1 + rng.below(40);
    let mut random_text = String::new();
    while random_text.chars().count() < length {
        let code = u32::try_from(0x20 + rng.below(0x300)).unwrap();
        random_text.extend(char::from_u32(code).filter(|c| !c.is_control() && !"/+#".contains(*c)));
    }
    random_text
}

fn payload(rng: &mut TestRng) -> Vec<u8> {
    let bytes =
        |rng: &mut TestRng| -> Vec<u8> { (0..rng.below(300)).map(|_| rng.byte()).collect() };
    let whole = br#"{"id": "3f2a", "x": [1, {"y": null}]}"#;
    match rng.below(16) {
        0 => Vec::new(),
        1 => b" \n\t".to_vec(),
        2 => bytes(rng),
        3 => whole[..rng.below(whole.len())].to_vec(),
        4 => {
            let mut broken = whole.to_vec();
            broken[rng.below(whole.len())] = rng.byte();
            broken
        }
        5 => {
            let depth = 1 + rng.below(20_000);
            format!("{{\"id\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes()
        }
        6 => format!("{{\"id\":{}}}", "{\"a\":".repeat(1 + rng.below(10_000))).into_bytes(),
        7 => format!("{{\"id\":1e{}}}", rng.below(100_000)).into_bytes(),
        8 => format!("{{\"id\":{}}}", "9".repeat(1 + rng.below(5000))).into_bytes(),
        9 => json!({ "id": "x".repeat(65 + rng.below(60_000)) })
            .to_string()
            .into_bytes(),
        10 => json!({ "id": random_text(rng), "extra": random_text(rng) })
            .to_string()
            .into_bytes(),
        11 => json!({ "id": "bell\u{7}\u{202e}\u{0}" })
            .to_string()
            .into_bytes(),
        12 => json!([{ "id": "a" }]).to_string().into_bytes(),
        13 => json!({ "ID": "a", "Id": "b" }).to_string().into_bytes(),
        14 => br#"{"id":"a","id":"b"}"#.to_vec(),
        _ => [
            json!(null),
            json!(true),
            json!("pause"),
            json!({ "id": [] }),
        ][rng.below(4)]
        .to_string()
        .into_bytes(),
    }
}

#[test]
fn a_hundred_malformed_commands_get_an_answer_each() {
    let (broker, subscriber) = broker();
    let all = "commands = [\"pause\", \"resume\", \"cancel\", \"rescan\", \"retry-failed\", \"snapshot\"]\n";
    let fixture = DaemonFixture::with_own_dataset(1, Some(broker.port()), all);
    let mut daemon = fixture.start(&[]);
    daemon.until("the end", |_| is_done(&subscriber));
    let mut rng = TestRng::new(SEED);
    let mut sent: Vec<(String, Vec<u8>)> = Vec::new();
    let mut beside = 0;
    while sent.len() < COMMANDS {
        let (name, payload) = malformed(&mut rng);
        subscriber.publish(&format!("handloom/box/cmd/{name}"), false, &payload);
        if name.contains('/') {
            beside += 1;
            continue;
        }
        sent.push((name, payload));
        if sent.len().is_multiple_of(BURST) {
            daemon.until("an answer to each", |_| {
                published(&subscriber, topics::REPLY).len() >= sent.len()
            });
        }
    }
    command_with_result(
        &mut daemon,
        &subscriber,
        "resume",
        "a good one",
        "succeeded",
    );
    let replies = published(&subscriber, topics::REPLY);
    assert_eq!(replies.len(), COMMANDS + 2);
    assert_no_gap(&subscriber, topics::REPLY);
    // The daemon answers them in the order in which they arrive.
    for ((name, payload), reply) in sent.iter().zip(&replies) {
        let refusal = parse(name, payload).unwrap_err();
        assert_eq!(reply["state"], "failed", "{name:?}: {reply}");
        assert_eq!(reply["id"], json!(refusal.id), "{name:?}");
        assert_eq!(reply["reason"], refusal.reason, "{name:?}");
        let short: String = name.chars().take(64).collect();
        assert_eq!(reply["command"], short);
    }
    let with_id = replies.iter().filter(|r| r["id"] != Value::Null).count();
    test_support::print_note(&format!(
        "malformed commands: {COMMANDS} answered, {beside} outside the filter, {with_id} answers with an id"
    ));
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    assert!(beside > 0);
    assert_eq!(daemon.stop(), Some(0));
}

/// A refused command, which anybody may send, must not use up the disk's reserve with replies.
#[test]
fn below_the_reserve_a_refused_command_gets_no_reply() {
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(1, Some(broker.port()), "");
    let most = [
        "--set",
        "limits.disk_reserve_mib=1048575",
        "--set",
        "limits.disk_resume_mib=1048576",
    ];
    let mut daemon = fixture.start(&most);
    daemon.until("the pause", |_| state(&subscriber).0 == "paused");
    subscriber.publish(
        "handloom/box/cmd/nonsense\u{202e}",
        false,
        "{\"id\": \"n\"}",
    );
    daemon.until("a line in the log", |daemon| {
        daemon.log().contains("no reply to a refused command")
    });
    assert!(published(&subscriber, topics::REPLY).is_empty());
    assert!(!daemon.log().contains('\u{202e}'));
    command_with_result(&mut daemon, &subscriber, "pause", "a good one", "succeeded");
    daemon.kill();
}

/// The daemon cannot read such a command. It reports a fault, and `state` names the problem until a command arrives.
#[test]
fn a_retained_command_that_is_too_large_is_reported() {
    let stub = StubBroker::start(|peer| {
        if !peer.accept(false, 0) {
            return;
        }
        while let Some(packet) = peer.read() {
            peer.answer(&packet, true);
            if matches!(packet, Packet::Subscribe { .. }) {
                peer.publish("handloom/box/cmd/pause", &vec![b'x'; 2 << 20], 1, true);
            }
        }
    });
    let fixture = DaemonFixture::with_own_dataset(1, Some(stub.port()), "");
    let mut daemon = fixture.start(&[]);
    for channel in [topics::STATE, topics::FAULT] {
        daemon.until(channel, |_| {
            stub.seen().iter().any(|seen| match &seen.packet {
                Packet::Publish { topic, payload, .. } => {
                    let payload = String::from_utf8_lossy(payload);
                    *topic == crate::fixture::topic(channel)
                        && payload.contains("no command is received")
                }
                _ => false,
            })
        });
    }
    daemon.kill();
}
