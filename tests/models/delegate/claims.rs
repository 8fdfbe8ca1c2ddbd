//! What a plugin claims and what it computes, compared by hands and by bits.

use super::{BUNDLE, IMAGES, open};
use handloom::hand::{Detector, DetectorOptions, Hand, Model};
use handloom::inference::model_files::ModelFile;
use handloom::inference::{CpuLoadedModel, CpuModel, NodeCounts};
use handloom::selection::Precision;
use std::fs;
use std::sync::LazyLock;
use std::time::Duration;
use test_support::plugin::spec;
use test_support::print_note;

/// Largest allowed difference of a landmark's coordinate, as in `goldens.rs`.
const LANDMARK_MAX: f32 = 5e-4;

/// Runs that are compared bit for bit and timed.
const ROUNDS: usize = 8;

fn detect(detector: &mut Detector<impl Model>) -> Vec<Hand> {
    IMAGES
        .iter()
        .flat_map(|image| detector.detect(image).unwrap())
        .collect()
}

fn cpu_model(file: &ModelFile) -> CpuModel {
    CpuModel::open(&CpuLoadedModel::new(file, Precision::F32).unwrap()).unwrap()
}

fn cpu_hands() -> &'static [Hand] {
    static HANDS: LazyLock<Vec<Hand>> = LazyLock::new(|| {
        let [palm, hand] = [&BUNDLE.palm, &BUNDLE.hand].map(cpu_model);
        let mut detector = Detector::new(palm, hand, DetectorOptions::default());
        let hands = detect(&mut detector);
        assert!(hands.len() >= IMAGES.len(), "{} hands", hands.len());
        hands
    });
    &HANDS
}

/// Largest difference of a landmark's coordinate; infinite where count or sides of the hands differ.
fn distance(a: &[Hand], b: &[Hand]) -> f32 {
    let sides = |hands: &[Hand]| hands.iter().map(|h| h.handedness).collect::<Vec<_>>();
    if sides(a) != sides(b) {
        return f32::INFINITY;
    }
    let points = |hands: &[Hand]| -> Vec<f32> {
        let points = hands.iter().flat_map(|h| h.landmarks.iter().flatten());
        points.copied().collect()
    };
    let (a, b) = (points(a), points(b));
    a.iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// How far a plugin's hands are from the CPU's, and how many nodes of each model it took.
fn plugin_hands(options: &[&str]) -> (f32, Vec<NodeCounts>) {
    let open_model = |file| open(file, &spec(options)).unwrap();
    let [palm, hand] = [&BUNDLE.palm, &BUNDLE.hand].map(open_model);
    let nodes = vec![palm.nodes(), hand.nodes()];
    let mut detector = Detector::new(palm, hand, DetectorOptions::default());
    (distance(&detect(&mut detector), cpu_hands()), nodes)
}

#[test]
fn a_plugin_that_claims_all_and_is_right_gives_the_cpus_landmarks() {
    let (off, nodes) = plugin_hands(&["mode=right"]);
    assert!(off == 0.0, "{off}");
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().all(|n| n.taken == n.total && n.pieces == 1));
    assert!(nodes.iter().all(|n| n.total > 100), "{nodes:?}");
    // TFLite's plain kernels give slightly different numbers.
    let (off, _) = plugin_hands(&["mode=right", "kernels=plain"]);
    assert!(off > 0.0 && off <= LANDMARK_MAX, "{off}");
}

#[test]
fn a_plugin_that_claims_nothing_leaves_all_to_the_cpu() {
    let (off, nodes) = plugin_hands(&["mode=none"]);
    assert!(off == 0.0, "{off}");
    assert!(
        nodes.iter().all(|n| n.taken == 0 && n.pieces == 0),
        "{nodes:?}"
    );
}

#[test]
fn a_plugin_that_claims_a_part_is_counted_and_the_rest_is_the_cpus() {
    let (off, nodes) = plugin_hands(&["mode=part"]);
    print_note(&format!(
        "part: palm {}, hand {}; off by {off:.1e}",
        nodes[0], nodes[1]
    ));
    assert!(off <= LANDMARK_MAX, "{off}");
    for nodes in nodes {
        assert!(0 < nodes.taken && nodes.taken < nodes.total, "{nodes}");
        assert!(nodes.pieces > 1, "{nodes}");
    }
}

#[test]
fn a_plugin_that_computes_wrongly_shows() {
    let (off, nodes) = plugin_hands(&["mode=wrong"]);
    assert!(off > LANDMARK_MAX, "{off}");
    assert!(nodes.iter().all(|n| n.taken == n.total));
    // A small error is found, too: half a pixel of the crop, with the same hands and sides.
    let (off, _) = plugin_hands(&["mode=wrong", "off=0.1"]);
    assert!(off > LANDMARK_MAX, "{off}");
}

/// CPU time of this thread; 0 where the kernel does not report it.
fn on_cpu() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = schedstat
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

#[test]
fn the_same_kernels_give_the_same_bits() {
    for file in [&BUNDLE.palm, &BUNDLE.hand] {
        let mut cpu = cpu_model(file);
        let mut ours = open(file, &spec(&["mode=none"])).unwrap();
        let total = ours.nodes().total;
        assert_eq!(ours.nodes().taken, 0);
        let fill = |to: &mut [f32], round: usize| {
            for (at, value) in to.iter_mut().enumerate() {
                *value = ((at + 7 * round) % 251) as f32 / 250.0;
            }
        };
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for (model, times) in [&mut cpu as &mut dyn Model, &mut ours]
                .into_iter()
                .zip(&mut times)
            {
                let start = on_cpu();
                fill(model.input(), round);
                model.invoke().unwrap();
                times.push(on_cpu().saturating_sub(start).as_secs_f64() * 1e3);
            }
            for (i, output) in file.spec.outputs.iter().enumerate() {
                let mut outs = [(); 2].map(|()| vec![0.0; output.shape.iter().product()]);
                cpu.output(i, &mut outs[0]).unwrap();
                ours.output(i, &mut outs[1]).unwrap();
                assert_eq!(outs[0], outs[1], "{} output {i}", file.spec.role);
            }
        }
        let middle = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        print_note(&format!(
            "{}: {total} nodes; median ms on the CPU with the input's filling: tflitec {:.2}, ours {:.2}",
            file.spec.role, middle[0], middle[1]
        ));
    }
}
