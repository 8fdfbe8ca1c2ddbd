//! Chooses what runs the models, from benchmark results. Pure.
//!
//! * [`BackendPreference`]: what the user requests.
//! * [`Agreement`]: how far the hands that a backend detects are from the CPU's.
//! * [`choose`]: takes a backend that agrees with the CPU: the first of [`DEFAULT_ORDER`], the fastest, or a named
//!   one.

pub mod agreement;
pub mod backend_preference;
pub mod choice;

pub use agreement::{Agreement, DetectedHand};
pub use backend_preference::BackendPreference;
pub use choice::{BackendChoice, BackendMetrics, BenchmarkOutcome, RejectedBackend, choose};

/// TensorFlow Lite on the CPU: always available, and the reference for every other backend.
pub const CPU: &str = "cpu";
/// LiteRT's CPU kernels.
pub const LITERT_CPU: &str = "litert:cpu";
/// LiteRT on a Vulkan device.
pub const LITERT_GPU: &str = "litert:gpu";
/// A TFLite delegate plugin whose library the user names.
pub const CUSTOM: &str = "custom";

/// The names of all backends but the CPU.
pub const BACKENDS: [&str; 3] = [LITERT_CPU, LITERT_GPU, CUSTOM];

/// What [`BackendPreference::Auto`] takes: the first of these that is installed and agrees with the CPU. Both compute
/// in 32 bits on the processor. LiteRT comes first because its kernels are those of MediaPipe: its landmarks are
/// bit-equal, also with tracking, while those of the CPU differ in the last digits. No accelerator is among them.
pub const DEFAULT_ORDER: [&str; 2] = [LITERT_CPU, CPU];

/// Accelerators that run as [`CUSTOM`]; `models/README.md` has a recipe for each.
pub const DELEGATE_RECIPES: [&str; 6] = ["coral", "vx", "teflon", "armnn", "qnn", "tflite-gpu"];
