//! The head of an HTTP request to the preview.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    handloom::http::fuzz_head(bytes);
});
