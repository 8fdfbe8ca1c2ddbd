//! Tensors as every runtime describes them: compared with the manifest, and converted from and to f32.

use super::model_files::{ModelFile, ModelFileError, TensorSpec};
use crate::hand::ModelError;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TensorType {
    F32,
    U8,
    I8,
    /// Any other, by the number that its runtime has for it.
    Other(i32),
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::U8 => f.write_str("uint8"),
            Self::I8 => f.write_str("int8"),
            Self::Other(number) => write!(f, "type {number}"),
        }
    }
}

/// A tensor as its runtime describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    pub(super) dtype: TensorType,
    /// Dimensions, batch first; 0 for an unknown one.
    pub(super) shape: Vec<usize>,
    /// `value = scale * (number - zero_point)`; 0 for a tensor that is not quantized.
    pub(super) scale: f32,
    pub(super) zero_point: i32,
}

/// How the elements of a tensor encode values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Encoding {
    /// As 32-bit floats.
    F32,
    /// In 8 bits: `value = scale * (number - zero_point)`.
    Quantized {
        is_signed: bool,
        scale: f32,
        zero_point: i32,
    },
}

/// How to fill the input and read the outputs of a model.
#[derive(Clone, Debug)]
pub(super) struct TensorMap {
    pub(super) input: Encoding,
    /// Number in the model file and encoding of each output, in the order of the manifest.
    pub(super) outputs: Vec<(usize, Encoding)>,
}

/// Element types that a runtime accepts for input and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    Float,
    FloatOrQuantized,
}

impl TensorMap {
    /// Compares the tensors of `file` with its manifest. Outputs are matched by name when all names of the manifest are
    /// there, else by position.
    ///
    /// # Errors
    /// [`ModelFileError::Unusable`] for another number, type or shape of tensors.
    pub(super) fn new(
        file: &ModelFile,
        inputs: &[TensorInfo],
        outputs: &[TensorInfo],
        accepted: Accepted,
    ) -> Result<Self, ModelFileError> {
        let spec = &file.spec;
        let counts = (inputs.len(), outputs.len());
        let ([input], true) = (inputs, outputs.len() == spec.outputs.len()) else {
            let expected = format!("(1, {})", spec.outputs.len());
            let what = "numbers of inputs and outputs";
            return Err(file.shape_error(what, &expected, &format!("{counts:?}")));
        };
        let input = encoding(file, "input", &spec.input, input, accepted)?;
        let outputs = order(&spec.outputs, outputs)
            .into_iter()
            .zip(&spec.outputs)
            .map(|(index, spec)| {
                let what = format!("output {index}");
                let encoding = encoding(file, &what, spec, &outputs[index], accepted)?;
                Ok((index, encoding))
            });
        Ok(Self {
            input,
            outputs: outputs.collect::<Result<_, ModelFileError>>()?,
        })
    }
}

fn encoding(
    file: &ModelFile,
    what: &str,
    spec: &TensorSpec,
    tensor: &TensorInfo,
    accepted: Accepted,
) -> Result<Encoding, ModelFileError> {
    let TensorInfo { dtype, shape, .. } = tensor;
    let (scale, zero_point) = (tensor.scale, tensor.zero_point);
    let is_quantized = matches!(dtype, TensorType::U8 | TensorType::I8);
    let is_signed = *dtype == TensorType::I8;
    let range = if is_signed { -128..=127 } else { 0..=255 };
    let (found, suffix) = match accepted {
        _ if *shape == spec.shape && *dtype == TensorType::F32 => return Ok(Encoding::F32),
        Accepted::FloatOrQuantized if *shape == spec.shape && is_quantized => {
            if scale.is_normal() && scale > 0.0 && range.contains(&zero_point) {
                return Ok(Encoding::Quantized {
                    is_signed,
                    scale,
                    zero_point,
                });
            }
            let found = format!("with scale {scale} and zero point {zero_point}");
            (format!("{dtype} {shape:?} {found}"), ", with a scale")
        }
        _ => (format!("{dtype} {shape:?}"), ""),
    };
    let types = match accepted {
        Accepted::Float => spec.dtype.as_str(),
        Accepted::FloatOrQuantized => "f32, int8 or uint8",
    };
    let expected = format!("{types} {:?}{suffix}", spec.shape);
    Err(file.shape_error(what, &expected, &found))
}

