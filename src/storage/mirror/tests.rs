use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::LazyLock;
use tempfile::TempDir;

fn sha256(bytes: &[u8]) -> String {
    let mut bytes = bytes;
    stream(
        &mut bytes,
        &mut io::sink(),
        &|| false,
        CopyInterrupt::Medium,
    )
    .unwrap()
}

/// An output folder, a mirror's folder, and the files that belong in it.
struct MirrorFixture {
    dir: TempDir,
    files: Vec<Listed>,
}

impl MirrorFixture {
    /// Three batches, the first longer than a chunk, and a final file.
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            files: Vec::new(),
        };
        fs::create_dir_all(place.from().join("batches")).unwrap();
        fs::create_dir(place.to()).unwrap();
        let mut files = Vec::new();
        let sizes = [("batches/00000.npz", 600_000), ("batches/00001.npz", 1_000)];
        for (name, size) in sizes
            .into_iter()
            .chain([("batches/00002.npz", 0), ("manifest.jsonl", 70_000)])
        {
            let bytes: Vec<u8> = (0..size)
                .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect();
            fs::write(place.from().join(name), &bytes).unwrap();
            files.push((name.to_owned(), sha256(&bytes)));
        }
        Self { files, ..place }
    }

    fn from(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("mirror")
    }

    fn mirror(&self) -> Mirror {
        Mirror::new(&self.from(), &self.to())
    }

    /// All its files.
    fn listing(&self) -> Listing {
        Listing {
            identity: "1".repeat(32),
            files: self.files.clone(),
            is_all: true,
        }
    }

    fn pass(&self) -> Result<SyncReport, MirrorError> {
        self.mirror().pass(&self.listing(), &|| false)
    }

    /// Everything in the mirror: path and bytes.
    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        tree(&self.to())
    }

    /// The mirror after an uninterrupted synchronization.
    fn canonical() -> &'static BTreeMap<String, Vec<u8>> {
        static TREE: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
            let place = MirrorFixture::new();
            place.pass().unwrap();
            place.tree()
        });
        &TREE
    }

    /// `sha256sum` accepts every line of the list.
    fn check_sums(&self) {
        if self
            .to()
            .join(SUMS_NAME)
            .metadata()
            .is_ok_and(|m| m.len() > 0)
        {
            let check = ["--check", "--strict", "--quiet", SUMS_NAME];
            let checked = Command::new("sha256sum")
                .args(check)
                .current_dir(self.to())
                .output();
            let checked = checked.unwrap();
            assert!(checked.status.success(), "{checked:?}");
        }
    }
}

pub(super) fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

