//! The part of LiteRT's C API that Handloom uses: declarations, loading, and objects that are destroyed once. `session`
//! is the safe interface.
//!
//! The library is loaded at run time, so that the program starts without it. Its API has no version number, and between
//! 2.1 and 2.3 functions changed their arguments under the same name. Therefore only the library with the pinned SHA-256
//! is loaded, for which the declarations below were written and tested.
//!
//! # Why this is sound
//!
//! * The declarations are those of LiteRT 2.3.0; [`Api::open`] loads nothing else. The library is never closed, so a
//!   function pointer is valid for the rest of the process, whichever threads the library has started.
//! * An object of LiteRT is a [`LiteRtObject`]: made once, destroyed once, not copied, not null. LiteRT does not promise
//!   that objects may be made and destroyed in parallel, so a lock serializes it.

#![allow(
    unsafe_code,
    reason = "the C API of a library that is loaded at run time"
)]

use crate::digest::sha256_hex;
use crate::inference::backend::BackendError;
use crate::inference::lock;
use crate::inference::model_files::LibrarySpec;
use libloading::os::unix::{Library as Module, RTLD_LOCAL, RTLD_NOW};
use std::ffi::{c_char, c_int, c_void};
use std::fs;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Mutex;

/// `LiteRtHwAccelerators`.
pub(super) const CPU: c_int = 1;
/// `LiteRtHwAccelerators`.
pub(super) const GPU: c_int = 2;
/// `kLiteRtElementTypeFloat32`.
pub(super) const FLOAT32: c_int = 1;

pub(super) const ENV_RUNTIME_LIBRARY_DIR: c_int = 22;
pub(super) const ENV_AUTO_REGISTER_ACCELERATORS: c_int = 24;
pub(super) const ENV_MIN_LOGGER_SEVERITY: c_int = 25;
pub(super) const ANY_INT: c_int = 2;
pub(super) const ANY_STRING: c_int = 8;
pub(super) const LOG_ERROR: i64 = 3;
pub(super) const LOCK_READ: c_int = 0;
pub(super) const LOCK_WRITE: c_int = 1;
pub(super) const MAX_RANK: usize = 8;
/// `kLiteRtStatusErrorCompilation`: operators are left that no accelerator takes.
pub(super) const COMPILATION: c_int = 504;
/// `kLiteRtStatusErrorNotFound`.
pub(super) const NOT_FOUND: c_int = 6;
pub(super) const COMPILING: &str = "LiteRtCreateCompiledModel";
pub(super) const REGISTERING: &str = "registering the accelerator";
/// Models have one signature, a default one when the file names none.
pub(super) const SIGNATURE: usize = 0;

/// Any of LiteRT's opaque objects.
pub(super) type Raw = *mut c_void;
pub(super) type LiteRtStatus = c_int;
pub(super) type Destroy = unsafe extern "C" fn(Raw);

/// `LiteRtEnvOption`.
#[repr(C)]
pub(super) struct EnvOption {
    pub(super) tag: c_int,
    pub(super) value: Any,
}

/// `LiteRtAny`.
#[repr(C)]
pub(super) struct Any {
    pub(super) kind: c_int,
    pub(super) value: AnyValue,
}

#[repr(C)]
pub(super) union AnyValue {
    pub(super) int: i64,
    pub(super) text: *const c_char,
}

/// `LiteRtLayout`: rank in the low seven bits of its first byte, whether there are strides in the eighth.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct TensorLayout {
    rank: u8,
    pad: [u8; 3],
    dimensions: [i32; MAX_RANK],
    strides: [u32; MAX_RANK],
}

impl TensorLayout {
    /// The dimensions; 0 for an unknown one.
    pub(super) fn shape(&self) -> Vec<usize> {
        let rank = usize::from(self.rank & 0x7f).min(MAX_RANK);
        let dimensions = self.dimensions[..rank].iter();
        dimensions
            .map(|d| usize::try_from(*d).unwrap_or(0))
            .collect()
    }
}

/// `LiteRtRankedTensorType`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RankedTensorType {
    pub(super) element: c_int,
    pub(super) layout: TensorLayout,
}

const _: () = assert!(size_of::<RankedTensorType>() == 72 && size_of::<EnvOption>() == 24);

/// Declares the functions and looks all of them up.
macro_rules! api {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of LiteRT, which stays loaded.
        #[derive(Clone, Copy)]
        #[allow(non_snake_case, reason = "the names are LiteRT's")]
        pub(super) struct Api {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Api {
            /// # Safety
            /// `module` must be the LiteRT for which the functions were declared.
            unsafe fn of(module: &Module) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: in the declared library, the symbol is a function of the declared type.
                    $($name: unsafe {
                        *module.get(concat!(stringify!($name), "\0").as_bytes())?
                    },)*
                })
            }
        }
    };
}

