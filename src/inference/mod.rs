//! Model files and the runtimes that execute them. The only room that names TFLite and LiteRT.

pub mod bundle;
pub mod cpu;
pub mod litert;
pub mod vulkan;

pub use bundle::{Bundle, BundleError, Selection};
pub use cpu::{CpuGraph, CpuModel};
pub use litert::{LiteRt, LiteRtError, LiteRtModel, Target};
pub use vulkan::VulkanDevice;
