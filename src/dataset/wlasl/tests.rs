use super::*;
use proptest::prelude::*;

fn first(json: &str) -> Entry {
    parse(json.as_bytes()).unwrap().remove(0)
}

#[track_caller]
fn assert_begins(text: &str, begin: &str) {
    assert!(text.starts_with(begin), "{text}");
}

/// Metadata with an instance whose `fps` is `odd`, between two valid instances.
fn with_odd_value(odd: &[u8]) -> Vec<u8> {
    let sound = r#"{"video_id": "1", "frame_end": -1, "split": "train", "signer_id": 3}"#;
    let mut json = format!(r#"[{{"gloss": "a", "instances": [{sound}, {{"video_id": "2", "fps": "#)
        .into_bytes();
    json.extend_from_slice(odd);
    json.extend_from_slice(format!("}}, {sound}]}}, {{\"gloss\": \"b\"}}]").as_bytes());
    json
}

#[test]
fn reads_an_entry_as_the_notebook_does() {
    let entry = first(
        r#"[{"gloss": "book", "instances": [
            {"video_id": "00335", "frame_start": 1, "frame_end": -1, "split": "train", "signer_id": 9, "instance_id": 2},
            {"video_id": 335, "frame_start": "3", "frame_end": "abc"},
            {"video_id": null, "frame_start": null, "split": 3, "signer_id": "x"}, {"video_id": ""}, {}]}]"#,
    );
    assert_eq!(entry.gloss.as_deref(), Some("book"));
    let ids = entry.instances.iter().map(|i| i.video_id.as_deref());
    let ids: Vec<_> = ids.collect();
    assert_eq!(ids, [Some("00335"), Some("335"), None, None, None]);
    let one = &entry.instances[0];
    assert_eq!((&one.frame_start, &one.frame_end), (&Ok(1), &Ok(-1)));
    assert_eq!((one.split.as_str(), one.signer_id), ("train", 9));
    assert_eq!(entry.instances[1].frame_start, Ok(3));
    assert_eq!(
        entry.instances[1].frame_end,
        Err("invalid literal for int() with base 10: 'abc'".to_owned())
    );
    assert_eq!(entry.instances[2].signer_id, UNKNOWN_SIGNER);
    assert!(entry.instances.iter().all(|i| i.refused.is_none()));
}

#[test]
fn falsy_glosses_and_missing_instances_are_nothing() {
    for gloss in ["null", "\"\"", "0", "-0.0", "false", "[]", "{}", "[ \n]"] {
        let entry = first(&format!("[{{\"gloss\": {gloss}}}]"));
        assert_eq!(entry, Entry::default());
    }
    assert!(first("[{}]").instances.is_empty());
    assert_eq!(parse(b"[]"), Ok(vec![]));
    // As in Python the last of several equal keys counts.
    let twice = r#"[{"gloss": 5, "instances": [{}], "gloss": "a", "instances": [{"video_id": 1, "video_id": "2"}]}]"#;
    let twice = first(twice);
    assert_eq!((twice.gloss.as_deref(), twice.refused), (Some("a"), None));
    assert_eq!(twice.instances.len(), 1);
    assert_eq!(twice.instances[0].video_id.as_deref(), Some("2"));
    assert_eq!(parse(b"\xEF\xBB\xBF[]"), Ok(vec![]));
}

#[test]
fn what_json_allows_in_other_fields_does_not_matter() {
    let long = "x".repeat(100_000);
    for odd in [
        format!("1{}", "0".repeat(308)),
        "-1.7976931348623157e308".to_owned(),
        "1e-999".to_owned(),
        format!("0.{}", "1".repeat(7000)),
        "\"\\ud83d\\ude00 \\u0000 \u{1f600}\"".to_owned(),
        "\"a\u{7f}\u{2028}\"".to_owned(),
        "{\"a\": 1, \"a\": 2}".to_owned(),
        "[[], {}, [[]], {\"video_id\": \"3\"}]".to_owned(),
        format!("{}{}", "[".repeat(128), "]".repeat(128)),
        format!("{}0{}", "{\"a\":[".repeat(64), "]}".repeat(64)),
        format!("\"{long}\""),
        // The text is cut within a character.
        format!("\"x{}\"", "\u{e9}".repeat(5000)),
        format!("{{\"{long}\": \"{long}\"}}"),
    ] {
        let entries = parse(&with_odd_value(odd.as_bytes())).unwrap();
        let shown = odd.chars().take(80).collect::<String>();
        assert_eq!(entries.len(), 2, "{shown}");
        let instances = &entries[0].instances;
        assert_eq!(instances.len(), 3, "{shown}");
        for instance in instances {
            assert_eq!(instance.refused, None, "{shown}");
        }
        assert_eq!(instances[1].video_id.as_deref(), Some("2"));
    }
}

