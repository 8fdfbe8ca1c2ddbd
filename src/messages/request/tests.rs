use super::*;
use proptest::prelude::*;

#[track_caller]
fn check(name: &str, payload: &str, expected: Result<(&str, CommandName), (Option<&str>, &str)>) {
    match (parse(name, payload.as_bytes()), expected) {
        (Ok(got), Ok((id, command))) => {
            assert_eq!((got.id.as_str(), got.command), (id, command), "{payload}");
        }
        (Err(got), Err((id, words))) => {
            assert_eq!(got.id.as_deref(), id, "{payload}");
            assert!(got.reason.contains(words), "{payload}: {}", got.reason);
            assert!(
                [ADVICE, ADVICE_RECORD, "retry-failed"]
                    .iter()
                    .any(|advice| got.reason.contains(advice)),
                "{payload}: no advice: {}",
                got.reason
            );
        }
        (got, expected) => panic!("{payload}: {got:?} instead of {expected:?}"),
    }
}

#[test]
fn a_command_is_accepted_or_refused_with_a_reason() {
    use CommandName::{Pause, RetryFailed};
    check("pause", r#"{"id": "a"}"#, Ok(("a", Pause)));
    check(
        "retry-failed",
        r#" {"id":"Grün 1/\"2\" 日"} "#,
        Ok(("Grün 1/\"2\" 日", RetryFailed)),
    );
    let long = "x".repeat(64);
    check(
        "pause",
        &format!(r#"{{"id":"{long}"}}"#),
        Ok((&long, Pause)),
    );
    let refused: [(&str, &str, Option<&str>, &str); 20] = [
        ("pause", "", None, "empty"),
        ("pause", " \n", None, "empty"),
        ("pause", "{}", None, "missing"),
        ("pause", "null", None, "not a JSON object"),
        ("pause", "[]", None, "not a JSON object"),
        ("pause", "\"a\"", None, "not a JSON object"),
        ("pause", "pause", None, "not JSON"),
        ("pause", r#"{"id":"a""#, Some("a"), "not JSON"),
        ("pause", r#"{"id":"a"} x"#, Some("a"), "not JSON"),
        ("pause", r#"{"id":"a","x":1}"#, Some("a"), "takes no \"x\""),
        (
            "pause",
            r#"{"x":[{}],"id":"a"}"#,
            Some("a"),
            "takes no \"x\"",
        ),
        ("pause", r#"{"id":"a","id":"b"}"#, Some("b"), "twice"),
        ("pause", r#"{"id":7}"#, Some("7"), "7\" is not a string"),
        ("pause", r#"{"id":null}"#, None, "not a string"),
        ("pause", r#"{"id":{"a":1}}"#, None, "not a string"),
        ("pause", r#"{"id":""}"#, None, "printable"),
        ("pause", r#"{"id":"a\u0007b"}"#, Some("ab"), "printable"),
        ("pause", r#"{"id":"a\u202eb"}"#, Some("ab"), "printable"),
        ("explode", r#"{"id":"a"}"#, Some("a"), "\"explode\""),
        ("Pause", "", None, "there are pause, resume, cancel"),
    ];
    for (name, payload, id, words) in refused {
        check(name, payload, Err((id, words)));
    }
    check(
        "pause",
        &format!(r#"{{"id":"{long}y"}}"#),
        Err((Some(&long), "1 to 64")),
    );
}

#[test]
fn record_requests_are_complete_or_refused() {
    let took = |payload: &str| parse("record", payload.as_bytes()).unwrap().takes.unwrap();
    let whole = took(r#"{"id":"a","gloss":"thank you","count":5,"countdown":1.5}"#);
    assert_eq!(
        (
            whole.gloss.as_str(),
            whole.count,
            whole.countdown.as_millis()
        ),
        ("thank you", 5, 1500)
    );
    let least = took(r#"{"id":"a","gloss":"book"}"#);
    assert_eq!((least.count, least.countdown), (1, Duration::ZERO));
    for (payload, words) in [
        (r#"{"id":"a"}"#, "gloss is missing"),
        (r#"{"id":"a","gloss":7}"#, "not a string"),
        (r#"{"id":"a","gloss":"b","count":1.5}"#, "whole number"),
        (r#"{"id":"a","gloss":"b","count":-1}"#, "whole number"),
        (r#"{"id":"a","gloss":"b","countdown":-1}"#, "seconds"),
        (r#"{"id":"a","gloss":"b","countdown":1e300}"#, "seconds"),
        (
            r#"{"id":"a","gloss":"b","gloss":"c"}"#,
            "gloss is given twice",
        ),
        (r#"{"id":"a","gloss":"b","hand":1}"#, "takes no \"hand\""),
    ] {
        check("record", payload, Err((Some("a"), words)));
    }
    check("undo", r#"{"id":"a"}"#, Ok(("a", CommandName::Undo)));
    let pause = r#"{"id":"a","gloss":"b"}"#;
    check("pause", pause, Err((Some("a"), "takes no \"gloss\", only")));
}

#[test]
fn deep_and_broken_bytes_are_refused() {
    let deep = format!(r#"{{"id":{}"#, "[".repeat(60_000));
    check("pause", &deep, Err((None, "not JSON")));
    let refusal = parse("pause", b"{\"id\":\"\xff\"}").unwrap_err();
    assert!(refusal.reason.contains("not JSON"), "{}", refusal.reason);
}

#[test]
fn names_are_read_as_they_are_written() {
    for command in CommandName::ALL {
        assert_eq!(CommandName::from_name(command.name()), Some(command));
    }
    assert_eq!(CommandName::from_name("explode"), None);
}

/// Bytes near enough to a command to get past the first checks.
fn near_misses() -> impl Strategy<Value = Vec<u8>> {
    let whole = br#"{"id": "3f2a", "x": [1, {"y": null}]}"#.to_vec();
    prop::collection::vec((0..whole.len(), any::<u8>()), 0..4).prop_map(move |edits| {
        let mut bytes = whole.clone();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn no_bytes_break_it(
        name in "\\PC{0,80}",
        payload in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), near_misses()],
    ) {
        for name in [name.as_str(), "pause"] {
            match parse(name, &payload) {
                Ok(request) => prop_assert!(is_id(&request.id)),
                Err(refusal) => {
                    prop_assert!(refusal.id.as_deref().is_none_or(is_id));
                    prop_assert!(refusal.reason.chars().all(is_printable), "{}", refusal.reason);
                    prop_assert!(refusal.reason.len() < 600);
                }
            }
        }
    }

    #[test]
    fn every_proper_id_is_taken(id in "[^\\p{C}\\p{Z}\\p{M}]{1,64}") {
        let payload = serde_json::json!({ "id": id }).to_string();
        prop_assume!(is_id(&id));
        prop_assert_eq!(parse("resume", payload.as_bytes()).unwrap().id, id);
    }
}
