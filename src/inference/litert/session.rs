//! A model that LiteRT has compiled, with the buffers of its tensors.
//!
//! # Why this is sound
//!
//! In addition to what `ffi` says about objects and functions:
//!
//! * [`Session`] declares its objects so that each is dropped before what it was made from.
//! * No object is used by two threads at a time: a session is not `Sync`, and only `&mut self` runs or writes.
//!   Sessions share nothing but the library. A session may move: none of its objects is bound to a thread.
//! * Memory that LiteRT may keep pointing to lives as long as the session: the model's bytes and texts are `'static` or in
//!   a field that is dropped after every object.
//! * Tensor memory is used between lock and unlock only, to copy as many bytes as both sides were checked to have.

#![allow(
    unsafe_code,
    reason = "the C API of a library that is loaded at run time"
)]

use super::ffi::{
    ANY_INT, ANY_STRING, Any, AnyValue, Api, CPU, CallError, ENV_AUTO_REGISTER_ACCELERATORS,
    ENV_MIN_LOGGER_SEVERITY, ENV_RUNTIME_LIBRARY_DIR, EnvOption, FLOAT32, GPU, LOCK_READ,
    LOCK_WRITE, LOG_ERROR, LiteRtObject, LiteRtStatus, NOT_FOUND, REGISTERING, RankedTensorType,
    Raw, SIGNATURE, call, check, keep, object,
};
use crate::inference::tensors::{TensorInfo, TensorType};
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::sync::Arc;

/// A compiled model with its buffers.
pub(super) struct Session {
    api: Api,
    // Dropped in this order: each before what it was made from or points to.
    inputs: Vec<LiteRtObject>,
    outputs: Vec<LiteRtObject>,
    compiled: LiteRtObject,
    _options: LiteRtObject,
    _model: LiteRtObject,
    _environment: LiteRtObject,
    _texts: [CString; 2],
    _bytes: Arc<[u8]>,
}

