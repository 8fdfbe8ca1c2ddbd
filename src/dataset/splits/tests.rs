use super::*;

fn refusal(name: &str, text: &[u8]) -> String {
    parse(name, text).unwrap_err().to_string()
}

fn rows(name: &str, text: &[u8]) -> Vec<(String, &'static str, SplitLabel)> {
    let file = parse(name, text).unwrap();
    let row = |row: SplitRow| (row.video_id, row.split, row.label);
    file.rows.into_iter().map(row).collect()
}

#[test]
fn nslt_files_are_read_and_what_is_wrong_in_them_is_named() {
    let item = |id: &str, subset: &str, action: &str| {
        format!("\"{id}\": {{\"subset\": \"{subset}\", \"action\": {action}}}")
    };
    let file = |items: &[String]| format!("{{{}}}", items.join(", ")).into_bytes();
    let good = [
        item("2", "Train", "[1, 1, 9]"),
        item("1", "test", "[0, 1, 9]"),
        item("2", "train", "[1, 5, 9]"),
    ];
    let wanted = [
        ("2".to_owned(), "train", SplitLabel::Class(1)),
        ("1".to_owned(), "test", SplitLabel::Class(0)),
    ];
    assert_eq!(rows("n.json", &file(&good)), wanted);
    assert_eq!(parse("n.json", &file(&good)).unwrap().classes, Some(2));
    let check = |items: &[String], words: &[&str]| {
        let refusal = refusal("n.json", &file(items));
        for word in ["n.json"].iter().chain(words) {
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
    };
    check(
        &[item("7", "holdout", "[0, 1, 9]")],
        &["clip \"7\"", "\"holdout\"", "train, val or test"],
    );
    let twice = [good[0].clone(), item("2", "val", "[0, 1, 9]")];
    check(&twice, &["clip \"2\"", "item 1 (train)", "item 2 (val)"]);
    let far = [good[1].clone(), item("3", "val", "[7, 1, 9]")];
    check(&far, &["clip \"3\"", "class 7", "2 classes", "0 to 1"]);
    check(&[item("3", "val", "[-1, 1, 9]")], &["begins with -1"]);
    check(&[item("3", "val", "[]")], &["begins with nothing"]);
    check(
        &[item("3", "val", "7")],
        &["line 1 column", "\"action\": ["],
    );
    let refuse = |text: &[u8], word: &str| {
        let refusal = refusal("n.json", text);
        assert!(refusal.contains(word), "{refusal}");
    };
    refuse(b"{\"1\": {\"subset\": \"val\"}}", "missing field `action`");
    refuse(b"{\"1\": {\"subset\"", "EOF");
    refuse(b" [{\"gloss\": \"book\"}]", "a list, as in WLASL_v0.3.json");
    refuse(b"  \n", "an empty file");
    refuse(b"{}", "a file without a clip");
    refuse(b"id,split\n", "a file without a clip");
    refuse(b"PK\x03\x04zip", "archive");
    refuse(b"\x80\x81 \x82", "no UTF-8");
    refuse(b"<!DOCTYPE html><html>", "nslt_*.json");
}

#[test]
fn tables_are_read_as_they_are_written_elsewhere() {
    let label = |label: &str| SplitLabel::Gloss(label.to_owned());
    let unknown = |id: &str, split| (id.to_owned(), split, SplitLabel::Unknown);
    let plain = b"video_id,split\n1,train\n2,dev\n";
    assert_eq!(
        rows("s.csv", plain),
        [unknown("1", "train"), unknown("2", "val")]
    );
    let windows = "\u{feff}Split;Gloss;PATH\r\n TRAIN ;\"ice; cream\";videos\\00335.mp4\r\ntest;7;a/b.c.mp4\r\n";
    let wanted = [
        ("00335".to_owned(), "train", label("ice; cream")),
        ("b.c".to_owned(), "test", label("7")),
    ];
    assert_eq!(rows("s.csv", windows.as_bytes()), wanted);
    let numbered = [("9".to_owned(), "val", SplitLabel::Class(0))];
    assert_eq!(rows("s.tsv", b"id\tsplit\tclass\n9\tval\t0\n"), numbered);
    // If one label is not a number, all labels are names.
    let names = rows("s.csv", b"id,split,label\n1,train,7\n2,val,book\n");
    assert_eq!((&names[0].2, &names[1].2), (&label("7"), &label("book")));
    let check = |text: &str, words: &[&str]| {
        let refusal = refusal("s.csv", text.as_bytes());
        for word in ["s.csv"].iter().chain(words) {
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
    };
    check(
        "name,split\n1,train\n",
        &["line 1", "name,split", "video_id"],
    );
    check("id,gloss\n1,train\n", &["line 1", "a column split"]);
    check("id,split\n1,train\n2,other\n", &["line 3", "\"other\""]);
    check("id,split\n1,train\n,val\n", &["line 3", "no id"]);
    check("id,split\n1,train\n2\n", &["line: 3", "1 field"]);
    check(
        "id,split\n1,train\n1,train\n1,val\n",
        &["clip \"1\"", "line 2 (train)", "line 4 (val)"],
    );
    check(
        "id,split,label\n1,train,0\n2,val,4\n",
        &["line 3", "class 4", "0 to 1"],
    );
}

#[test]
fn rows_of_paths_are_found_by_path_and_by_name() {
    let file = parse(
        "s.csv",
        b"path,split\na/1.mp4,train\nb/1.mp4,val\nc/2,test\nx/3.mp4,test\n",
    )
    .unwrap();
    let index = SplitIndex::of(&file.rows);
    for (id, path, split) in [
        ("a/1.mp4", Some("a/1.mp4"), Some("train")),
        ("b/1.mp4:1-9", Some("b/1.mp4"), Some("val")),
        ("2", Some("c/2.mp4"), Some("test")),
        ("3", None, Some("test")),
        ("3.4", None, None),
        ("1", None, None),
    ] {
        let instance = Instance {
            video_id: Some(id.into()),
            path: path.map(Into::into),
            ..Instance::default()
        };
        assert_eq!(index.row(&instance).map(|row| row.split), split, "{id}");
    }
}

#[test]
fn as_many_clips_as_are_allowed_are_read() {
    let many: Vec<String> = (0..=ROWS_MAX).map(|n| format!("{n},train")).collect();
    let many = many.join("\n");
    assert!(
        refusal("s.csv", format!("\nid,split\n{many}").as_bytes()).contains("200000 clips allowed")
    );
    let many: Vec<String> = (0..=ROWS_MAX)
        .map(|n| format!("\"{n}\": {{\"subset\": \"val\", \"action\": [0, {{}}]}}"))
        .collect();
    let text = format!("{{{}}}", many.join(","));
    assert!(refusal("n.json", text.as_bytes()).contains("200000 clips allowed"));
}
