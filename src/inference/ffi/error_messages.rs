//! Messages of the runtime and of plugins when they fail.

#![allow(unsafe_code, reason = "the TFLite library speaks C")]

use super::c;
use crate::inference::lock;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

/// Maximum size of the collected messages, bytes.
const MESSAGES_MAX: usize = 2048;

/// Messages of a runtime or plugin, bounded, until they are taken.
#[derive(Debug)]
pub(crate) struct ErrorMessages(Mutex<String>);

impl ErrorMessages {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(String::new()))
    }

    /// Adds a message; what exceeds the limit is dropped.
    pub(crate) fn add(&self, message: &str) {
        let mut messages = lock(&self.0);
        let separator = if messages.is_empty() { "" } else { "; " };
        let left = MESSAGES_MAX.saturating_sub(messages.len() + separator.len());
        // The text becomes one line of a log.
        let printable = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let cut = &printable[..printable.floor_char_boundary(left)];
        if !cut.is_empty() {
            messages.push_str(separator);
            messages.push_str(cut);
        }
    }

    /// All messages since the last call.
    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut *lock(&self.0))
    }
}

/// TFLite's error reporter: `user` is the [`ErrorMessages`] given with it.
pub(super) unsafe extern "C" fn report(user: *mut c_void, format: *const c_char, args: c::VaList) {
    let mut line = [0_u8; 512];
    // SAFETY: the buffer is ours, and its length is given: a longer message is cut and ends in NUL too. Format and
    // arguments are TFLite's and valid for this call.
    unsafe { c::vsnprintf(line.as_mut_ptr().cast(), line.len(), format, args) };
    // SAFETY: user points into the Arc of a model's or an interpreter's messages, held until the runtime's object is
    // deleted. Messages may be shared between threads.
    let messages = unsafe { &*user.cast::<ErrorMessages>() };
    if let Ok(text) = CStr::from_bytes_until_nul(&line) {
        messages.add(&text.to_string_lossy());
    }
}

/// A failure of the runtime: its messages, or the action that failed.
#[derive(Debug)]
pub(crate) struct RuntimeError(pub(crate) String);

/// The collected messages, or a text that names the failed `action` when there are none.
pub(super) fn runtime_error(messages: &ErrorMessages, action: &str) -> RuntimeError {
    let text = messages.take();
    RuntimeError(if text.is_empty() {
        format!("{action} failed, the runtime gave no reason")
    } else {
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_and_in_one_line() {
        let messages = ErrorMessages::new();
        messages.add(" no\n  device ");
        messages.add("");
        messages.add("gone");
        assert_eq!(messages.take(), "no device; gone");
        assert_eq!(messages.take(), "");
        messages.add(&"ü".repeat(MESSAGES_MAX));
        messages.add("more");
        assert_eq!(messages.take(), "ü".repeat(MESSAGES_MAX / 2));
    }
}
