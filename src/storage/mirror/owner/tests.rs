use super::*;
use crate::digest::Hasher;
use crate::storage::batches::{BATCH_FOLDER, FINAL_NAME};
use crate::storage::manifest::{MANIFEST_NAME, RUN_NAME};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.hex()
}

/// A mirror's folder and output folders, each with an identity, beside it.
struct OwnerFixture(TempDir);

impl OwnerFixture {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.to()).unwrap();
        place
    }

    fn to(&self) -> PathBuf {
        self.0.path().join("mirror")
    }

    /// An output folder with these files, and its mirror.
    fn out(&self, digit: &str, files: &[(&str, &str)]) -> (Mirror, Listing) {
        let out = self.0.path().join(digit);
        fs::create_dir_all(out.join(BATCH_FOLDER)).unwrap();
        let listed = files.iter().map(|(name, text)| {
            fs::write(out.join(name), text).unwrap();
            ((*name).to_owned(), sha256(text.as_bytes()))
        });
        let listing = Listing {
            identity: digit.repeat(DIGITS),
            files: listed.collect(),
            is_all: true,
        };
        (Mirror::new(&out, &self.to()), listing)
    }

    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        super::super::tests::tree(&self.to())
    }
}

const TAKES: [(&str, &str); 3] = [
    ("batches/00000.npz", "one"),
    ("batches/00001.npz", "two"),
    (MANIFEST_NAME, "lines"),
];
const OTHER: [(&str, &str); 2] = [("batches/00000.npz", "new"), (MANIFEST_NAME, "line")];

/// A synchronization of these files changes nothing in the mirror, and its error contains `words`.
#[track_caller]
fn is_left_alone(place: &OwnerFixture, (mirror, listing): &(Mirror, Listing), words: &str) {
    let before = place.tree();
    for is_all in [false, true] {
        let listing = Listing {
            is_all,
            ..listing.clone()
        };
        let error = mirror.pass(&listing, &|| false).unwrap_err();
        assert!(matches!(error, MirrorError::Foreign { .. }), "{error}");
        let text = error.to_string();
        for word in [
            words,
            "/mirror is the copy of another output",
            "an empty folder",
            "wanted back",
        ] {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
        assert!(mirror.belongs(&listing, &|| false).is_err());
        assert_eq!(mirror.waiting(&listing), listing.files.len());
    }
    assert_eq!(place.tree(), before);
}

#[test]
fn the_copy_of_another_output_folder_is_left_alone() {
    let place = OwnerFixture::new();
    let (mirror, listing) = place.out("a", &TAKES);
    assert!(mirror.belongs(&listing, &|| false).unwrap());
    assert!(place.tree().is_empty(), "looking changes nothing");
    assert_eq!(mirror.pass(&listing, &|| false).unwrap().copied, 3);
    let owner = fs::read_to_string(place.to().join(OWNER_NAME)).unwrap();
    assert_eq!(owner, format!("{}\n", listing.identity));
    // Another output folder is refused, with other files, no files or the same files.
    for files in [&OTHER[..], &[], &TAKES] {
        is_left_alone(&place, &place.out("b", files), "another identity, aaaa");
    }
    // The output folder itself may continue with other files.
    let (mirror, listing) = place.out("a", &OTHER);
    let pass = mirror.pass(&listing, &|| false).unwrap();
    assert_eq!((pass.copied, pass.removed), (2, 1));
}

#[test]
fn a_mirror_from_before_is_taken_up_when_it_is_equal() {
    let before = |change: &dyn Fn(&std::path::Path)| {
        let place = OwnerFixture::new();
        let (mirror, listing) = place.out("a", &TAKES);
        mirror.pass(&listing, &|| false).unwrap();
        fs::remove_file(place.to().join(OWNER_NAME)).unwrap();
        change(&place.to());
        place
    };
    let same = before(&|_| {});
    let (mirror, listing) = same.out("b", &TAKES);
    // Stopped before the comparison ended: nothing is changed.
    let tree = same.tree();
    let pass = mirror.pass(&listing, &|| true).unwrap();
    assert_eq!((pass.copied, pass.waiting), (0, 3));
    assert_eq!(same.tree(), tree);
    assert_eq!(mirror.pass(&listing, &|| false).unwrap().in_place, 3);
    assert!(same.to().join(OWNER_NAME).exists());
    // Equal files in part, and the partial files of an interrupted copy.
    let part = before(&|to| {
        fs::remove_file(to.join(SUMS_NAME)).unwrap();
        fs::remove_file(to.join("batches/00001.npz")).unwrap();
        fs::write(to.join("batches/.00001.npz.part"), "tw").unwrap();
        fs::write(to.join(".MIRROR_OF.part"), "b").unwrap();
        fs::write(to.join(OWNER_NAME), "").unwrap();
        fs::write(to.join("notes.txt"), "mine").unwrap();
    });
    let (mirror, listing) = part.out("b", &TAKES);
    assert_eq!(mirror.pass(&listing, &|| false).unwrap().in_place, 3);
    assert!(part.tree().keys().all(|name| !name.contains(".part")));
    // A mirror with other files belongs to another output folder.
    for (name, text) in [
        ("batches/00000.npz", "uno"),
        ("batches/00007.npz", "more"),
        (FINAL_NAME, "all"),
        (RUN_NAME, "{}"),
        (MANIFEST_NAME, ""),
        (SUMS_NAME, "of something else\n"),
    ] {
        let place = before(&|to| fs::write(to.join(name), text).unwrap());
        is_left_alone(&place, &place.out("b", &TAKES), name);
    }
    // A list that names unknown files, although these are gone.
    let place = before(&|to| fs::remove_file(to.join("batches/00001.npz")).unwrap());
    is_left_alone(&place, &place.out("b", &TAKES[..1]), SUMS_NAME);
}

#[test]
fn the_identity_is_there_before_the_first_copy() {
    let place = OwnerFixture::new();
    let (mirror, listing) = place.out("a", &TAKES);
    let pass = mirror.pass(&listing, &|| true).unwrap();
    assert_eq!(pass.waiting, 3);
    assert_eq!(place.tree().into_keys().collect::<Vec<_>>(), [OWNER_NAME]);
    is_left_alone(&place, &place.out("b", &OTHER), "another identity");
    // Without files to copy, the mirror gets no owner.
    let place = OwnerFixture::new();
    let (mirror, listing) = place.out("a", &[]);
    assert_eq!(mirror.pass(&listing, &|| false).unwrap().waiting, 0);
    assert!(place.tree().is_empty());
}