#[test]
fn an_odd_value_in_any_field_refuses_its_instance_alone() {
    let levels = |count: usize, open: &str, close: &str| {
        format!("{}0{}", open.repeat(count), close.repeat(count))
    };
    let half_text = "half a character, \\ud83d, in a text";
    let no_more = "more than 128 levels of lists and objects";
    let long = format!("\"{}\u{1}\"", "x".repeat(20_000));
    let late_half = format!("\"{}\\udfff\"", "x".repeat(20_000));
    for (odd, expected) in [
        (b"nul".as_slice(), "`nul`, which is no value in JSON"),
        (b"'x'", "`\\'x\\'`, which is no value"),
        (b"01", "`01`, which is no value"),
        (b"+1", "`+1`"),
        (b".5", "`.5`"),
        (b"1.", "`1.`"),
        (b"1e", "`1e`"),
        (b"0x10", "`0x10`"),
        (b"-NaN", "`-NaN`"),
        (b"None", "`None`"),
        (
            b"\"a\x07b\"",
            "the control character 0x07 in a text, line 1 column",
        ),
        (b"\"a\nb\"", "the control character 0x0A"),
        (b"\"a\0b\"", "the control character 0x00"),
        (
            b"\"caf\xE9\"",
            "the byte 0xE9 in a text, which is not UTF-8: is the file in Latin-1?",
        ),
        (b"\"\xED\xA0\x80\xFF\"", "the byte 0xED"),
        (b"\"\\x41\"", "the escape \\x in a text"),
        (
            b"\"\\u12G4\"",
            "an escape \\u without four hexadecimal digits",
        ),
        (b"{\"a\x07\": 1}", "the control character 0x07"),
        (b"[[[\"\\q\"]]]", "the escape \\q"),
        (b"NaN", "`NaN`, which is no value in JSON"),
        (b"[1, -Infinity]", "`-Infinity`, which is no value in JSON"),
        (b"1e999", "the number 1e999, which is too large"),
        (
            b"{\"a\": [-1E+999]}",
            "the number -1E+999, which is too large",
        ),
        (
            &b"9".repeat(309),
            "the number 9999999999999999999999999999999999999999…, which is too large",
        ),
        (&b"7".repeat(4301), "the number 7777"),
        (b"\"\\ud800\"", "half a character, \\ud800, in a text"),
        (
            b"\"\\udc00 \\ud83d\"",
            "half a character, \\udc00, in a text",
        ),
        (b"\"\\ud83d\\n\"", half_text),
        (b"\"\\ud83d\\ud83d\\ude00\"", half_text),
        (b"\"\\ud83d\\u0041\"", half_text),
        (b"{\"\\ud800\": 1}", "half a character, \\ud800, in a text"),
        (late_half.as_bytes(), "half a character, \\udfff, in a text"),
        (levels(129, "[", "]").as_bytes(), no_more),
        (levels(200, "{\"a\": ", "}").as_bytes(), no_more),
        (levels(50_000, "[{\"a\": ", "}]").as_bytes(), no_more),
        (&b"7".repeat(9000), "a value of 9000 bytes"),
        (long.as_bytes(), "the control character 0x01"),
    ] {
        let entries = parse(&with_odd_value(odd)).unwrap();
        let shown = String::from_utf8_lossy(&odd[..odd.len().min(80)]);
        assert_eq!(entries.len(), 2, "{shown}");
        let refused: Vec<_> = entries[0].instances.iter().map(|i| &i.refused).collect();
        let [None, Some(reason), None] = refused.as_slice() else {
            panic!("{shown}: {refused:?}");
        };
        let reason_start = format!("fps: {expected}");
        assert!(reason.starts_with(&reason_start), "{shown}: {reason}");
        assert!(reason.contains(", line 1 column "), "{shown}: {reason}");
        assert_eq!(entries[0].refused, None, "{shown}");
    }
}

