//! Numbers of quantised tensors: `value = scale * (number - zero_point)`, as TFLite computes it both ways.

use super::ffi::{TensorData, TensorDataMut, TensorInfo, TensorType};

/// How a tensor's small numbers stand for values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quantization {
    scale: f32,
    zero_point: i32,
}

impl Quantization {
    /// Of a tensor of small numbers; `None` where the file does not say how they are to be read.
    pub(super) fn of(tensor: &TensorInfo) -> Option<Self> {
        let range = match tensor.dtype {
            TensorType::U8 => 0..=255,
            TensorType::I8 => -128..=127,
            TensorType::F32 | TensorType::Other(_) => return None,
        };
        let is_sound = tensor.scale.is_normal() && tensor.scale > 0.0;
        (is_sound && range.contains(&tensor.zero_point)).then_some(Self {
            scale: tensor.scale,
            zero_point: tensor.zero_point,
        })
    }

    /// Rounds half away from zero, as TFLite's QUANTIZE does; not yet brought into the type's range. A value that is
    /// no number becomes the zero point.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "Rust's casts saturate, and the range is cut after"
    )]
    fn number(self, value: f32) -> i32 {
        ((value / self.scale).round() as i32).saturating_add(self.zero_point)
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "the difference of two small numbers is exact"
    )]
    fn value(self, number: i32) -> f32 {
        self.scale * (number - self.zero_point) as f32
    }

    /// Writes `values` to an input; `false` where it is not one of small numbers of that count.
    #[must_use]
    pub(super) fn write(self, values: &[f32], to: TensorDataMut<'_>) -> bool {
        match to {
            TensorDataMut::U8(to) if to.len() == values.len() => {
                for (to, value) in to.iter_mut().zip(values) {
                    let number = self.number(*value).clamp(0, 255);
                    *to = u8::try_from(number).unwrap_or_default();
                }
                true
            }
            TensorDataMut::I8(to) if to.len() == values.len() => {
                for (to, value) in to.iter_mut().zip(values) {
                    let number = self.number(*value).clamp(-128, 127);
                    *to = i8::try_from(number).unwrap_or_default();
                }
                true
            }
            _ => false,
        }
    }

    /// Reads an output's values; `false` where it is not one of small numbers of that count.
    #[must_use]
    pub(super) fn read(self, from: &TensorData<'_>, values: &mut [f32]) -> bool {
        match from {
            TensorData::U8(from) if from.len() == values.len() => {
                for (value, number) in values.iter_mut().zip(*from) {
                    *value = self.value(i32::from(*number));
                }
                true
            }
            TensorData::I8(from) if from.len() == values.len() => {
                for (value, number) in values.iter_mut().zip(*from) {
                    *value = self.value(i32::from(*number));
                }
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tensor(dtype: TensorType, scale: f32, zero_point: i32) -> TensorInfo {
        TensorInfo {
            name: String::new(),
            dtype,
            shape: vec![1],
            scale,
            zero_point,
        }
    }

    #[test]
    fn only_sound_quantisation_is_taken() {
        let check = |dtype, scale, zero_point, is_sound| {
            let found = Quantization::of(&tensor(dtype, scale, zero_point)).is_some();
            assert_eq!(found, is_sound, "{dtype} {scale} {zero_point}");
        };
        check(TensorType::U8, 1.0 / 255.0, 0, true);
        check(TensorType::I8, 0.5, -128, true);
        check(TensorType::I8, 0.0, 0, false);
        check(TensorType::I8, -1.0, 0, false);
        check(TensorType::U8, f32::NAN, 0, false);
        check(TensorType::U8, f32::INFINITY, 0, false);
        check(TensorType::U8, 1.0, -1, false);
        check(TensorType::I8, 1.0, 128, false);
        check(TensorType::F32, 1.0, 0, false);
        check(TensorType::Other(7), 1.0, 0, false);
    }

    #[test]
    fn numbers_by_hand() {
        let check = |zero_point, value: f32, u8s: u8, i8s: i8| {
            let scale = 0.5;
            let quantisation = Quantization { scale, zero_point };
            let (mut as_u8, mut as_i8) = ([0], [0]);
            assert!(quantisation.write(&[value], TensorDataMut::U8(&mut as_u8)));
            assert!(quantisation.write(&[value], TensorDataMut::I8(&mut as_i8)));
            assert_eq!((as_u8, as_i8), ([u8s], [i8s]), "{value} about {zero_point}");
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
        // Cut at the type's ends.
        check(10, 1e9, 255, 127);
        check(10, -1e9, 0, -128);
        check(0, f32::INFINITY, 255, 127);
        check(0, f32::NEG_INFINITY, 0, -128);
        check(7, f32::NAN, 7, 7);
    }

    #[test]
    fn values_by_hand() {
        let quantisation = Quantization {
            scale: 0.25,
            zero_point: -1,
        };
        let mut values = [0.0; 3];
        assert!(quantisation.read(&TensorData::I8(&[-128, -1, 127]), &mut values));
        assert_eq!(values, [-31.75, 0.0, 32.0]);
        assert!(quantisation.read(&TensorData::U8(&[0, 1, 255]), &mut values));
        assert_eq!(values, [0.25, 0.5, 64.0]);
    }

    #[test]
    fn other_counts_and_types_are_not_touched() {
        let quantisation = Quantization {
            scale: 1.0,
            zero_point: 0,
        };
        let (mut small, mut floats) = ([9_u8; 2], [9.0; 3]);
        assert!(!quantisation.write(&[1.0; 3], TensorDataMut::U8(&mut small)));
        assert!(!quantisation.write(&[1.0; 3], TensorDataMut::F32(&mut floats)));
        assert!(!quantisation.read(&TensorData::U8(&small), &mut floats));
        assert!(!quantisation.read(&TensorData::F32(&[1.0; 3]), &mut floats));
        assert_eq!((small, floats), ([9; 2], [9.0; 3]));
    }

    proptest! {
        #[test]
        fn what_is_in_range_comes_back_within_half_a_step(
            scale in 1e-4_f32..10.0,
            zero_point in -128..=127_i32,
            part in 0.0_f32..=1.0,
        ) {
            let quantisation = Quantization { scale, zero_point };
            let (least, most) = (quantisation.value(-128), quantisation.value(127));
            let value = least + part * (most - least);
            let (mut number, mut back) = ([0_i8], [0.0]);
            prop_assert!(quantisation.write(&[value], TensorDataMut::I8(&mut number)));
            prop_assert!(quantisation.read(&TensorData::I8(&number), &mut back));
            // Half a step, and the last digit of the values themselves.
            let slack = 4.0 * f32::EPSILON * least.abs().max(most.abs());
            prop_assert!((back[0] - value).abs() <= 0.5 * scale + slack);
        }

        #[test]
        fn every_number_comes_back_as_itself(
            scale in 1e-4_f32..10.0,
            zero_point in 0..=255_i32,
            number: u8,
        ) {
            let quantisation = Quantization { scale, zero_point };
            let (mut value, mut back) = ([0.0], [0_u8]);
            prop_assert!(quantisation.read(&TensorData::U8(&[number]), &mut value));
            prop_assert!(quantisation.write(&value, TensorDataMut::U8(&mut back)));
            prop_assert_eq!(back[0], number);
        }
    }
}
