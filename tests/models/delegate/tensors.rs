//! Tensors of other types and sizes than the hand models have, on models of a single node.

use super::{BUNDLE, open};
use handloom::hand::Model;
use handloom::inference::model_files::{ModelFile, TensorSpec};
use handloom::inference::{BackendError, DelegateModel};
use std::fs;
use test_support::plugin::spec;
use test_support::scratch;
use test_support::tiny_model::{self, Operator, TensorOf, Type};

/// A model file of one operator with its manifest entry.
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
    file.bytes = tiny_model::write(operator, input, outputs).into();
    "tiny.tflite".clone_into(&mut file.origin);
    file
}

fn tensor(name: &str, dtype: Type, quantization: Option<(f32, i64)>) -> TensorOf<'_> {
    TensorOf {
        name,
        dtype,
        shape: &[1, 2, 2, 3],
        quantization,
    }
}

/// Opens a model of which the plugin takes no node.
fn open_tiny(file: &ModelFile) -> Result<DelegateModel, BackendError> {
    open(file, &spec(&["mode=none"]))
}

#[test]
fn quantized_tensors_are_read_and_written() {
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
    // Steps of one half: 0.25 rounds up, -0.25 rounds down, and values saturate at the ends of 8 bits.
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

/// A model from a vendor's compiler is one operator that the runtime does not know.
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
    let folder = scratch();
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
    assert!(matches!(error, BackendError::Unusable(_)), "{error}");
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
    let small = |quantization| tensor("out", Type::I8, quantization);
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
        &["output 0", "expected f32, int8 or uint8", "found type 7"],
    );
    check(
        plain(),
        small(Some((0.0, 0))),
        &["output 0", "with a scale", "int8", "scale 0"],
    );
}
