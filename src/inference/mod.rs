//! Model files and the runtimes that execute them. The only room that names TFLite and LiteRT.

pub mod backend;
pub mod bundle;
pub mod cpu;
pub mod delegate;
mod ffi;
pub mod library;
pub mod litert;
pub mod presets;
mod quantise;
pub mod vulkan;

pub use backend::{BackendError, BackendSpec, Graph, Opened};
pub use bundle::{Bundle, BundleError, Selection};
pub use cpu::{CpuGraph, CpuModel};
pub use delegate::{DelegateGraph, DelegateModel, Nodes};
pub use library::{DelegateError, DelegateSpec};
pub use litert::{LiteRt, LiteRtError, LiteRtModel, Target};
pub use presets::{ModelKind, PRESETS, Preset};
pub use vulkan::VulkanDevice;