// SAFETY: LiteRT must not be used by two threads at a time, but any thread may use it: its interpreter has no thread of
// its own and keeps nothing in thread-local storage, nor does WebGPU's device.
unsafe impl Send for Session {}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Compiles the model in `bytes` for [`CPU`] or [`GPU`], which alone may run a part of it, and makes its buffers.
    /// `folder` has the libraries of the accelerators; `settings` are options of that processor. Returns the inputs and
    /// the outputs too, in the order of the model file.
    pub(super) fn new(
        api: &Api,
        bytes: Arc<[u8]>,
        folder: CString,
        hardware: c_int,
        settings: CString,
    ) -> Result<(Self, [Vec<TensorInfo>; 2]), CallError> {
        let environment = environment(api, hardware, &folder)?;
        // SAFETY: the session keeps the bytes, which do not change, for longer than the model.
        let model = unsafe {
            object!(
                api,
                LiteRtCreateModelFromBuffer(environment.raw(), bytes.as_ptr().cast(), bytes.len()),
                LiteRtDestroyModel
            )
        }?;
        let options = options(api, hardware, &settings)?;
        // SAFETY: three live objects; the session keeps them for longer than the compiled model.
        let compiled = unsafe {
            object!(
                api,
                LiteRtCreateCompiledModel(environment.raw(), model.raw(), options.raw()),
                LiteRtDestroyCompiledModel
            )
        }?;
        let is_accelerated = match hardware {
            CPU => api.LiteRtCompiledModelIsFullyAccelerated,
            _ => api.LiteRtCompiledModelIsNonCpuFullyAccelerated,
        };
        let mut all = false;
        // SAFETY: a live compiled model, and a variable of ours to write to.
        let status = unsafe { is_accelerated(compiled.raw(), &raw mut all) };
        check("checking the accelerator", status)?;
        if !all {
            return Err(CallError::NOT_ACCELERATED);
        }
        let input_functions = TensorFunctions {
            count_tensors: api.LiteRtGetNumSignatureInputs,
            find_tensor: api.LiteRtGetSignatureInputTensorByIndex,
            buffer_requirements: api.LiteRtGetCompiledModelInputBufferRequirements,
        };
        let output_functions = TensorFunctions {
            count_tensors: api.LiteRtGetNumSignatureOutputs,
            find_tensor: api.LiteRtGetSignatureOutputTensorByIndex,
            buffer_requirements: api.LiteRtGetCompiledModelOutputBufferRequirements,
        };
        let open = |tensors: TensorFunctions| tensors.open(api, &environment, &model, &compiled);
        let (input_infos, inputs) = open(input_functions)?;
        let (output_infos, outputs) = open(output_functions)?;
        let session = Self {
            api: *api,
            inputs,
            outputs,
            compiled,
            _options: options,
            _model: model,
            _environment: environment,
            _texts: [folder, settings],
            _bytes: bytes,
        };
        Ok((session, [input_infos, output_infos]))
    }

    /// Copies `values` to input `index`.
    pub(super) fn write(&mut self, index: usize, values: &[f32]) -> Result<(), CallError> {
        let bytes = size_of_val(values);
        self.locked(&self.inputs[index], LOCK_WRITE, bytes, |memory| {
            // SAFETY: the memory is locked for writing, has room for as many bytes, and belongs to LiteRT.
            unsafe { ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), memory, bytes) }
        })
    }

    /// Copies output `index` to `out`.
    pub(super) fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CallError> {
        let bytes = size_of_val(out);
        self.locked(&self.outputs[index], LOCK_READ, bytes, |memory| {
            // SAFETY: the memory is locked for reading, has as many bytes, and belongs to LiteRT. Any bits are an f32.
            unsafe { ptr::copy_nonoverlapping(memory, out.as_mut_ptr().cast::<u8>(), bytes) }
        })
    }

    /// Locks `buffer`, which must have `bytes` bytes, and calls `copy` with its memory.
    fn locked(
        &self,
        buffer: &LiteRtObject,
        mode: c_int,
        bytes: usize,
        copy: impl FnOnce(*mut u8),
    ) -> Result<(), CallError> {
        let api = &self.api;
        let unusable = |call| Err(CallError { call, status: 0 });
        // SAFETY: a live buffer.
        let packed = unsafe { call!(api, LiteRtGetTensorBufferPackedSize(buffer.raw()) -> 0) }?;
        if packed != bytes {
            return unusable("LiteRtGetTensorBufferPackedSize");
        }
        // SAFETY: a live buffer that is not locked: each lock of this function is undone before it returns.
        let memory = unsafe {
            let mut memory = ptr::null_mut();
            call!(
                api,
                LiteRtLockTensorBuffer(buffer.raw(), &raw mut memory, mode)
            )?;
            memory
        };
        if !memory.is_null() {
            copy(memory.cast());
        }
        // SAFETY: the buffer was locked above; its memory is not used any more.
        unsafe { call!(api, LiteRtUnlockTensorBuffer(buffer.raw())) }?;
        if memory.is_null() {
            return unusable("LiteRtLockTensorBuffer");
        }
        Ok(())
    }

    /// Runs the model on its inputs. A GPU runs asynchronously: [`Session::read`] waits for it and returns its errors.
    pub(super) fn run(&mut self) -> Result<(), CallError> {
        let mut inputs: Vec<Raw> = self.inputs.iter().map(LiteRtObject::raw).collect();
        let mut outputs: Vec<Raw> = self.outputs.iter().map(LiteRtObject::raw).collect();
        // SAFETY: a live compiled model with all of its buffers, none of them locked; `&mut self` excludes other users.
        unsafe {
            call!(
                self.api,
                LiteRtRunCompiledModel(
                    self.compiled.raw(),
                    SIGNATURE,
                    inputs.len(),
                    inputs.as_mut_ptr(),
                    outputs.len(),
                    outputs.as_mut_ptr()
                )
            )
        }
    }
}

/// An environment with only the accelerators for `hardware`, from the libraries in `folder`.
fn environment(api: &Api, hardware: c_int, folder: &CStr) -> Result<LiteRtObject, CallError> {
    let option = |tag, kind, value| EnvOption {
        tag,
        value: Any { kind, value },
    };
    let int = |tag, int| option(tag, ANY_INT, AnyValue { int });
    let text = folder.as_ptr();
    let options = [
        // First, so that it applies to the messages of the others.
        int(ENV_MIN_LOGGER_SEVERITY, LOG_ERROR),
        int(ENV_AUTO_REGISTER_ACCELERATORS, i64::from(hardware)),
        option(ENV_RUNTIME_LIBRARY_DIR, ANY_STRING, AnyValue { text }),
    ];
    let count = c_int::try_from(options.len()).unwrap_or(0);
    // SAFETY: as many options as given, of the declared kinds; the session keeps the text.
    let environment = unsafe {
        object!(
            api,
            LiteRtCreateEnvironment(count, options.as_ptr()),
            LiteRtDestroyEnvironment
        )
    }?;
    let mut supported = 0;
    // SAFETY: a live environment, and accelerators that it owns.
    unsafe {
        for index in 0..call!(api, LiteRtGetNumAccelerators(environment.raw()) -> 0)? {
            let accelerator =
                call!(api, LiteRtGetAccelerator(environment.raw(), index) -> ptr::null_mut())?;
            supported |= call!(api, LiteRtGetAcceleratorHardwareSupport(accelerator) -> 0)?;
        }
    }
    if supported & hardware == 0 {
        let (call, status) = (REGISTERING, NOT_FOUND);
        return Err(CallError { call, status });
    }
    Ok(environment)
}

