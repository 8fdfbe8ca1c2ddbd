//! What runtime and plugins say when they fail, for the user to read.

#![allow(unsafe_code, reason = "the TFLite library speaks C")]

use super::c;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, PoisonError};

/// Most bytes kept.
const WORDS_MAX: usize = 2048;

/// What runtime or plugin said, bounded, until it is taken.
#[derive(Debug)]
pub(crate) struct ErrorMessages(Mutex<String>);

impl ErrorMessages {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(String::new()))
    }

    /// Adds a message; what has no room any more is dropped.
    pub(crate) fn add(&self, message: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let break_before = if kept.is_empty() { "" } else { "; " };
        let room = WORDS_MAX.saturating_sub(kept.len() + break_before.len());
        // Foreign text goes into one line of a log.
        let printable = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let cut = &printable[..printable.floor_char_boundary(room)];
        if !cut.is_empty() {
            kept.push_str(break_before);
            kept.push_str(cut);
        }
    }

    /// Everything since the last call.
    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// TFLite's error reporter: `user` is the [`ErrorMessages`] given with it.
pub(super) unsafe extern "C" fn report(user: *mut c_void, format: *const c_char, args: c::VaList) {
    let mut line = [0_u8; 512];
    // SAFETY: the buffer is ours and its length is given, so longer messages are cut and end in NUL all the same;
    // format and arguments are TFLite's and valid for this call.
    unsafe { c::vsnprintf(line.as_mut_ptr().cast(), line.len(), format, args) };
    // SAFETY: user points into the Arc of a model's or interpreter's Words, held until the runtime's object is
    // deleted; Words may be shared between threads.
    let words = unsafe { &*user.cast::<ErrorMessages>() };
    if let Ok(text) = CStr::from_bytes_until_nul(&line) {
        words.add(&text.to_string_lossy());
    }
}

/// The runtime refused; in its words, or what was asked of it where it gave none.
#[derive(Debug)]
pub(crate) struct RuntimeError(pub(crate) String);

impl std::fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was said, or `asked` where that is nothing.
pub(super) fn refusal(words: &ErrorMessages, asked: &str) -> RuntimeError {
    let said = words.take();
    RuntimeError(if said.is_empty() {
        format!("{asked} failed, the runtime gave no reason")
    } else {
        said
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_bounded_and_in_one_line() {
        let words = ErrorMessages::new();
        words.add(" no\n  device ");
        words.add("");
        words.add("gone");
        assert_eq!(words.take(), "no device; gone");
        assert_eq!(words.take(), "");
        words.add(&"ü".repeat(WORDS_MAX));
        words.add("more");
        assert_eq!(words.take(), "ü".repeat(WORDS_MAX / 2));
    }
}
