//! LiteRT's CPU backend: what it refuses, and parallel workers. Prints a note and skips without the library that
//! `make setup-litert` fetches. `goldens.rs` checks its numbers.

use handloom::hand::Model;
use handloom::inference::model_files::ModelFile;
use handloom::inference::{
    BackendError, LiteRt, LiteRtModel, LiteRtTarget, ModelFiles, ModelPaths,
};
use std::process::Command;
use std::thread;

fn bundle() -> ModelFiles {
    ModelFiles::load(&ModelPaths {
        models: Some(test_support::models()),
        ..ModelPaths::default()
    })
    .unwrap()
}

/// All outputs of the hand model for an image made from `seed`.
fn run(model: &mut LiteRtModel, seed: u32) -> Vec<u32> {
    let mut state = seed;
    for value in model.input() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = f32::from(u16::try_from(state >> 16).unwrap()) / 65_535.0;
    }
    model.invoke().unwrap();
    let mut all = Vec::new();
    for (index, size) in [63, 1, 1, 63].into_iter().enumerate() {
        let mut out = vec![0.0; size];
        model.output(index, &mut out).unwrap();
        all.extend(out.iter().map(|v: &f32| v.to_bits()));
    }
    all
}

#[test]
fn what_is_no_such_model_is_refused() {
    let Some(runtime) = test_support::litert() else {
        return;
    };
    let good = bundle();
    let check = |file: &ModelFile, expected: &[&str]| {
        let reason = LiteRtModel::new(&runtime, file, LiteRtTarget::Cpu)
            .unwrap_err()
            .to_string();
        for word in expected {
            assert!(reason.contains(word), "no \"{word}\" in {reason}");
        }
    };
    let with = |bytes: &[u8]| ModelFile {
        bytes: bytes.into(),
        ..good.palm.clone()
    };
    let refused: &[&str] = &["LiteRT cannot use", "palm", "damaged"];
    check(&with(b""), refused);
    check(&with(b"TFL3 just text, and no flatbuffer at all"), refused);
    check(
        &with(&good.palm.bytes[..good.palm.bytes.len() / 2]),
        refused,
    );
    check(&with(&[0; 4096]), refused);
    // The hand model in place of the palm model.
    check(
        &with(&good.hand.bytes),
        &["is not a palm model", "(1, 2)", "(1, 4)"],
    );
}

#[test]
fn outputs_are_there_after_a_run_only() {
    let Some(runtime) = test_support::litert() else {
        return;
    };
    let bundle = bundle();
    let mut model = LiteRtModel::new(&runtime, &bundle.hand, LiteRtTarget::Cpu).unwrap();
    let mut out = [0.0; 63];
    let reason = model.output(0, &mut out).unwrap_err().to_string();
    assert!(reason.contains("no successful run"), "{reason}");
    model.invoke().unwrap();
    model.output(0, &mut out).unwrap();
    for (index, size) in [(0, 62), (4, 1), (1, 2)] {
        let reason = model.output(index, &mut vec![0.0; size]).unwrap_err();
        assert!(reason.to_string().contains("no output"), "{reason}");
    }
    assert_eq!(model.device(), None);
}

#[test]
fn workers_side_by_side_give_what_one_gives() {
    let Some(runtime) = test_support::litert() else {
        return;
    };
    let bundle = bundle();
    let alone: Vec<Vec<u32>> = {
        let mut model = LiteRtModel::new(&runtime, &bundle.hand, LiteRtTarget::Cpu).unwrap();
        (0..6).map(|seed| run(&mut model, seed)).collect()
    };
    let work = || {
        // Models are created and dropped while the other workers run.
        for (seed, expected) in (0..6).zip(&alone) {
            let mut model = LiteRtModel::new(&runtime, &bundle.hand, LiteRtTarget::Cpu).unwrap();
            assert_eq!(run(&mut model, seed), *expected);
            assert_eq!(run(&mut model, seed), *expected);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn a_model_may_move_to_another_thread() {
    let Some(runtime) = test_support::litert() else {
        return;
    };
    let bundle = bundle();
    let mut model = LiteRtModel::new(&runtime, &bundle.hand, LiteRtTarget::Cpu).unwrap();
    let here = run(&mut model, 1);
    let (there, mut model) = thread::scope(|scope| {
        let moved = scope.spawn(move || (run(&mut model, 1), model));
        moved.join().unwrap()
    });
    assert_eq!(there, here);
    assert_eq!(run(&mut model, 1), here);
}

/// Runs itself in a child process whose Vulkan loader finds no driver.
#[test]
fn without_a_device_the_gpu_is_refused_with_a_reason() {
    const CHILD: &str = "HANDLOOM_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "litert::without_a_device_the_gpu_is_refused_with_a_reason",
            ])
            .env(CHILD, "1")
            .env("VK_DRIVER_FILES", "/nonexistent.json")
            .env("VK_ICD_FILENAMES", "/nonexistent.json")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        test_support::print_note(String::from_utf8_lossy(&output.stderr).trim());
        return;
    }
    let Some(runtime) = test_support::litert() else {
        return;
    };
    if !LiteRt::locate().unwrap().1 {
        test_support::print_note(
            "SKIPPED: LiteRT's accelerator for GPUs is not installed; run `make setup-litert`",
        );
        return;
    }
    let bundle = bundle();
    let error = LiteRtModel::new(&runtime, &bundle.hand, LiteRtTarget::Gpu).unwrap_err();
    assert!(matches!(error, BackendError::Unusable(_)), "{error}");
    let reason = error.to_string();
    for word in ["litert:gpu needs a Vulkan device", "Debian:"] {
        assert!(reason.contains(word), "no \"{word}\" in {reason}");
    }
}

#[test]
fn the_gpu_needs_the_pinned_accelerator() {
    if test_support::litert().is_none() {
        return;
    }
    let bundle = bundle();
    // The library alone, then with a file that has only the accelerator's name.
    let folder = test_support::scratch();
    let library = folder.path().join("libLiteRt.so");
    std::fs::copy(LiteRt::locate().unwrap().0, library).unwrap();
    let runtime = LiteRt::load(Some(folder.path())).unwrap();
    let reason = || {
        LiteRtModel::new(&runtime, &bundle.palm, LiteRtTarget::Gpu)
            .unwrap_err()
            .to_string()
    };
    let accelerator = "libLiteRtWebGpuAccelerator.so";
    assert!(reason().contains(accelerator), "{}", reason());
    assert!(reason().contains("make setup-litert"), "{}", reason());
    std::fs::write(folder.path().join(accelerator), b"no library").unwrap();
    assert!(
        reason().contains("is not LiteRT's GPU accelerator 2.3.0"),
        "{}",
        reason()
    );
}
