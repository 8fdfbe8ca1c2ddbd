//! A model file: a bundle with both models, or one of them.
#![no_main]

use handloom::inference::{ModelFiles, ModelPaths};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    handloom_fuzz::with_file(bytes, |path| {
        let paths = ModelPaths {
            models: Some(path.to_path_buf()),
            trust: true,
            ..ModelPaths::default()
        };
        drop(ModelFiles::load(&paths));
    });
});
