//! LiteRT's C API as far as Handloom uses it, and every `unsafe` that it takes.
//!
//! The library is opened at run time, so that a machine without it starts all the same. Its API carries no version
//! that could be asked, and between 2.1 and 2.3 functions changed their arguments under the same name: a library is
//! opened only when its SHA-256 is the pinned one, for which the declarations below were written and tried.
//!
//! # Why this is sound
//!
//! * The declarations are those of LiteRT 2.3.0; [`Library::open`] loads nothing else. It is never closed, so a
//!   function pointer is good for the rest of the process, whichever threads the library has started.
//! * An object of LiteRT is a [`Handle`]: made once, destroyed once, not copied, not null. [`Session`] declares them
//!   so that each is dropped before what it was made from.
//! * No object is used by two threads at a time: a session is not `Send`, and only `&mut self` runs or writes.
//!   Sessions share nothing but the library; making and destroying, which LiteRT does not say to be safe in parallel,
//!   takes turns.
//! * Memory that LiteRT keeps pointing to lives as long as the session: the model's bytes by its lifetime, the options'
//!   texts because they are `'static` or a field that is dropped last.
//! * Tensor memory is reached between lock and unlock only, by copying as many bytes as both sides were checked to have.

#![allow(
    unsafe_code,
    reason = "the C API of a library that is loaded at run time"
)]

use libloading::os::unix::{Library as Module, RTLD_LOCAL, RTLD_NOW};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

/// `LiteRtHwAccelerators`.
pub(super) const CPU: c_int = 1;
/// `LiteRtHwAccelerators`.
pub(super) const GPU: c_int = 2;
/// `kLiteRtElementTypeFloat32`.
pub(super) const FLOAT32: c_int = 1;

const ENV_RUNTIME_LIBRARY_DIR: c_int = 22;
const ENV_AUTO_REGISTER_ACCELERATORS: c_int = 24;
const ENV_MIN_LOGGER_SEVERITY: c_int = 25;
const ANY_INT: c_int = 2;
const ANY_STRING: c_int = 8;
const LOG_ERROR: i64 = 3;
const LOCK_READ: c_int = 0;
const LOCK_WRITE: c_int = 1;
const MAX_RANK: usize = 8;
const REGISTERING: &str = "registering the accelerator";
/// Models have one signature, a default one when the file names none.
const SIGNATURE: usize = 0;

/// Any of LiteRT's opaque objects.
type Raw = *mut c_void;
type Status = c_int;
type Destroy = unsafe extern "C" fn(Raw);

/// `LiteRtEnvOption`.
#[repr(C)]
struct EnvOption {
    tag: c_int,
    value: Any,
}

/// `LiteRtAny`.
#[repr(C)]
struct Any {
    kind: c_int,
    value: AnyValue,
}

#[repr(C)]
union AnyValue {
    int: i64,
    text: *const c_char,
}

/// `LiteRtLayout`: rank in the low seven bits of its first byte, whether there are strides in the eighth.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Layout {
    rank: u8,
    pad: [u8; 3],
    dimensions: [i32; MAX_RANK],
    strides: [u32; MAX_RANK],
}

/// `LiteRtRankedTensorType`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RankedTensorType {
    element: c_int,
    layout: Layout,
}

const _: () = assert!(size_of::<RankedTensorType>() == 72 && size_of::<EnvOption>() == 24);

/// Declares the functions and looks all of them up.
macro_rules! api {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case, reason = "the names are LiteRT's")]
        struct Api {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Api {
            /// # Safety
            /// `module` must be the LiteRT for which the functions were declared.
            unsafe fn of(module: &Module) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: of this library, says the caller, the symbol is a function of the declared type.
                    $($name: unsafe {
                        *module.get(concat!(stringify!($name), "\0").as_bytes())?
                    },)*
                })
            }
        }
    };
}

