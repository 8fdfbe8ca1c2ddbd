//! Backends that compute in fewer than 32 bits: their names, and the error that was measured and published for each.

use super::{CPU_FP16, CPU_INT8, CPU_INT8_FP16, LITERT_CPU_FP16, LITERT_CPU_INT8};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Minimum share of images in which a backend of reduced precision finds as many hands as the CPU, and of hands with the
/// CPU's handedness, percent.
pub const EQUAL_MIN_PERCENT: f64 = 99.5;

/// Arithmetic of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    Fp16,
    /// A model file whose weights and activations are 8-bit integers.
    Int8,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        })
    }
}

/// How far the hands of a backend are from the CPU's in real clips and photos, as `models/README.md` publishes it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PublishedError {
    /// Images with as many hands, percent.
    pub counts_equal_percent: f64,
    /// Hands with the same handedness, percent.
    pub sides_equal_percent: f64,
    /// Median difference of x and y, fractions of the image.
    pub median: f64,
    /// 95th percentile of the differences.
    pub p95: f64,
    /// 99th percentile of the differences.
    pub p99: f64,
}

/// The precision of the palm and the hand model on the backend `name`; `None` for a backend that computes in 32 bits or
/// whose precision its delegate decides.
#[must_use]
pub fn reduced_precision(name: &str) -> Option<[Precision; 2]> {
    use Precision::{F32, Fp16, Int8};
    match name {
        CPU_FP16 | LITERT_CPU_FP16 => Some([Fp16, Fp16]),
        CPU_INT8 | LITERT_CPU_INT8 => Some([F32, Int8]),
        CPU_INT8_FP16 => Some([Fp16, Int8]),
        _ => None,
    }
}

/// The published error of the backend `name`; `None` for one that computes in 32 bits or was never measured.
#[must_use]
pub fn published_error(name: &str) -> Option<PublishedError> {
    let [counts, sides, median, p95, p99] = match name {
        CPU_FP16 | LITERT_CPU_FP16 => [99.7, 99.8, 2.4e-4, 1.3e-3, 3.3e-3],
        CPU_INT8 | LITERT_CPU_INT8 => [99.7, 99.8, 2.2e-4, 1.2e-3, 2.6e-3],
        CPU_INT8_FP16 => [99.7, 99.5, 2.6e-4, 1.6e-3, 3.8e-3],
        _ => return None,
    };
    Some(PublishedError {
        counts_equal_percent: counts,
        sides_equal_percent: sides,
        median,
        p95,
        p99,
    })
}

/// The object `value`, with the precision and the published error of the backend `name` where its precision is reduced.
#[must_use]
pub fn with_precision(mut value: Value, name: &str) -> Value {
    if let Some(precision) = reduced_precision(name) {
        value["precision"] = json!(precision);
        value["published_error"] = json!(published_error(name));
    }
    value
}

impl PublishedError {
    /// Why it is too large for `p95_max`; `None` when it is not.
    #[must_use]
    pub fn refusal(&self, p95_max: f32) -> Option<String> {
        let equal = self.counts_equal_percent.min(self.sides_equal_percent);
        if self.p95 > f64::from(p95_max) {
            Some(format!(
                "its published error (95 % of the landmarks within {:.1e} of the image size) is above {p95_max:.1e}",
                self.p95
            ))
        } else if equal < EQUAL_MIN_PERCENT {
            Some(format!(
                "by its published error, only {equal} % of hands are as the CPU's, {EQUAL_MIN_PERCENT} % are required"
            ))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::{BACKENDS, CPU};

    #[test]
    fn every_backend_of_reduced_precision_has_a_published_error() {
        for name in BACKENDS.into_iter().chain([CPU]) {
            let is_reduced = reduced_precision(name).is_some();
            assert_eq!(published_error(name).is_some(), is_reduced, "{name}");
        }
    }

    #[test]
    fn a_published_error_is_compared_with_the_tolerance() {
        let error = published_error(CPU_INT8).unwrap();
        assert_eq!(error.refusal(2.3e-3), None);
        assert!(error.refusal(1e-3).unwrap().contains("1.2e-3"));
        let poor = PublishedError {
            sides_equal_percent: 99.4,
            ..error
        };
        assert!(poor.refusal(2.3e-3).unwrap().contains("99.4 %"));
    }
}
