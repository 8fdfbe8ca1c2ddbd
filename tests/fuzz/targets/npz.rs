//! An `.npz` file: headers, numbers and strings.
#![no_main]

use handloom::storage::npz::NpzReader;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut npz) = NpzReader::new(Path::new("fuzz.npz"), Cursor::new(bytes)) else {
        return;
    };
    for name in npz.names().into_iter().take(8) {
        if npz.header(&name).is_ok() {
            drop(npz.numbers::<f32>(&name));
            drop(npz.numbers::<i64>(&name));
            drop(npz.strings(&name));
        }
    }
});
