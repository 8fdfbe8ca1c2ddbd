//! A staged row of the ledger.
#![no_main]

use handloom::storage::batches::row_from_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    drop(row_from_bytes(bytes));
});
