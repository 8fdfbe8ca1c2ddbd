//! Model files and the runtimes that execute them. The only room that names TFLite and LiteRT.

pub mod backend;
mod backend_request;
pub mod cpu;
pub mod delegate;
mod ffi;
pub mod library;
pub mod litert;
pub mod model_files;
pub mod presets;
pub mod probing;
mod quantize;
pub mod shared;
mod shutdown_flag;
pub mod vulkan;

pub use crate::inference::backend_request::{DelegateWish, Wanted};
pub use crate::inference::model_files::{Bundle, BundleError, Selection};
pub use crate::inference::shutdown_flag::Ending;
pub use backend::{BackendError, BackendSpec, Claim, Graph, Graphs, Opened, Pair};
pub use cpu::{CpuGraph, CpuModel};
pub use delegate::{DelegateGraph, DelegateModel, Nodes};
pub use library::{DelegateError, DelegateSpec};
pub use litert::{LiteRt, LiteRtError, LiteRtModel, Target};
pub use presets::{ModelKind, PRESETS, Preset};
pub use shared::{SharedDevice, SharedModel};
pub use vulkan::VulkanDevice;
