//! Delegate plugins against the CPU, with a plugin of our own in the place of an accelerator: what it claims, what it
//! computes, and every way in which it fails.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "a test may end where its set-up is broken, and works with small numbers and exact results"
)]

mod common;

use common::plugin::{library, spec};
use common::tiny_model::{self, Operator, TensorOf, Type};
use handloom::frame::RgbFrame;
use handloom::hand::{Detector, Hand, Model, Options};
use handloom::inference::bundle::{ModelFile, TensorSpec};
use handloom::inference::{
    BackendError, BackendSpec, Bundle, CpuGraph, CpuModel, DelegateError, DelegateGraph,
    DelegateModel, DelegateSpec, Graph, Nodes, Selection,
};
use handloom::render::scene::signing_scene;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Largest allowed difference of a landmark's coordinate, as against the goldens.
const LANDMARK_MAX: f32 = 5e-4;
/// What a child is to do; see `child`.
const CHILD: &str = "HANDLOOM_TEST_CHILD";
/// Runs that are compared bit for bit, and timed in passing.
const ROUNDS: usize = 8;

static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| {
    Bundle::load(&Selection {
        models: Some(common::models()),
        ..Selection::default()
    })
    .unwrap()
});

/// Drawn pictures with hands.
static PICTURES: LazyLock<Vec<RgbFrame>> =
    LazyLock::new(|| (0..4).map(|i| signing_scene(3, 9 * i, 320, 240)).collect());

fn detect(detector: &mut Detector<impl Model>) -> Vec<Hand> {
    PICTURES
        .iter()
        .flat_map(|picture| detector.detect(picture).unwrap())
        .collect()
}

/// The hands in the pictures as a backend sees them, and how much of the two models it took.
fn hands(backend: &BackendSpec) -> (Vec<Hand>, Vec<Option<Nodes>>) {
    let graphs = [&BUNDLE.palm, &BUNDLE.hand].map(|file| Graph::load(backend, file).unwrap());
    let [palm, hand] = [&graphs[0], &graphs[1]].map(|graph| graph.open().unwrap());
    let nodes = vec![palm.nodes, hand.nodes];
    let mut detector = Detector::new(palm.model, hand.model, Options::default());
    (detect(&mut detector), nodes)
}