api! {
    LiteRtCreateEnvironment(c_int, *const EnvOption, *mut Raw) -> Status;
    LiteRtDestroyEnvironment(Raw);
    LiteRtGetNumAccelerators(Raw, *mut usize) -> Status;
    LiteRtGetAccelerator(Raw, usize, *mut Raw) -> Status;
    LiteRtGetAcceleratorHardwareSupport(Raw, *mut c_int) -> Status;
    LiteRtCreateModelFromBuffer(Raw, *const c_void, usize, *mut Raw) -> Status;
    LiteRtDestroyModel(Raw);
    LiteRtGetNumModelSignatures(Raw, *mut usize) -> Status;
    LiteRtGetModelSignature(Raw, usize, *mut Raw) -> Status;
    LiteRtGetNumSignatureInputs(Raw, *mut usize) -> Status;
    LiteRtGetNumSignatureOutputs(Raw, *mut usize) -> Status;
    LiteRtGetSignatureInputTensorByIndex(Raw, usize, *mut Raw) -> Status;
    LiteRtGetSignatureOutputTensorByIndex(Raw, usize, *mut Raw) -> Status;
    LiteRtGetTensorName(Raw, *mut *const c_char) -> Status;
    LiteRtGetRankedTensorType(Raw, *mut RankedTensorType) -> Status;
    LiteRtCreateOptions(*mut Raw) -> Status;
    LiteRtDestroyOptions(Raw);
    LiteRtSetOptionsHardwareAccelerators(Raw, c_int) -> Status;
    LiteRtCreateOpaqueOptions(*const c_char, Raw, Destroy, *mut Raw) -> Status;
    LiteRtDestroyOpaqueOptions(Raw);
    LiteRtAddOpaqueOptions(Raw, Raw) -> Status;
    LiteRtCreateCompiledModel(Raw, Raw, Raw, *mut Raw) -> Status;
    LiteRtDestroyCompiledModel(Raw);
    LiteRtCompiledModelIsFullyAccelerated(Raw, *mut bool) -> Status;
    LiteRtCompiledModelIsNonCpuFullyAccelerated(Raw, *mut bool) -> Status;
    LiteRtGetCompiledModelInputBufferRequirements(Raw, usize, usize, *mut Raw) -> Status;
    LiteRtGetCompiledModelOutputBufferRequirements(Raw, usize, usize, *mut Raw) -> Status;
    LiteRtCreateManagedTensorBufferFromRequirements(Raw, *const RankedTensorType, Raw, *mut Raw) -> Status;
    LiteRtDestroyTensorBuffer(Raw);
    LiteRtGetTensorBufferPackedSize(Raw, *mut usize) -> Status;
    LiteRtLockTensorBuffer(Raw, *mut Raw, c_int) -> Status;
    LiteRtUnlockTensorBuffer(Raw) -> Status;
    LiteRtRunCompiledModel(Raw, usize, usize, *mut Raw, usize, *mut Raw) -> Status;
}

/// A call that LiteRT refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} said {} ({status})", words(*status))]
pub(super) struct Failure {
    /// The function.
    pub(super) call: &'static str,
    /// `LiteRtStatus`; 0 where the call went well and its result makes no sense.
    pub(super) status: Status,
}

impl Failure {
    /// Whether LiteRT found operators that no allowed accelerator took.
    pub(super) fn is_partial(&self) -> bool {
        self.call == "LiteRtCreateCompiledModel" && self.status == 504
    }

    /// Whether the accelerator, not the model, is at fault.
    pub(super) fn is_device(&self) -> bool {
        matches!(self.call, "LiteRtCreateCompiledModel" | REGISTERING)
    }
}

/// The names of `LiteRtStatus`, which the library does not export.
fn words(status: Status) -> &'static str {
    match status {
        0 => "nothing usable",
        1 => "invalid argument",
        2 => "out of memory",
        3 => "runtime failure",
        4 => "missing input tensor",
        5 => "unsupported",
        6 => "not found",
        7 => "time-out",
        8 => "wrong version",
        10 => "already exists",
        100 => "cancelled",
        500 => "file error",
        501 => "invalid flatbuffer",
        502 => "dynamic loading failed",
        503 => "serialisation failed",
        504 => "compilation failed",
        1000 => "index out of bounds",
        4000 => "unsupported runtime version",
        _ => "unknown error",
    }
}

