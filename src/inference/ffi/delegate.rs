//! Delegates: made, applied to an interpreter, destroyed after it.

#![allow(unsafe_code, reason = "the TFLite library speaks C")]

use super::c;
use super::error_messages::RuntimeError;
use crate::inference::lock;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex};

/// A delegate with the function that destroys it. [`super::RawInterpreter::apply`] takes it, so that it outlives the
/// interpreter.
#[derive(Debug)]
pub(crate) struct Delegate {
    pub(super) pointer: NonNull<c::TfLiteDelegate>,
    destroy: unsafe extern "C" fn(*mut c::TfLiteDelegate),
    /// What its callbacks point to.
    _plan: Option<ExecutionPlan>,
}

// SAFETY: the thread that uses the interpreter calls the delegate, one thread at a time: the interpreter owns it, and
// the methods that reach it take `&mut self`. A delegate that needs one and the same thread is opened on the thread that
// runs it (see `DelegateModel`).
unsafe impl Send for Delegate {}

impl Delegate {
    /// # Safety
    /// `pointer` is a live delegate that nobody else owns; `destroy` destroys it and stays callable.
    pub(crate) unsafe fn from_raw(
        pointer: NonNull<c::TfLiteDelegate>,
        destroy: unsafe extern "C" fn(*mut c::TfLiteDelegate),
    ) -> Self {
        Self {
            pointer,
            destroy,
            _plan: None,
        }
    }

    /// XNNPACK's kernels on one thread; with `is_fp16`, float nodes compute in 16 bits. An interpreter refuses that delegate
    /// where the processor lacks the arithmetic.
    pub(crate) fn xnnpack(is_fp16: bool) -> Result<Self, RuntimeError> {
        // SAFETY: returns a struct that is not larger than the one declared. Every version sets all fields but the room.
        let mut options = unsafe { c::TfLiteXNNPackDelegateOptionsDefault() };
        options.num_threads = 1;
        options.flags |= c::XNNPACK_QUANTIZED;
        if is_fp16 {
            options.flags |= c::XNNPACK_FORCE_FP16;
        }
        // SAFETY: the library made the options, room included, and reads them during the call only.
        let pointer = unsafe { c::TfLiteXNNPackDelegateCreate(&raw const options) };
        let pointer = NonNull::new(pointer)
            .ok_or_else(|| RuntimeError("cannot make the XNNPACK delegate".to_owned()))?;
        // SAFETY: made above, owned by nobody else; the linked library's own function destroys it.
        Ok(unsafe { Self::from_raw(pointer, c::TfLiteXNNPackDelegateDelete) })
    }

    /// A delegate that takes no node and records which nodes the interpreter would execute.
    pub(super) fn plan_reader() -> Result<(Self, ExecutionPlan), RuntimeError> {
        let plan = ExecutionPlan::default();
        let builder = c::DelegateBuilder {
            data: Arc::as_ptr(&plan).cast_mut().cast(),
            prepare: Some(read_plan),
            copy_from_buffer_handle: ptr::null(),
            copy_to_buffer_handle: ptr::null(),
            free_buffer_handle: ptr::null(),
            flags: c::ALLOW_DYNAMIC_TENSORS,
        };
        // SAFETY: the call copies the builder; its data lives in the Arc that the Delegate keeps.
        let pointer = unsafe { c::TfLiteOpaqueDelegateCreate(&raw const builder) };
        let pointer = NonNull::new(pointer)
            .ok_or_else(|| RuntimeError("cannot make a delegate that counts nodes".to_owned()))?;
        let reader = Self {
            pointer,
            destroy: c::TfLiteOpaqueDelegateDelete,
            _plan: Some(Arc::clone(&plan)),
        };
        Ok((reader, plan))
    }
}

impl Drop for Delegate {
    fn drop(&mut self) {
        // SAFETY: live, ours alone, destroyed once. An interpreter that used it is deleted already: it holds its
        // delegates in a field, and fields are dropped after its Drop.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}

/// Numbers of the nodes to execute.
pub(super) type ExecutionPlan = Arc<Mutex<Vec<c_int>>>;

unsafe extern "C" fn read_plan(
    context: *mut c::OpaqueContext,
    _delegate: *mut c::TfLiteDelegate,
    data: *mut c_void,
) -> c_int {
    let mut plan = ptr::null_mut();
    // SAFETY: the runtime's context, valid for this call, and a variable of ours to write to.
    if unsafe { c::TfLiteOpaqueContextGetExecutionPlan(context, &raw mut plan) } != c::OK
        || plan.is_null()
    {
        return c::ERROR;
    }
    // SAFETY: the runtime's array of `size` numbers behind its head, which does not change during this call.
    let nodes = unsafe {
        let count = usize::try_from((*plan).size).unwrap_or(0);
        slice::from_raw_parts((&raw const (*plan).data).cast::<c_int>(), count)
    };
    // SAFETY: data is the plan in the Arc of the delegate that is being applied, which its interpreter keeps.
    let recorded = unsafe { &*data.cast::<Mutex<Vec<c_int>>>() };
    *lock(recorded) = nodes.to_vec();
    c::OK
}