fn cpu_hands() -> &'static [Hand] {
    static HANDS: LazyLock<Vec<Hand>> = LazyLock::new(|| {
        let (hands, nodes) = hands(&BackendSpec::Cpu);
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

fn plugin_hands(options: &[&str]) -> (f32, Vec<Nodes>) {
    let (hands, nodes) = hands(&BackendSpec::Delegate(spec(options)));
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
    common::say(&format!(
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

fn open(file: &ModelFile, spec: &DelegateSpec) -> Result<DelegateModel, DelegateError> {
    DelegateModel::open(&DelegateGraph::load(spec, file)?)
}

#[test]
fn a_slow_plugin_is_waited_for() {
    let mut model = open(&BUNDLE.hand, &spec(&["mode=right", "delay_ms=150"])).unwrap();
    let start = Instant::now();
    model.invoke().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[test]
fn results_of_a_failing_run_are_not_to_be_had() {
    let mut model = open(&BUNDLE.hand, &spec(&["mode=right", "fail_at=2"])).unwrap();
    let mut out = [0.0; 63];
    let none = model.output(0, &mut out).unwrap_err().to_string();
    assert!(none.contains("no run that went well"), "{none}");
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
    // Others than there are.
    model.output(4, &mut out).unwrap_err();
    model.output(0, &mut out[..62]).unwrap_err();
}

#[test]
fn a_device_that_stays_away_and_one_that_comes_back() {
    let mut gone = open(&BUNDLE.hand, &spec(&["mode=right", "fail_from=2"])).unwrap();
    gone.invoke().unwrap();
    gone.invoke().unwrap_err();
    gone.invoke().unwrap_err();

    let folder = common::scratch();
    let marker = format!("marker={}", folder.path().join("failed").display());
    let spec = spec(&["mode=right", "fail_at=1", &marker]);
    open(&BUNDLE.hand, &spec).unwrap().invoke().unwrap_err();
    open(&BUNDLE.hand, &spec).unwrap().invoke().unwrap();
}

#[test]
fn a_detector_gives_the_failure_on() {
    let backend = BackendSpec::Delegate(spec(&["mode=right", "fail_at=1"]));
    let palm = Graph::load(&BackendSpec::Cpu, &BUNDLE.palm).unwrap();
    let hand = Graph::load(&backend, &BUNDLE.hand).unwrap();
    let (palm, hand) = (palm.open().unwrap(), hand.open().unwrap());
    let mut detector = Detector::new(palm.model, hand.model, Options::default());
    let error = detector.detect(&PICTURES[0]).unwrap_err().to_string();
    assert!(error.contains("went away"), "{error}");
}

#[test]
fn what_cannot_be_loaded_is_told_apart() {
    let folder = common::scratch();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let plugin = fs::read(library()).unwrap();
    let mut foreign = plugin.clone();
    // The machine: 183 is aarch64, 62 x86_64.
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
    check(
        &folder.path().join("none.so"),
        &["there is no delegate library", "install"],
    );
    check(Path::new("libnone.so.9"), &["there is no delegate library"]);
    check(&file("text.so", b"hello"), &["is no shared library"]);
    check(&file("empty.so", b""), &["is no shared library"]);
    check(&file("foreign.so", &foreign), &["is for", "this is"]);
    check(&file("cut.so", &plugin[..100]), &["cannot load", "ldd"]);
    check(folder.path(), &["cannot load", "directory"]);
    check(
        Path::new("libm.so.6"),
        &["no TFLite delegate plugin", "tflite_plugin_create_delegate"],
    );
}

#[test]
fn what_the_plugin_refuses_is_told_in_its_words() {
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
    assert!(matches!(error, DelegateError::Graph { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("cannot run the hand model") && error.contains("the sizes of the graph"),
        "{error}"
    );
}

#[test]
fn models_of_ones_own_are_held_against_the_manifest() {
    let folder = common::scratch();
    let broken = folder.path().join("broken.tflite");
    fs::write(&broken, b"\x18\0\0\0TFL3 and nothing").unwrap();
    let cut = folder.path().join("cut.tflite");
    let whole = fs::read(common::models().join("hand_landmark_full.tflite")).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let check = |hand: &Path, expected: &[&str]| {
        let spec = DelegateSpec {
            hand: Some(hand.to_path_buf()),
            ..spec(&["mode=none"])
        };
        let backend = BackendSpec::Delegate(spec);
        let error = Graph::load(&backend, &BUNDLE.hand)
            .and_then(|graph| graph.open().map(drop))
            .unwrap_err();
        assert!(matches!(error, BackendError::Model(_)), "{error}");
        for word in expected {
            assert!(error.to_string().contains(word), "no {word:?} in {error}");
        }
        // The other model has none of its own.
        Graph::load(&backend, &BUNDLE.palm).unwrap().open().unwrap();
    };
    check(
        &common::models().join("palm_detection_full.tflite"),
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
    // One that fits is taken.
    let own = folder.path().join("own.tflite");
    fs::copy(common::models().join("hand_landmark_full.tflite"), &own).unwrap();
    let spec = DelegateSpec {
        hand: Some(own),
        ..spec(&["mode=right"])
    };
    let graph = DelegateGraph::load(&spec, &BUNDLE.hand).unwrap();
    assert_eq!(graph.sha256(), BUNDLE.hand.sha256);
    DelegateModel::open(&graph).unwrap().invoke().unwrap();
}

/// A model file of one operator with the manifest's view of it.
fn tiny(
    operator: Operator,
    input: &TensorOf<'_>,
    outputs: &[TensorOf<'_>],
    wanted: &[&str],
) -> ModelFile {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype: "f32".to_owned(),
        shape: vec![1, 2, 2, 3],
    };
    let mut file = BUNDLE.hand.clone();
    file.spec.input = spec("in");
    file.spec.outputs = wanted.iter().map(|name| spec(name)).collect();
    file.bytes = tiny_model::write(operator, input, outputs);
    "tiny.tflite".clone_into(&mut file.origin);
    file
}

fn tensor(name: &str, dtype: Type, quantisation: Option<(f32, i64)>) -> TensorOf<'_> {
    TensorOf {
        name,
        dtype,
        shape: &[1, 2, 2, 3],
        quantisation,
    }
}

fn open_tiny(file: &ModelFile) -> Result<DelegateModel, DelegateError> {
    DelegateModel::open(&DelegateGraph::without_plugin(file)?)
}

#[test]
fn quantised_tensors_are_read_and_written() {
    let values = [
        0.0, 0.24, 0.25, 0.26, -0.25, -0.74, 0.75, 5.0, 1e9, -1e9, 60.0, -60.0,
    ];
    let check = |input: (Type, i64), output: (Type, i64), expected: [f32; 12]| {
        let file = tiny(
            Operator::Quantize,
            &tensor("in", input.0, Some((0.5, input.1))),
            &[tensor("out", output.0, Some((0.5, output.1)))],
            &["out"],
        );
        let mut model = open_tiny(&file).unwrap();
        model.input().copy_from_slice(&values);
        model.invoke().unwrap();
        let mut out = [0.0; 12];
        model.output(0, &mut out).unwrap();
        assert_eq!(out, expected);
    };
    // Steps of a half: 0.25 goes up, -0.25 down, and the ends are where 8 bits end.
    let steps = |least: f32, most: f32| {
        [
            0.0, 0.0, 0.5, 0.5, -0.5, -0.5, 1.0, 5.0, most, least, 60.0, -60.0,
        ]
    };
    check((Type::I8, 0), (Type::U8, 128), steps(-64.0, 63.5));
    check((Type::U8, 128), (Type::I8, 0), steps(-64.0, 63.5));
    check((Type::I8, 1), (Type::I8, 1), steps(-64.5, 63.0));
    check((Type::U8, 123), (Type::U8, 123), steps(-61.5, 66.0));
}

#[test]
fn a_small_input_and_a_plain_output() {
    let file = tiny(
        Operator::Dequantize,
        &tensor("in", Type::U8, Some((0.25, 10))),
        &[tensor("out", Type::F32, None)],
        &["out"],
    );
    let mut model = open_tiny(&file).unwrap();
    model.input().fill(1.3);
    model.invoke().unwrap();
    let mut out = [0.0; 12];
    model.output(0, &mut out).unwrap();
    assert_eq!(out, [1.25; 12]);
}

#[test]
fn outputs_are_found_by_name() {
    let small = |name, scale| tensor(name, Type::I8, Some((scale, 0)));
    let file = tiny(
        Operator::Quantize,
        &tensor("in", Type::F32, None),
        &[small("second", 1.0), small("first", 4.0)],
        &["first", "second"],
    );
    let mut model = open_tiny(&file).unwrap();
    model.input().fill(3.0);
    model.invoke().unwrap();
    let mut out = [0.0; 12];
    model.output(0, &mut out).unwrap();
    assert_eq!(out, [4.0; 12]);
    model.output(1, &mut out).unwrap();
    assert_eq!(out, [3.0; 12]);
}

/// A model that a maker's compiler has worked on is one operator that the runtime does not know.
#[test]
fn a_compiled_model_runs_on_its_plugin_alone() {
    let file = |operator| {
        let (input, output) = (
            tensor("in", Type::F32, None),
            tensor("out", Type::F32, None),
        );
        tiny(operator, &input, &[output], &["out"])
    };
    let compiled = file(Operator::Custom("edgetpu-custom-op"));
    let folder = common::scratch();
    let stand_in = folder.path().join("neg.tflite");
    fs::write(&stand_in, file(Operator::Neg).bytes).unwrap();
    let stand_in = format!("model={}", stand_in.display());

    let mut model = open(&compiled, &spec(&["mode=right", "dynamic=yes", &stand_in])).unwrap();
    assert_eq!(model.nodes().to_string(), "1 of 1 nodes");
    model.input().fill(1.5);
    model.invoke().unwrap();
    let mut out = [0.0; 12];
    model.output(0, &mut out).unwrap();
    assert_eq!(out, [-1.5; 12]);

    let error = open(&compiled, &spec(&["mode=none"])).unwrap_err();
    assert!(matches!(error, DelegateError::Graph { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("unresolved custom op: edgetpu-custom-op"),
        "{error}"
    );
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let check = |input: TensorOf<'_>, output: TensorOf<'_>, expected: &[&str]| {
        let error = open_tiny(&tiny(Operator::Quantize, &input, &[output], &["out"]))
            .unwrap_err()
            .to_string();
        for word in expected.iter().chain(&["tiny.tflite"]) {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    };
    let plain = || tensor("in", Type::F32, None);
    let small = |quantisation| tensor("out", Type::I8, quantisation);
    check(
        TensorOf {
            shape: &[1, 2, 3, 2],
            ..plain()
        },
        TensorOf {
            shape: &[1, 2, 3, 2],
            ..small(Some((1.0, 0)))
        },
        &["input", "[1, 2, 2, 3]", "f32 [1, 2, 3, 2]"],
    );
    check(
        plain(),
        tensor("out", Type::I16, Some((1.0, 0))),
        &[
            "output 0",
            "expected f32, int8 or uint8",
            "found TFLite type 7",
        ],
    );
    check(
        plain(),
        small(Some((0.0, 0))),
        &["output 0", "with a scale", "int8", "scale 0"],
    );
}

/// How long this thread has run, waiting not counted; 0 where the kernel does not tell.
fn on_cpu() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = told.split_whitespace().next().and_then(|n| n.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

#[test]
fn the_same_kernels_give_the_same_bits() {
    for file in [&BUNDLE.palm, &BUNDLE.hand] {
        let graph = CpuGraph::new(file).unwrap();
        let mut cpu = CpuModel::new(&graph).unwrap();
        let mut ours = DelegateModel::open(&DelegateGraph::without_plugin(file).unwrap()).unwrap();
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
        common::say(&format!(
            "{}: {total} nodes; median ms on the CPU with the input's filling: tflitec {:.2}, ours {:.2}",
            file.spec.role, middle[0], middle[1]
        ));
    }
}

/// A child of this test that is ended whatever happens.
struct Guard {
    child: Child,
    /// Open as long as the child may write.
    out: Option<BufReader<ChildStdout>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// This test binary once more, doing `job` in its test `child`. Comes back when that is about to begin.
fn start(job: &str) -> Guard {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, job)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut guard = Guard { child, out: None };
    let mut out = BufReader::new(guard.child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("begins") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "{job}: it ended");
    }
    guard.out = Some(out);
    guard
}

/// Not a test: what `start` has done in a process of its own.
#[test]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn child() {
    let Ok(job) = std::env::var(CHILD) else {
        return;
    };
    println!("begins");
    if job == "memory" {
        open_a_hundred_times();
    } else {
        let mut model = open(&BUNDLE.hand, &spec(&["mode=right", &job])).unwrap();
        model.invoke().unwrap();
    }
}

#[test]
fn a_crash_stays_in_the_process_that_tries_the_plugin() {
    for stage in ["create", "prepare", "invoke"] {
        let mut guard = start(&format!("abort={stage}"));
        let status = guard.child.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{stage}: {status}");
    }
}

#[test]
fn a_hanging_plugin_can_be_ended_with_its_process() {
    let mut guards = ["create", "prepare", "invoke"].map(|stage| start(&format!("hang={stage}")));
    std::thread::sleep(Duration::from_secs(2));
    for guard in &mut guards {
        assert_eq!(guard.child.try_wait().unwrap(), None);
        guard.child.kill().unwrap();
        assert_eq!(guard.child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

/// Resident memory in MiB.
fn resident_mib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

fn open_a_hundred_times() {
    // An interpreter with its packed weights is 8 MiB and more: one left behind each time is 1600 MiB. The
    // allocator's own ways are good for 30.
    let once = |mode: &str| {
        for file in [&BUNDLE.palm, &BUNDLE.hand] {
            let mut model = open(file, &spec(&[mode])).unwrap();
            model.invoke().unwrap();
            open(file, &spec(&["mode=null"])).unwrap_err();
        }
    };
    for _ in 0..5 {
        once("mode=right");
        once("mode=part");
    }
    let before = resident_mib();
    for _ in 0..50 {
        once("mode=right");
        once("mode=part");
    }
    let after = resident_mib();
    common::say(&format!(
        "memory: {before} MiB, {after} after 200 interpreters"
    ));
    assert!(after <= before + 64, "{before} MiB before, {after} after");
}

#[test]
fn opening_and_dropping_leaves_nothing_behind() {
    let mut guard = start("memory");
    let mut words = String::new();
    let mut err = guard.child.stderr.take().unwrap();
    err.read_to_string(&mut words).unwrap();
    let status = guard.child.wait().unwrap();
    let told = words.lines().find(|line| line.starts_with("memory:"));
    assert!(status.success(), "{status}: {words}");
    common::say(told.unwrap_or_default());
}