#[test]
fn a_name_that_cannot_be_used_refuses_its_instance_or_entry() {
    let long = format!("\"{}\"", "n".repeat(256));
    for (value, expected) in [
        (
            long.as_str(),
            "a text of more than the 255 bytes allowed: \"nnn",
        ),
        ("[1]", "a list, a text is needed"),
        ("{\"a\": 1}", "an object, a text is needed"),
    ] {
        let json = format!(
            r#"[{{"gloss": "a", "instances": [{{"video_id": {value}}}, {{"video_id": "1"}}]}},
                {{"instances": [{{"video_id": "1"}}], "gloss": {value}}}]"#
        );
        let entries = parse(json.as_bytes()).unwrap();
        let instances = &entries[0].instances;
        let reason = instances[0].refused.as_deref().unwrap();
        assert_begins(reason, &format!("video_id is {expected}"));
        assert_eq!(instances[0].video_id, None);
        assert_eq!((&instances[1].refused, &entries[0].refused), (&None, &None));
        let reason = entries[1].refused.as_deref().unwrap();
        assert_begins(reason, &format!("gloss is {expected}"));
        assert_eq!(entries[1].instances.len(), 1);
    }
    let number = first(r#"[{"gloss": 5, "instances": [{"video_id": 5}]}]"#);
    assert_eq!(
        number.refused.as_deref(),
        Some("gloss is the number 5, a text is needed")
    );
    assert_eq!(number.instances[0].refused, None);
}

#[test]
fn an_odd_value_outside_of_instances_refuses_its_entry() {
    let check = |odd: &str, expected: &str| {
        let json = format!(r#"[{{"gloss": "a", {odd}, "instances": [{{}}]}}, {{"gloss": "b"}}]"#);
        let entries = parse(json.as_bytes()).unwrap();
        let reason = entries[0].refused.as_deref().unwrap_or_default();
        assert!(reason.starts_with(expected), "{odd}: {reason}");
        assert_eq!(entries[0].instances[0].refused, None);
        assert_eq!(entries[1].refused, None);
    };
    check(
        "\"n\": NaN",
        "n: `NaN`, which is no value in JSON, line 1 column",
    );
    check("\"n\": [1e999]", "n: the number 1e999, which is too large");
    check("\"gloss\": \"a\u{1}\"", "gloss: the control character 0x01");
    check(
        "\"gloss\": \"b\\ud83dx\"",
        "gloss: half a character, \\ud83d",
    );
    check(
        "\"\\ud800\": 1",
        "\u{fffd}: half a character, \\ud800, in a text",
    );
    let deep = format!("\"n\": {}{}", "[".repeat(200), "]".repeat(200));
    check(&deep, "n: more than 128 levels");
    let wrong = first(r#"[{"gloss": "a", "instances": 1e999}]"#);
    assert_begins(
        &wrong.refused.unwrap(),
        "instances: the number 1e999, which",
    );
}

#[test]
fn odd_frame_numbers_and_companions_stay_with_their_instance() {
    let entry = first(
        r#"[{"gloss": "NaN", "instances": [{"video_id": NaN, "frame_end": NaN},
            {"video_id": "1", "frame_start": [], "frame_end": [1], "split": 5, "signer_id": {"a": 1}},
            {"video_id": "1", "frame_end": 99999999999999999999999, "signer_id": 1e300},
            {"video_id": "1", "frame_start": "\udc00", "frame_end": {"a": [1]}}]}]"#,
    );
    assert_eq!(entry.gloss.as_deref(), Some("NaN"));
    let [nan, list, huge, text] = entry.instances.as_slice() else {
        panic!("{entry:?}");
    };
    assert_begins(nan.refused.as_deref().unwrap(), "video_id: `NaN`, which");
    assert_eq!(list.frame_start, Ok(0));
    assert!(list.frame_end.as_ref().unwrap_err().contains("'list'"));
    assert_eq!((list.split.as_str(), list.signer_id), ("", -1));
    assert_eq!(huge.frame_end, Ok(i64::MAX));
    assert_eq!(huge.signer_id, i64::MAX);
    assert!(text.frame_end.as_ref().unwrap_err().contains("'dict'"));
    let reason = text.refused.as_deref().unwrap();
    assert_begins(reason, "frame_start: half a character, \\udc00");
    assert!(list.refused.is_none() && huge.refused.is_none());
}

