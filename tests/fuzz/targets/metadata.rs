//! WLASL's metadata, and the plan made from it.
#![no_main]

use handloom::dataset::plan::{PlanOptions, plan};
use handloom::dataset::wlasl;
use libfuzzer_sys::fuzz_target;
use std::hint::black_box;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = wlasl::parse(bytes) {
        let options = PlanOptions {
            min_videos_per_gloss: 1,
            ..PlanOptions::default()
        };
        black_box(plan(&entries, &options, &|_| true));
    }
});
