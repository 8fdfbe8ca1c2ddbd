//! A command received from the broker: its name in the first line, then its payload.
#![no_main]

use handloom::messages::request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (name, payload) = handloom_fuzz::line(bytes);
    drop(request::parse(name, payload));
});
