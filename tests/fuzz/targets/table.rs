//! The tables of all formats but WLASL's, the plan made from them, and splits files. The first line selects the
//! parser.
#![no_main]

use handloom::dataset::dataset_rows::DatasetRows;
use handloom::dataset::file_tree::FileTree;
use handloom::dataset::format::FormatName;
use handloom::dataset::plan::{PlanOptions, plan};
use handloom::dataset::splits;
use handloom::sequence::options::NamedChoice;
use handloom_fuzz::line;
use libfuzzer_sys::fuzz_target;
use std::hint::black_box;

const FILES: [&str; 5] = [
    "videos/1.mp4",
    "book/2.MOV",
    "train/hello/3.webm",
    "signer1_sample2_color.mp4",
    "labels.txt",
];

fuzz_target!(|bytes: &[u8]| {
    let (name, content) = line(bytes);
    let Some(format) = FormatName::from_name(name) else {
        black_box(splits::parse("splits", content).ok());
        return;
    };
    let files = FileTree::new(FILES.map(Box::from), []);
    let mut rows = DatasetRows::default();
    let mut rest = content;
    let mut fill = |buffer: &mut [u8]| {
        let (piece, others) = rest.split_at(rest.len().min(buffer.len()));
        buffer[..piece.len()].copy_from_slice(piece);
        rest = others;
        Ok(piece.len())
    };
    let reader = format.reader();
    let read = reader.read("MSASL_train.json", &mut fill, &mut rows);
    if read.is_ok() && reader.complete(&files, &mut rows).is_ok() {
        let (contents, _) = rows.finish(&files);
        let options = PlanOptions {
            min_videos_per_gloss: 1,
            ..PlanOptions::default()
        };
        black_box(plan(&contents.entries, &options, &|_| true));
    }
});
