//! The C declarations, ABI of TFLite 2.17. Types named in `enum X {}` are opaque: only the library looks inside.

#![allow(unsafe_code, reason = "the TFLite library speaks C")]

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;

/// `kTfLiteOk`, `kTfLiteError`.
pub(crate) const OK: c_int = 0;
pub(crate) const ERROR: c_int = 1;
/// `kTfLiteDelegateFlagsAllowDynamicTensors`: the delegate asks nothing of the graph.
pub(crate) const ALLOW_DYNAMIC_TENSORS: i64 = 1;
/// `TFLITE_XNNPACK_DELEGATE_FLAG_QS8 | _QU8`: quantised nodes too.
pub(crate) const XNNPACK_QUANTISED: u32 = 3;

pub(crate) enum Model {}
pub(crate) enum Options {}
pub(crate) enum Interpreter {}
pub(crate) enum Tensor {}
pub(crate) enum Delegate {}
pub(crate) enum OpaqueContext {}

/// `va_list` as a parameter: on x86-64 and ARM64 Linux a pointer, which is only handed on.
pub(crate) type VaList = *mut c_void;
pub(crate) type Reporter = unsafe extern "C" fn(*mut c_void, *const c_char, VaList);
pub(crate) type Prepare =
    unsafe extern "C" fn(*mut OpaqueContext, *mut Delegate, *mut c_void) -> c_int;

#[repr(C)]
pub(crate) struct IntArray {
    pub(crate) size: c_int,
    pub(crate) data: [c_int; 0],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct QuantizationParams {
    pub(crate) scale: f32,
    pub(crate) zero_point: i32,
}

#[repr(C)]
pub(crate) struct DelegateBuilder {
    pub(crate) data: *mut c_void,
    pub(crate) prepare: Option<Prepare>,
    pub(crate) copy_from_buffer_handle: *const c_void,
    pub(crate) copy_to_buffer_handle: *const c_void,
    pub(crate) free_buffer_handle: *const c_void,
    pub(crate) flags: i64,
}

/// Returned by value: 32 bytes in 2.17, more in newer libraries, hence the room, which may stay unwritten.
#[repr(C)]
pub(crate) struct XnnpackOptions {
    pub(crate) num_threads: i32,
    pub(crate) flags: u32,
    pub(crate) weights_cache: *mut c_void,
    pub(crate) handle_variable_ops: bool,
    pub(crate) weight_cache_file_path: *const c_char,
    pub(crate) room: [MaybeUninit<u8>; 96],
}

unsafe extern "C" {
    pub(crate) fn TfLiteModelCreateWithErrorReporter(
        data: *const c_void,
        size: usize,
        reporter: Reporter,
        user_data: *mut c_void,
    ) -> *mut Model;
    pub(crate) fn TfLiteModelDelete(model: *mut Model);

    pub(crate) fn TfLiteInterpreterOptionsCreate() -> *mut Options;
    pub(crate) fn TfLiteInterpreterOptionsDelete(options: *mut Options);
    pub(crate) fn TfLiteInterpreterOptionsSetNumThreads(options: *mut Options, threads: i32);
    pub(crate) fn TfLiteInterpreterOptionsSetErrorReporter(
        options: *mut Options,
        reporter: Reporter,
        user_data: *mut c_void,
    );

    pub(crate) fn TfLiteInterpreterCreate(
        model: *const Model,
        options: *const Options,
    ) -> *mut Interpreter;
    pub(crate) fn TfLiteInterpreterDelete(interpreter: *mut Interpreter);
    pub(crate) fn TfLiteInterpreterModifyGraphWithDelegate(
        interpreter: *const Interpreter,
        delegate: *mut Delegate,
    ) -> c_int;
    pub(crate) fn TfLiteInterpreterAllocateTensors(interpreter: *mut Interpreter) -> c_int;
    pub(crate) fn TfLiteInterpreterInvoke(interpreter: *mut Interpreter) -> c_int;
    pub(crate) fn TfLiteInterpreterGetInputTensorCount(interpreter: *const Interpreter) -> i32;
    pub(crate) fn TfLiteInterpreterGetInputTensor(
        interpreter: *const Interpreter,
        index: i32,
    ) -> *mut Tensor;
    pub(crate) fn TfLiteInterpreterGetOutputTensorCount(interpreter: *const Interpreter) -> i32;
    pub(crate) fn TfLiteInterpreterGetOutputTensor(
        interpreter: *const Interpreter,
        index: i32,
    ) -> *const Tensor;

    pub(crate) fn TfLiteTensorType(tensor: *const Tensor) -> c_int;
    pub(crate) fn TfLiteTensorNumDims(tensor: *const Tensor) -> i32;
    pub(crate) fn TfLiteTensorDim(tensor: *const Tensor, dimension: i32) -> i32;
    pub(crate) fn TfLiteTensorByteSize(tensor: *const Tensor) -> usize;
    pub(crate) fn TfLiteTensorData(tensor: *const Tensor) -> *mut c_void;
    pub(crate) fn TfLiteTensorName(tensor: *const Tensor) -> *const c_char;
    pub(crate) fn TfLiteTensorQuantizationParams(tensor: *const Tensor) -> QuantizationParams;

    pub(crate) fn TfLiteXNNPackDelegateOptionsDefault() -> XnnpackOptions;
    pub(crate) fn TfLiteXNNPackDelegateCreate(options: *const XnnpackOptions) -> *mut Delegate;
    pub(crate) fn TfLiteXNNPackDelegateDelete(delegate: *mut Delegate);

    pub(crate) fn TfLiteOpaqueDelegateCreate(builder: *const DelegateBuilder) -> *mut Delegate;
    pub(crate) fn TfLiteOpaqueDelegateDelete(delegate: *mut Delegate);
    pub(crate) fn TfLiteOpaqueContextGetExecutionPlan(
        context: *mut OpaqueContext,
        plan: *mut *mut IntArray,
    ) -> c_int;

    /// The C library's own, which the crate `libc` declares without `va_list`.
    pub(crate) fn vsnprintf(
        to: *mut c_char,
        size: usize,
        format: *const c_char,
        args: VaList,
    ) -> c_int;
}
