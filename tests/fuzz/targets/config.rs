//! The daemon's config file, with a `--set` in the first line.
#![no_main]

use handloom::config::{self, Sources};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (set, file) = handloom_fuzz::line(bytes);
    handloom_fuzz::with_file(file, |path| {
        let sources = Sources {
            file: Some(path.to_path_buf()),
            set: vec![set.to_owned()],
            ..Sources::default()
        };
        match config::load(&sources) {
            Ok(loaded) => drop(loaded.to_toml()),
            Err(error) => drop(error.to_string()),
        }
    });
});
