//! A safe interface to the TFLite C library and to delegate plugins: the only unsafe code for TFLite.
//!
//! [`c`] declares the needed functions of `libtensorflowlite_c.so`, which `build.rs` links. Soundness:
//!
//! * A model's bytes, the messages of its error reporter and the delegates of an interpreter are owned by what uses
//!   them and freed after it.
//! * An interpreter is changed through `&mut self` only, and slices into its tensors borrow it.

mod c;
mod delegate;
mod error_messages;
mod interpreter;
mod plugin;

pub(crate) use delegate::Delegate;
pub(crate) use error_messages::RuntimeError;
pub(crate) use interpreter::{RawInterpreter, RawModel};
pub(crate) use plugin::{Plugin, PluginLoadError, plugin_messages};
