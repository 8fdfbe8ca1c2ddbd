//! A model that LiteRT has compiled, with the buffers of its tensors.
//!
//! # Why this is sound
//!
//! In addition to what `ffi` says about objects and functions:
//!
//! * [`Session`] declares its objects so that each is dropped before what it was made from.
//! * No object is used by two threads at a time: a session is not `Sync`, and only `&mut self` runs or writes.
//!   Sessions share nothing but the library. A session may move: none of its objects is bound to a thread.
//! * Memory that LiteRT may keep pointing to lives as long as the session: the model's bytes by its lifetime, texts
//!   because they are `'static` or in a field that is dropped after every object.
//! * Tensor memory is reached between lock and unlock only, by copying as many bytes as both sides were checked to have.

#![allow(
    unsafe_code,
    reason = "the C API of a library that is loaded at run time"
)]

use super::ffi::{
    ANY_INT, ANY_STRING, Any, AnyValue, Api, COMPILING, CallError, ENV_AUTO_REGISTER_ACCELERATORS,
    ENV_MIN_LOGGER_SEVERITY, ENV_RUNTIME_LIBRARY_DIR, EnvOption, FLOAT32, GPU, LOCK_READ,
    LOCK_WRITE, LOG_ERROR, LiteRtLibrary, LiteRtObject, LiteRtStatus, REGISTERING,
    RankedTensorType, Raw, SIGNATURE, call, check, keep,
};
use crate::inference::tensors::{TensorInfo, TensorType};
use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::ptr;

/// How LiteRT runs a model.
pub(super) struct SessionOptions {
    /// [`super::ffi::CPU`] or [`GPU`]: the only processor that may run a part of the model.
    pub(super) hardware: c_int,
    /// Folder with the libraries of the accelerators.
    pub(super) folder: CString,
    /// Name of the options and their text.
    pub(super) options: (&'static CStr, CString),
}

/// A compiled model with its buffers.
pub(super) struct Session<'a> {
    library: &'a LiteRtLibrary,
    // Dropped in this order: each before what it was made from or points to.
    inputs: Vec<LiteRtObject>,
    outputs: Vec<LiteRtObject>,
    compiled: LiteRtObject,
    _options: LiteRtObject,
    _model: LiteRtObject,
    _environment: LiteRtObject,
    _texts: [CString; 2],
    input_tensors: Vec<TensorInfo>,
    output_tensors: Vec<TensorInfo>,
    bytes: PhantomData<&'a [u8]>,
}

