use super::*;
use crate::dataset::wlasl;
use std::cell::RefCell;

/// An entry for each `(gloss, ids)`.
fn entries(list: &[(&str, &[&str])]) -> Vec<Entry> {
    let json: Vec<_> = list
        .iter()
        .map(|(gloss, ids)| {
            let instances: Vec<_> = ids
                .iter()
                .map(|id| serde_json::json!({"video_id": id, "frame_end": -1}))
                .collect();
            serde_json::json!({"gloss": gloss, "instances": instances})
        })
        .collect();
    wlasl::parse(&serde_json::to_vec(&json).unwrap()).unwrap()
}

fn at_least(min_videos_per_gloss: usize) -> PlanOptions {
    PlanOptions {
        min_videos_per_gloss,
        ..PlanOptions::default()
    }
}

fn all_but_x(id: &str) -> bool {
    !id.starts_with('x')
}

fn skipped(plan: &Plan, record: usize) -> Option<(State, &str)> {
    let skipped = plan.records[record].skipped.as_ref();
    skipped.map(|(state, reason)| (*state, reason.as_str()))
}

fn labels(plan: &Plan) -> Vec<(&str, &str)> {
    plan.jobs
        .iter()
        .map(|job| (job.gloss.as_ref(), job.video_id.as_ref()))
        .collect()
}

#[test]
fn capitals_are_dropped_unless_the_lower_case_twin_is_kept() {
    let entries = entries(&[
        ("Thanks", &["1", "2"]),
        ("BOOK", &["3"]),
        ("book", &["4", "4"]),
        ("go", &["5", "x"]),
    ]);
    let plan = plan(&entries, &at_least(2), &all_but_x);
    assert_eq!(plan.glosses, ["Thanks".into(), "book".into()]);
    assert_eq!(labels(&plan), [("BOOK", "3"), ("book", "4"), ("book", "4")]);
    assert_eq!(
        plan.jobs.iter().map(|job| job.position).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!(plan.records.len(), 7);
    let capitals = "gloss has capitals, and \"thanks\" is not kept";
    assert_eq!(skipped(&plan, 0), Some((State::NotSelected, capitals)));
    let too_few = "gloss \"go\" has 1 clips on disk, 2 are needed";
    assert_eq!(skipped(&plan, 6), Some((State::NotSelected, too_few)));
    let [Warning::CapitalsDropped(warning)] = plan.warnings.as_slice() else {
        panic!("{:?}", plan.warnings)
    };
    assert_eq!(
        warning,
        "gloss \"Thanks\" is kept with 2 clips but, as in the notebook, none is processed, because \
         \"thanks\" is not kept"
    );
    let processed: Vec<usize> = (0..7).filter(|n| skipped(&plan, *n).is_none()).collect();
    let planned: Vec<usize> = plan.jobs.iter().map(|job| job.record).collect();
    assert_eq!(processed, planned);
}

#[test]
fn only_plain_file_names_are_opened_and_each_once() {
    let entries = entries(&[(
        "a",
        &[
            "1", "1", "../1", "/etc/1", "b\\1", "..", ".", "1\0", "", "x1", "x1",
        ],
    )]);
    let requested = RefCell::new(Vec::new());
    let plan = plan(&entries, &at_least(1), &|id| {
        requested.borrow_mut().push(id.to_owned());
        all_but_x(id)
    });
    requested.borrow_mut().sort();
    assert_eq!(*requested.borrow(), ["1", "x1"]);
    assert_eq!(plan.jobs.len(), 2);
    let states = (0..plan.records.len()).filter_map(|n| skipped(&plan, n));
    let missing = states.filter(|(state, _)| *state == State::Missing);
    assert_eq!(missing.count(), 9);
    assert_eq!(skipped(&plan, 8), Some((State::Missing, "no video_id")));
    assert_eq!(skipped(&plan, 9), Some((State::Missing, "no file x1.mp4")));
}

#[test]
fn bad_frame_numbers_take_no_position() {
    let json = br#"[{"gloss": "a", "instances": [{"video_id": "1", "frame_end": "abc"}, {"video_id": "2"},
        {"video_id": "x", "frame_end": "abc"}, {"video_id": "1", "frame_start": [1], "frame_end": "abc"}]}]"#;
    let plan = plan(&wlasl::parse(json).unwrap(), &at_least(1), &all_but_x);
    assert_eq!(labels(&plan), [("a", "2")]);
    assert_eq!(plan.jobs[0].position, 0);
    assert_eq!(plan.jobs[0].record, 1);
    let check = |record, state, end: &str| {
        let (found, reason) = skipped(&plan, record).unwrap();
        assert!(found == state && reason.ends_with(end), "{reason}");
    };
    check(0, State::Unreadable, "'abc'");
    check(2, State::Missing, "no file x.mp4");
    check(3, State::Unreadable, "'list'");
    assert_eq!(plan.gloss_file_counts, [("a".into(), 3)]);
}