/// Options that let only `hardware` run the model; `settings` are its own options.
fn options(api: &Api, hardware: c_int, settings: &CStr) -> Result<LiteRtObject, CallError> {
    let name = match hardware {
        GPU => c"gpu_options",
        _ => c"xnnpack",
    };
    // SAFETY: makes a new object.
    let options = unsafe { object!(api, LiteRtCreateOptions(), LiteRtDestroyOptions) }?;
    // SAFETY: a live options object. The name is 'static; the session keeps the settings, which are only read, for longer
    // than the options.
    let own = unsafe {
        call!(
            api,
            LiteRtSetOptionsHardwareAccelerators(options.raw(), hardware)
        )?;
        let settings = settings.as_ptr().cast_mut().cast();
        object!(
            api,
            LiteRtCreateOpaqueOptions(name.as_ptr(), settings, keep),
            LiteRtDestroyOpaqueOptions
        )
    }?;
    // SAFETY: two live objects. On success, the first owns the second and destroys it.
    unsafe { call!(api, LiteRtAddOpaqueOptions(options.raw(), own.raw())) }?;
    std::mem::forget(own);
    Ok(options)
}

/// A copy of `name`, empty for null.
///
/// # Safety
/// `name` must be null or a C string.
unsafe fn text(name: *const c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise a C string.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_string_lossy().into_owned()
}

/// The functions for the inputs or for the outputs of a model.
struct TensorFunctions {
    count_tensors: unsafe extern "C" fn(Raw, *mut usize) -> LiteRtStatus,
    find_tensor: unsafe extern "C" fn(Raw, usize, *mut Raw) -> LiteRtStatus,
    buffer_requirements: unsafe extern "C" fn(Raw, usize, usize, *mut Raw) -> LiteRtStatus,
}

impl TensorFunctions {
    /// Describes the tensors and makes a buffer for each of them.
    fn open(
        &self,
        api: &Api,
        environment: &LiteRtObject,
        model: &LiteRtObject,
        compiled: &LiteRtObject,
    ) -> Result<(Vec<TensorInfo>, Vec<LiteRtObject>), CallError> {
        // SAFETY: a live model, and a signature that it owns.
        let (signature, count) = unsafe {
            if call!(api, LiteRtGetNumModelSignatures(model.raw()) -> 0)? == 0 {
                let call = "LiteRtGetNumModelSignatures";
                return Err(CallError { call, status: 0 });
            }
            let signature = call!(
                api,
                LiteRtGetModelSignature(model.raw(), SIGNATURE) -> ptr::null_mut()
            )?;
            (signature, call!(self, count_tensors(signature) -> 0)?)
        };
        let (mut tensors, mut buffers) = (Vec::new(), Vec::new());
        for index in 0..count {
            // SAFETY: an index in range of a live model and compiled model, which own what they return. The name is null
            // or a C string, and is copied at once.
            let (name, kind, buffer) = unsafe {
                let tensor = call!(self, find_tensor(signature, index) -> ptr::null_mut())?;
                let name = call!(api, LiteRtGetTensorName(tensor) -> ptr::null())?;
                let kind =
                    call!(api, LiteRtGetRankedTensorType(tensor) -> RankedTensorType::default())?;
                let requirements = call!(
                    self,
                    buffer_requirements(compiled.raw(), SIGNATURE, index) -> ptr::null_mut()
                )?;
                let buffer = object!(
                    api,
                    LiteRtCreateManagedTensorBufferFromRequirements(
                        environment.raw(),
                        &raw const kind,
                        requirements
                    ),
                    LiteRtDestroyTensorBuffer
                )?;
                (text(name), kind, buffer)
            };
            buffers.push(buffer);
            tensors.push(TensorInfo {
                name,
                dtype: match kind.element {
                    FLOAT32 => TensorType::F32,
                    other => TensorType::Other(other),
                },
                shape: kind.layout.shape(),
                scale: 0.0,
                zero_point: 0,
            });
        }
        Ok((tensors, buffers))
    }
}
