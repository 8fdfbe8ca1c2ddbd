use super::*;
use crate::dataset::class_list::parse_class_list;
use crate::dataset::plan::{PlanOptions, plan};
use crate::dataset::splits;
use crate::dataset::wlasl;
use serde_json::{Value, json};

/// An entry for each `(gloss, ids)`, all in split `train`.
fn entries(list: &[(&str, &[&str])]) -> Vec<Entry> {
    let entry = |(gloss, ids): &(&str, &[&str])| {
        let ids = ids
            .iter()
            .map(|id| json!({"video_id": id, "split": "train"}));
        json!({"gloss": gloss, "instances": ids.collect::<Vec<_>>()})
    };
    let json: Value = list.iter().map(entry).collect();
    wlasl::parse(json.to_string().as_bytes()).unwrap()
}

fn request(subset: Option<Subset>, splits: Option<&SplitsFile>) -> SelectionRequest<'_> {
    SelectionRequest {
        subset,
        splits,
        metadata: "WLASL_v0.3.json".to_owned(),
        ..SelectionRequest::default()
    }
}

fn nslt(rows: &[(&str, &str, usize)]) -> SplitsFile {
    let item = |(id, split, class): &(&str, &str, usize)| {
        format!("\"{id}\": {{\"subset\": \"{split}\", \"action\": [{class}, 1, 9]}}")
    };
    let items: Vec<String> = rows.iter().map(item).collect();
    splits::parse("n.json", format!("{{{}}}", items.join(",")).as_bytes()).unwrap()
}

fn excluded(entries: &[Entry]) -> Vec<(&str, Option<&str>)> {
    let all = entries.iter().flat_map(|entry| &entry.instances);
    all.map(|i| (i.video_id.as_deref().unwrap_or("-"), i.excluded.as_deref()))
        .collect()
}

fn glosses(selection: &Selection) -> Vec<&str> {
    let order = selection.class_order.as_ref().unwrap();
    order.glosses.iter().map(|gloss| &**gloss).collect()
}

