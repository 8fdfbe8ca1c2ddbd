//! Model files and the runtimes that execute them. The only room that names TFLite.

pub mod bundle;
pub mod cpu;

pub use bundle::{Bundle, BundleError, Selection};
pub use cpu::{CpuGraph, CpuModel};