fn assert_error_contains<T: std::fmt::Debug>(result: Result<T, MirrorError>, words: &[&str]) {
    let error = result.unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

#[test]
fn a_pass_copies_what_is_missing_and_nothing_twice() {
    let place = MirrorFixture::new();
    assert_eq!(place.mirror().waiting(&place.listing()), 4);
    let whole = SyncReport {
        copied: 4,
        removed: 0,
        in_place: 4,
        waiting: 0,
    };
    assert_eq!(place.pass().unwrap(), whole);
    assert_eq!(place.mirror().waiting(&place.listing()), 0);
    let tree = place.tree();
    assert_eq!(tree.len(), 6);
    for (name, sum) in &place.files {
        assert_eq!(sha256(&tree[name]), *sum, "{name}");
    }
    place.check_sums();
    assert_eq!(place.pass().unwrap(), SyncReport { copied: 0, ..whole });
    // A copy in place is neither written again nor read.
    fs::write(place.to().join("batches/00001.npz"), vec![7; 1_000]).unwrap();
    assert_eq!(place.pass().unwrap(), SyncReport { copied: 0, ..whole });
}

#[test]
fn the_mirrors_folder_is_never_made() {
    let place = MirrorFixture::new();
    place.pass().unwrap();
    let (to, away) = (place.to(), place.dir.path().join("away"));
    fs::rename(&to, &away).unwrap();
    assert_error_contains(
        place.pass(),
        &[
            "is away",
            "mount the medium",
            &format!("mkdir -p {}", to.display()),
        ],
    );
    // It is not made either when it vanishes after the check and before the first folder is made.
    let late = place.mirror().make_folders("batches/00000.npz");
    assert_eq!(late.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!to.exists());
    assert_eq!(place.mirror().waiting(&place.listing()), 4);
    // The mirror returns with all its files.
    fs::rename(&away, &to).unwrap();
    assert_eq!(place.pass().unwrap().copied, 0);
    // Another, empty folder is at its path.
    fs::rename(&to, &away).unwrap();
    fs::create_dir(&to).unwrap();
    assert_eq!(place.pass().unwrap().copied, 4);
    assert_eq!(&place.tree(), MirrorFixture::canonical());
    // A file is at its path.
    fs::rename(&to, place.dir.path().join("third")).unwrap();
    fs::write(&to, b"").unwrap();
    assert_error_contains(place.pass(), &["the mirror fails at", "ot a directory"]);
}

#[test]
fn a_medium_that_goes_in_the_middle_is_away() {
    let place = MirrorFixture::new();
    let (to, away) = (place.to(), place.dir.path().join("away"));
    let polls = Cell::new(0);
    let pull = || {
        polls.set(polls.get() + 1);
        if polls.get() == 7 {
            fs::rename(&to, &away).unwrap();
        }
        false
    };
    assert_error_contains(place.mirror().pass(&place.listing(), &pull), &["is away"]);
    assert!(!to.exists());
    fs::rename(&away, &to).unwrap();
    assert!(place.pass().unwrap().copied > 0);
    assert_eq!(&place.tree(), MirrorFixture::canonical());
}

#[test]
fn any_interruption_ends_in_the_same_mirror() {
    let canonical = MirrorFixture::canonical();
    let count = Cell::new(0);
    let counting = || {
        count.set(count.get() + 1);
        false
    };
    let place = MirrorFixture::new();
    place.mirror().pass(&place.listing(), &counting).unwrap();
    let polls = count.get();
    assert!(polls > 12, "{polls}");
    for at in 1..=polls {
        let reached = |count: &Cell<usize>| {
            count.set(count.get() + 1);
            count.get() == at
        };
        // Stopped: no partial copy remains.
        let place = MirrorFixture::new();
        count.set(0);
        let pass = place
            .mirror()
            .pass(&place.listing(), &|| reached(&count))
            .unwrap();
        assert!(
            pass.waiting > 0 && pass.in_place + pass.waiting == 4,
            "{pass:?}"
        );
        assert!(place.tree().keys().all(|name| !name.contains(".part")));
        place.check_sums();
        assert_eq!(place.pass().unwrap().copied, pass.waiting);
        assert_eq!(&place.tree(), canonical, "stopped at {at}");
        // Killed: the next synchronization removes partial copies.
        let place = MirrorFixture::new();
        count.set(0);
        let die = || !reached(&count) || panic!("killed");
        let killed = || {
            let never = || !die();
            place.mirror().pass(&place.listing(), &never)
        };
        assert!(catch_unwind(AssertUnwindSafe(killed)).is_err());
        place.check_sums();
        place.pass().unwrap();
        assert_eq!(&place.tree(), canonical, "killed at {at}");
    }
}

#[test]
fn batches_of_an_earlier_job_go_and_nothing_else() {
    let mut place = MirrorFixture::new();
    place.pass().unwrap();
    let canonical = place.tree();
    let foreign = [
        "notes.txt",
        "batches/mine.npz",
        "batches/.mine.npz.part",
        "batches/00008.npz",
        ".other.part",
    ];
    let to = place.to();
    for name in foreign {
        fs::write(to.join(name), b"mine").unwrap();
    }
    let outside = place.dir.path().join("00009.npz");
    fs::write(&outside, b"precious").unwrap();
    let mut sums = fs::read_to_string(to.join(SUMS_NAME)).unwrap();
    for name in [
        "notes.txt",
        "batches/mine.npz",
        "batches/../../00009.npz",
        "/etc/hostname",
    ] {
        sums += &["0".repeat(64), name.to_owned()].join("  ");
        sums += "\n";
    }
    sums += "no line of ours\n\u{fffd}\n";
    fs::write(to.join(SUMS_NAME), &sums).unwrap();
    // Partial files of a killed process, also of a batch that is no longer in the listing.
    for partial in [
        "batches/.00001.npz.part",
        "batches/.00007.npz.part",
        ".SHA256SUMS.part",
    ] {
        fs::write(to.join(partial), b"half").unwrap();
    }
    place.files.remove(2);
    let pass = place.pass().unwrap();
    assert_eq!(
        pass,
        SyncReport {
            copied: 0,
            removed: 1,
            in_place: 3,
            waiting: 0
        }
    );
    let mut expected = canonical;
    expected.remove("batches/00002.npz");
    for name in foreign {
        expected.insert(name.to_owned(), b"mine".to_vec());
    }
    let lines = expected.get_mut(SUMS_NAME).unwrap();
    let kept = String::from_utf8(lines.clone()).unwrap();
    let kept = kept.lines().filter(|line| !line.ends_with("00002.npz"));
    *lines = kept
        .map(|line| format!("{line}\n"))
        .collect::<Vec<_>>()
        .concat()
        .into_bytes();
    assert_eq!(place.tree(), expected);
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
    place.check_sums();
    let early = |files: &[Listed]| Listing {
        files: files.to_vec(),
        is_all: false,
        ..place.listing()
    };
    // A new job leaves the copies of the earlier one, which may be the only ones, until the new job is finished.
    let pass = place.mirror().pass(&early(&[]), &|| false).unwrap();
    assert_eq!((pass.removed, pass.in_place), (0, 0));
    assert_eq!(place.tree(), expected);
    fs::write(place.from().join("batches/00000.npz"), b"new").unwrap();
    let new = [("batches/00000.npz".to_owned(), sha256(b"new"))];
    let pass = place.mirror().pass(&early(&new), &|| false).unwrap();
    assert_eq!((pass.copied, pass.removed), (1, 0));
    assert_eq!(place.tree()["batches/00000.npz"], b"new");
    assert!(to.join("batches/00001.npz").exists());
    place.check_sums();
    // Without any file, an empty list remains.
    place.files.clear();
    assert_eq!(place.pass().unwrap().removed, 3);
    assert_eq!(fs::read(to.join(SUMS_NAME)).unwrap(), b"");
    assert!(to.join("notes.txt").exists());
}

#[test]
fn a_source_that_changed_is_not_copied_and_the_others_are() {
    let place = MirrorFixture::new();
    let changed = place.from().join("batches/00000.npz");
    fs::write(&changed, vec![1; 600_000]).unwrap();
    assert_error_contains(
        place.pass(),
        &[
            "00000.npz has changed",
            &place.files[0].1,
            "copy of it back",
        ],
    );
    assert_eq!(place.tree().len(), 5);
    assert_eq!(place.mirror().waiting(&place.listing()), 1);
    // The source is missing or is a folder.
    fs::remove_file(&changed).unwrap();
    assert_error_contains(place.pass(), &["cannot read", "batches/00000.npz"]);
    fs::create_dir(&changed).unwrap();
    assert_error_contains(place.pass(), &["cannot read", "batches/00000.npz"]);
    assert!(place.tree().keys().all(|name| !name.contains("00000")));
    place.check_sums();
    // A copy stays in the mirror when the output folder has lost the file.
    fs::remove_file(place.from().join("batches/00001.npz")).unwrap();
    assert_error_contains(place.pass(), &["batches/00000.npz"]);
    assert!(place.tree().contains_key("batches/00001.npz"));
    assert_eq!(place.mirror().waiting(&place.listing()), 1);
}

#[test]
fn a_rewritten_file_replaces_its_copy() {
    let mut place = MirrorFixture::new();
    place.pass().unwrap();
    let rewritten = vec![9; 70_000];
    fs::write(place.from().join("manifest.jsonl"), &rewritten).unwrap();
    place.files[3].1 = sha256(&rewritten);
    // Stopped before the copy: the list no longer contains the old copy.
    let pass = place.mirror().pass(&place.listing(), &|| true).unwrap();
    assert_eq!((pass.copied, pass.waiting), (0, 1));
    assert!(
        !fs::read_to_string(place.to().join(SUMS_NAME))
            .unwrap()
            .contains("manifest.jsonl")
    );
    assert_eq!(place.pass().unwrap().copied, 1);
    assert_eq!(place.tree()["manifest.jsonl"], rewritten);
    place.check_sums();
}

#[test]
fn a_medium_that_gives_back_something_else_is_failing() {
    let place = MirrorFixture::new();
    let partial = || {
        let entries = fs::read_dir(place.to().join("batches")).ok()?;
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|e| e == "part"))
    };
    let is_flipped = Cell::new(false);
    let flip_once = || {
        // At the first call after all bytes were written.
        if !is_flipped.get()
            && let Some(partial) = partial()
            && fs::metadata(&partial).is_ok_and(|m| m.len() == 600_000)
        {
            let mut bytes = fs::read(&partial).unwrap();
            bytes[300_000] ^= 1;
            fs::write(&partial, &bytes).unwrap();
            is_flipped.set(true);
        }
        false
    };
    assert_error_contains(
        place.mirror().pass(&place.listing(), &flip_once),
        &["batches/00000.npz reads back other", "replace it"],
    );
    assert!(place.tree().into_keys().eq([OWNER_NAME]));
    assert_eq!(place.pass().unwrap().copied, 4);
}