#[test]
fn numbers_and_splits_are_those_of_the_file() {
    let mut all = entries(&[
        ("book", &["1", "2", "3"]),
        ("Thanks", &["4", "5"]),
        ("go", &["6"]),
    ]);
    let rows = [
        ("4", "val", 0),
        ("1", "train", 2),
        ("2", "train", 2),
        // The class has the gloss of most of its clips.
        ("5", "test", 2),
        ("9", "train", 1),
        ("8", "test", 2),
    ];
    let file = nslt(&rows);
    let selection = select(&mut all, &request(None, Some(&file))).unwrap();
    assert_eq!(glosses(&selection), ["Thanks", "class 1", "book"]);
    let not_in = Some("not in n.json");
    let wanted = [
        ("1", None),
        ("2", None),
        ("3", not_in),
        ("4", None),
        ("5", Some("n.json has it as \"book\"")),
        ("6", not_in),
    ];
    assert_eq!(excluded(&all), wanted);
    assert_eq!(all[1].instances[0].split, "val");
    let absent: Vec<_> = selection.absent.iter().collect();
    let ids: Vec<&str> = absent.iter().map(|clip| &*clip.video_id).collect();
    assert_eq!(ids, ["9", "8"]);
    assert_eq!(absent[1].gloss.as_deref(), Some("book"));
    let warnings: Vec<String> = selection.warnings.iter().map(ToString::to_string).collect();
    for (warning, words) in warnings.iter().zip([
        ["1 clips have another split", "4 (val, not \"train\")"],
        ["1 clips have another gloss", "5 (\"book\", not \"Thanks\")"],
        ["2 clips of n.json are not in WLASL_v0.3.json", ": 9, 8"],
    ]) {
        assert!(words.iter().all(|word| warning.contains(word)), "{warning}");
    }
    assert_eq!(warnings.len(), 3);

    let options = PlanOptions {
        min_videos_per_gloss: 1,
        folds_case: false,
        ..PlanOptions::default()
    };
    let ids = |options: &PlanOptions| -> Vec<String> {
        let plan = plan(&all, options, &|_| true);
        plan.jobs.iter().map(|j| j.video_id.to_string()).collect()
    };
    assert_eq!(ids(&options), ["1", "2", "4"]);
    let only_split = Some("val".to_owned());
    let only = PlanOptions {
        only_split,
        ..options
    };
    assert_eq!(ids(&only), ["4"]);
    let plan = plan(&all, &only, &|_| true);
    let reason = |record: usize| plan.records[record].skipped.clone().unwrap().1;
    assert_eq!(reason(0), "split \"train\" is not val");
    assert_eq!(reason(5), "not in n.json");
    // Clips of all splits are counted, whatever split is selected.
    assert_eq!(
        plan.gloss_file_counts,
        [("book".into(), 2), ("Thanks".into(), 1)]
    );
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let refused = |rows: &[(&str, &str, usize)], subset, words: &[&str]| {
        let mut all = entries(&[("book", &["1", "2"]), ("go", &["3"])]);
        let file = nslt(rows);
        let refusal = select(&mut all, &request(subset, Some(&file))).unwrap_err();
        let refusal = refusal.to_string();
        for word in words {
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
    };
    refused(&[("x", "val", 0)], None, &["none of its 1 clips", "\"x\""]);
    let two = [("1", "val", 0), ("2", "val", 1)];
    refused(&two, None, &["class 0 and of class 1", "\"book\""]);
    let subset = Some(Subset::Wlasl100);
    refused(&two, subset, &["2 classes", "has 100", "nslt_100.json"]);
    let mut all = entries(&[("book", &["1"])]);
    let refusal = select(&mut all, &request(subset, None))
        .unwrap_err()
        .to_string();
    for word in [
        "WLASL_v0.3.json",
        "wlasl100",
        "nslt_100.json",
        "wlasl_class_list.txt",
    ] {
        assert!(refusal.contains(word), "{refusal}");
    }
}

#[test]
fn a_class_list_numbers_the_classes_of_cut_down_metadata() {
    let lines: Vec<String> = (0..120).map(|n| format!("{n}\tsign {n}")).collect();
    let list = parse_class_list("list.txt", lines.join("\r\n").as_bytes()).unwrap();
    let mut all = entries(&[("sign 101", &["1"]), ("sign 7", &["2"]), ("other", &["3"])]);
    let request = |splits| SelectionRequest {
        class_list: Some(list.clone()),
        ..request(Some(Subset::Wlasl100), splits)
    };
    let selection = select(&mut all, &request(None)).unwrap();
    assert_eq!(glosses(&selection).len(), 100);
    assert_eq!(glosses(&selection)[7], "sign 7");
    let reason = |gloss| format!("gloss \"{gloss}\" is not in wlasl100");
    let (far, other) = (reason("sign 101"), reason("other"));
    let wanted = [("1", Some(&*far)), ("2", None), ("3", Some(&*other))];
    assert_eq!(excluded(&all), wanted);
    // A table without classes selects clips within the subset.
    let table = splits::parse("s.csv", b"id,split\n1,val\n2,test\n").unwrap();
    let selection = select(&mut all, &request(Some(&table))).unwrap();
    assert_eq!(glosses(&selection)[7], "sign 7");
    let wanted = [("1", Some(&*far)), ("2", None), ("3", Some("not in s.csv"))];
    assert_eq!(excluded(&all), wanted);
    assert_eq!(all[1].instances[0].split, "test");

    for (text, word) in [
        ("0\ta\n2\tb\n", "line 2"),
        ("0\ta\n1\ta\n", "line 2"),
        ("a\nb\n", "line 1: found \"a\""),
        ("0\ta\n1\t\n", "line 2"),
    ] {
        let refusal = parse_class_list("list.txt", text.as_bytes()).unwrap_err();
        let refusal = refusal.to_string();
        assert!(
            refusal.starts_with("list.txt, ") && refusal.contains(word),
            "{refusal}"
        );
    }
}

#[test]
fn the_classes_of_a_format_number_all_its_glosses() {
    let mut all = entries(&[("b", &["1"]), ("c", &["2"])]);
    let class_order = Some(vec!["a".into(), "b".into()]);
    let request = SelectionRequest {
        class_order,
        ..request(None, None)
    };
    let selection = select(&mut all, &request).unwrap();
    assert_eq!(glosses(&selection), ["a", "b", "c"]);
    assert_eq!(excluded(&all), [("1", None), ("2", None)]);
    let nothing = select(&mut all, &self::request(None, None)).unwrap();
    assert_eq!(nothing, Selection::default());
}
