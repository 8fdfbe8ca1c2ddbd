//! A dataset's zip archive: its directory, and every member up to 1 MiB.
#![no_main]

use handloom::video::archive::Archive;
use libfuzzer_sys::fuzz_target;
use std::hint::black_box;
use std::io;

fuzz_target!(|bytes: &[u8]| {
    handloom_fuzz::with_file(bytes, |path| {
        let Ok(archive) = Archive::open(path) else {
            return;
        };
        let names: Vec<&str> = archive.names().take(8).collect();
        for name in names {
            black_box(archive.size(name));
            let read = archive.read(name, 1 << 20, |content| io::copy(content, &mut io::sink()));
            if let Ok(Ok(length)) = read {
                assert!(length <= 1 << 20);
            }
        }
    });
});
