//! TFLite delegate plugins: shared libraries from the makers of accelerators, loaded at run time.
//!
//! The protocol is that of TFLite's "external delegate": `tflite_plugin_create_delegate` and
//! `tflite_plugin_destroy_delegate`. A plugin runs in this process and may crash it: benchmark it in a child process
//! first.

#![allow(unsafe_code, reason = "plugins are shared libraries that speak C")]

use super::c::TfLiteDelegate as RawDelegate;
use super::delegate::Delegate;
use super::error_messages::ErrorMessages;
use crate::inference::lock;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::{CStr, CString, c_char};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Mutex;

const CREATE: &str = "tflite_plugin_create_delegate";
const DESTROY: &str = "tflite_plugin_destroy_delegate";

type Report = unsafe extern "C" fn(*const c_char);
type Create = unsafe extern "C" fn(
    *const *const c_char,
    *const *const c_char,
    usize,
    Option<Report>,
) -> *mut RawDelegate;
type Destroy = unsafe extern "C" fn(*mut RawDelegate);

/// Messages of plugins. Their callback does not say which plugin calls.
static PLUGIN_MESSAGES: ErrorMessages = ErrorMessages::new();
/// Serializes the creation of delegates, so that the messages belong to one plugin.
static CREATION: Mutex<()> = Mutex::new(());

/// Why a library is not a usable plugin.
#[derive(Debug)]
pub(crate) enum PluginLoadError {
    /// The message of the system's loader.
    Library(String),
    /// The function that it lacks.
    Function(&'static str),
}

/// A loaded plugin. Never unloaded: many drivers leave threads and exit handlers behind, which crash the process when
/// their code is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plugin {
    create: Create,
    destroy: Destroy,
}

impl Plugin {
    /// Loads `library`: a path with a slash is a file, the system's loader searches for a plain name.
    pub(crate) fn load(library: &Path) -> Result<Self, PluginLoadError> {
        // All symbols are bound now: a missing one is an error here, not a crash later.
        // SAFETY: initializers of the library run; the user chose to run this code.
        let library = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| PluginLoadError::Library(error.to_string()))?;
        let library = ManuallyDrop::new(library);
        let missing = |name| move |_: libloading::Error| PluginLoadError::Function(name);
        // SAFETY: by the plugin protocol, these names are functions of these types (TFLite's external_delegate.h).
        unsafe {
            let create = library.get::<Create>(CREATE.as_bytes());
            let destroy = library.get::<Destroy>(DESTROY.as_bytes());
            Ok(Self {
                create: *create.map_err(missing(CREATE))?,
                destroy: *destroy.map_err(missing(DESTROY))?,
            })
        }
    }

    /// Makes a delegate. The error is the message of the plugin, which may be empty.
    pub(crate) fn create(&self, options: &[(CString, CString)]) -> Result<Delegate, String> {
        let keys: Vec<_> = options.iter().map(|(key, _)| key.as_ptr()).collect();
        let values: Vec<_> = options.iter().map(|(_, value)| value.as_ptr()).collect();
        let _guard = lock(&CREATION);
        PLUGIN_MESSAGES.take();
        // SAFETY: two arrays of that many NUL-terminated strings, all alive during the call. By the protocol no plugin
        // keeps them; the callback stays valid.
        let delegate = unsafe {
            (self.create)(
                keys.as_ptr(),
                values.as_ptr(),
                options.len(),
                Some(collect_message),
            )
        };
        match NonNull::new(delegate) {
            // SAFETY: made above; the plugin's own function destroys it, and its code stays loaded.
            Some(delegate) => Ok(unsafe { Delegate::from_raw(delegate, self.destroy) }),
            None => Err(PLUGIN_MESSAGES.take()),
        }
    }
}

/// Messages of all plugins since the last call.
pub(crate) fn plugin_messages() -> String {
    PLUGIN_MESSAGES.take()
}

unsafe extern "C" fn collect_message(message: *const c_char) {
    if !message.is_null() {
        // SAFETY: by the protocol a NUL-terminated string that is valid during the call.
        let message = unsafe { CStr::from_ptr(message) };
        PLUGIN_MESSAGES.add(&message.to_string_lossy());
    }
}
