//! The C declarations, ABI of TFLite 2.17. Types named in `enum X {}` are opaque: only the library looks inside.

#![allow(unsafe_code, reason = "the TFLite library speaks C")]

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;

/// `kTfLiteOk`, `kTfLiteError`.
pub(crate) const OK: c_int = 0;
pub(crate) const ERROR: c_int = 1;
/// `kTfLiteDelegateFlagsAllowDynamicTensors`: the delegate requires nothing of the graph.
pub(crate) const ALLOW_DYNAMIC_TENSORS: i64 = 1;
/// `TFLITE_XNNPACK_DELEGATE_FLAG_QS8 | _QU8`: quantized nodes too.
pub(crate) const XNNPACK_QUANTIZED: u32 = 3;
/// `TFLITE_XNNPACK_DELEGATE_FLAG_FORCE_FP16`: all float nodes compute in 16 bits, or the delegate is refused.
pub(crate) const XNNPACK_FORCE_FP16: u32 = 4;

pub(crate) enum TfLiteModel {}
pub(crate) enum TfLiteInterpreterOptions {}
pub(crate) enum TfLiteInterpreter {}
pub(crate) enum TfLiteTensor {}
pub(crate) enum TfLiteDelegate {}
pub(crate) enum OpaqueContext {}

/// `va_list` as a parameter: a pointer on x86-64 and ARM64 Linux.
pub(crate) type VaList = *mut c_void;
pub(crate) type TfLiteErrorReporter = unsafe extern "C" fn(*mut c_void, *const c_char, VaList);
pub(crate) type Prepare =
    unsafe extern "C" fn(*mut OpaqueContext, *mut TfLiteDelegate, *mut c_void) -> c_int;

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

/// Returned by value: 32 bytes in 2.17, more in newer libraries. `room` is for those and may stay unwritten.
#[repr(C)]
pub(crate) struct XnnpackOptions {
    pub(crate) num_threads: i32,
    pub(crate) flags: u32,
    pub(crate) weights_cache: *mut c_void,
    pub(crate) handle_variable_ops: bool,
    pub(crate) weight_cache_file_path: *const c_char,
    pub(crate) room: [MaybeUninit<u8>; 96],
}

#[link(name = "tensorflowlite_c")]
unsafe extern "C" {
    pub(crate) fn TfLiteModelCreateWithErrorReporter(
        data: *const c_void,
        size: usize,
        reporter: TfLiteErrorReporter,
        user_data: *mut c_void,
    ) -> *mut TfLiteModel;
    pub(crate) fn TfLiteModelDelete(model: *mut TfLiteModel);

    pub(crate) fn TfLiteInterpreterOptionsCreate() -> *mut TfLiteInterpreterOptions;
    pub(crate) fn TfLiteInterpreterOptionsDelete(options: *mut TfLiteInterpreterOptions);
    pub(crate) fn TfLiteInterpreterOptionsSetNumThreads(
        options: *mut TfLiteInterpreterOptions,
        threads: i32,
    );
    pub(crate) fn TfLiteInterpreterOptionsSetErrorReporter(
        options: *mut TfLiteInterpreterOptions,
        reporter: TfLiteErrorReporter,
        user_data: *mut c_void,
    );

    pub(crate) fn TfLiteInterpreterCreate(
        model: *const TfLiteModel,
        options: *const TfLiteInterpreterOptions,
    ) -> *mut TfLiteInterpreter;
    pub(crate) fn TfLiteInterpreterDelete(interpreter: *mut TfLiteInterpreter);
    pub(crate) fn TfLiteInterpreterModifyGraphWithDelegate(
        interpreter: *const TfLiteInterpreter,
        delegate: *mut TfLiteDelegate,
    ) -> c_int;
    pub(crate) fn TfLiteInterpreterAllocateTensors(interpreter: *mut TfLiteInterpreter) -> c_int;
    pub(crate) fn TfLiteInterpreterInvoke(interpreter: *mut TfLiteInterpreter) -> c_int;
    pub(crate) fn TfLiteInterpreterGetInputTensorCount(
        interpreter: *const TfLiteInterpreter,
    ) -> i32;
    pub(crate) fn TfLiteInterpreterGetInputTensor(
        interpreter: *const TfLiteInterpreter,
        index: i32,
    ) -> *mut TfLiteTensor;
    pub(crate) fn TfLiteInterpreterGetOutputTensorCount(
        interpreter: *const TfLiteInterpreter,
    ) -> i32;
    pub(crate) fn TfLiteInterpreterGetOutputTensor(
        interpreter: *const TfLiteInterpreter,
        index: i32,
    ) -> *const TfLiteTensor;

    pub(crate) fn TfLiteTensorType(tensor: *const TfLiteTensor) -> c_int;
    pub(crate) fn TfLiteTensorNumDims(tensor: *const TfLiteTensor) -> i32;
    pub(crate) fn TfLiteTensorDim(tensor: *const TfLiteTensor, dimension: i32) -> i32;
    pub(crate) fn TfLiteTensorByteSize(tensor: *const TfLiteTensor) -> usize;
    pub(crate) fn TfLiteTensorData(tensor: *const TfLiteTensor) -> *mut c_void;
    pub(crate) fn TfLiteTensorName(tensor: *const TfLiteTensor) -> *const c_char;
    pub(crate) fn TfLiteTensorQuantizationParams(tensor: *const TfLiteTensor)
    -> QuantizationParams;

    pub(crate) fn TfLiteXNNPackDelegateOptionsDefault() -> XnnpackOptions;
    pub(crate) fn TfLiteXNNPackDelegateCreate(
        options: *const XnnpackOptions,
    ) -> *mut TfLiteDelegate;
    pub(crate) fn TfLiteXNNPackDelegateDelete(delegate: *mut TfLiteDelegate);

    pub(crate) fn TfLiteOpaqueDelegateCreate(
        builder: *const DelegateBuilder,
    ) -> *mut TfLiteDelegate;
    pub(crate) fn TfLiteOpaqueDelegateDelete(delegate: *mut TfLiteDelegate);
    pub(crate) fn TfLiteOpaqueContextGetExecutionPlan(
        context: *mut OpaqueContext,
        plan: *mut *mut IntArray,
    ) -> c_int;
}

unsafe extern "C" {
    /// Of the C library. The crate `libc` declares no function that takes a `va_list`.
    pub(crate) fn vsnprintf(
        to: *mut c_char,
        size: usize,
        format: *const c_char,
        args: VaList,
    ) -> c_int;
}