/// For each output of the manifest its number in the file.
fn order(specs: &[TensorSpec], found: &[TensorInfo]) -> Vec<usize> {
    let by_name: Option<Vec<usize>> = specs
        .iter()
        .map(|spec| found.iter().position(|tensor| tensor.name == spec.name))
        .collect();
    by_name.unwrap_or_else(|| (0..specs.len()).collect())
}

impl Encoding {
    /// Size of an element, bytes.
    fn size(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::Quantized { .. } => 1,
        }
    }

    /// Encodes `values` into the memory of a tensor; `false` when the sizes differ. Numbers round half away from zero, as
    /// TFLite's QUANTIZE does, and saturate. NaN becomes the zero point.
    #[must_use]
    pub(super) fn write(self, values: &[f32], to: &mut [u8]) -> bool {
        if to.len() != values.len() * self.size() {
            return false;
        }
        match self {
            Self::F32 => {
                for (to, value) in to.chunks_exact_mut(size_of::<f32>()).zip(values) {
                    to.copy_from_slice(&value.to_ne_bytes());
                }
            }
            Self::Quantized {
                is_signed,
                scale,
                zero_point,
            } => {
                let (least, most) = if is_signed { (-128, 127) } else { (0, 255) };
                for (to, value) in to.iter_mut().zip(values) {
                    let number = round_half_away(value / scale) + zero_point;
                    [*to, ..] = number.clamp(least, most).to_le_bytes();
                }
            }
        }
        true
    }

    /// Decodes the memory of a tensor into `values`; `false` when the sizes differ.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        reason = "the difference of two small numbers is exact"
    )]
    pub(super) fn read(self, from: &[u8], values: &mut [f32]) -> bool {
        if from.len() != values.len() * self.size() {
            return false;
        }
        match self {
            Self::F32 => {
                for (value, from) in values.iter_mut().zip(from.chunks_exact(size_of::<f32>())) {
                    *value = f32::from_ne_bytes([from[0], from[1], from[2], from[3]]);
                }
            }
            Self::Quantized {
                is_signed,
                scale,
                zero_point,
            } => {
                for (value, byte) in values.iter_mut().zip(from) {
                    let number = if is_signed {
                        i32::from(byte.cast_signed())
                    } else {
                        i32::from(*byte)
                    };
                    *value = scale * (number - zero_point) as f32;
                }
            }
        }
        true
    }
}

/// `value` rounded half away from zero, between -1000 and 1000; 0 for NaN. Vectorized in a loop over a tensor, unlike
/// `f32::round`, which is a call on baseline x86-64.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the value is within -1000..=1000"
)]
fn round_half_away(value: f32) -> i32 {
    // Half would round the number below it up as well.
    const BELOW_HALF: f32 = 0.5_f32.next_down();
    let value = value.clamp(-1000.0, 1000.0);
    (value + BELOW_HALF.copysign(value)) as i32
}

/// Copies output `index` of a model; `values` is `None` where there is no such output.
pub(super) fn copy_output(
    index: usize,
    values: Option<&[f32]>,
    out: &mut [f32],
) -> Result<(), ModelError> {
    match values {
        Some(values) if values.len() == out.len() => {
            out.copy_from_slice(values);
            Ok(())
        }
        _ => Err(output_error(index, out.len())),
    }
}

