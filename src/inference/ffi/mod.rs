//! The TFLite C library and delegate plugins made safe: the only unsafe code for TFLite.
//!
//! tflitec has no hook for delegates and keeps its bindings to itself, so [`c`] declares the functions that are needed
//! once more, in the same `libtensorflowlite_c.so` that tflitec links. What keeps the rest sound: a model's bytes, the
//! words of its error reporter and the delegates of an interpreter are owned by what uses them and freed after it; an
//! interpreter is changed through `&mut self` alone, and slices into its tensors borrow it.

mod c;
mod delegate;
mod error_messages;
mod interpreter;
mod model;
mod plugin;

pub(crate) use crate::inference::ffi::error_messages::RuntimeError;
pub(crate) use delegate::Delegate;
pub(crate) use interpreter::{RawInterpreter, TensorData, TensorDataMut, TensorInfo, TensorType};
pub(crate) use model::RawModel;
pub(crate) use plugin::{Plugin, PluginLoadError, said};
