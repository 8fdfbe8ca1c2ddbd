//! Stand-ins for the two hand models that run in almost no time. They detect skin in front of the cool backdrops of
//! drawn scenes. All outputs depend on the pixels, so that another frame gives other numbers. For tests of everything
//! but the hands.

use super::tiny_model::{Graph, Type};
use crate::{TestRng, target_tmp};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Built-in operators of TFLite.
const ADD: u32 = 0;
const FULLY_CONNECTED: u32 = 9;
const LOGISTIC: u32 = 14;
const MUL: u32 = 18;
const RESHAPE: u32 = 22;
const PAD: u32 = 34;

/// Rows of the palm model's outputs, and the number of them that belong to its finer grid.
const ANCHORS: i32 = 2016;
const FINE_ANCHORS: i32 = 1152;
/// A box of 60 pixels about its anchor. The knuckle is above the wrist.
const PALM_BOX: [f32; 18] = [
    0.0, 0.0, 60.0, 60.0, 0.0, 30.0, 0.0, 0.0, 0.0, -30.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
];

/// The folder of the models, written once by each test binary.
pub fn quick_models() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = target_tmp().join("quick-models");
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in [
            ("palm_detection_full.tflite", palm()),
            ("hand_landmark_full.tflite", hand(0.0)),
            // Close enough to the hand model to stand for its 8-bit version.
            ("hand_int8_cpu.tflite", hand(0.1)),
        ] {
            // Another test binary may be reading it.
            let new = folder.join(format!("{name}.{}", std::process::id()));
            fs::write(&new, bytes).unwrap();
            fs::rename(new, folder.join(name)).unwrap();
        }
        folder
    })
}

fn f32s(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn i32s(values: &[i32]) -> Vec<u8> {
    values.iter().copied().flat_map(i32::to_le_bytes).collect()
}

/// Detects two palms in each cell of 8 x 8 pixels that has more red than blue.
fn palm() -> Vec<u8> {
    let mut graph = Graph::default();
    let input = graph.floats("input", &[1, 192, 192, 3]);
    let boxes = graph.floats("Identity", &[1, ANCHORS, 18]);
    let logits = graph.floats("Identity_1", &[1, ANCHORS, 1]);

    let cells = graph.floats("cells", &[1, 24, 24, 3]);
    graph.average_pool(input, cells, 8);
    let redness = [8.0, 0.0, -8.0];
    let weights = graph.constant(Type::F32, &[2, 3], f32s(redness.into_iter().chain(redness)));
    // Two anchors of a cell never have the same score.
    let bias = graph.constant(Type::F32, &[2], f32s([-0.4, -0.5]));
    let skin = graph.floats("skin", &[576, 2]);
    graph.operator(FULLY_CONNECTED, &[cells, weights, bias], skin);
    let shape = graph.constant(Type::I32, &[3], i32s(&[1, FINE_ANCHORS, 1]));
    let fine = graph.floats("fine", &[1, FINE_ANCHORS, 1]);
    graph.operator(RESHAPE, &[skin, shape], fine);
    let coarse = ANCHORS - FINE_ANCHORS;
    let paddings = graph.constant(Type::I32, &[3, 2], i32s(&[0, 0, 0, coarse, 0, 0]));
    let padded = graph.floats("padded", &[1, ANCHORS, 1]);
    graph.operator(PAD, &[fine, paddings], padded);
    let no_palm = (0..ANCHORS).map(|row| if row < FINE_ANCHORS { 0.0 } else { -100.0 });
    let no_palm = graph.constant(Type::F32, &[1, ANCHORS, 1], f32s(no_palm));
    graph.operator(ADD, &[padded, no_palm], logits);

    // The box grows with the score.
    let factor = graph.constant(Type::F32, &[1], f32s([2.0]));
    let growth = graph.floats("growth", &[1, ANCHORS, 1]);
    graph.operator(MUL, &[padded, factor], growth);
    let palm_box = graph.constant(Type::F32, &[1, 1, 18], f32s(PALM_BOX));
    graph.operator(ADD, &[growth, palm_box], boxes);
    graph.write(input, &[boxes, logits])
}

/// A fixed hand, moved by `shift` pixels of the crop and distorted by the average colors of 7 x 7 cells.
fn hand(shift: f32) -> Vec<u8> {
    let mut graph = Graph::default();
    let input = graph.floats("input_1", &[1, 224, 224, 3]);
    let cells = graph.floats("cells", &[1, 7, 7, 3]);
    graph.average_pool(input, cells, 32);
    let shape = graph.constant(Type::I32, &[2], i32s(&[1, 147]));
    let flat = graph.floats("flat", &[1, 147]);
    graph.operator(RESHAPE, &[cells, shape], flat);
    let mut rng = TestRng::new(1);
    let mut points = |name: &str, scale: f32| {
        let noise = (0..63 * 147).map(|_| (f32::from(rng.byte()) - 127.5) / 127.5 * scale * 0.02);
        let weights = graph.constant(Type::F32, &[63, 147], f32s(noise));
        let rest = (0..63_u8).map(|at| {
            let (point, axis) = (f32::from(at / 3), at % 3);
            match axis {
                0 => scale * (0.3 + shift / 224.0 + 0.02 * point),
                1 => scale * (0.9 - 0.035 * point),
                _ => 0.0,
            }
        });
        let bias = graph.constant(Type::F32, &[63], f32s(rest));
        let points = graph.floats(name, &[1, 63]);
        graph.operator(FULLY_CONNECTED, &[flat, weights, bias], points)
    };
    let landmarks = points("Identity", 224.0);
    let world = points("Identity_3", 0.1);
    let mut chance = |name: &str, color: [f32; 3], bias: f32| {
        let weights = color.iter().cycle().take(147).copied();
        let weights = graph.constant(Type::F32, &[1, 147], f32s(weights));
        let bias = graph.constant(Type::F32, &[1], f32s([bias]));
        let logit = graph.floats("logit", &[1, 1]);
        graph.operator(FULLY_CONNECTED, &[flat, weights, bias], logit);
        let chance = graph.floats(name, &[1, 1]);
        graph.operator(LOGISTIC, &[logit], chance)
    };
    let presence = chance("Identity_1", [1.0, 0.0, -1.0], 12.0);
    let right = chance("Identity_2", [0.5, -0.5, 0.0], 0.1);
    graph.write(input, &[landmarks, presence, right, world])
}
