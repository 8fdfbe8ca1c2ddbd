//! Sets of shards that cannot be joined.

use super::{FIXTURE, FLAGS, SHARDED, Sharded, merge, results, run};
use handloom::shard::record::ShardRecord;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use test_support::copy_folder;

const SECOND: &str = "shard-00001-of-00003";

/// Copies the shards and applies `change` to the folder of the second one.
fn changed(sharded: &Sharded, name: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let out = sharded.path(name);
    copy_folder(&sharded.out, &out);
    change(&out.join(SECOND));
    out
}

/// Changes the `shard.json` in `folder` and updates its checksum.
fn edit(folder: &Path, change: impl FnOnce(&mut ShardRecord)) {
    let path = folder.join("shard.json");
    let mut record = ShardRecord::parse(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_json()).unwrap();
}

/// Flips a bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The first file in a folder.
fn first_file(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    files.filter(|path| path.is_file()).min().unwrap()
}

type Change = fn(&Path);

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn broken_shards_are_refused_with_what_makes_them_right() {
    let sharded = &*SHARDED;
    let cases: [(&str, i32, Change, &[&str]); 13] = [
        (
            "no-marker",
            66,
            |shard| fs::remove_file(shard.join("shard.json")).unwrap(),
            &["has no shard.json", "--shard 1/3`"],
        ),
        (
            "half-marker",
            65,
            |shard| {
                let path = shard.join("shard.json");
                let bytes = fs::read(&path).unwrap();
                fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            },
            &["shard.json", "EOF", "--shard 1/3`"],
        ),
        (
            "flipped-marker",
            65,
            |shard| {
                let path = shard.join("shard.json");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replacen("\"clips\": ", "\"clips\": 1", 1)).unwrap();
            },
            &["its checksum is wrong", "--shard 1/3`"],
        ),
        (
            "newer",
            65,
            |shard| {
                let path = shard.join("shard.json");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
            },
            &["in format 2", "use the newer program"],
        ),
        (
            "flipped-batch",
            65,
            |shard| flip(&first_file(&shard.join("batches"))),
            &["batches/0", "missing or has changed", "--shard 1/3`"],
        ),
        (
            "no-batch",
            65,
            |shard| fs::remove_file(first_file(&shard.join("batches"))).unwrap(),
            &["batches/0", "missing or has changed", "--shard 1/3`"],
        ),
        (
            "flipped-frames",
            65,
            |shard| flip(&first_file(&shard.join("frames"))),
            &["frames/0", "missing or has changed", "--shard 1/3`"],
        ),
        (
            "flipped-manifest",
            65,
            |shard| flip(&shard.join("manifest.jsonl")),
            &["manifest.jsonl", "missing or has changed", "--shard 1/3`"],
        ),
        (
            "no-run",
            65,
            |shard| fs::remove_file(shard.join("run.json")).unwrap(),
            &["run.json", "missing or has changed", "--shard 1/3`"],
        ),
        (
            "other-settings",
            65,
            |shard| {
                edit(shard, |record| {
                    record.settings["sequence_length"] = json!(16);
                });
            },
            &["its sequence_length is 16, not 32", "--shard 1/3`"],
        ),
        (
            "other-model",
            65,
            |shard| {
                edit(shard, |record| {
                    record.settings["hand_model_sha256"] = json!("00");
                });
            },
            &["its hand_model_sha256 is \"00\", not", "--shard 1/3`"],
        ),
        (
            "other-plan",
            65,
            |shard| edit(shard, |record| record.plan_sha256 = "00".to_owned()),
            &["planned over another dataset", "--shard 1/3`"],
        ),
        (
            "batch-twice",
            65,
            |shard| {
                let first = shard.parent().unwrap().join("shard-00000-of-00003");
                let first = fs::read(first.join("shard.json")).unwrap();
                let first = ShardRecord::parse(&first).unwrap();
                edit(shard, |record| {
                    record.owned.insert(0, first.owned[0].clone());
                });
            },
            &["is in the shards 0/3 and 1/3", "exactly one shard"],
        ),
    ];
    for (name, code, change, expected) in cases {
        let out = changed(sharded, name, change);
        let merged = sharded.path(&format!("{name}-merged"));
        merge(&merged, &[&out], &[])
            .ends(code)
            .stderr_contains(expected);
        assert!(!merged.join("run.json").exists(), "{name}");
        fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let sharded = &*SHARDED;
    let merged = sharded.path("mixed-merged");
    // A shard of a job with another number of shards.
    let two = sharded.path("two-shards");
    let flags = [&FLAGS[..], &["--shard", "0/2"]].concat();
    run(&FIXTURE.dataset, &two, &flags).ends(0);
    let other = merge(&merged, &[&sharded.out, &two], &[]).ends(65);
    other.stderr_contains(&["one of 2 shards, not of 3", "or remove the wrong folder"]);
    // The shard that differs is named, also when it comes first.
    let first = merge(&merged, &[&two, &sharded.out], &[]).ends(65);
    first.stderr_contains(&[
        &format!("{}/shard-00000-of-00002 is no shard", two.display()),
        "one of 2 shards, not of 3",
    ]);
    let odd = sharded.path("odd");
    copy_folder(&sharded.out, &odd);
    edit(&odd.join("shard-00000-of-00003"), |record| {
        record.settings["batch_size"] = json!(5);
    });
    merge(&merged, &[&odd], &[]).ends(65).stderr_contains(&[
        "shard-00000-of-00003 is no shard of the same job",
        "its batch_size is 5, not 3",
        "--shard 0/3`",
        "shard-00001-of-00003/run.json",
    ]);
    // The same folder twice, and an equal copy.
    let copy = sharded.path("copy");
    copy_folder(&sharded.out.join(SECOND), &copy.join(SECOND));
    let shards = [&*sharded.out, &*copy, &sharded.out.join(SECOND)];
    let twice = merge(&merged, &shards, &[]).ends(0);
    twice.stderr_contains(&["both hold shard 1/3, with equal results", "is given twice"]);
    assert_eq!(results(&merged), results(&sharded.whole));
    // A copy with other results.
    edit(&copy.join(SECOND), |record| record.owned[0].lines += 1);
    let doubled = merge(&merged, &shards, &[]).ends(65);
    doubled.stderr_contains(&[
        "both hold shard 1/3, with different results",
        "--shard 1/3`",
    ]);
    // A shard of another architecture is refused.
    let foreign = changed(sharded, "foreign", |shard| {
        edit(shard, |record| {
            record.settings["accelerator"]["cpu"]["architecture"] = json!("aarch64");
        });
    });
    merge(&sharded.path("foreign-merged"), &[&foreign], &[])
        .ends(65)
        .stderr_contains(&[
            "on a processor of the kind aarch64, not",
            "round differently",
        ]);
    // A shard of another processor causes a warning.
    let mixed = changed(sharded, "machines", |shard| {
        edit(shard, |record| {
            record.processor = "aarch64 asimd".to_owned();
        });
    });
    let warned = merge(&sharded.path("machines-merged"), &[&mixed], &[]).ends(0);
    warned.stderr_contains(&["different processors", "aarch64 asimd", "last bits"]);
}