api! {
    LiteRtCreateEnvironment(c_int, *const EnvOption, *mut Raw) -> LiteRtStatus;
    LiteRtDestroyEnvironment(Raw);
    LiteRtGetNumAccelerators(Raw, *mut usize) -> LiteRtStatus;
    LiteRtGetAccelerator(Raw, usize, *mut Raw) -> LiteRtStatus;
    LiteRtGetAcceleratorHardwareSupport(Raw, *mut c_int) -> LiteRtStatus;
    LiteRtCreateModelFromBuffer(Raw, *const c_void, usize, *mut Raw) -> LiteRtStatus;
    LiteRtDestroyModel(Raw);
    LiteRtGetNumModelSignatures(Raw, *mut usize) -> LiteRtStatus;
    LiteRtGetModelSignature(Raw, usize, *mut Raw) -> LiteRtStatus;
    LiteRtGetNumSignatureInputs(Raw, *mut usize) -> LiteRtStatus;
    LiteRtGetNumSignatureOutputs(Raw, *mut usize) -> LiteRtStatus;
    LiteRtGetSignatureInputTensorByIndex(Raw, usize, *mut Raw) -> LiteRtStatus;
    LiteRtGetSignatureOutputTensorByIndex(Raw, usize, *mut Raw) -> LiteRtStatus;
    LiteRtGetTensorName(Raw, *mut *const c_char) -> LiteRtStatus;
    LiteRtGetRankedTensorType(Raw, *mut RankedTensorType) -> LiteRtStatus;
    LiteRtCreateOptions(*mut Raw) -> LiteRtStatus;
    LiteRtDestroyOptions(Raw);
    LiteRtSetOptionsHardwareAccelerators(Raw, c_int) -> LiteRtStatus;
    LiteRtCreateOpaqueOptions(*const c_char, Raw, Destroy, *mut Raw) -> LiteRtStatus;
    LiteRtDestroyOpaqueOptions(Raw);
    LiteRtAddOpaqueOptions(Raw, Raw) -> LiteRtStatus;
    LiteRtCreateCompiledModel(Raw, Raw, Raw, *mut Raw) -> LiteRtStatus;
    LiteRtDestroyCompiledModel(Raw);
    LiteRtCompiledModelIsFullyAccelerated(Raw, *mut bool) -> LiteRtStatus;
    LiteRtCompiledModelIsNonCpuFullyAccelerated(Raw, *mut bool) -> LiteRtStatus;
    LiteRtGetCompiledModelInputBufferRequirements(Raw, usize, usize, *mut Raw) -> LiteRtStatus;
    LiteRtGetCompiledModelOutputBufferRequirements(Raw, usize, usize, *mut Raw) -> LiteRtStatus;
    LiteRtCreateManagedTensorBufferFromRequirements(Raw, *const RankedTensorType, Raw, *mut Raw) -> LiteRtStatus;
    LiteRtDestroyTensorBuffer(Raw);
    LiteRtGetTensorBufferPackedSize(Raw, *mut usize) -> LiteRtStatus;
    LiteRtLockTensorBuffer(Raw, *mut Raw, c_int) -> LiteRtStatus;
    LiteRtUnlockTensorBuffer(Raw) -> LiteRtStatus;
    LiteRtRunCompiledModel(Raw, usize, usize, *mut Raw, usize, *mut Raw) -> LiteRtStatus;
}

/// A call that LiteRT refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} returned {status}: {}", status_text(*status))]
pub(super) struct CallError {
    /// The function.
    pub(super) call: &'static str,
    /// `LiteRtStatus`; 0 when the call succeeded with an unusable result.
    pub(super) status: LiteRtStatus,
}

impl CallError {
    /// The error when `is_accelerated` is false.
    pub(super) const NOT_ACCELERATED: Self = Self {
        call: COMPILING,
        status: COMPILATION,
    };

    /// Whether the model has operators that the hardware does not support.
    pub(super) fn is_partial(&self) -> bool {
        *self == Self::NOT_ACCELERATED
    }

    /// Whether the device, not the model, is at fault.
    pub(super) fn is_device(&self) -> bool {
        matches!(self.call, COMPILING | REGISTERING)
    }
}

/// The names of `LiteRtStatus`, which the library does not export.
fn status_text(status: LiteRtStatus) -> &'static str {
    match status {
        0 => "unusable result",
        1 => "invalid argument",
        2 => "out of memory",
        3 => "runtime failure",
        4 => "missing input tensor",
        5 => "unsupported",
        NOT_FOUND => "not found",
        7 => "time-out",
        8 => "wrong version",
        10 => "already exists",
        100 => "cancelled",
        500 => "file error",
        501 => "invalid flatbuffer",
        502 => "dynamic loading failed",
        503 => "serialization failed",
        COMPILATION => "operators are not supported",
        1000 => "index out of bounds",
        4000 => "unsupported runtime version",
        _ => "unknown error",
    }
}

pub(super) fn check(call: &'static str, status: LiteRtStatus) -> Result<(), CallError> {
    if status == 0 {
        Ok(())
    } else {
        Err(CallError { call, status })
    }
}

/// Calls `$name` of `$api` and checks its status. With `-> $start` the function writes a value through one more argument;
/// the value is `$start` before and is returned.
macro_rules! call {
    ($api:expr, $name:ident($($argument:expr),*)) => {
        check(stringify!($name), ($api.$name)($($argument),*))
    };
    ($api:expr, $name:ident($($argument:expr),*) -> $start:expr) => {{
        let mut value = $start;
        check(stringify!($name), ($api.$name)($($argument,)* &raw mut value)).map(|()| value)
    }};
}
pub(super) use call;

