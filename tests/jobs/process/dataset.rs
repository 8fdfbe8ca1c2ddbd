//! The dataset of the tests, its results with one worker, and a dataset of one clip.

use handloom::video::encode::Codec;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use test_support::{self, process, render_clip, scratch};

/// Size of the drawn clips, pixels.
pub(crate) const SIZE: (usize, usize) = (320, 240);

/// Frames of a drawn clip; every second one is sampled.
pub(crate) const FRAMES: usize = 20;

/// Gloss, video id and state of each instance, in order.
pub(crate) const EXPECTED_STATES: [&str; 20] = [
    "hello 00001 accepted",
    "hello 00002 accepted",
    "hello 00003 accepted",
    "hello 00004 accepted",
    "hello 00005 empty",
    "hello 00006 missing",
    "BOOK 00001 accepted",
    "book 00011 accepted",
    "book 00012 accepted",
    "book 00013 too_short",
    "book 00014 unreadable",
    "book 00015 unreadable",
    "Thanks 00001 not_selected",
    "Thanks 00002 not_selected",
    "Thanks 00003 not_selected",
    "Thanks 00004 not_selected",
    "Thanks 00005 not_selected",
    "rare 00011 not_selected",
    "rare 00006 not_selected",
    "hello 00001 accepted",
];

/// Number of accepted instances.
pub(crate) const ACCEPTED: usize = 8;

/// Number of planned instances.
pub(crate) const PLANNED: usize = 12;

pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) dataset: PathBuf,
    /// The results of one worker.
    pub(crate) out: PathBuf,
    /// A dataset of one good clip, for tests that do not depend on the clips.
    pub(crate) tiny: PathBuf,
}

/// The dataset, its results with one worker, and a dataset of one clip.
pub(crate) fn fixture() -> &'static Fixture {
    static MADE: OnceLock<Fixture> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = scratch();
        let dataset = folder.path().join("dataset");
        test_support::write_metadata(
            &dataset,
            &test_support::metadata(&[
                (
                    "hello",
                    &[
                        ("00001", 1),
                        ("00002", 1),
                        ("00003", 1),
                        ("00004", -1),
                        ("00005", 5122),
                        ("00006", 1),
                    ],
                ),
                // Processed, because its lower-case form is kept.
                ("BOOK", &[("00001", 1)]),
                (
                    "book",
                    &[
                        ("00011", 1),
                        ("00012", 1),
                        ("00013", 1),
                        ("00014", 1),
                        ("00015", 1),
                    ],
                ),
                // Kept, but never processed: "thanks" is not kept.
                (
                    "Thanks",
                    &[
                        ("00001", 1),
                        ("00002", 1),
                        ("00003", 1),
                        ("00004", 1),
                        ("00005", 1),
                    ],
                ),
                ("rare", &[("00011", 1), ("00006", 1)]),
                // A second entry of a gloss, and a clip named twice.
                ("hello", &[("00001", 3)]),
            ]),
        );
        let clip = |id: &str| dataset.join(format!("videos/{id}.mp4"));
        for (id, seed, codec) in [
            ("00001", 0, Codec::H264),
            ("00002", 1, Codec::H264),
            ("00003", 2, Codec::Mpeg4),
            ("00004", 3, Codec::H264),
            ("00011", 5, Codec::Mpeg4),
            ("00012", 6, Codec::H264),
        ] {
            render_clip(&clip(id), seed, FRAMES, SIZE, codec);
        }
        fs::copy(clip("00001"), clip("00005")).unwrap();
        // Too short for the least number of frames with a hand.
        render_clip(&clip("00013"), 7, 8, SIZE, Codec::H264);
        fs::write(clip("00014"), "this is not a video\n").unwrap();
        fs::write(clip("00015"), "").unwrap();

        let tiny = folder.path().join("tiny");
        test_support::write_metadata(&tiny, &test_support::metadata(&[("wave", &[("00001", 1)])]));
        fs::copy(clip("00001"), tiny.join("videos/00001.mp4")).unwrap();

        let out = folder.path().join("one-worker");
        process(&dataset, &out, &["--workers", "1"]).ends(0);
        Fixture {
            folder,
            dataset,
            out,
            tiny,
        }
    })
}

/// A new folder for results beside the dataset.
pub(crate) fn new_out(name: &str) -> PathBuf {
    fixture().folder.path().join(name)
}

/// Processes the dataset of one clip.
pub(crate) fn tiny(out: &Path, more: &[&str]) -> test_support::Run {
    let args = [&["--min-videos-per-gloss", "1"], more].concat();
    process(&fixture().tiny, out, &args)
}