#[test]
fn a_copy_that_changed_is_found_and_copied_again() {
    let place = MirrorFixture::new();
    let (mirror, listing) = (place.mirror(), place.listing());
    let verify = || mirror.verify(&listing, &|| false).unwrap();
    assert!(verify().is_empty(), "not ours yet");
    place.pass().unwrap();
    assert!(verify().is_empty());
    let copy = place.to().join("batches/00001.npz");
    let mut bytes = fs::read(&copy).unwrap();
    bytes[500] ^= 4;
    fs::write(&copy, bytes).unwrap();
    assert!(
        mirror.verify(&listing, &|| true).unwrap().is_empty(),
        "stopped"
    );
    assert_eq!(verify(), ["batches/00001.npz"]);
    assert_eq!(mirror.waiting(&listing), 1);
    assert_eq!(place.pass().unwrap().copied, 1);
    assert_eq!(&place.tree(), MirrorFixture::canonical());
    assert!(verify().is_empty());
}

#[test]
fn a_pipe_in_place_of_a_file_is_not_waited_for() {
    for name in ["MIRROR_OF", "SHA256SUMS"] {
        let place = MirrorFixture::new();
        let pipe = place.to().join(name);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let words = [&pipe.display().to_string(), "no plain file", "rm "];
        assert_error_contains(place.pass(), &words);
        fs::remove_file(&pipe).unwrap();
        place.pass().unwrap();
        // A copy that became a pipe is copied again.
        let copy = place.to().join("batches/00000.npz");
        fs::remove_file(&copy).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&copy).status();
        assert!(made.unwrap().success());
        place.pass().unwrap();
        assert_eq!(&place.tree(), MirrorFixture::canonical());
    }
}

