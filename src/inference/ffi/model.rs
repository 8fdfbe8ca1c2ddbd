//! A model file as the runtime has parsed it.

#![allow(unsafe_code, reason = "the TFLite library speaks C")]

use super::c;
use super::error_messages::{ErrorMessages, RuntimeError, report, runtime_error};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

/// A parsed model with its bytes; shared by all interpreters over it.
#[derive(Debug)]
pub(crate) struct RawModel {
    pub(super) pointer: NonNull<c::TfLiteModel>,
    /// The flatbuffer, which the runtime reads as long as a model or an interpreter lives.
    bytes: Arc<[u8]>,
    /// The runtime's model keeps a pointer to them.
    _messages: Arc<ErrorMessages>,
}

// SAFETY: the runtime's model never changes and is bound to no thread. Interpreters of several threads read it.
unsafe impl Send for RawModel {}
// SAFETY: as above; no method of ours changes it.
unsafe impl Sync for RawModel {}

impl RawModel {
    /// Parses a flatbuffer; the runtime verifies it.
    pub(crate) fn new(bytes: Arc<[u8]>) -> Result<Self, RuntimeError> {
        let messages = Arc::new(ErrorMessages::new());
        // SAFETY: the bytes do not move and never change. They and the messages are freed after the model (see Drop)
        // and after every interpreter over it, each of which holds this model in an Arc.
        let pointer = unsafe {
            c::TfLiteModelCreateWithErrorReporter(
                bytes.as_ptr().cast(),
                bytes.len(),
                report,
                Arc::as_ptr(&messages).cast_mut().cast(),
            )
        };
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Self {
                pointer,
                bytes,
                _messages: messages,
            }),
            None => Err(runtime_error(&messages, "reading the model")),
        }
    }

    /// Whether `data` points into the flatbuffer, which nobody may write.
    pub(super) fn holds(&self, data: *const c_void) -> bool {
        self.bytes.as_ptr_range().contains(&data.cast())
    }
}

impl Drop for RawModel {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted once. The fields that it points to are dropped after this.
        unsafe { c::TfLiteModelDelete(self.pointer.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_refused_in_the_runtimes_messages() {
        for bytes in [&b""[..], b"TFL3", &[7; 4096]] {
            let messages = RawModel::new(bytes.into()).unwrap_err().0;
            assert!(messages.contains("lat"), "{messages}");
        }
    }
}
