//! Model files and the runtimes that execute them. The only module that names TFLite and LiteRT.

pub mod backend;
mod backend_cache;
mod backend_handle;
mod backend_request;
mod benchmark;
pub mod candidates;
mod choose;
mod cpu;
mod delegate;
pub mod delegate_library;
mod device_thread;
mod ffi;
mod float_model;
pub mod hardware;
pub mod litert;
pub mod model_files;
mod path_json;
mod prepared_model;
pub mod probe;
mod probe_cache;
mod shared_device;
mod tensors;
pub mod vulkan;

pub use backend::{
    BackendError, BackendSpec, BoxedModel, DelegateCoverage, LoadedModels, ModelPair,
};
pub use backend_cache::BackendCache;
pub use backend_handle::{BackendEvent, BackendHandle, WorkerDetector};
pub use backend_request::{BackendRequest, expected_identity};
pub use benchmark::{BenchmarkOptions, OpenBackend};
pub use choose::{SelectionContext, SelectionError, benchmark_all};
pub use cpu::{CpuLoadedModel, CpuModel, load_xnnpack};
pub use delegate::{DelegateLoadedModel, DelegateModel, NodeCounts};
pub use delegate_library::DelegateSpec;
pub use hardware::Hardware;
pub use litert::{LiteRt, LiteRtModel, LiteRtTarget};
pub use model_files::{ModelFileError, ModelFiles, ModelPaths};
use shared_device::SharedDevice;
pub use shared_device::ShutdownFlag;
pub use vulkan::VulkanDevice;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, also after a panic in another thread: all that this module locks is consistent at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
