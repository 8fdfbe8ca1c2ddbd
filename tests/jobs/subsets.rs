//! Official subsets and splits files: which clips are processed, with which split and class number. WLASL's real
//! files are used where they exist, small files of the same layout everywhere.

use handloom::dataset::class_list::{Subset, parse_class_list};
use handloom::dataset::instance::{Entry, Instance};
use handloom::dataset::plan::{PlanOptions, plan};
use handloom::dataset::selection::{Selection, SelectionRequest, select};
use handloom::dataset::{splits, wlasl};
use handloom::storage::npz::NpzReader;
use handloom::video::encode::Codec;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;
use test_support::{
    digests, handloom, manifest, manifest_states, process, render_clip, scratch, shared,
};

/// Class numbers out of the metadata's order, one clip that the metadata lacks, and two other splits.
const NSLT: &str = r#"{
    "00001": {"subset": "train", "action": [2, 1, 9]}, "00002": {"subset": "val", "action": [2, 1, 9]},
    "00003": {"subset": "train", "action": [0, 1, 9]}, "00004": {"subset": "train", "action": [1, 1, 9]},
    "00099": {"subset": "test", "action": [1, 1, 9]}, "00008": {"subset": "test", "action": [3, 1, 9]}}"#;

struct Fixture {
    folder: TempDir,
    dataset: PathBuf,
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Five clips of "book", "Thanks" and "go"; "sun" has no clip on disk.
fn fixture() -> &'static Fixture {
    static MADE: OnceLock<Fixture> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = scratch();
        let dataset = folder.path().join("dataset");
        let metadata = test_support::metadata(&[
            ("book", &[("00001", 1), ("00002", 1), ("00005", 1)]),
            ("Thanks", &[("00003", 1)]),
            ("go", &[("00004", 1)]),
            ("sun", &[("00008", 1)]),
        ]);
        test_support::write_metadata(&dataset, &metadata);
        for seed in 1..=5 {
            let path = dataset.join(format!("videos/{seed:05}.mp4"));
            render_clip(&path, seed, 24, (320, 240), Codec::H264);
        }
        fs::write(dataset.join("nslt_4.json"), NSLT).unwrap();
        Fixture { folder, dataset }
    })
}

fn label_map(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("label_map.json")).unwrap()).unwrap()
}

/// Label, split and class number of each row of the joined file.
fn joined(out: &Path) -> Vec<(String, String, i64)> {
    let mut npz = NpzReader::open(&out.join("wlasl_landmarks.npz")).unwrap();
    let (labels, split) = (
        npz.strings("labels").unwrap(),
        npz.strings("split").unwrap(),
    );
    let (ids, glosses) = (
        npz.numbers::<i64>("label_ids").unwrap().0,
        npz.strings("glosses").unwrap(),
    );
    let rows: Vec<_> = labels.into_iter().zip(split).zip(ids).collect();
    let row = |((label, split), id): ((String, String), i64)| {
        assert_eq!(glosses[usize::try_from(id).unwrap()], label);
        (label, split, id)
    };
    rows.into_iter().map(row).collect()
}