// SAFETY: LiteRT asks for one thread at a time, not for one and the same: its interpreter has no thread of its own and
// keeps nothing in thread-local storage, nor does WebGPU's device. What the session borrows is `Sync`.
unsafe impl Send for Session<'_> {}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("inputs", &self.input_tensors)
            .field("outputs", &self.output_tensors)
            .finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// Compiles the model in `bytes`, as read from its file, and makes its buffers.
    pub(super) fn new(
        library: &'a LiteRtLibrary,
        bytes: &'a [u8],
        settings: SessionOptions,
    ) -> Result<Self, CallError> {
        let api = &library.api;
        let environment = environment(api, settings.hardware, &settings.folder)?;
        // SAFETY: the bytes live and stay as they are for 'a, which the session does not outlive.
        let model = unsafe {
            LiteRtObject::new(
                "LiteRtCreateModelFromBuffer",
                api.LiteRtDestroyModel,
                |model| {
                    (api.LiteRtCreateModelFromBuffer)(
                        environment.raw(),
                        bytes.as_ptr().cast(),
                        bytes.len(),
                        model,
                    )
                },
            )
        }?;
        let (name, text) = settings.options;
        let options = options(api, settings.hardware, name, &text)?;
        // SAFETY: three live objects; they are kept for as long as the compiled model.
        let compiled = unsafe {
            LiteRtObject::new(COMPILING, api.LiteRtDestroyCompiledModel, |compiled| {
                (api.LiteRtCreateCompiledModel)(
                    environment.raw(),
                    model.raw(),
                    options.raw(),
                    compiled,
                )
            })
        }?;
        let open = |buffers: &TensorBuffers| buffers.open(api, &environment, &model, &compiled);
        let (input_tensors, inputs) = open(&TensorBuffers::inputs(api))?;
        let (output_tensors, outputs) = open(&TensorBuffers::outputs(api))?;
        Ok(Self {
            library,
            inputs,
            outputs,
            compiled,
            _options: options,
            _model: model,
            _environment: environment,
            _texts: [settings.folder, text],
            input_tensors,
            output_tensors,
            bytes: PhantomData,
        })
    }

    /// Inputs, in the order of the model file.
    pub(super) fn inputs(&self) -> &[TensorInfo] {
        &self.input_tensors
    }

    /// Outputs, in the order of the model file.
    pub(super) fn outputs(&self) -> &[TensorInfo] {
        &self.output_tensors
    }

    /// Whether `hardware` runs the whole graph.
    pub(super) fn is_accelerated(&self, hardware: c_int) -> Result<bool, CallError> {
        let (api, mut all) = (&self.library.api, false);
        // SAFETY: a live compiled model, and a bool of ours to write to.
        unsafe {
            if hardware == GPU {
                call!(
                    api,
                    LiteRtCompiledModelIsNonCpuFullyAccelerated(self.compiled.raw(), &raw mut all)
                )?;
            } else {
                call!(
                    api,
                    LiteRtCompiledModelIsFullyAccelerated(self.compiled.raw(), &raw mut all)
                )?;
            }
        }
        Ok(all)
    }

    /// Copies `values` to input `index`.
    pub(super) fn write(&mut self, index: usize, values: &[f32]) -> Result<(), CallError> {
        let bytes = size_of_val(values);
        self.locked(&self.inputs[index], LOCK_WRITE, bytes, |memory| {
            // SAFETY: the memory is locked for writing, has room for as many bytes, and is none of Rust's.
            unsafe { ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), memory, bytes) }
        })
    }

    /// Copies output `index` to `out`.
    pub(super) fn read(&self, index: usize, out: &mut [f32]) -> Result<(), CallError> {
        let bytes = size_of_val(out);
        self.locked(&self.outputs[index], LOCK_READ, bytes, |memory| {
            // SAFETY: the memory is locked for reading, has as many bytes, and is none of Rust's; any bits are an f32.
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
        let (api, mut packed, mut memory) = (&self.library.api, 0, ptr::null_mut());
        // SAFETY: a live buffer, and places of ours to write to.
        unsafe {
            call!(
                api,
                LiteRtGetTensorBufferPackedSize(buffer.raw(), &raw mut packed)
            )?;
        }
        if packed != bytes {
            return Err(CallError {
                call: "LiteRtGetTensorBufferPackedSize",
                status: 0,
            });
        }
        // SAFETY: a live buffer that is not locked: each lock of this function is undone before it returns.
        unsafe {
            call!(
                api,
                LiteRtLockTensorBuffer(buffer.raw(), &raw mut memory, mode)
            )?;
        }
        if !memory.is_null() {
            copy(memory.cast());
        }
        // SAFETY: the buffer was locked above; its memory is not used any more.
        unsafe { call!(api, LiteRtUnlockTensorBuffer(buffer.raw())) }?;
        if memory.is_null() {
            return Err(CallError {
                call: "LiteRtLockTensorBuffer",
                status: 0,
            });
        }
        Ok(())
    }

    /// Runs the model on its inputs. A GPU runs asynchronously: [`Session::read`] waits for it and returns its errors.
    pub(super) fn run(&mut self) -> Result<(), CallError> {
        let api = &self.library.api;
        let mut inputs: Vec<Raw> = self.inputs.iter().map(LiteRtObject::raw).collect();
        let mut outputs: Vec<Raw> = self.outputs.iter().map(LiteRtObject::raw).collect();
        // SAFETY: a live compiled model with all of its buffers, none of them locked; &mut self keeps others away.
        unsafe {
            call!(
                api,
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
    let int = |tag, int| EnvOption {
        tag,
        value: Any {
            kind: ANY_INT,
            value: AnyValue { int },
        },
    };
    let folder = EnvOption {
        tag: ENV_RUNTIME_LIBRARY_DIR,
        value: Any {
            kind: ANY_STRING,
            value: AnyValue {
                text: folder.as_ptr(),
            },
        },
    };
    let options = [
        // First, so that it applies to the messages of the others.
        int(ENV_MIN_LOGGER_SEVERITY, LOG_ERROR),
        int(ENV_AUTO_REGISTER_ACCELERATORS, i64::from(hardware)),
        folder,
    ];
    let count = c_int::try_from(options.len()).unwrap_or(0);
    // SAFETY: as many options as said, of the declared kinds; the session keeps the text.
    let environment = unsafe {
        LiteRtObject::new(
            "LiteRtCreateEnvironment",
            api.LiteRtDestroyEnvironment,
            |environment| (api.LiteRtCreateEnvironment)(count, options.as_ptr(), environment),
        )
    }?;
    if accelerators(api, &environment)? & hardware == 0 {
        return Err(CallError {
            call: REGISTERING,
            status: 6,
        });
    }
    Ok(environment)
}

/// The hardware that the accelerators of `environment` support.
fn accelerators(api: &Api, environment: &LiteRtObject) -> Result<c_int, CallError> {
    let (mut count, mut all) = (0, 0);
    // SAFETY: a live environment, an accelerator that it owns, and places of ours to write to.
    unsafe {
        call!(
            api,
            LiteRtGetNumAccelerators(environment.raw(), &raw mut count)
        )?;
        for index in 0..count {
            let (mut accelerator, mut hardware) = (ptr::null_mut(), 0);
            call!(
                api,
                LiteRtGetAccelerator(environment.raw(), index, &raw mut accelerator)
            )?;
            call!(
                api,
                LiteRtGetAcceleratorHardwareSupport(accelerator, &raw mut hardware)
            )?;
            all |= hardware;
        }
    }
    Ok(all)
}

/// Options for `hardware` alone; `text` is for the component `name`.
fn options(
    api: &Api,
    hardware: c_int,
    name: &'static CStr,
    text: &CStr,
) -> Result<LiteRtObject, CallError> {
    // SAFETY: makes a new object.
    let options = unsafe {
        LiteRtObject::new("LiteRtCreateOptions", api.LiteRtDestroyOptions, |options| {
            (api.LiteRtCreateOptions)(options)
        })
    }?;
    // SAFETY: a live options object.
    unsafe {
        call!(
            api,
            LiteRtSetOptionsHardwareAccelerators(options.raw(), hardware)
        )
    }?;
    // SAFETY: the name is 'static; the session keeps the text, which is only read, for longer than the options.
    let own = unsafe {
        LiteRtObject::new(
            "LiteRtCreateOpaqueOptions",
            api.LiteRtDestroyOpaqueOptions,
            |own| {
                (api.LiteRtCreateOpaqueOptions)(
                    name.as_ptr(),
                    text.as_ptr().cast_mut().cast(),
                    keep,
                    own,
                )
            },
        )
    }?;
    // SAFETY: two live objects. Where it goes well, the first owns the second and destroys it.
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
    // SAFETY: a C string, says the caller.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_string_lossy().into_owned()
}

/// The functions for the inputs or for the outputs of a model.
struct TensorBuffers {
    count: unsafe extern "C" fn(Raw, *mut usize) -> LiteRtStatus,
    tensor: unsafe extern "C" fn(Raw, usize, *mut Raw) -> LiteRtStatus,
    requirements: unsafe extern "C" fn(Raw, usize, usize, *mut Raw) -> LiteRtStatus,
}

impl TensorBuffers {
    fn inputs(api: &Api) -> Self {
        Self {
            count: api.LiteRtGetNumSignatureInputs,
            tensor: api.LiteRtGetSignatureInputTensorByIndex,
            requirements: api.LiteRtGetCompiledModelInputBufferRequirements,
        }
    }

    fn outputs(api: &Api) -> Self {
        Self {
            count: api.LiteRtGetNumSignatureOutputs,
            tensor: api.LiteRtGetSignatureOutputTensorByIndex,
            requirements: api.LiteRtGetCompiledModelOutputBufferRequirements,
        }
    }

    /// Describes the tensors and makes a buffer for each of them.
    fn open(
        &self,
        api: &Api,
        environment: &LiteRtObject,
        model: &LiteRtObject,
        compiled: &LiteRtObject,
    ) -> Result<(Vec<TensorInfo>, Vec<LiteRtObject>), CallError> {
        let (mut signatures, mut signature, mut count) = (0, ptr::null_mut(), 0);
        // SAFETY: a live model, a signature that it owns, and places of ours to write to.
        unsafe {
            call!(
                api,
                LiteRtGetNumModelSignatures(model.raw(), &raw mut signatures)
            )?;
            if signatures == 0 {
                return Err(CallError {
                    call: "LiteRtGetNumModelSignatures",
                    status: 0,
                });
            }
            call!(
                api,
                LiteRtGetModelSignature(model.raw(), SIGNATURE, &raw mut signature)
            )?;
            check(
                "counting the tensors",
                (self.count)(signature, &raw mut count),
            )?;
        }
        let (mut tensors, mut buffers) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (mut tensor, mut requirements) = (ptr::null_mut(), ptr::null_mut());
            let (mut name, mut kind) = (ptr::null(), RankedTensorType::default());
            // SAFETY: indexes in range of a live model and compiled model, which own what they give; places of ours.
            unsafe {
                check(
                    "finding a tensor",
                    (self.tensor)(signature, index, &raw mut tensor),
                )?;
                call!(api, LiteRtGetTensorName(tensor, &raw mut name))?;
                call!(api, LiteRtGetRankedTensorType(tensor, &raw mut kind))?;
                check(
                    "asking for a buffer's requirements",
                    (self.requirements)(compiled.raw(), SIGNATURE, index, &raw mut requirements),
                )?;
            }
            // SAFETY: live objects and a type that LiteRT itself has filled in.
            buffers.push(unsafe {
                LiteRtObject::new(
                    "LiteRtCreateManagedTensorBufferFromRequirements",
                    api.LiteRtDestroyTensorBuffer,
                    |buffer| {
                        (api.LiteRtCreateManagedTensorBufferFromRequirements)(
                            environment.raw(),
                            &raw const kind,
                            requirements,
                            buffer,
                        )
                    },
                )
            }?);
            tensors.push(TensorInfo {
                // SAFETY: null, or a C string that the model owns and that is copied at once.
                name: unsafe { text(name) },
                dtype: if kind.element == FLOAT32 {
                    TensorType::F32
                } else {
                    TensorType::Other(kind.element)
                },
                shape: kind.layout.shape(),
                scale: 0.0,
                zero_point: 0,
            });
        }
        Ok((tensors, buffers))
    }
}
