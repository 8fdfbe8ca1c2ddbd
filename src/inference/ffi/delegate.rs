//! Delegates: made, applied to an interpreter, destroyed after it.

#![allow(unsafe_code, reason = "the TFLite library speaks C")]

use super::c;
use super::error_messages::RuntimeError;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

/// A delegate with the function that destroys it. [`super::RawInterpreter::apply`] takes it, so that it outlives the
/// interpreter.
#[derive(Debug)]
pub(crate) struct Delegate {
    pub(super) pointer: NonNull<c::TfLiteDelegate>,
    destroy: unsafe extern "C" fn(*mut c::TfLiteDelegate),
    /// What its callbacks point to.
    _plan: Option<Arc<ExecutionPlan>>,
}

// SAFETY: a delegate is called from whichever thread uses its interpreter, one at a time: it is owned by the
// interpreter, whose methods that reach it take `&mut self`. Delegates that want one and the same thread are opened on
// the thread that runs them (see `DelegateModel`).
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

    /// XNNPACK's kernels on one thread.
    pub(crate) fn xnnpack() -> Result<Self, RuntimeError> {
        // SAFETY: takes nothing; returns a struct that is not larger than the one declared, in memory of ours. All
        // fields but the room are set by every version.
        let mut options = unsafe { c::TfLiteXNNPackDelegateOptionsDefault() };
        options.num_threads = 1;
        options.flags |= c::XNNPACK_QUANTISED;
        // SAFETY: options is as the library made it, room included, and is read during the call alone.
        let pointer = unsafe { c::TfLiteXNNPackDelegateCreate(&raw const options) };
        let pointer = NonNull::new(pointer)
            .ok_or_else(|| RuntimeError("cannot make the XNNPACK delegate".to_owned()))?;
        // SAFETY: just made for us, and this is the library's function to destroy it; the library is linked.
        Ok(unsafe { Self::from_raw(pointer, c::TfLiteXNNPackDelegateDelete) })
    }

    /// A delegate that takes no node and records which nodes the interpreter would execute.
    pub(super) fn plan_reader() -> Result<(Self, Arc<ExecutionPlan>), RuntimeError> {
        let plan = Arc::new(ExecutionPlan(Mutex::new(Vec::new())));
        let builder = c::DelegateBuilder {
            data: Arc::as_ptr(&plan).cast_mut().cast(),
            prepare: Some(read_plan),
            copy_from_buffer_handle: ptr::null(),
            copy_to_buffer_handle: ptr::null(),
            free_buffer_handle: ptr::null(),
            flags: c::ALLOW_DYNAMIC_TENSORS,
        };
        // SAFETY: the builder is copied by the call; its data lives in the Arc that the Delegate keeps.
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
        // SAFETY: live, ours alone, destroyed once. Where an interpreter used it, that is deleted already: it holds
        // its delegates in a field, and fields are dropped after its Drop.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}

/// Numbers of the nodes to execute.
#[derive(Debug)]
pub(super) struct ExecutionPlan(Mutex<Vec<c_int>>);

impl ExecutionPlan {
    pub(super) fn take(&self) -> Vec<c_int> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

unsafe extern "C" fn read_plan(
    context: *mut c::OpaqueContext,
    _delegate: *mut c::TfLiteDelegate,
    data: *mut c_void,
) -> c_int {
    let mut plan = ptr::null_mut();
    // SAFETY: the context is the runtime's for this call, and plan a place of ours for one pointer.
    if unsafe { c::TfLiteOpaqueContextGetExecutionPlan(context, &raw mut plan) } != c::OK
        || plan.is_null()
    {
        return c::ERROR;
    }
    // SAFETY: the runtime's array, of `size` numbers behind its head, unchanged during this call; 0 where negative.
    let nodes = unsafe {
        let count = usize::try_from((*plan).size).unwrap_or(0);
        slice::from_raw_parts((&raw const (*plan).data).cast::<c_int>(), count)
    };
    // SAFETY: data is the Plan in the Arc of the Delegate that is being applied, which its interpreter keeps.
    let recorded = unsafe { &*data.cast::<ExecutionPlan>() };
    *recorded.0.lock().unwrap_or_else(PoisonError::into_inner) = nodes.to_vec();
    c::OK
}
