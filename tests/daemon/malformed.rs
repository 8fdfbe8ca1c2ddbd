//! Whatever is sent as a command is answered, and nothing of it ends the daemon.

use crate::stage::{Stage, assert_no_gap, broker, is_done, obeys, said, state};
use handloom::messages::request::{CommandName, parse};
use handloom::messages::topics;
use serde_json::{Value, json};
use test_support::Dice;
use test_support::stub_broker::{Packet, Stub};

/// Commands that are sent before their answers are waited for; the daemon keeps 64 in hand.
const BURST: usize = 20;
const COMMANDS: usize = 100;
const SEED: u64 = 20_260_131;

/// Something that is no command; beneath the topic filter or, with a `/` in its name, beside it.
fn malformed(dice: &mut Dice) -> (String, Vec<u8>) {
    loop {
        let (name, payload) = (name(dice), payload(dice));
        if parse(&name, &payload).is_err() {
            return (name, payload);
        }
    }
}

fn name(dice: &mut Dice) -> String {
    let known = CommandName::ALL[dice.below(CommandName::ALL.len())].name();
    match dice.below(12) {
        0 => String::new(),
        1 => known.to_uppercase(),
        2 => format!("{known} "),
        3 => "x".repeat(1 + dice.below(2000)),
        4 => "päuse\u{202e}日本🤟".chars().skip(dice.below(6)).collect(),
        5 => format!("{known}/{known}"),
        6 => format!("/{known}"),
        7 => letters(dice),
        _ => known.to_owned(),
    }
}

/// Printable characters that a topic may have.
fn letters(dice: &mut Dice) -> String {
    let length = 1 + dice.below(40);
    let mut letters = String::new();
    while letters.chars().count() < length {
        let code = u32::try_from(0x20 + dice.below(0x300)).unwrap();
        letters.extend(char::from_u32(code).filter(|c| !c.is_control() && !"/+#".contains(*c)));
    }
    letters
}

fn payload(dice: &mut Dice) -> Vec<u8> {
    let bytes =
        |dice: &mut Dice| -> Vec<u8> { (0..dice.below(300)).map(|_| dice.byte()).collect() };
    let whole = br#"{"id": "3f2a", "x": [1, {"y": null}]}"#;
    match dice.below(16) {
        0 => Vec::new(),
        1 => b" \n\t".to_vec(),
        2 => bytes(dice),
        3 => whole[..dice.below(whole.len())].to_vec(),
        4 => {
            let mut broken = whole.to_vec();
            broken[dice.below(whole.len())] = dice.byte();
            broken
        }
        5 => {
            let depth = 1 + dice.below(20_000);
            format!("{{\"id\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes()
        }
        6 => format!("{{\"id\":{}}}", "{\"a\":".repeat(1 + dice.below(10_000))).into_bytes(),
        7 => format!("{{\"id\":1e{}}}", dice.below(100_000)).into_bytes(),
        8 => format!("{{\"id\":{}}}", "9".repeat(1 + dice.below(5000))).into_bytes(),
        9 => json!({ "id": "x".repeat(65 + dice.below(60_000)) })
            .to_string()
            .into_bytes(),
        10 => json!({ "id": letters(dice), "extra": letters(dice) })
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
        ][dice.below(4)]
        .to_string()
        .into_bytes(),
    }
}

#[test]
fn a_hundred_malformed_commands_get_an_answer_each() {
    let (broker, ears) = broker();
    let all = "commands = [\"pause\", \"resume\", \"cancel\", \"rescan\", \"retry-failed\", \"snapshot\"]\n";
    let stage = Stage::with_own(1, Some(broker.port()), all);
    let mut daemon = stage.start(&[]);
    daemon.until("the end", |_| is_done(&ears));
    let mut dice = Dice::new(SEED);
    let mut sent: Vec<(String, Vec<u8>)> = Vec::new();
    let mut beside = 0;
    while sent.len() < COMMANDS {
        let (name, payload) = malformed(&mut dice);
        ears.publish(&format!("handloom/box/cmd/{name}"), false, &payload);
        if name.contains('/') {
            beside += 1;
            continue;
        }
        sent.push((name, payload));
        if sent.len().is_multiple_of(BURST) {
            daemon.until("an answer to each", |_| {
                said(&ears, topics::REPLY).len() >= sent.len()
            });
        }
    }
    obeys(&mut daemon, &ears, "resume", "a good one", "succeeded");
    let replies = said(&ears, topics::REPLY);
    assert_eq!(replies.len(), COMMANDS + 2);
    assert_no_gap(&ears, topics::REPLY);
    // They are taken up in the order in which they come.
    for ((name, payload), reply) in sent.iter().zip(&replies) {
        let refusal = parse(name, payload).unwrap_err();
        assert_eq!(reply["state"], "failed", "{name:?}: {reply}");
        assert_eq!(reply["id"], json!(refusal.id), "{name:?}");
        assert_eq!(reply["reason"], refusal.reason, "{name:?}");
        let short: String = name.chars().take(64).collect();
        assert_eq!(reply["command"], short);
    }
    let with_id = replies.iter().filter(|r| r["id"] != Value::Null).count();
    test_support::say(&format!(
        "malformed commands: {COMMANDS} answered, {beside} beside the filter, {with_id} answers with an id"
    ));
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    assert!(beside > 0);
    assert_eq!(daemon.stop(), Some(0));
}

/// The reserve of the disk is not for what anybody may write.
#[test]
fn below_the_reserve_a_refused_command_gets_no_reply() {
    let (broker, ears) = broker();
    let stage = Stage::with_own(1, Some(broker.port()), "");
    let most = [
        "--set",
        "limits.disk_reserve_mib=1048575",
        "--set",
        "limits.disk_resume_mib=1048576",
    ];
    let mut daemon = stage.start(&most);
    daemon.until("the pause", |_| state(&ears).0 == "paused");
    ears.publish(
        "handloom/box/cmd/nonsense\u{202e}",
        false,
        "{\"id\": \"n\"}",
    );
    daemon.until("a line in the log", |daemon| {
        daemon.log().contains("no reply to a refused command")
    });
    assert!(said(&ears, topics::REPLY).is_empty());
    assert!(!daemon.log().contains('\u{202e}'));
    obeys(&mut daemon, &ears, "pause", "a good one", "succeeded");
    daemon.kill();
}

/// It cannot be read, so it can only be said: in a fault, and in `state` for as long as no command comes through.
#[test]
fn a_retained_command_that_is_too_large_is_said_to_be_there() {
    let stub = Stub::start(|peer| {
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
    let stage = Stage::with_own(1, Some(stub.port()), "");
    let mut daemon = stage.start(&[]);
    for channel in [topics::STATE, topics::FAULT] {
        daemon.until(channel, |_| {
            stub.seen().iter().any(|seen| match &seen.packet {
                Packet::Publish { topic, payload, .. } => {
                    let payload = String::from_utf8_lossy(payload);
                    *topic == crate::stage::topic(channel)
                        && payload.contains("no command is received")
                }
                _ => false,
            })
        });
    }
    daemon.kill();
}