#[test]
fn a_splits_file_gives_clips_splits_and_numbers() {
    let fixture = fixture();
    let out = fixture.path("nslt");
    // The splits file is found beside the metadata.
    let args = [
        "--splits",
        "nslt_4.json",
        "--profile",
        "corrected",
        "--keep-frames",
    ];
    let run = process(&fixture.dataset, &out, &args).ends(0);
    let run = run.stderr_contains(&[
        "2 clips have another split in nslt_4.json",
        "00002 (val, not \"train\"), 00008 (test, not \"train\")",
        "1 clips of nslt_4.json are not in WLASL_v0.3.json",
        "00099",
    ]);
    let lines = manifest_states(&out);
    let wanted = [
        "book 00001 accepted",
        "book 00002 accepted",
        "book 00005 not_selected",
        "Thanks 00003 accepted",
        "go 00004 accepted",
        "sun 00008 not_selected",
    ];
    assert_eq!(lines, wanted);
    assert_eq!(manifest(&out)[2]["reason"], "not in nslt_4.json");
    let row = |label: &str, split: &str, id| (label.to_owned(), split.to_owned(), id);
    let wanted = [
        row("book", "train", 2),
        row("book", "val", 2),
        row("Thanks", "train", 0),
        row("go", "train", 1),
    ];
    assert_eq!(joined(&out), wanted);
    let map = label_map(&out);
    assert_eq!(
        map["classes"],
        json!({"Thanks": 0, "go": 1, "book": 2, "sun": 3})
    );
    let order: Vec<&String> = map["classes"].as_object().unwrap().keys().collect();
    assert_eq!(order, ["Thanks", "go", "book", "sun"]);
    assert!(map["source"].as_str().unwrap().contains("nslt_4.json"));
    let mut batch = NpzReader::open(&out.join("batches/00000.npz")).unwrap();
    assert_eq!(batch.numbers::<i64>("label_id").unwrap().0, [2, 2, 0, 1]);
    let inspect = handloom([Path::new("inspect"), &out]).ends(0).stdout;
    assert!(inspect.contains("label_map.json"), "{inspect}");
    drop(run);

    // Resequencing keeps the numbers.
    let again = fixture.path("nslt-again");
    let paths = [Path::new("resequence"), &out, Path::new("--out"), &again];
    handloom(paths).ends(0);
    let fresh = fixture.path("nslt-notebook");
    process(&fixture.dataset, &fresh, &["--splits", "nslt_4.json"]).ends(0);
    assert_eq!(digests(&again), digests(&fresh));
    assert_eq!(manifest(&again), manifest(&fresh));
    let bytes = |out: &Path| fs::read(out.join("label_map.json")).unwrap();
    assert_eq!(bytes(&again), bytes(&fresh));
    // Its `glosses` are those that are processed.
    let mut npz = NpzReader::open(&fresh.join("wlasl_landmarks.npz")).unwrap();
    assert_eq!(npz.names(), ["sequences", "labels", "video_ids", "glosses"]);
    assert_eq!(npz.strings("glosses").unwrap(), ["book", "Thanks", "go"]);

    // Another splits file makes it another job, and so does `--only-split`.
    let csv = fixture.path("mine.csv");
    fs::write(
        &csv,
        "\u{feff}Path;Split\r\nvideos/00001.mp4;VAL\r\nx/00004.mp4;test\r\n",
    )
    .unwrap();
    let mine = [
        "--splits",
        csv.to_str().unwrap(),
        "--profile",
        "corrected",
        "--keep-frames",
    ];
    let refused = |more: &[&str], words: &[&str]| {
        process(&fixture.dataset, &out, more)
            .ends(73)
            .stderr_contains(words);
    };
    refused(&mine, &["splits_sha256 was"]);
    refused(
        &[&args[..], &["--only-split", "val"]].concat(),
        &["only_split was unset, now \"val\""],
    );
    let csv_out = fixture.path("csv");
    process(&fixture.dataset, &csv_out, &mine).ends(0);
    assert_eq!(
        joined(&csv_out),
        [row("book", "val", 0), row("go", "test", 1)]
    );
    assert_eq!(label_map(&csv_out)["classes"], json!({"book": 0, "go": 1}));
    let val = fixture.path("csv-val");
    process(
        &fixture.dataset,
        &val,
        &[&mine[..], &["--only-split", "val"]].concat(),
    )
    .ends(0);
    assert_eq!(joined(&val), [row("book", "val", 0)]);
    assert_eq!(manifest(&val)[4]["reason"], "split \"test\" is not val");
}

#[test]
fn a_job_without_a_subset_has_a_label_map_and_needs_five_clips() {
    let fixture = fixture();
    let out = fixture.path("plain");
    process(&fixture.dataset, &out, &[]).ends(1);
    let plain = ["--min-videos-per-gloss", "1"];
    process(&fixture.dataset, &out, &[&plain[..], &["--fresh"]].concat()).ends(0);
    let map = label_map(&out);
    assert_eq!(map["classes"], json!({"book": 0, "Thanks": 1, "go": 2}));
    assert_eq!(map["source"], "the glosses of wlasl_landmarks.npz");
    // A changed file is written again.
    let bytes = fs::read(out.join("label_map.json")).unwrap();
    fs::write(out.join("label_map.json"), "{}").unwrap();
    process(&fixture.dataset, &out, &plain).ends(0);
    assert_eq!(fs::read(out.join("label_map.json")).unwrap(), bytes);
}

