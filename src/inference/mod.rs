//! Model files and the runtimes that execute them. The only room that names TFLite and LiteRT.

pub mod backend;
pub mod bundle;
pub mod cpu;
pub mod delegate;
mod ending;
mod ffi;
pub mod library;
pub mod litert;
pub mod presets;
mod quantise;
pub mod shared;
pub mod vulkan;
mod wanted;

pub use backend::{BackendError, BackendSpec, Claim, Graph, Graphs, Opened, Pair};
pub use bundle::{Bundle, BundleError, Selection};
pub use cpu::{CpuGraph, CpuModel};
pub use delegate::{DelegateGraph, DelegateModel, Nodes};
pub use ending::Ending;
pub use library::{DelegateError, DelegateSpec};
pub use litert::{LiteRt, LiteRtError, LiteRtModel, Target};
pub use presets::{ModelKind, PRESETS, Preset};
pub use shared::{SharedDevice, SharedModel};
pub use vulkan::VulkanDevice;
pub use wanted::{DelegateWish, Wanted};