#[test]
fn a_selection_keeps_file_order_and_warns() {
    let entries = entries(&[("b", &["1"]), ("a", &["2"]), ("c", &["x"]), ("Me", &["3"])]);
    let plan_options = PlanOptions {
        selected_glosses: ["a", "b", "c", "zz", "me", "zz"]
            .map(ToOwned::to_owned)
            .to_vec(),
        max_glosses: Some(1),
        ..at_least(1)
    };
    let plan = plan(&entries, &plan_options, &all_but_x);
    assert_eq!(plan.glosses, ["b".into(), "a".into()]);
    let warnings: Vec<_> = plan.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "selected gloss \"c\" has 0 clips on disk, 1 are needed",
            "selected gloss \"zz\" is not in the metadata",
            "selected gloss \"me\" is not in the metadata; did you mean \"Me\"?",
        ]
    );
    assert!(
        plan.scan_report()
            .ends_with("Glosses kept after selection: 2\n")
    );
}

#[test]
fn the_most_frequent_glosses_win_and_ties_go_to_the_first() {
    let entries = entries(&[
        ("a", &["1"]),
        ("b", &["x", "x", "x"]),
        ("c", &["2", "3"]),
        ("a", &["4"]),
        ("d", &["5", "6"]),
    ]);
    let kept = |max_glosses| {
        let plan_options = PlanOptions {
            max_glosses,
            ..at_least(1)
        };
        let plan = plan(&entries, &plan_options, &all_but_x);
        plan.glosses
            .iter()
            .map(ToString::to_string)
            .collect::<String>()
    };
    assert_eq!(kept(None), "acd");
    assert_eq!(kept(Some(9)), "acd");
    // `b` has most instances but no clip, so it takes a place and gives nothing.
    assert_eq!(kept(Some(3)), "ac");
    assert_eq!(kept(Some(1)), "");
    assert_eq!(kept(Some(0)), "");
}

#[test]
fn reports_in_the_notebooks_words() {
    let entries = entries(&[("a", &["1", "2"]), ("b", &["3"])]);
    assert_eq!(
        plan(&entries, &at_least(2), &all_but_x).scan_report(),
        "Loaded 2 entries from metadata\n\nScanning disk for glosses with >= 2 videos...\nScan complete.\n  \
         Total unique glosses in metadata: 2\n  Glosses with >= 2 videos: 1\n  \
         Glosses dropped (too few videos): 1\n"
    );
}

#[test]
fn nothing_in_nothing_out() {
    let plan = plan(&[], &PlanOptions::default(), &|_| true);
    assert!(plan.records.is_empty() && plan.jobs.is_empty() && plan.glosses.is_empty());
}

#[test]
fn odd_values_are_listed_and_take_nothing_with_them() {
    let json = br#"[{"gloss": "a", "instances": [{"video_id": "1"}, {"video_id": "\ud800"}, {"video_id": "2", "x": nul}, 7]},
        {"gloss": "b\ud800", "instances": [{"video_id": "3"}, {"video_id": "4"}]}, "x",
        {"gloss": "rare", "instances": [{"video_id": ["5"]}]}]"#;
    let entries = wlasl::parse(json).unwrap();
    // The clip of the refused instance is there, so the gloss has as many clips as the metadata says.
    let plan = plan(&entries, &at_least(2), &all_but_x);
    assert_eq!(labels(&plan), [("a", "1")]);
    assert_eq!(plan.records.len(), 7);
    let reasons = (1..7).map(|record| skipped(&plan, record).unwrap());
    let expected = [
        "video_id: half a character, \\ud800",
        "x: `nul`, which is no value in JSON",
        "found the number 7",
        "gloss: half a character, \\ud800",
        "gloss: half a character, \\ud800",
        "video_id is a list",
    ];
    for ((state, reason), expected) in reasons.zip(expected) {
        assert_eq!(state, State::Unreadable);
        assert!(reason.starts_with(expected), "{reason}");
    }
    let [Warning::OddValues(text)] = plan.warnings.as_slice() else {
        panic!("{:?}", plan.warnings);
    };
    let expected = "6 glosses or instances of the metadata have values that cannot be used and are not processed; the first, \
                    [0].instances[1]: video_id: half a character";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn a_missing_clip_found_elsewhere_is_named() {
    let entries = entries(&[("a", &["1", "x2", "x3"])]);
    let mut plan = plan(&entries, &at_least(1), &all_but_x);
    plan.explain_missing(&|id| (id != "x3").then(|| format!("found {id}.MP4: rename it")));
    let reason = "no file x2.mp4; found x2.MP4: rename it";
    assert_eq!(skipped(&plan, 1), Some((State::Missing, reason)));
    assert_eq!(skipped(&plan, 2), Some((State::Missing, "no file x3.mp4")));
    assert_eq!(skipped(&plan, 0), None);
    let text = "1 missing clips are there under another name: found x2.MP4: rename it";
    assert_eq!(plan.warnings, [Warning::OtherNames(text.to_owned())]);
}