#[test]
fn a_subset_whose_classes_are_not_known_is_refused_and_a_list_makes_them_known() {
    let fixture = fixture();
    let dataset = fixture.path("listed");
    fs::create_dir(&dataset).unwrap();
    std::os::unix::fs::symlink(fixture.dataset.join("videos"), dataset.join("videos")).unwrap();
    let json = "WLASL_v0.3.json";
    fs::copy(fixture.dataset.join(json), dataset.join(json)).unwrap();
    let out = fixture.path("of-listed");
    let subset = ["--subset", "wlasl100", "--profile", "corrected"];
    process(&dataset, &out, &subset).ends(65).stderr_contains(&[
        json,
        "100 classes of wlasl100",
        "nslt_100.json",
        "wlasl_class_list.txt",
    ]);
    let wrong = fixture.path("gone.json");
    process(&dataset, &out, &["--splits", wrong.to_str().unwrap()])
        .ends(66)
        .stderr_contains(&["gone.json", "no such file", json]);
    fs::write(
        &wrong,
        r#"{"x": {"subset": "holdout", "action": [0, 1, 9]}}"#,
    )
    .unwrap();
    process(&dataset, &out, &["--splits", wrong.to_str().unwrap()])
        .ends(65)
        .stderr_contains(&["gone.json", "\"x\"", "\"holdout\"", "train, val or test"]);
    assert!(!out.exists());

    let name = |n: usize| match n {
        7 => "go".to_owned(),
        99 => "Thanks".to_owned(),
        100 => "book".to_owned(),
        n => format!("sign {n}"),
    };
    let lines: Vec<String> = (0..120).map(|n| format!("{n}\t{}\r\n", name(n))).collect();
    fs::write(dataset.join("wlasl_class_list.txt"), lines.concat()).unwrap();
    process(&dataset, &out, &subset).ends(0);
    let wanted =
        [("Thanks", 99), ("go", 7)].map(|(label, id)| (label.to_owned(), "train".to_owned(), id));
    assert_eq!(joined(&out), wanted);
    assert_eq!(label_map(&out)["classes"].as_object().unwrap().len(), 100);
    let reason = "gloss \"book\" is not in wlasl100";
    assert_eq!(manifest(&out)[0]["reason"], reason);

    // An archive gives the same results.
    let archive = fixture.path("listed.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&archive).unwrap());
    let clips = ["00001", "00002", "00003", "00004", "00005"].map(|id| format!("videos/{id}.mp4"));
    let others = [json, "wlasl_class_list.txt"].map(str::to_owned);
    for name in clips.iter().chain(&others) {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(format!("wlasl/{name}"), options).unwrap();
        zip.write_all(&fs::read(dataset.join(name)).unwrap())
            .unwrap();
    }
    zip.finish().unwrap();
    let zipped = fixture.path("of-zipped");
    process(&archive, &zipped, &subset).ends(0);
    assert_eq!(digests(&zipped), digests(&out));
}

/// What `--list` prints of absent clips, for people and programs.
#[test]
fn absent_clips_are_listed() {
    let fixture = fixture();
    let dataset = fixture.dataset.to_str().unwrap();
    let list = [
        "process",
        dataset,
        "--list",
        "--splits",
        "nslt_4.json",
        "--progress",
    ];
    let shown = handloom([&list[..], &["bar"]].concat()).ends(0).stdout;
    let line = shown.lines().find(|line| line.starts_with("absent"));
    let line = line.unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains("00099") && line.contains("go"), "{line}");
    let run = handloom([&list[..], &["json"]].concat()).ends(0);
    let event = run.event("absent");
    assert_eq!(
        (&event["video_id"], &event["split"]),
        (&json!("00099"), &json!("test"))
    );
}

fn real(name: &str) -> Option<Vec<u8>> {
    let path = shared("goldens/metadata")?.join(name);
    Some(fs::read(path).unwrap())
}

/// Selects from `entries` by the real file `nslt`.
fn select_real(entries: &mut [Entry], subset: Option<Subset>, nslt: Option<&str>) -> Selection {
    let file = nslt.map(|name| splits::parse(name, &real(name).unwrap()).unwrap());
    let request = SelectionRequest {
        subset,
        splits: file.as_ref(),
        metadata: "WLASL_v0.3.json".to_owned(),
        ..SelectionRequest::default()
    };
    select(entries, &request).unwrap()
}

fn glosses(selection: &Selection) -> Vec<Arc<str>> {
    selection.class_order.as_ref().unwrap().glosses.clone()
}