fn check(call: &'static str, status: Status) -> Result<(), Failure> {
    if status == 0 {
        Ok(())
    } else {
        Err(Failure { call, status })
    }
}

/// Calls `$name` of `$api` and checks what it says.
macro_rules! call {
    ($api:expr, $name:ident($($argument:expr),*)) => {
        check(stringify!($name), ($api.$name)($($argument),*))
    };
}

/// LiteRT, loaded for the rest of the process.
pub(super) struct Library {
    api: Api,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

/// Why a file cannot be the library.
#[derive(Debug)]
pub(super) enum OpenError {
    /// It could not be read.
    Io(std::io::Error),
    /// It has this SHA-256 instead.
    Unknown(String),
    /// The loader's words.
    Load(String),
}

impl Library {
    /// Loads the file at `path` when its SHA-256 is `pinned`.
    pub(super) fn open(path: &Path, pinned: &str) -> Result<Self, OpenError> {
        hold_against(path, pinned)?;
        load(path).map_err(|e| OpenError::Load(e.to_string()))
    }
}

/// Reads the file at `path` and holds its SHA-256 against `pinned`.
pub(super) fn hold_against(path: &Path, pinned: &str) -> Result<(), OpenError> {
    let found = crate::digest::sha256_hex(&std::fs::read(path).map_err(OpenError::Io)?);
    if found == pinned {
        Ok(())
    } else {
        Err(OpenError::Unknown(found))
    }
}

/// Loads a file that is known to be LiteRT.
fn load(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: loading runs the file's initialisers; they are those of the pinned library, as the caller has checked.
    // Another file, put in its place meanwhile, could as well have replaced this program.
    let module = unsafe { Module::open(Some(path), RTLD_NOW | RTLD_LOCAL) }?;
    // Not closed: LiteRT and its accelerator start threads and leave thread-local destructors behind.
    let module = ManuallyDrop::new(module);
    // SAFETY: the module is the LiteRT that was declared, for the same reason.
    let api = unsafe { Api::of(&module) }?;
    Ok(Library { api })
}

/// One who makes or destroys an object of LiteRT at a time.
static TURN: Mutex<()> = Mutex::new(());

/// An object of LiteRT that is ours to destroy.
struct Handle {
    raw: NonNull<c_void>,
    destroy: Destroy,
}

impl Handle {
    /// What `create` puts into its argument.
    ///
    /// # Safety
    /// `create` must give an object that nobody else destroys and that `destroy` may be called on, once.
    unsafe fn new(
        call: &'static str,
        destroy: Destroy,
        create: impl FnOnce(*mut Raw) -> Status,
    ) -> Result<Self, Failure> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut raw = ptr::null_mut();
        let status = create(&raw mut raw);
        drop(turn);
        check(call, status)?;
        let raw = NonNull::new(raw).ok_or(Failure { call, status })?;
        Ok(Self { raw, destroy })
    }

    fn raw(&self) -> Raw {
        self.raw.as_ptr()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: who made the handle promised that this is the object's destructor; it runs here and nowhere else.
        unsafe { (self.destroy)(self.raw.as_ptr()) }
    }
}

/// Destructor of payloads that LiteRT does not own.
unsafe extern "C" fn leave(_: Raw) {}

/// How to run a model.
pub(super) struct Plan<'a> {
    /// [`CPU`] or [`GPU`]; nothing else than that may run a part of the model.
    pub(super) hardware: c_int,
    /// Folder of the accelerators' libraries.
    pub(super) folder: &'a CStr,
    /// Name of the options and their text.
    pub(super) options: (&'static CStr, CString),
}

/// A tensor as the model's file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) element: c_int,
    pub(super) shape: Vec<i32>,
}

