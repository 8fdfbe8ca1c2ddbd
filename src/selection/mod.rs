//! Chooses what runs the models, from benchmark results. Pure.
//!
//! * [`BackendPreference`]: what the user requests.
//! * [`Agreement`]: how far the hands that a backend detects are from the CPU's.
//! * [`accuracy`]: the same over many real images, by quantiles.
//! * [`PublishedError`]: how far those of a backend of reduced precision were in real clips.
//! * [`choose`]: takes a backend that agrees with the CPU: the first of [`DEFAULT_ORDER`], the fastest, or a named
//!   one. Reduced precision is chosen by its name or by `fast` only.

pub mod accuracy;
pub mod agreement;
pub mod backend_preference;
pub mod choice;
pub mod precision;

pub use agreement::{Agreement, DetectedHand, Tolerance};
pub use backend_preference::BackendPreference;
pub use choice::{BackendChoice, BackendMetrics, BenchmarkOutcome, RejectedBackend, choose};
pub use precision::{
    Precision, PublishedError, published_error, reduced_precision, with_precision,
};

/// TensorFlow Lite on the CPU: always available, and the reference for every other backend.
pub const CPU: &str = "cpu";
/// LiteRT's CPU kernels.
pub const LITERT_CPU: &str = "litert:cpu";
/// LiteRT on a Vulkan device.
pub const LITERT_GPU: &str = "litert:gpu";
/// TensorFlow Lite on the CPU, both models in 16-bit floats.
pub const CPU_FP16: &str = "cpu:fp16";
/// TensorFlow Lite on the CPU: the hand model in 8-bit integers, the palm model in 32-bit floats.
pub const CPU_INT8: &str = "cpu:int8";
/// TensorFlow Lite on the CPU: the hand model in 8-bit integers, the palm model in 16-bit floats.
pub const CPU_INT8_FP16: &str = "cpu:int8:fp16";
/// LiteRT's CPU kernels in 16-bit floats.
pub const LITERT_CPU_FP16: &str = "litert:cpu:fp16";
/// LiteRT's CPU kernels: the hand model in 8-bit integers, the palm model in 32-bit floats.
pub const LITERT_CPU_INT8: &str = "litert:cpu:int8";
/// A TFLite delegate plugin whose library the user names.
pub const CUSTOM: &str = "custom";

/// The names of all backends but the CPU.
pub const BACKENDS: [&str; 8] = [
    LITERT_CPU,
    LITERT_GPU,
    CPU_FP16,
    CPU_INT8,
    CPU_INT8_FP16,
    LITERT_CPU_FP16,
    LITERT_CPU_INT8,
    CUSTOM,
];

/// What [`BackendPreference::Auto`] takes: the first of these that is installed and agrees with the CPU. Both compute
/// in 32 bits on the processor. LiteRT comes first because its kernels are those of MediaPipe: its landmarks are
/// bit-equal, also with tracking, while those of the CPU differ in the last digits. No accelerator is among them.
pub const DEFAULT_ORDER: [&str; 2] = [LITERT_CPU, CPU];

/// Accelerators that run as [`CUSTOM`]; `models/README.md` has a recipe for each.
pub const DELEGATE_RECIPES: [&str; 6] = ["coral", "vx", "teflon", "armnn", "qnn", "tflite-gpu"];