/// Makes the [`LiteRtObject`] that `$name` of `$api` writes through one more argument, and that `$destroy` destroys.
macro_rules! object {
    ($api:expr, $name:ident($($argument:expr),*), $destroy:ident) => {
        LiteRtObject::new(stringify!($name), $api.$destroy, |object| {
            ($api.$name)($($argument,)* object)
        })
    };
}
pub(super) use object;

impl Api {
    /// Loads the library at `path` for the rest of the process, if it is the pinned one.
    pub(super) fn open(path: &Path, pinned: &LibrarySpec) -> Result<Self, BackendError> {
        check_pinned(path, pinned)?;
        Self::load(path).map_err(|error| {
            BackendError::Unusable(format!(
                "{} cannot be loaded: {error}; it needs glibc 2.34 or newer and libstdc++6",
                path.display()
            ))
        })
    }

    /// Loads a file that is known to be LiteRT.
    fn load(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: loading runs the initializers of the pinned library, as the caller has checked. Who can replace the
        // file meanwhile can also replace this program.
        let module = unsafe { Module::open(Some(path), RTLD_NOW | RTLD_LOCAL) }?;
        // Not closed: LiteRT and its accelerator start threads and leave thread-local destructors behind.
        let module = ManuallyDrop::new(module);
        // SAFETY: the module is the LiteRT that was declared, for the same reason.
        unsafe { Self::of(&module) }
    }
}

/// Checks that the file at `path` exists and has the SHA-256 of the pinned library.
pub(super) fn check_pinned(path: &Path, pinned: &LibrarySpec) -> Result<(), BackendError> {
    let name = path.display();
    let found = if path.is_file() {
        let bytes = fs::read(path).map_err(|error| format!("cannot read {name}: {error}"));
        bytes.map(|bytes| sha256_hex(&bytes))
    } else {
        Err(format!(
            "{name} not found; run `make setup-litert`, or copy it from the wheel of the other library"
        ))
    };
    let found = found.map_err(BackendError::Unusable)?;
    let LibrarySpec { what, sha256, .. } = pinned;
    if found == *sha256 {
        return Ok(());
    }
    let arch = std::env::consts::ARCH;
    Err(BackendError::Unusable(format!(
        "{name} has SHA-256 {found}, which is not {what} for {arch} (pinned: {sha256}); another version's functions may take other arguments, so it is not loaded: run `make setup-litert`"
    )))
}

/// Serializes creation and destruction of objects.
static LIFECYCLE: Mutex<()> = Mutex::new(());

/// An object of LiteRT that we own.
pub(super) struct LiteRtObject {
    raw: NonNull<c_void>,
    destroy: Destroy,
}

impl LiteRtObject {
    /// The object that `create` writes to its argument.
    ///
    /// # Safety
    /// `create` must give an object that nobody else destroys and that `destroy` may be called on, once.
    pub(super) unsafe fn new(
        call: &'static str,
        destroy: Destroy,
        create: impl FnOnce(*mut Raw) -> LiteRtStatus,
    ) -> Result<Self, CallError> {
        let guard = lock(&LIFECYCLE);
        let mut raw = ptr::null_mut();
        let status = create(&raw mut raw);
        drop(guard);
        check(call, status)?;
        let raw = NonNull::new(raw).ok_or(CallError { call, status })?;
        Ok(Self { raw, destroy })
    }

    /// Its address, for calls that do not destroy it.
    pub(super) fn raw(&self) -> Raw {
        self.raw.as_ptr()
    }
}

impl Drop for LiteRtObject {
    fn drop(&mut self) {
        let _guard = lock(&LIFECYCLE);
        // SAFETY: by the contract of `new` this is the object's destructor; it runs here and nowhere else.
        unsafe { (self.destroy)(self.raw.as_ptr()) }
    }
}

/// Destructor of payloads that LiteRT does not own.
pub(super) unsafe extern "C" fn keep(_: Raw) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_bytes_are_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libLiteRt.so");
        let check = |sha256: &str, expected: &str| {
            let pinned = LibrarySpec {
                file: String::new(),
                what: "LiteRT 9".to_owned(),
                sha256: sha256.to_owned(),
            };
            let text = Api::open(&path, &pinned).err().unwrap().to_string();
            assert!(
                text.contains("libLiteRt.so") && text.contains(expected),
                "{text}"
            );
        };
        check("", "not found");
        std::fs::write(&path, b"no library").unwrap();
        let sha256 = sha256_hex(b"no library");
        check("0000", &format!("{sha256}, which is not LiteRT 9"));
        // With the right hash, the loader refuses it.
        check(&sha256, "cannot be loaded");
    }

    #[test]
    fn a_library_without_the_functions_is_refused() {
        // Any shared library that is no LiteRT; the C library is always there.
        let reason = Api::load(Path::new("libc.so.6")).err().unwrap().to_string();
        assert!(reason.contains("LiteRtCreateEnvironment"), "{reason}");
    }
}