#[test]
fn invalid_entries_and_instances_are_ignored_with_their_place() {
    let entries = parse(br#"[{"gloss": "a"}, 7, {"id": 1}, {"gloss": "b", "instances": null}, {"instances": [{}, 3, ["x"], 1e999]}]"#);
    let entries = entries.unwrap();
    let refused: Vec<_> = entries.iter().map(|e| e.refused.as_deref()).collect();
    let expected = "expected an object with \"gloss\" and \"instances\"";
    assert_eq!(
        refused,
        [
            None,
            Some(format!("[1]: found the number 7, {expected}").as_str()),
            Some(format!("[2]: found an object with key \"id\", {expected}").as_str()),
            Some("instances is null, a list of objects is needed"),
            None
        ]
    );
    let instances = &entries[4].instances;
    let refused = instances.iter().map(|i| i.refused.as_deref());
    assert_eq!(
        refused.collect::<Vec<_>>(),
        [
            None,
            Some("found the number 3, expected an object with \"video_id\""),
            Some("found a list, expected an object with \"video_id\""),
            Some(
                "found the number 1e999, which is too large, line 1 column 101, expected an object with \"video_id\""
            )
        ]
    );
}

#[test]
fn another_layout_is_named() {
    let check = |json: &str, expected: &str| {
        let message = parse(json.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{json}: {message}");
    };
    check("{}", "top level: found an empty object, expected a list");
    check(r#"{"a": [1]}"#, "an object with key \"a\"");
    check("null", "top level: found null");
    check("3", "top level: found the number 3");
    check("-1.5", "found the number -1.5");
    check(
        "NaN",
        "the file begins with `NaN`, which is no value in JSON",
    );
    check("true", "found true");
    check("\"x\"", "found the text \"x\"");
    check("[7, 8]", "[0]: found the number 7");
    check("[\"book\", \"drink\"]", "[0]: found the text \"book\"");
    let ms_asl =
        r#"[{"org_text": "match [light-a-MATCH]", "clean_text": "match", "start_time": 0.0}]"#;
    check(ms_asl, "[0]: found an object with key \"org_text\"");
    check(
        r#"{"65097": {"subset": "train", "action": [481, 1, 74]}, "1": 2}"#,
        "nslt_2000.json",
    );
    check("", "the file is empty");
    check(" \n", "the file is empty");
    check(
        "<!DOCTYPE html><html>",
        "a web page (HTML) where WLASL_v0.3.json is needed",
    );
    check(
        "version https://git-lfs.github.com/spec/v1\noid",
        "git lfs pull",
    );
    check("0\tbook\n1\tdrink\n", "a class list");
    check("PK\u{3}\u{4}....", "a zip archive");
    check("\0\0\0\0\0\0\0\0", "filled with zero bytes");
    check(
        "00335\n00336\n",
        "the file begins with `00335`, which is no value in JSON",
    );
    check(
        "path,gloss",
        "the file begins with `path`, which is no value",
    );
    check(
        "[{]",
        "not valid JSON: `]` where a key in quotes is expected, line 1 column 3;",
    );
    check(
        "[{}\n, {\"a\" 5}]",
        "`5}]` where `:` is expected, line 2 column 8",
    );
    check("[] x", "`x` where the end of the file is expected");
    check("[{} {}]", "where `,` or `]` is expected");
    check("[{\"a\": 1 \"b\": 2}]", "where `,` or `}` is expected");
    check("[,]", "where a value is expected");
    for short in [
        "[{}",
        "[7, {",
        "[",
        "[{\"gloss\": \"a",
        "[{\"a\":\"\\",
        "[{\"a\":\"\\u00",
        "[{\"gloss\"",
        "[{}, nul",
    ] {
        check(short, "so it is cut short");
    }
}

#[test]
fn any_encoding_of_unicode_is_read() {
    let json = r#"[{"gloss": "café", "instances": [{"video_id": "👋"}]}]"#;
    let expected = parse(json.as_bytes()).unwrap();
    for mark in ["", "\u{feff}"] {
        let text = format!("{mark}{json}");
        let units = || text.encode_utf16();
        let characters = || text.chars().map(u32::from);
        for bytes in [
            units().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
            units().flat_map(u16::to_be_bytes).collect(),
            characters().flat_map(u32::to_le_bytes).collect(),
            characters().flat_map(u32::to_be_bytes).collect(),
        ] {
            assert_eq!(parse(&bytes).as_ref(), Ok(&expected));
        }
    }
    let mut half: Vec<u8> = json.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // Remove the second half of the hand emoji.
    half.drain(half.len() - 12..half.len() - 10);
    let entries = parse(&half).unwrap();
    let reason = entries[0].instances[0].refused.as_deref().unwrap();
    assert_begins(reason, "video_id: what is no character");
}

#[test]
fn size_and_number_of_items_are_bounded() {
    // The input is generated piece by piece and never in memory as a whole.
    let mut left = BYTES_MAX + 1;
    let mut endless = |piece: &'static [u8]| {
        let mut fill = |buffer: &mut [u8]| {
            let count = u64::try_from(buffer.len()).unwrap().min(left);
            left -= count;
            let count = usize::try_from(count).unwrap();
            let bytes = piece.iter().cycle();
            buffer[..count]
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            Ok(count)
        };
        let result = read(&mut fill);
        left = BYTES_MAX + 1;
        result.unwrap_err().to_string()
    };
    let too_large = "cannot be read: it has more than the 67108864 bytes allowed";
    assert_eq!(endless(b" "), too_large);
    assert_eq!(
        endless(b"[\""),
        "not valid JSON: `[\\\"[\\\"[\\\"[\\\"[\\\"[\\\"` where `,` or `]` is expected, line 1 column 5; correct that place, or download the file again"
    );
    assert!(endless(b"[").contains("more than 1000000 levels"));
    let entries = format!("[{}{{}}]", "{},".repeat(ITEMS_MAX));
    assert_eq!(parse(entries.as_bytes()), Err(MetadataError::TooMany));
    let list = format!("[{{\"instances\":[{}0]}}]", "0,".repeat(ITEMS_MAX - 1));
    assert_eq!(parse(list.as_bytes()), Err(MetadataError::TooMany));
    let failing = read(&mut |_: &mut [u8]| Err("the disk is gone".to_owned()));
    assert_eq!(
        failing,
        Err(MetadataError::Read("the disk is gone".to_owned()))
    );
}

/// A JSON value of any kind, as text.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f32>()
            .prop_filter("JSON has no NaN", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let lists = proptest::collection::vec(inner.clone(), 0..5);
        let members = proptest::collection::vec((any::<String>(), inner), 0..5);
        prop_oneof![
            lists.prop_map(|items| format!("[{}]", items.join(" ,\n"))),
            members.prop_map(|members| {
                let members = members.into_iter().map(|(key, value)| {
                    format!("{}:\t{value}", serde_json::to_string(&key).unwrap())
                });
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Err(error) = parse(&bytes) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_bytes_within_a_value_leave_the_rest(odd in proptest::collection::vec(any::<u8>(), 1..40)) {
        // A text only ends at its quote, so the instances beside it are valid whatever it contains.
        let odd: Vec<u8> = odd.into_iter().filter(|byte| !b"\"\\".contains(byte)).collect();
        let json = with_odd_value(&[b"\"".as_slice(), &odd, b"\""].concat());
        let entries = parse(&json).unwrap();
        let instances = &entries[0].instances;
        prop_assert_eq!(instances.len(), 3);
        prop_assert_eq!(&instances[0], &instances[2]);
        prop_assert_eq!(&instances[0].refused, &None);
        let is_sound = std::str::from_utf8(&odd).is_ok_and(|text| !text.contains(|c| c < ' '));
        prop_assert_eq!(instances[1].refused.is_none(), is_sound);
    }

    #[test]
    fn unknown_json_is_ignored(value in any_json()) {
        let entries = parse(&with_odd_value(value.as_bytes())).unwrap();
        prop_assert_eq!(entries[0].instances.len(), 3);
        prop_assert_eq!(&entries[0].instances[1].refused, &None);
    }

    #[test]
    fn text_is_what_another_reader_makes_of_it(gloss in "\\PC{1,40}", id in any::<String>()) {
        let json = serde_json::json!([{"gloss": gloss, "instances": [{"video_id": id}]}]).to_string();
        let mut ascii = String::new();
        for c in json.chars() {
            if matches!(c, ' '..='~') {
                ascii.push(c);
            } else {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                ascii.extend(units.iter().flat_map(|unit| format!("\\u{unit:04x}").into_bytes()).map(char::from));
            }
        }
        for json in [json, ascii] {
            let entry = first(&json);
            prop_assert_eq!(entry.gloss.as_deref(), Some(gloss.as_str()));
            let expected = Some(id.as_str()).filter(|id| !id.is_empty() && id.len() <= 255);
            prop_assert_eq!(entry.instances[0].video_id.as_deref(), expected);
        }
    }

    #[test]
    fn mutations_never_panic(at in any::<prop::sample::Index>(), new in proptest::collection::vec(any::<u8>(), 0..6), cut in 0_usize..9) {
        let mut json = with_odd_value(b"[{\"x\": -1.5e3}, \"\\u00e9\\ud83d\\ude00\"]");
        let at = at.index(json.len());
        json.splice(at..(at + cut).min(json.len()), new);
        if let Err(error) = parse(&json) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
