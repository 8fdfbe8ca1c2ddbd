//! Runs that are slow or fail, for once or for good.

use super::{BUNDLE, IMAGES, open};
use handloom::hand::{Detector, DetectorOptions, Model};
use handloom::inference::{BoxedModel, CpuLoadedModel, CpuModel};
use handloom::selection::Precision;
use std::time::{Duration, Instant};
use test_support::plugin::spec;
use test_support::scratch;

#[test]
fn a_slow_plugin_is_waited_for() {
    let mut model = open(&BUNDLE.hand, &spec(&["mode=right", "delay_ms=150"])).unwrap();
    let start = Instant::now();
    model.invoke().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[test]
fn results_of_a_failing_run_are_unavailable() {
    let mut model = open(&BUNDLE.hand, &spec(&["mode=right", "fail_at=2"])).unwrap();
    let mut out = [0.0; 63];
    let none = model.output(0, &mut out).unwrap_err().to_string();
    assert!(none.contains("no successful run"), "{none}");
    model.invoke().unwrap();
    model.output(0, &mut out).unwrap();
    let first = out;

    let failed = model.invoke().unwrap_err().to_string();
    assert!(
        failed.contains("model run failed: test plugin: the device went away at run 2"),
        "{failed}"
    );
    out = [7.0; 63];
    model.output(0, &mut out).unwrap_err();
    assert_eq!(out, [7.0; 63]);

    model.invoke().unwrap();
    model.output(0, &mut out).unwrap();
    assert_eq!(out, first);
    // An output that does not exist, and one of another size.
    model.output(4, &mut out).unwrap_err();
    model.output(0, &mut out[..62]).unwrap_err();
}

#[test]
fn a_device_that_stays_away_and_one_that_comes_back() {
    let mut gone = open(&BUNDLE.hand, &spec(&["mode=right", "fail_from=2"])).unwrap();
    gone.invoke().unwrap();
    gone.invoke().unwrap_err();
    gone.invoke().unwrap_err();

    let folder = scratch();
    let marker = format!("marker={}", folder.path().join("failed").display());
    let spec = spec(&["mode=right", "fail_at=1", &marker]);
    open(&BUNDLE.hand, &spec).unwrap().invoke().unwrap_err();
    open(&BUNDLE.hand, &spec).unwrap().invoke().unwrap();
}

#[test]
fn a_detector_gives_the_failure_on() {
    let palm = CpuModel::open(&CpuLoadedModel::new(&BUNDLE.palm, Precision::F32).unwrap()).unwrap();
    let hand = open(&BUNDLE.hand, &spec(&["mode=right", "fail_at=1"])).unwrap();
    let (palm, hand): (BoxedModel, BoxedModel) = (Box::new(palm), Box::new(hand));
    let mut detector = Detector::new(palm, hand, DetectorOptions::default());
    let error = detector.detect(&IMAGES[0]).unwrap_err().to_string();
    assert!(error.contains("went away"), "{error}");
}