#[test]
fn nothing_is_written_or_removed_through_a_link() {
    let place = MirrorFixture::new();
    let elsewhere = place.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for name in ["00000.npz", ".00000.npz.part"] {
        fs::write(elsewhere.join(name), "theirs").unwrap();
    }
    let link =
        |name: &str, to: &Path| std::os::unix::fs::symlink(to, place.to().join(name)).unwrap();
    link("batches", &elsewhere);
    let linked = place.to().join("batches").display().to_string();
    assert_error_contains(
        place.pass(),
        &[&format!("{linked} is a link"), "rm ", "resumes by itself"],
    );
    fs::remove_file(place.to().join("batches")).unwrap();
    let victim = elsewhere.join("00000.npz");
    for name in [".MIRROR_OF.part", ".SHA256SUMS.part"] {
        link(name, &victim);
    }
    place.pass().unwrap();
    assert_eq!(&place.tree(), MirrorFixture::canonical());
    assert_eq!(
        tree(&elsewhere).into_values().collect::<Vec<_>>(),
        [b"theirs", b"theirs"]
    );
}

#[test]
fn a_name_cannot_lead_outside() {
    let mut place = MirrorFixture::new();
    for name in ["../x", "/etc/x", "", "a\nb", "a\\b", "./.."] {
        place.files = vec![(name.to_owned(), "0".repeat(64))];
        assert_error_contains(place.pass(), &["cannot be mirrored"]);
    }
    assert!(place.tree().is_empty());
}

#[test]
fn a_full_writer_ends_the_copy() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 {
                Err(ErrorKind::StorageFull.into())
            } else {
                Ok(taken)
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let bytes = vec![1; 1_000_000];
    let copy = |room| {
        stream(
            &mut bytes.as_slice(),
            &mut Full(room),
            &|| false,
            CopyInterrupt::Medium,
        )
    };
    assert!(
        matches!(copy(999_999), Err(CopyInterrupt::Medium(e)) if e.kind() == ErrorKind::StorageFull)
    );
    assert_eq!(copy(1_000_000).unwrap(), sha256(&bytes));
}

/// A small file system in memory, unmounted when dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", "size=800k", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(at).output();
        mounted
            .is_ok_and(|m| m.status.success())
            .then_some(Self(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        // The test may already have failed; its folder then stays.
        Command::new("umount")
            .arg("--lazy")
            .arg(self.0)
            .status()
            .ok();
    }
}

