//! The index of an MP4 file.
#![no_main]

use handloom::video::container::first_video_track;
use libfuzzer_sys::fuzz_target;
use std::hint::black_box;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(track)) = first_video_track(&mut Cursor::new(bytes)) {
        black_box(track.rate());
    }
});
