//! What a plugin claims and what it computes: the hands that come of it, and bits.

use super::{BUNDLE, PICTURES, open};
use handloom::hand::{Detector, DetectorOptions, Hand, Model};
use handloom::inference::model_files::ModelFile;
use handloom::inference::{NodeCounts, TfliteLoadedModel, TfliteModel};
use std::fs;
use std::sync::LazyLock;
use std::time::Duration;
use test_support::plugin::spec;
use test_support::say;

/// Largest allowed difference of a landmark's coordinate, as against the goldens.
const LANDMARK_MAX: f32 = 5e-4;

/// Runs that are compared bit for bit, and timed in passing.
const ROUNDS: usize = 8;

fn detect(detector: &mut Detector<impl Model>) -> Vec<Hand> {
    PICTURES
        .iter()
        .flat_map(|picture| detector.detect(picture).unwrap())
        .collect()
}

fn cpu_model(file: &ModelFile) -> TfliteModel {
    TfliteModel::open(&TfliteLoadedModel::cpu(file).unwrap()).unwrap()
}

/// The hands in the pictures as the models of `open` see them, and how much of each a delegate took.
fn hands(open: impl Fn(&ModelFile) -> TfliteModel) -> (Vec<Hand>, Vec<Option<NodeCounts>>) {
    let [palm, hand] = [&BUNDLE.palm, &BUNDLE.hand].map(open);
    let nodes = vec![palm.nodes(), hand.nodes()];
    let mut detector = Detector::new(palm, hand, DetectorOptions::default());
    (detect(&mut detector), nodes)
}

fn cpu_hands() -> &'static [Hand] {
    static HANDS: LazyLock<Vec<Hand>> = LazyLock::new(|| {
        let (hands, nodes) = hands(cpu_model);
        assert!(hands.len() >= PICTURES.len(), "{} hands", hands.len());
        assert_eq!(nodes, [None, None]);
        hands
    });
    &HANDS
}

/// Largest difference of a landmark's coordinate; infinite where the hands are others.
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

fn plugin_hands(options: &[&str]) -> (f32, Vec<NodeCounts>) {
    let (hands, nodes) = hands(|file| open(file, &spec(options)).unwrap());
    let nodes = nodes.into_iter().flatten().collect();
    (distance(&hands, cpu_hands()), nodes)
}

#[test]
fn a_plugin_that_claims_all_and_is_right_gives_the_cpus_landmarks() {
    let (off, nodes) = plugin_hands(&["mode=right"]);
    assert!(off == 0.0, "{off}");
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().all(|n| n.taken == n.total && n.pieces == 1));
    assert!(nodes.iter().all(|n| n.total > 100), "{nodes:?}");
    // TFLite's plain kernels are other kernels.
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
    say(&format!(
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
    // A little wrong is wrong too, hands and sides being the same: half a pixel of the crop.
    let (off, _) = plugin_hands(&["mode=wrong", "off=0.1"]);
    assert!(off > LANDMARK_MAX, "{off}");
}

/// How long this thread has run, waiting not counted; 0 where the kernel does not tell.
fn on_cpu() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = told.split_whitespace().next().and_then(|n| n.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

#[test]
fn the_cpu_gives_the_bits_of_tflitec() {
    for file in [&BUNDLE.palm, &BUNDLE.hand] {
        let graph = tflitec::model::Model::from_bytes(&file.bytes).unwrap();
        let options = tflitec::interpreter::Options {
            thread_count: 1,
            is_xnnpack_enabled: true,
        };
        let cpu = tflitec::interpreter::Interpreter::new(&graph, Some(options)).unwrap();
        cpu.allocate_tensors().unwrap();
        let mut ours = cpu_model(file);
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for (at, value) in ours.input().iter_mut().enumerate() {
                *value = ((at + 7 * round) % 251) as f32 / 250.0;
            }
            let start = on_cpu();
            cpu.copy(ours.input(), 0).unwrap();
            cpu.invoke().unwrap();
            times[0].push(on_cpu().saturating_sub(start).as_secs_f64() * 1e3);
            let start = on_cpu();
            ours.invoke().unwrap();
            times[1].push(on_cpu().saturating_sub(start).as_secs_f64() * 1e3);
            for (i, output) in file.spec.outputs.iter().enumerate() {
                let mut out = vec![0.0_f32; output.shape.iter().product()];
                ours.output(i, &mut out).unwrap();
                let tensors = (0..cpu.output_tensor_count()).map(|i| cpu.output(i).unwrap());
                let names: Vec<String> = tensors.map(|t| t.name().to_owned()).collect();
                let at = names.iter().position(|n| *n == output.name).unwrap_or(i);
                assert_eq!(cpu.output(at).unwrap().data::<f32>(), out.as_slice());
            }
        }
        for times in &mut times {
            times.sort_by(f64::total_cmp);
        }
        say(&format!(
            "{}: tflitec {:.2} ours {:.2}",
            file.spec.role,
            times[0][ROUNDS / 2],
            times[1][ROUNDS / 2]
        ));
    }
}
