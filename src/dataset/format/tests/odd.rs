//! Invalid rows beside valid ones.

use super::*;

#[test]
fn frames_of_ms_asl_that_are_no_whole_numbers_refuse_their_item() {
    let rows = [
        (
            "\"start\": 9223372036854775807, \"end\": 5",
            "start 9223372036854775807 is no possible number of a frame",
        ),
        (
            "\"start\": 1.5, \"end\": 9",
            "start: a whole number is needed",
        ),
        (
            "\"start\": 1, \"end\": 1e9",
            "end: a whole number is needed",
        ),
        (
            "\"start\": \"3\", \"end\": 9",
            "start: a whole number is needed",
        ),
        (
            "\"start\": 3",
            "it has only one of start and end: add the other",
        ),
    ];
    for (frames, reason) in rows {
        let url = "https://youtu.be/AAAAAAAAAA1";
        let good = format!(
            "{{\"url\": \"{url}\", \"clean_text\": \" a \", \"start\": null, \"label\": 0}}"
        );
        let text = format!("[{{\"url\": \"{url}\", \"clean_text\": \"a\", {frames}}}, {good}]");
        let refused = format!("! MSASL_val.json, item 0: {reason}");
        let found = check(
            &[("MSASL_val.json", &text)],
            &["AAAAAAAAAA1.mp4"],
            FormatName::MsAsl,
            &[&refused, "a AAAAAAAAAA1 val -1 0..-1 AAAAAAAAAA1.mp4"],
        );
        assert_eq!(found.class_order.unwrap(), ["a".into()]);
    }
}

#[test]
fn labels_of_ms_asl_that_contradict_each_other_are_named() {
    let warnings = |items: &[(&str, i64)]| {
        let item = |(gloss, label): &(&str, i64)| {
            format!(
                "{{\"url\": \"youtu.be/AAAAAAAAAA1\", \"clean_text\": \"{gloss}\", \"label\": {label}}}"
            )
        };
        let items: Vec<String> = items.iter().map(item).collect();
        let text = format!("[{}]", items.join(","));
        let (_, contents, _) = read(&[("MSASL_val.json", text.as_bytes())], &[]).unwrap();
        (contents.class_order.is_some(), contents.warnings)
    };
    let unused = "the labels are not used as numbers of the classes: MSASL_val.json, item 1,";
    let cases = [
        (&[("a", 0), ("b", 1)][..], true, None),
        (
            &[("a", 0), ("b", 0), ("c", 0)],
            true,
            Some("2 items have another name for a label than an earlier item; the first, MSASL_val.json, item 1: label 0 is \"b\", and \"a\" earlier".to_owned()),
        ),
        (&[("a", 0), ("b", 5)], false, Some(format!("{unused} has the label 5, and no item has 1; correct the label"))),
        (
            &[("a", 0), ("a", 1)],
            false,
            Some(format!("{unused} gives \"a\" the label 1, and an earlier one gives it 0; correct the label")),
        ),
    ];
    for (items, is_ordered, warning) in cases {
        assert_eq!(
            warnings(items),
            (is_ordered, warning.into_iter().collect()),
            "{items:?}"
        );
    }
}

#[test]
fn a_row_that_cannot_be_processed_refuses_no_other() {
    let list = |rows: &str, clips: &[&str], expected: &[&str]| {
        let text = format!("path,gloss,id,start_frame\n{rows}");
        check(&[("l.csv", &text)], clips, FormatName::Csv, expected);
    };
    let start =
        |number| format!("the number of the first frame is \"{number}\", a whole number is needed");
    let first = format!("a 1  -1 {}..-1 1.mp4", start("1.0"));
    let refused = format!("! l.csv, line 3: {}", start("50.0"));
    list(
        "1.mp4,a,,1.0\n1.mp4,a,,50.0\n",
        &["1.mp4"],
        &[&first, &refused],
    );
    let refused = format!("! l.csv, line 2: {}", start("x"));
    list(
        "1.mp4,a,,x\n1.mp4,a,,\n",
        &["1.mp4"],
        &[&refused, "a 1  -1 0..-1 1.mp4"],
    );
    list(
        "gone.mp4,a,x,\n1.mp4,a,x,\n",
        &["1.mp4"],
        &[
            "! l.csv, line 2: the id x is already used in l.csv, line 3",
            "a x  -1 0..-1 1.mp4",
        ],
    );
}

