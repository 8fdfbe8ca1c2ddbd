//! Model files and the runtimes that execute them. The only module that names TFLite and LiteRT.

pub mod backend;
mod backend_cache;
mod backend_handle;
mod backend_request;
mod benchmark;
pub mod candidates;
mod choose;
pub mod cpu;
pub mod delegate;
pub mod delegate_library;
mod device_thread;
mod ffi;
pub mod hardware;
pub mod litert;
pub mod model_files;
pub mod probe;
mod probe_cache;
pub mod shared_device;
mod shutdown_flag;
mod tensors;
pub mod vulkan;
mod worker_detector;

pub use backend::{
    BackendError, BackendSpec, DelegateCoverage, LoadedModel, LoadedModels, ModelPair, OpenModel,
};
pub use backend_cache::BackendCache;
pub use backend_handle::{BackendEvent, BackendHandle};
pub use backend_request::BackendRequest;
pub use benchmark::{BenchmarkOptions, BenchmarkReport};
pub use choose::{
    ChosenBackend, Measurement, SelectionContext, SelectionError, benchmark_all, expected_identity,
};
pub use cpu::{CpuLoadedModel, CpuModel};
pub use delegate::{DelegateLoadedModel, DelegateModel, NodeCounts};
pub use delegate_library::{DelegateError, DelegateSpec};
pub use hardware::{DeviceNode, Hardware};
pub use litert::{LiteRt, LiteRtError, LiteRtModel, LiteRtTarget};
pub use model_files::{ModelFileError, ModelFiles, ModelPaths};
pub use shared_device::{SharedDevice, SharedModel};
pub use shutdown_flag::ShutdownFlag;
pub use vulkan::VulkanDevice;
pub use worker_detector::WorkerDetector;