#[test]
fn a_full_medium_is_reported_and_copying_resumes_when_there_is_space() {
    let place = MirrorFixture::new();
    let to = place.to();
    let Some(medium) = Small::mount(&to) else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let mirror = Mirror::new(&place.from(), &to.join("out"));
    let pass = || mirror.pass(&place.listing(), &|| false);
    assert_error_contains(pass(), &["is away", "mirror/out"]);
    fs::create_dir(to.join("out")).unwrap();
    let filler = to.join("filler");
    fs::write(&filler, vec![0; 300_000]).unwrap();
    assert_error_contains(
        pass(),
        &["batches/00000.npz", "No space left", "resumes by itself"],
    );
    let left = tree(&to.join("out"));
    assert!(
        left.keys().all(|name| !name.contains(".part")),
        "{:?}",
        left.keys()
    );
    fs::remove_file(&filler).unwrap();
    assert_eq!(pass().unwrap().copied, 4);
    assert_eq!(&tree(&to.join("out")), MirrorFixture::canonical());
    // The medium is unmounted: the mount point stays empty.
    drop(medium);
    assert_error_contains(pass(), &["is away"]);
    assert!(place.tree().is_empty());
}

proptest! {
    // Each case syncs some twenty times.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// One synchronization repairs any mirror that an interrupted process, another job or a person has left.
    #[test]
    fn one_pass_repairs_any_mirror(
        states in proptest::collection::vec(0..6_u8, 4),
        listed in proptest::collection::vec(0..3_u8, 4),
        has_partial in any::<bool>(),
    ) {
        let place = MirrorFixture::new();
        fs::create_dir(place.to().join("batches")).unwrap();
        fs::write(place.to().join(OWNER_NAME), format!("{}\n", place.listing().identity)).unwrap();
        let mut sums = String::new();
        for (n, (name, sum)) in place.files.iter().enumerate() {
            let path = place.to().join(name);
            let bytes = fs::read(place.from().join(name)).unwrap();
            // A synchronization does not detect wrong bytes of the right size with a right line.
            match states[n] {
                0 => {}
                1 => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                2 => fs::write(&path, [&bytes[..], b"more"].concat()).unwrap(),
                3 if listed[n] < 2 => fs::write(&path, vec![3; bytes.len()]).unwrap(),
                4 => {
                    let partial = format!(".{}.00000000000000ff.part", path.file_name().unwrap().display());
                    fs::write(path.with_file_name(partial), &bytes).unwrap();
                }
                _ => fs::write(&path, &bytes).unwrap(),
            }
            // An empty file cannot be cut short; its other states are all right ones.
            match listed[n] {
                0 => continue,
                1 => sums += &["a".repeat(64).as_str(), name].join("  "),
                _ => sums += &[sum.as_str(), name].join("  "),
            }
            sums.push('\n');
        }
        fs::write(place.to().join(SUMS_NAME), sums).unwrap();
        if has_partial {
            fs::write(place.to().join(".SHA256SUMS.part"), b"half").unwrap();
        }
        let waiting = place.mirror().waiting(&place.listing());
        let pass = place.pass().unwrap();
        prop_assert_eq!(pass, SyncReport { copied: waiting, removed: 0, in_place: 4, waiting: 0 });
        prop_assert_eq!(&place.tree(), MirrorFixture::canonical());
    }
}

/// A folder within the mirror is made, the mirror is not.
#[test]
fn a_folder_within_the_mirror_is_made_and_the_mirror_never() {
    let place = MirrorFixture::new();
    let mirror = Mirror::within(&place.from(), &place.to(), "camera");
    let pass = |files: &[Listed]| {
        let listing = Listing {
            files: files.to_vec(),
            ..place.listing()
        };
        mirror.pass(&listing, &|| false)
    };
    assert_eq!(pass(&[]).unwrap(), SyncReport::default());
    assert!(place.tree().is_empty(), "nothing to copy, nothing made");
    assert_eq!(mirror.waiting(&place.listing()), place.files.len());
    assert_eq!(pass(&place.files).unwrap().copied, place.files.len());
    assert_eq!(
        tree(&place.to().join("camera")),
        *MirrorFixture::canonical()
    );
    assert_eq!(mirror.waiting(&place.listing()), 0);
    fs::remove_dir_all(place.to()).unwrap();
    let away = pass(&place.files).unwrap_err();
    assert!(
        matches!(&away, MirrorError::Away { path } if *path == place.to()),
        "{away}"
    );
    assert!(!place.to().exists());
}