/// A compiled model with its buffers.
pub(super) struct Session<'a> {
    library: &'a Library,
    // Dropped in this order: each before what it was made from.
    inputs: Vec<Handle>,
    outputs: Vec<Handle>,
    compiled: Handle,
    _options: Handle,
    _model: Handle,
    _environment: Handle,
    _texts: CString,
    input_tensors: Vec<Tensor>,
    output_tensors: Vec<Tensor>,
    bytes: PhantomData<&'a [u8]>,
}

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
        library: &'a Library,
        bytes: &'a [u8],
        plan: Plan<'_>,
    ) -> Result<Self, Failure> {
        let api = &library.api;
        let environment = environment(api, &plan)?;
        // SAFETY: the bytes live and stay as they are for 'a, which the session does not outlive.
        let model = unsafe {
            Handle::new(
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
        let (name, text) = plan.options;
        let options = options(api, plan.hardware, name, &text)?;
        // SAFETY: three live objects; they are kept for as long as the compiled model.
        let compiled = unsafe {
            Handle::new(
                "LiteRtCreateCompiledModel",
                api.LiteRtDestroyCompiledModel,
                |compiled| {
                    (api.LiteRtCreateCompiledModel)(
                        environment.raw(),
                        model.raw(),
                        options.raw(),
                        compiled,
                    )
                },
            )
        }?;
        let side = |side: &Side| side.open(api, &environment, &model, &compiled);
        let (input_tensors, inputs) = side(&Side::inputs(api))?;
        let (output_tensors, outputs) = side(&Side::outputs(api))?;
        Ok(Self {
            library,
            inputs,
            outputs,
            compiled,
            _options: options,
            _model: model,
            _environment: environment,
            _texts: text,
            input_tensors,
            output_tensors,
            bytes: PhantomData,
        })
    }

    /// The model's inputs, in the order of its file.
    pub(super) fn inputs(&self) -> &[Tensor] {
        &self.input_tensors
    }

    /// The model's outputs, in the order of its file.
    pub(super) fn outputs(&self) -> &[Tensor] {
        &self.output_tensors
    }

    /// Whether accelerators of the plan took the whole graph; with [`GPU`], whether anything else than the CPU did.
    pub(super) fn is_accelerated(&self, hardware: c_int) -> Result<bool, Failure> {
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

    /// Fills input `index`.
    pub(super) fn write(&mut self, index: usize, values: &[f32]) -> Result<(), Failure> {
        let bytes = size_of_val(values);
        self.locked(&self.inputs[index], LOCK_WRITE, bytes, |memory| {
            // SAFETY: the memory is locked for writing, has room for as many bytes, and is none of Rust's.
            unsafe { ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), memory, bytes) }
        })
    }

    /// Copies output `index` to `out`.
    pub(super) fn read(&self, index: usize, out: &mut [f32]) -> Result<(), Failure> {
        let bytes = size_of_val(out);
        self.locked(&self.outputs[index], LOCK_READ, bytes, |memory| {
            // SAFETY: the memory is locked for reading, has as many bytes, and is none of Rust's; any bits are an f32.
            unsafe { ptr::copy_nonoverlapping(memory, out.as_mut_ptr().cast::<u8>(), bytes) }
        })
    }

    /// Calls `copy` with the memory of `buffer`, which has `bytes` bytes.
    fn locked(
        &self,
        buffer: &Handle,
        mode: c_int,
        bytes: usize,
        copy: impl FnOnce(*mut u8),
    ) -> Result<(), Failure> {
        let (api, mut packed, mut memory) = (&self.library.api, 0, ptr::null_mut());
        // SAFETY: a live buffer, and places of ours to write to.
        unsafe {
            call!(
                api,
                LiteRtGetTensorBufferPackedSize(buffer.raw(), &raw mut packed)
            )?;
        }
        if packed != bytes {
            return Err(Failure {
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
            return Err(Failure {
                call: "LiteRtLockTensorBuffer",
                status: 0,
            });
        }
        Ok(())
    }

    /// Runs the model on its inputs and waits for its outputs.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        let api = &self.library.api;
        let mut inputs: Vec<Raw> = self.inputs.iter().map(Handle::raw).collect();
        let mut outputs: Vec<Raw> = self.outputs.iter().map(Handle::raw).collect();
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

/// An environment that knows the accelerators of `plan` and no others.
fn environment(api: &Api, plan: &Plan<'_>) -> Result<Handle, Failure> {
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
                text: plan.folder.as_ptr(),
            },
        },
    };
    let options = [
        // First, for what the others give rise to.
        int(ENV_MIN_LOGGER_SEVERITY, LOG_ERROR),
        int(ENV_AUTO_REGISTER_ACCELERATORS, i64::from(plan.hardware)),
        folder,
    ];
    let count = c_int::try_from(options.len()).unwrap_or(0);
    // SAFETY: as many options as said, of the declared kinds; LiteRT copies the text.
    let environment = unsafe {
        Handle::new(
            "LiteRtCreateEnvironment",
            api.LiteRtDestroyEnvironment,
            |environment| (api.LiteRtCreateEnvironment)(count, options.as_ptr(), environment),
        )
    }?;
    if accelerators(api, &environment)? & plan.hardware == 0 {
        return Err(Failure {
            call: REGISTERING,
            status: 6,
        });
    }
    Ok(environment)
}

