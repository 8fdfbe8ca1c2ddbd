use super::*;
use std::os::unix::fs::symlink;
use std::sync::Barrier;

const NAMES: [&str; 2] = ["train/1/a.npy", "b.npy"];

fn identity(format: &str) -> Value {
    json!({"format": format, "source": {}})
}

fn open(path: &Path, format: &str) -> Result<Option<Destination>, ExportError> {
    let names = NAMES.map(str::to_owned).into();
    Destination::open(path, identity(format), names)
}

fn write(to: &mut Destination, name: &str) -> Result<(), ExportError> {
    to.write(name, |file| Ok(file.write_all(b"ours")?))?;
    to.record(name, Vec::new())
}

/// Writes all files of an export into `path`.
fn export(path: &Path, format: &str) -> Result<usize, ExportError> {
    let Some(mut to) = open(path, format)? else {
        return Ok(0);
    };
    for name in NAMES {
        write(&mut to, name)?;
    }
    to.finish(&[])
}

#[test]
fn partial_files_are_removed_by_their_exact_names_and_never_through_a_link() {
    let [dest, victim] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (dest, victim) = (dest.path(), victim.path());
    drop(open(dest, "npy").unwrap());
    let partial = ".a.npy.0123456789abcdef.part";
    fs::create_dir(dest.join("train")).unwrap();
    fs::create_dir(victim.join("1")).unwrap();
    for name in [".x.part", partial, "1/.x.part"] {
        fs::write(victim.join(name), "theirs").unwrap();
    }
    let refused = |link: &Path, target: &Path| {
        symlink(target, link).unwrap();
        let error = export(dest, "npy").unwrap_err().to_string();
        assert!(error.contains("1 is a link") || error.contains("train is a link"));
        fs::remove_file(link).unwrap();
    };
    refused(&dest.join("train/1"), victim);
    fs::remove_dir(dest.join("train")).unwrap();
    refused(&dest.join("train"), victim);
    assert!(victim.join(partial).exists() && victim.join("1/.x.part").exists());
    assert_eq!(fs::read_dir(victim.join("1")).unwrap().count(), 1);

    fs::create_dir_all(dest.join("train/1")).unwrap();
    let foreign = [".draft.part", ".draft.0123456789abcdef.part", ".b.npy.part"];
    for name in foreign {
        fs::write(dest.join(name), "theirs").unwrap();
    }
    let ours = [
        format!("train/1/{partial}"),
        ".b.npy.0123456789abcdef.part".to_owned(),
    ];
    for name in &ours {
        fs::write(dest.join(name), "half").unwrap();
    }
    assert_eq!(export(dest, "npy").unwrap(), 2);
    assert!(foreign.iter().all(|name| dest.join(name).exists()));
    assert!(ours.iter().all(|name| !dest.join(name).exists()));
}

#[test]
fn of_two_exports_at_once_one_alone_writes_the_folder() {
    for _ in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("dest");
        let start = Barrier::new(2);
        let run = |format| {
            start.wait();
            export(&dest, format).map(|_| format)
        };
        let done: Vec<&str> = std::thread::scope(|scope| {
            let threads = ["npy", "pose"].map(|format| scope.spawn(move || run(format)));
            let ends = threads.map(|thread| thread.join().unwrap());
            ends.into_iter().flatten().collect()
        });
        let [format] = done[..] else {
            panic!("done: {done:?}");
        };
        let dataset = read_dataset(&dest.join(DATASET_NAME)).unwrap().unwrap();
        assert_eq!(dataset["format"], format);
        assert!(!dest.join(LOCK_NAME).exists() && !dest.join(JOURNAL_NAME).exists());
    }
}

#[test]
fn dataset_json_names_all_files_of_the_export_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("dest");
    export(&dest, "npy").unwrap();
    let path = dest.join(DATASET_NAME);
    let whole = read_dataset(&path).unwrap().unwrap();
    let outside = dir.path().join("outside");
    fs::write(&outside, "ours").unwrap();
    let sha256 = file_sha256(&outside).unwrap();
    for files in [
        json!({}),
        Value::Null,
        json!({"b.npy": sha256}),
        json!({"../outside": sha256, "b.npy": sha256}),
        json!({"train/1/a.npy": sha256, "b.npy": sha256, "../outside": sha256}),
    ] {
        let mut dataset = whole.clone();
        dataset[FILES_KEY] = files;
        fs::write(&path, dataset.to_string()).unwrap();
        let error = export(&dest, "npy").unwrap_err().to_string();
        assert!(
            error.contains("dataset.json is missing or has changed"),
            "{error}"
        );
    }
    fs::write(&path, whole.to_string()).unwrap();
    assert_eq!(export(&dest, "npy").unwrap(), 0);
}

#[test]
fn a_journal_of_any_size_is_read_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut to = open(dir.path(), "npy").unwrap().unwrap();
    write(&mut to, NAMES[1]).unwrap();
    drop(to);
    let journal = dir.path().join(JOURNAL_NAME);
    append_line(
        dir.path(),
        JOURNAL_NAME,
        r#"{"name": "../other", "sha256": "", "facts": []}"#,
    )
    .unwrap();
    // A sparse file: 3 GB without a line end.
    let file = File::options().append(true).open(&journal).unwrap();
    file.set_len(3 << 30).unwrap();
    let mut to = open(dir.path(), "npy").unwrap().unwrap();
    assert!(to.has(NAMES[1]) && to.known.len() == 1);
    assert!(fs::metadata(&journal).unwrap().len() < 1000);
}