#[test]
fn wlasl100_has_its_official_classes_and_splits() {
    let (Some(metadata), Some(list)) = (real("WLASL100.json"), real("wlasl_class_list.txt")) else {
        return;
    };
    let list = parse_class_list("wlasl_class_list.txt", &list).unwrap();
    assert_eq!(list.len(), 2000);
    for nslt in [Some("nslt_100.json"), Some("nslt_2000.json"), None] {
        let mut entries = wlasl::parse(&metadata).unwrap();
        let selection = select_real(&mut entries, Some(Subset::Wlasl100), nslt);
        assert_eq!(glosses(&selection), list[..100], "{nslt:?}");
        // No clip differs in these files, and none is absent.
        assert_eq!((selection.warnings.len(), selection.absent.len()), (0, 0));
        let options = PlanOptions {
            min_videos_per_gloss: 1,
            folds_case: false,
            ..PlanOptions::default()
        };
        let plan = plan(&entries, &options, &|_| true);
        assert_eq!((plan.jobs.len(), plan.glosses.len()), (2038, 100));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for job in &plan.jobs {
            *counts.entry(&plan.records[job.record].split).or_default() += 1;
        }
        let wanted = BTreeMap::from([("train", 1442), ("val", 338), ("test", 258)]);
        assert_eq!(counts, wanted);
    }
    // Differences are named: a clip that the metadata lacks, and one that has another split there.
    let mut entries = wlasl::parse(&metadata).unwrap();
    let taken = entries[3].instances.pop().unwrap().video_id.unwrap();
    "train".clone_into(&mut entries[0].instances[1].split);
    let moved = entries[0]
        .instances
        .iter_mut()
        .find(|i| i.split == "val")
        .unwrap();
    "test".clone_into(&mut moved.split);
    let moved = moved.video_id.clone().unwrap();
    let selection = select_real(&mut entries, None, Some("nslt_100.json"));
    let warnings: Vec<String> = selection.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings[0].contains(&format!("{moved} (val, not \"test\")")),
        "{warnings:?}"
    );
    assert!(warnings[1].ends_with(&format!(": {taken}")), "{warnings:?}");
    assert_eq!(selection.absent[0].gloss.as_deref(), Some("before"));
}

/// Entries as in `WLASL_v0.3.json`: the clips of `nslt_2000.json` without those that the metadata lacks. Three of
/// the missing clips are known by their class: counting instances gives other classes for them.
fn like_v03() -> Option<(Vec<Entry>, Vec<Arc<str>>)> {
    let first = wlasl::parse(&real("WLASL2000_first.json")?).unwrap();
    let nslt: Value = serde_json::from_slice(&real("nslt_2000.json")?).unwrap();
    let mut entries: Vec<Entry> = first;
    let glosses: Vec<Arc<str>> = entries.iter().map(|e| e.gloss.clone().unwrap()).collect();
    for entry in &mut entries {
        entry.instances.clear();
    }
    for (id, item) in nslt.as_object().unwrap() {
        let class = usize::try_from(item["action"][0].as_u64().unwrap()).unwrap();
        entries[class].instances.push(Instance {
            video_id: Some(id.as_str().into()),
            split: item["subset"].as_str().unwrap().to_owned(),
            ..Instance::default()
        });
    }
    for entry in &mut entries {
        if ["cost", "diarrhea", "ocean"].contains(&entry.gloss.as_deref().unwrap()) {
            entry.instances.pop();
        }
    }
    Some((entries, glosses))
}

#[test]
fn official_classes_are_not_those_with_the_most_instances() {
    let Some((mut entries, glosses_in_order)) = like_v03() else {
        return;
    };
    // The list has the same order, and another spelling in one place.
    let list = parse_class_list("list", &real("wlasl_class_list.txt").unwrap()).unwrap();
    let differs = glosses_in_order.iter().zip(&list).enumerate();
    let differs: Vec<_> = differs.filter(|(_, (a, b))| a != b).collect();
    assert_eq!(differs, [(163, (&"lose".into(), &"losear".into()))]);

    let counted = PlanOptions {
        min_videos_per_gloss: 1,
        max_glosses: Some(1000),
        ..PlanOptions::default()
    };
    let counted: BTreeSet<Arc<str>> = plan(&entries, &counted, &|_| true)
        .glosses
        .into_iter()
        .collect();
    for nslt in [None, Some("nslt_2000.json")] {
        let selection = select_real(&mut entries, Some(Subset::Wlasl1000), nslt);
        let official = glosses(&selection);
        assert_eq!(official, glosses_in_order[..1000]);
        let official: BTreeSet<Arc<str>> = official.into_iter().collect();
        let only = |a: &BTreeSet<Arc<str>>, b| {
            a.difference(b).map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(only(&counted, &official), ["sun", "support", "suppose"]);
        assert_eq!(only(&official, &counted), ["cost", "diarrhea", "ocean"]);
    }
    let selection = select_real(&mut entries, None, Some("nslt_2000.json"));
    assert_eq!(glosses(&selection), glosses_in_order);
    let mut absent: Vec<_> = selection
        .absent
        .iter()
        .filter_map(|c| c.gloss.as_deref())
        .collect();
    absent.sort_unstable();
    assert_eq!(absent, ["cost", "diarrhea", "ocean"]);
    let [warning] = &selection.warnings[..] else {
        panic!("{:?}", selection.warnings)
    };
    let warning = warning.to_string();
    assert!(
        warning.starts_with("3 clips of nslt_2000.json are not in WLASL_v0.3.json"),
        "{warning}"
    );
    for clip in &selection.absent {
        assert!(warning.contains(&clip.video_id), "{warning}");
    }
}