/// What the accelerators that `environment` has found can drive.
fn accelerators(api: &Api, environment: &Handle) -> Result<c_int, Failure> {
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

/// Options for `hardware` alone, with `text` for those who know it by `name`.
fn options(
    api: &Api,
    hardware: c_int,
    name: &'static CStr,
    text: &CStr,
) -> Result<Handle, Failure> {
    // SAFETY: makes an object of its own.
    let options = unsafe {
        Handle::new("LiteRtCreateOptions", api.LiteRtDestroyOptions, |options| {
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
        Handle::new(
            "LiteRtCreateOpaqueOptions",
            api.LiteRtDestroyOpaqueOptions,
            |own| {
                (api.LiteRtCreateOpaqueOptions)(
                    name.as_ptr(),
                    text.as_ptr().cast_mut().cast(),
                    leave,
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

/// The functions for one side of a model.
struct Side {
    count: unsafe extern "C" fn(Raw, *mut usize) -> Status,
    tensor: unsafe extern "C" fn(Raw, usize, *mut Raw) -> Status,
    requirements: unsafe extern "C" fn(Raw, usize, usize, *mut Raw) -> Status,
}

impl Side {
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

    /// Describes the tensors and makes a buffer for each.
    fn open(
        &self,
        api: &Api,
        environment: &Handle,
        model: &Handle,
        compiled: &Handle,
    ) -> Result<(Vec<Tensor>, Vec<Handle>), Failure> {
        let (mut signatures, mut signature, mut count) = (0, ptr::null_mut(), 0);
        // SAFETY: a live model, a signature that it owns, and places of ours to write to.
        unsafe {
            call!(
                api,
                LiteRtGetNumModelSignatures(model.raw(), &raw mut signatures)
            )?;
            if signatures <= SIGNATURE {
                return Err(Failure {
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
                Handle::new(
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
            let rank = usize::from(kind.layout.rank & 0x7f).min(MAX_RANK);
            tensors.push(Tensor {
                // SAFETY: not null, and then a C string that the model owns and that is copied at once.
                name: if name.is_null() {
                    String::new()
                } else {
                    unsafe { CStr::from_ptr(name) }
                        .to_string_lossy()
                        .into_owned()
                },
                element: kind.element,
                shape: kind.layout.dimensions[..rank].to_vec(),
            });
        }
        Ok((tensors, buffers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_bytes_are_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libLiteRt.so");
        assert!(matches!(Library::open(&path, ""), Err(OpenError::Io(_))));
        std::fs::write(&path, b"no library").unwrap();
        let sha256 = crate::digest::sha256_hex(b"no library");
        let Err(OpenError::Unknown(found)) = Library::open(&path, "0000") else {
            panic!("was loaded");
        };
        assert_eq!(found, sha256);
        // Past the hash, the loader has its say.
        let Err(OpenError::Load(reason)) = Library::open(&path, &sha256) else {
            panic!("was loaded");
        };
        assert!(reason.contains("libLiteRt.so"), "{reason}");
    }

    #[test]
    fn a_library_without_the_functions_is_refused() {
        // Any shared library that is no LiteRT; the C library is always there.
        let reason = load(Path::new("libc.so.6")).unwrap_err().to_string();
        assert!(reason.contains("LiteRtCreateEnvironment"), "{reason}");
    }
}
