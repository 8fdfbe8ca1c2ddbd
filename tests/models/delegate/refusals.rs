//! Plugins that cannot be loaded, what they refuse, and models that are not the pinned ones.

use super::{BUNDLE, open};
use handloom::hand::Model;
use handloom::inference::model_files::ModelFile;
use handloom::inference::{BackendError, DelegateSpec};
use std::fs;
use std::path::Path;
use test_support::plugin::{library, spec};
use test_support::{models, scratch};

#[test]
fn load_errors_are_distinguished() {
    let folder = scratch();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let plugin = fs::read(library()).unwrap();
    let mut foreign = plugin.clone();
    // The ELF machine: 183 is aarch64, 62 is x86_64.
    foreign[18] = if foreign[18] == 183 { 62 } else { 183 };
    let check = |library: &Path, expected: &[&str]| {
        let spec = DelegateSpec {
            library: library.to_path_buf(),
            ..DelegateSpec::default()
        };
        let error = open(&BUNDLE.hand, &spec).unwrap_err().to_string();
        let name = library.display().to_string();
        for word in expected.iter().chain([&name.as_str()]) {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    };
    check(&folder.path().join("none.so"), &["not found", "install"]);
    check(Path::new("libnone.so.9"), &["not found"]);
    check(&file("text.so", b"hello"), &["is not a shared library"]);
    check(&file("empty.so", b""), &["is not a shared library"]);
    check(
        &file("foreign.so", &foreign),
        &["is for", "this machine is"],
    );
    check(&file("cut.so", &plugin[..100]), &["cannot load", "ldd"]);
    check(folder.path(), &["cannot load", "directory"]);
    check(
        Path::new("libm.so.6"),
        &[
            "not a TFLite delegate plugin",
            "tflite_plugin_create_delegate",
        ],
    );
}

#[test]
fn refusals_carry_the_plugins_message() {
    let check = |file: &ModelFile, options: &[&str], expected: &[&str]| {
        let error = open(file, &spec(options)).unwrap_err().to_string();
        for word in expected {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    };
    check(
        &BUNDLE.hand,
        &["turbo=on"],
        &["did not start: test plugin: there is no option turbo"],
    );
    check(
        &BUNDLE.hand,
        &["mode=mad"],
        &["did not start: test plugin: mode cannot be mad"],
    );
    check(
        &BUNDLE.hand,
        &["mode=null"],
        &["did not start: it gave no reason"],
    );
    let other = DelegateSpec {
        options: vec![
            ("mode".to_owned(), "right".to_owned()),
            ("model".to_owned(), BUNDLE.palm.origin.clone()),
        ],
        ..spec(&[])
    };
    let error = open(&BUNDLE.hand, &other).unwrap_err();
    assert!(matches!(error, BackendError::Unusable(_)), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("cannot run the hand model") && error.contains("the sizes of the graph"),
        "{error}"
    );
}

#[test]
fn models_of_ones_own_are_held_against_the_manifest() {
    let folder = scratch();
    let broken = folder.path().join("broken.tflite");
    fs::write(&broken, b"\x18\0\0\0TFL3 and nothing").unwrap();
    let cut = folder.path().join("cut.tflite");
    let whole = fs::read(models().join("hand_landmark_full.tflite")).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let check = |hand: &Path, expected: &[&str]| {
        let spec = DelegateSpec {
            hand: Some(hand.to_path_buf()),
            ..spec(&["mode=none"])
        };
        let error = open(&BUNDLE.hand, &spec).unwrap_err();
        assert!(matches!(error, BackendError::Model(_)), "{error}");
        for word in expected {
            assert!(error.to_string().contains(word), "no {word:?} in {error}");
        }
        // The palm model has no override.
        open(&BUNDLE.palm, &spec).unwrap();
    };
    check(
        &models().join("palm_detection_full.tflite"),
        &[
            "palm_detection_full",
            "is not a hand model",
            "(1, 4)",
            "(1, 2)",
        ],
    );
    check(
        &folder.path().join("none.tflite"),
        &["none.tflite", "not found"],
    );
    check(&broken, &["broken.tflite", "cannot use"]);
    check(&cut, &["cut.tflite", "cannot use"]);
    // A model that fits is accepted.
    let own = folder.path().join("own.tflite");
    fs::copy(models().join("hand_landmark_full.tflite"), &own).unwrap();
    let spec = DelegateSpec {
        hand: Some(own),
        ..spec(&["mode=right"])
    };
    open(&BUNDLE.hand, &spec).unwrap().invoke().unwrap();
}