#[test]
fn a_merge_of_other_shards_leaves_a_whole_folder_unless_all_are_right() {
    let sharded = &*SHARDED;
    let merged = sharded.path("again-merged");
    merge(&merged, &[&sharded.out], &[]).ends(0);
    let (before, run) = (results(&merged), merged.join("run.json"));
    let first = fs::read(&run).unwrap();
    // The shard is made again with equal batches. Then one of them breaks.
    let again = changed(sharded, "again", |shard| {
        edit(shard, |record| record.version = "another".to_owned());
    });
    let batch = first_file(&again.join(SECOND).join("batches"));
    flip(&batch);
    merge(&merged, &[&again], &[])
        .ends(65)
        .stderr_contains(&["missing or has changed"]);
    assert_eq!(fs::read(&run).unwrap(), first);
    assert_eq!(results(&merged), before);
    assert!(!merged.join(".merge.json").exists());
    flip(&batch);
    // The folder of an unfinished attempt on another machine is named.
    fs::create_dir(again.join(format!(".{SECOND}.host-1-0"))).unwrap();
    merge(&merged, &[&again], &[])
        .ends(0)
        .stderr_contains(&[".host-1-0", "rm -r OUT/.shard-*"]);
    assert_ne!(fs::read(&run).unwrap(), first);
    assert_eq!(results(&merged), before);
}

#[test]
fn other_folders_stay_as_they_are() {
    let sharded = &*SHARDED;
    let merge = |out: &Path, from: &Path| merge(out, &[from], &[]);
    // In turn: results of another job, other files, a shard's folder, nothing to join.
    merge(&sharded.whole, &sharded.out)
        .ends(73)
        .stderr_contains(&["holds the results of another job"]);
    let notes = sharded.path("notes");
    fs::create_dir(&notes).unwrap();
    fs::write(notes.join("notes.txt"), "mine").unwrap();
    merge(&notes, &sharded.out)
        .ends(73)
        .stderr_contains(&["holds other files", "choose another folder"]);
    assert_eq!(fs::read_dir(&notes).unwrap().count(), 1);
    merge(&sharded.out.join(SECOND), &sharded.out)
        .ends(64)
        .stderr_contains(&["is the folder of the shard"]);
    merge(&sharded.path("none"), &notes)
        .ends(66)
        .stderr_contains(&["holds no folder like shard-00000-of-00004"]);
    merge(&sharded.path("none"), &sharded.path("nowhere"))
        .ends(66)
        .stderr_contains(&["nowhere"]);
    // The merged shards of another job.
    let (one, merged) = (sharded.path("one"), sharded.path("one-merged"));
    run(&FIXTURE.dataset, &one, &["--shard", "0/1"]).ends(0);
    merge(&merged, &one).ends(0);
    merge(&merged, &sharded.out)
        .ends(73)
        .stderr_contains(&["the merged shards of another job"]);
    assert!(!sharded.path("none").exists());
}
