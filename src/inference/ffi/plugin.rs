//! TFLite delegate plugins: shared libraries that a maker of accelerators ships, loaded when asked for.
//!
//! The protocol is that of TFLite's "external delegate": `tflite_plugin_create_delegate` and
//! `tflite_plugin_destroy_delegate`. The library is loaded into this process and may do there what it likes: a plugin
//! that has not proved itself is to be tried in a child process first.

#![allow(unsafe_code, reason = "plugins are shared libraries that speak C")]

use super::c::Delegate as RawDelegate;
use super::delegate::Delegate;
use crate::inference::ffi::error_messages::ErrorMessages;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

const CREATE: &CStr = c"tflite_plugin_create_delegate";
const DESTROY: &CStr = c"tflite_plugin_destroy_delegate";

type Report = unsafe extern "C" fn(*const c_char);
type Create = unsafe extern "C" fn(
    *const *const c_char,
    *const *const c_char,
    usize,
    Option<Report>,
) -> *mut RawDelegate;
type Destroy = unsafe extern "C" fn(*mut RawDelegate);

/// What plugins said through their error callback, which tells nothing of who calls.
static SAID: ErrorMessages = ErrorMessages::new();
/// One plugin at a time is created, so that what is said then is its.
static CREATION: Mutex<()> = Mutex::new(());

/// Why a library is no plugin to be used.
#[derive(Debug)]
pub(crate) enum PluginLoadError {
    /// The loader's words.
    Library(String),
    /// The function that it lacks.
    Function(&'static str),
}

/// A loaded plugin. Never unloaded, not even when dropped: many drivers leave threads and exit handlers behind that
/// crash the process once their code is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plugin {
    create: Create,
    destroy: Destroy,
}

impl Plugin {
    /// Loads `library`: a path with a slash is that file, a plain name is looked for where the system's loader looks.
    pub(crate) fn load(library: &Path) -> Result<Self, PluginLoadError> {
        let name = CString::new(library.as_os_str().as_encoded_bytes())
            .map_err(|_| PluginLoadError::Library("its name has a NUL byte".to_owned()))?;
        // What the library refers to is bound at once: a gap shows here as an error, not later as a crash. Its own
        // names stay its own.
        // SAFETY: name ends in NUL. Initialisers of the library run; it is code that the user chose to run.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        let Some(handle) = NonNull::new(handle) else {
            return Err(PluginLoadError::Library(loader_words()));
        };
        let create = function(handle, CREATE)?;
        let destroy = function(handle, DESTROY)?;
        // SAFETY: by the plugin protocol these names are functions of these types (TFLite's external_delegate.h),
        // and the library is never unloaded. A pointer to a function is as large as one to data on every system with
        // dlsym.
        unsafe {
            Ok(Self {
                create: std::mem::transmute::<NonNull<c_void>, Create>(create),
                destroy: std::mem::transmute::<NonNull<c_void>, Destroy>(destroy),
            })
        }
    }

    /// Makes a delegate; refused, it is the plugin's words, which may be empty.
    pub(crate) fn create(&self, options: &[(CString, CString)]) -> Result<Delegate, String> {
        let keys: Vec<_> = options.iter().map(|(key, _)| key.as_ptr()).collect();
        let values: Vec<_> = options.iter().map(|(_, value)| value.as_ptr()).collect();
        let _alone = CREATION.lock().unwrap_or_else(PoisonError::into_inner);
        SAID.take();
        // SAFETY: two arrays of that many strings, each ending in NUL, all alive during the call, longer than which
        // the protocol lets no plugin keep them; the callback is a function of ours and valid for ever.
        let delegate = unsafe {
            (self.create)(
                keys.as_ptr(),
                values.as_ptr(),
                options.len(),
                Some(note_words),
            )
        };
        match NonNull::new(delegate) {
            // SAFETY: made for us just now, to be destroyed by the plugin's own function; its code stays loaded.
            Some(delegate) => Ok(unsafe { Delegate::from_raw(delegate, self.destroy) }),
            None => Err(SAID.take()),
        }
    }
}

/// What plugins said since the last call, whichever it was.
pub(crate) fn said() -> String {
    SAID.take()
}

unsafe extern "C" fn note_words(message: *const c_char) {
    if !message.is_null() {
        // SAFETY: the protocol gives a string that ends in NUL and is valid during the call.
        let message = unsafe { CStr::from_ptr(message) };
        SAID.add(&message.to_string_lossy());
    }
}

fn function(
    handle: NonNull<c_void>,
    name: &'static CStr,
) -> Result<NonNull<c_void>, PluginLoadError> {
    // SAFETY: handle is of a library that dlopen gave and nobody closes; name ends in NUL.
    let found = unsafe { libc::dlsym(handle.as_ptr(), name.as_ptr()) };
    NonNull::new(found).ok_or(PluginLoadError::Function(name.to_str().unwrap_or_default()))
}

/// The loader's reason for the last failure on this thread.
fn loader_words() -> String {
    // SAFETY: gives a string of the C library's for this thread, or null; it is copied before the next call.
    unsafe {
        let words = libc::dlerror();
        if words.is_null() {
            "the loader gave no reason".to_owned()
        } else {
            CStr::from_ptr(words).to_string_lossy().into_owned()
        }
    }
}
