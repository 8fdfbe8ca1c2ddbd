//! Which backend runs the models, decided by what was measured. Pure: [`wish`] is what the user asks for, [`agreement`]
//! holds what a backend saw against what the CPU saw, [`choice`] takes the fastest that agrees, [`patience`] says when a
//! backend that fails has failed too often.

pub mod agreement;
pub mod backend_preference;
pub mod choice;
pub mod retry_budget;

pub use crate::selection::backend_preference::BackendPreference;
pub use crate::selection::retry_budget::RetryBudget;
pub use agreement::{Agreement, DetectedHand};
pub use choice::{BackendChoice, BackendMetrics, BenchmarkOutcome, RejectedBackend, choose};

/// The backend that is always there, and the one that all others are held against.
pub const CPU: &str = "cpu";
/// LiteRT's kernels for the CPU.
pub const LITERT_CPU: &str = "litert:cpu";
/// LiteRT on a Vulkan device.
pub const LITERT_GPU: &str = "litert:gpu";
/// The delegate whose library the user names.
pub const CUSTOM: &str = "custom";

/// The names of all delegates.
pub const DELEGATES: [&str; 7] = [
    "coral",
    "vx",
    "teflon",
    "armnn",
    "qnn",
    "tflite-gpu",
    CUSTOM,
];

/// The names of all backends but the CPU.
pub const BACKENDS: [&str; 9] = [
    LITERT_CPU,
    LITERT_GPU,
    "coral",
    "vx",
    "teflon",
    "armnn",
    "qnn",
    "tflite-gpu",
    CUSTOM,
];