pub(super) fn output_error(index: usize, length: usize) -> ModelError {
    ModelError(format!("there is no output {index} with {length} values"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::model_files::{ModelRole, ModelSpec};
    use proptest::prelude::*;

    fn tensor(name: &str, dtype: TensorType, shape: &[usize]) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            scale: 0.0,
            zero_point: 0,
        }
    }

    fn file(outputs: &[(&str, usize)]) -> ModelFile {
        let spec = |name: &str, size| TensorSpec {
            name: name.to_owned(),
            dtype: "f32".to_owned(),
            shape: vec![1, size],
        };
        ModelFile {
            spec: ModelSpec {
                role: ModelRole::Palm,
                file: String::new(),
                sha256: String::new(),
                bundle_member: String::new(),
                bundle_sha256: String::new(),
                input: spec("in", 1),
                outputs: outputs.iter().map(|(n, size)| spec(n, *size)).collect(),
            },
            origin: "palm.tflite".to_owned(),
            sha256: String::new(),
            bytes: [].into(),
        }
    }

    #[test]
    fn tensors_are_compared_with_the_manifest() {
        let file = file(&[("a", 63), ("b", 1), ("c", 1)]);
        let [a, b, c] = [("a", 63), ("b", 1), ("c", 1)]
            .map(|(name, size)| tensor(name, TensorType::F32, &[1, size]));
        let map = |outputs: &[TensorInfo]| {
            let inputs = [tensor("in", TensorType::F32, &[1, 1])];
            let map = TensorMap::new(&file, &inputs, outputs, Accepted::Float);
            map.map(|map| map.outputs.iter().map(|(i, _)| *i).collect::<Vec<_>>())
        };
        let third = |c: TensorInfo| map(&[a.clone(), b.clone(), c]);
        assert_eq!(third(c.clone()).unwrap(), [0, 1, 2]);
        // By name in any order, by position with names of their own.
        let mixed = [c.clone(), a.clone(), b.clone()];
        assert_eq!(map(&mixed).unwrap(), [1, 2, 0]);
        let own = third(tensor("own", TensorType::F32, &[1, 1]));
        assert_eq!(own.unwrap(), [0, 1, 2]);
        let wrong = |found: Result<Vec<usize>, ModelFileError>, part: &str| {
            let text = found.unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        };
        wrong(
            map(&[a.clone(), b.clone()]),
            "numbers of inputs and outputs",
        );
        wrong(third(tensor("c", TensorType::Other(7), &[1, 1])), "type 7");
        wrong(third(tensor("c", TensorType::F32, &[1])), "output 2");
        wrong(third(tensor("c", TensorType::I8, &[1, 1])), "expected f32");
    }

    #[test]
    fn quantization_needs_a_scale_and_a_zero_point_in_range() {
        let file = file(&[]);
        let check = |dtype, scale, zero_point, is_sound| {
            let tensor = TensorInfo {
                scale,
                zero_point,
                ..tensor("in", dtype, &[1, 1])
            };
            let map = TensorMap::new(&file, &[tensor], &[], Accepted::FloatOrQuantized);
            assert_eq!(map.is_ok(), is_sound, "{dtype} {scale} {zero_point}");
        };
        check(TensorType::U8, 1.0 / 255.0, 0, true);
        check(TensorType::I8, 0.5, -128, true);
        check(TensorType::I8, 0.0, 0, false);
        check(TensorType::I8, -1.0, 0, false);
        check(TensorType::U8, f32::NAN, 0, false);
        check(TensorType::U8, f32::INFINITY, 0, false);
        check(TensorType::U8, 1.0, -1, false);
        check(TensorType::I8, 1.0, 128, false);
        check(TensorType::F32, 0.0, 0, true);
        check(TensorType::Other(7), 1.0, 0, false);
    }

    fn quantized(is_signed: bool, scale: f32, zero_point: i32) -> Encoding {
        Encoding::Quantized {
            is_signed,
            scale,
            zero_point,
        }
    }

    #[test]
    fn numbers_by_hand() {
        let check = |zero_point, value: f32, as_u8: u8, as_i8: i8| {
            let (mut u8s, mut i8s) = ([0], [0]);
            assert!(quantized(false, 0.5, zero_point).write(&[value], &mut u8s));
            assert!(quantized(true, 0.5, zero_point).write(&[value], &mut i8s));
            let found = (u8s[0], i8::from_ne_bytes(i8s));
            assert_eq!(found, (as_u8, as_i8), "{value} about {zero_point}");
        };
        check(0, 0.0, 0, 0);
        check(0, 1.0, 2, 2);
        // Half away from zero, not to even.
        check(10, 0.25, 11, 11);
        check(10, -0.25, 9, 9);
        check(10, 0.75, 12, 12);
        check(10, 1.25, 13, 13);
        check(10, 0.249_999_99, 10, 10);
        check(10, -3.0, 4, 4);
        // Saturated.
        check(10, 1e9, 255, 127);
        check(10, -1e9, 0, -128);
        check(0, f32::INFINITY, 255, 127);
        check(0, f32::NEG_INFINITY, 0, -128);
        check(7, f32::NAN, 7, 7);
    }

    #[test]
    fn values_by_hand() {
        let mut values = [0.0; 3];
        let i8s = [-128_i8, -1, 127].map(|number| number.to_ne_bytes()[0]);
        assert!(quantized(true, 0.25, -1).read(&i8s, &mut values));
        assert_eq!(values, [-31.75, 0.0, 32.0]);
        assert!(quantized(false, 0.25, -1).read(&[0, 1, 255], &mut values));
        assert_eq!(values, [0.25, 0.5, 64.0]);
        let mut bytes = [0; 12];
        let float = Encoding::F32;
        assert!(float.write(&[1.5, -0.0, f32::MIN], &mut bytes));
        assert!(float.read(&bytes, &mut values));
        assert_eq!(values, [1.5, -0.0, f32::MIN]);
    }

    #[test]
    fn other_sizes_change_nothing() {
        let encoding = quantized(false, 1.0, 0);
        let (mut bytes, mut values) = ([9; 2], [9.0; 3]);
        assert!(!encoding.write(&values, &mut bytes));
        assert!(!encoding.read(&bytes, &mut values));
        assert!(!Encoding::F32.read(&bytes, &mut values));
        assert_eq!((bytes, values), ([9; 2], [9.0; 3]));
    }

    proptest! {
        #[test]
        fn rounding_is_that_of_the_standard_library(value in -1000.0_f32..1000.0, half in -999..999_i32) {
            let half = half as f32 + 0.5;
            for value in [value, half, half.next_up(), half.next_down()] {
                prop_assert_eq!(round_half_away(value), value.round() as i32);
            }
        }

        #[test]
        fn values_in_range_round_trip_within_half_a_step(
            scale in 1e-4_f32..10.0,
            zero_point in -128..=127_i32,
            part in 0.0_f32..=1.0,
        ) {
            let encoding = quantized(true, scale, zero_point);
            let mut ends = [0.0; 2];
            prop_assert!(encoding.read(&[0x80, 0x7f], &mut ends));
            let [least, most] = ends;
            let value = least + part * (most - least);
            let (mut number, mut back) = ([0], [0.0]);
            prop_assert!(encoding.write(&[value], &mut number));
            prop_assert!(encoding.read(&number, &mut back));
            // Half a step, and the last digit of the values themselves.
            let slack = 4.0 * f32::EPSILON * least.abs().max(most.abs());
            prop_assert!((back[0] - value).abs() <= 0.5 * scale + slack);
        }

        #[test]
        fn every_number_round_trips(
            scale in 1e-4_f32..10.0,
            zero_point in 0..=255_i32,
            number: u8,
        ) {
            let encoding = quantized(false, scale, zero_point);
            let (mut value, mut back) = ([0.0], [0]);
            prop_assert!(encoding.read(&[number], &mut value));
            prop_assert!(encoding.write(&value, &mut back));
            prop_assert_eq!(back[0], number);
        }
    }
}