#[test]
fn a_quote_that_does_not_end_loses_no_row_in_silence() {
    let cases = [
        ("1.mp4,a,\"never ends\n2.mp4,a,\n3.mp4,a,\n", Some(2)),
        ("1.mp4,a,\"never ends\n2.mp4,a,\"y\"\n3.mp4,a,z\n", Some(1)),
        ("1.mp4,a,\"never ends", Some(0)),
        ("1.mp4,a,\"two\nlines\"\n2.mp4,a,\"two\nlines\"\n", None),
    ];
    for (rows, lost) in cases {
        let text = format!("path,gloss,notes\n{rows}");
        let (_, contents, _) = read(&[("l.csv", text.as_bytes())], &["1.mp4", "2.mp4"]).unwrap();
        let warning = lost.map(|lost| {
            format!("{lost} lines of l.csv are not read, since a quote before them does not end where it should, in 1 rows; \
                     the first, l.csv, line 2")
        });
        assert_eq!(contents.warnings, Vec::from_iter(warning), "{rows}");
        let refused = contents.entries.iter().flat_map(|entry| &entry.instances);
        assert_eq!(
            refused.filter(|row| row.refused.is_some()).count(),
            usize::from(lost.is_some()),
            "{rows}"
        );
    }
}

#[test]
fn a_list_of_names_does_not_shift_folders_with_numbers() {
    let found = check(
        &[("labels.txt", "hello\nbook\n")],
        &["1/a.mp4", "2/b.mp4"],
        FormatName::Folders,
        &["1 a  -1 0..-1 1/a.mp4", "2 b  -1 0..-1 2/b.mp4"],
    );
    assert_eq!(found.class_order, None);
    let warning = "the list of classes is not used: the class folders have numbers as names";
    assert!(
        found.warnings[0].starts_with(warning),
        "{:?}",
        found.warnings
    );
    let many: Vec<String> = (0..=ROWS_MAX).map(|n| format!("g{n}")).collect();
    let error = read(&[("labels.txt", many.join("\n").as_bytes())], &["g1/1.mp4"]).unwrap_err();
    assert!(
        error.contains("more than the 200000 rows allowed"),
        "{error}"
    );
}

#[test]
fn tables_that_are_not_read_are_named() {
    let names = ["all.csv", "train.csv"];
    let mut files = FileTree::new(names.map(Box::from), []);
    let found = FormatName::Csv.reader().recognise(&files).unwrap_err();
    assert!(found.starts_with("train.csv was not read"), "{found}");
    for name in names {
        files.set_head(name, b"path,gloss\n".to_vec());
    }
    let found = FormatName::Csv.reader().recognise(&files).unwrap();
    assert_eq!(*found.tables, ["train.csv".into()]);
    assert!(
        found.warnings[0].starts_with("1 tables are not read"),
        "{:?}",
        found.warnings
    );
}

#[test]
fn a_path_through_a_link_is_that_of_the_listed_file() {
    let mut files = FileTree::new(["real/1.mp4".into()], []);
    files.add_link("link", "real");
    files.add_link("real/up", "");
    for (path, found) in [
        ("real/1.mp4", Some("real/1.mp4")),
        ("link/1.mp4", Some("real/1.mp4")),
        ("real/up/link/1.mp4", Some("real/1.mp4")),
        ("linked/1.mp4", None),
        ("real/up/real/up/2.mp4", None),
    ] {
        assert_eq!(files.find(path), found, "{path}");
    }
}

#[test]
fn a_path_that_no_file_can_have_is_not_shown() {
    let text = format!("path,gloss\n{}.mp4,a\n", "x/".repeat(1 << 19));
    let expected = "! l.csv, line 2: its path has more than the 4095 bytes allowed";
    check(&[("l.csv", &text)], &[], FormatName::Csv, &[expected]);
}
