//! Handloom turns sign-language video into training sequences with MediaPipe's hand models. Its default numbers are those
//! of the notebook that it replaces, bit for bit where the arithmetic allows.
//!
//! This page is the map of the source: how data flows, what each module is for, what always holds, and the words used.
//!
//! # How data flows
//!
//! ```text
//! dataset file ─► plan ─► worker: open clip ─► decode ─► RGB ─► palm ─► hand ─► normalize ─► sequence ─┐
//!                         (one thread per worker, its own models and decoder process)                 ├─► recorder ─► ledger
//! camera ─► newest frame ─► RGB ─► tracked hands ─► segmenter ─► resample ─► normalize ─► take ───────┘      │
//!                                                    batches/*.npz, frames/*.npz, joined .npz, manifest ◄────┤
//!                                                                                outbox ─► MQTT broker ◄─────┘
//! ```
//!
//! * A clip: a reader of [`dataset::format`] lists the clips, [`dataset::plan`] decides which are processed in which order,
//!   [`job::worker_pool`] hands them to workers. A worker opens the clip in its decoder process
//!   ([`video::decoder_process`], which runs [`video::clip`]), [`sequence::frame_plan`] chooses frames, [`color`] converts
//!   decoded planes to RGB, [`hand::detector`] finds hands, [`sequence::assemble()`] makes 126 numbers a row.
//!   [`dataset::acceptance`] gives each clip its final state in plan order, [`storage`] writes the files.
//! * Kept frames: with `--keep-frames` a worker writes every frame of its clip to a part ([`storage::part_file`]) and makes the
//!   sequence from it. `handloom resequence` makes other sequences from the frames files through the same collector.
//! * A take: [`camera`] keeps the newest frame, [`recording::session`] detects hands in it, [`sequence::segmenter`] finds
//!   where a sign begins and ends, [`sequence::resample`] picks the frames that a clip would have had.
//! * A command: [`mqtt`] receives it, [`messages::request`] validates it, [`storage::ledger`] remembers it, [`daemon`]
//!   carries it out ([`daemon`]'s `command_handler`; `record` and `undo` through [`recording::take_store`]) and publishes the
//!   reply through the ledger's outbox.
//!
//! # Modules
//!
//! Imports go one way: `cli → daemon → job, recording, export, report, fleet, merge → wrapping modules → pure modules`.
//! `tests/architecture` checks it and fails on import cycles.
//!
//! | module | purpose |
//! |---|---|
//! | `main.rs` | start-up: arguments, log, command, exit code |
//! | [`error`], [`logging`] | exit codes, the top-level error and its hints; log set-up |
//! | [`cli`] | one file a subcommand: its arguments and its `run`; the progress bar and JSON lines |
//! | [`config`] | the daemon's settings: file, environment, flags; their constraints and errors. A leaf: it imports pure modules |
//! | **pure** | *no file, socket, clock, environment, thread* |
//! | [`frame`], [`geometry`], [`digest`] | an RGB image and a source of them; points, sizes, rectangles; SHA-256 |
//! | [`color`] | decoded YUV planes to the RGB that OpenCV gives the notebook; rotation |
//! | [`hand`] | MediaPipe's hand landmarker: palm decoding, non-maximum suppression, region of interest, warp, landmarks, tracking |
//! | [`sequence`] | options, frame sampling, slots, gaps, normalization, sign segmentation, resampling, the recording plan of takes |
//! | [`dataset`] | WLASL metadata, official subsets and splits, the plan, the rules for accepting clips (too short, empty, over the limit) |
//! | [`shard`] | which batches of a divided job a machine processes; `shard.json` |
//! | [`selection`] | the rules by which a backend is chosen: preference, agreement with the CPU, choice among measured ones |
//! | [`limits`] | how many workers temperature, memory and disk allow; back-off |
//! | [`messages`] | MQTT topics, payloads, commands, Home Assistant discovery |
//! | [`untrusted`] | text that outsiders write, with terminal control characters escaped |
//! | [`draw`] | drawn hands for demo and tests, skeletons, the contact sheet |
//! | **wrapping** | *each wraps one library or device* |
//! | [`inference`] | TFLite on CPU, LiteRT, delegates; probes and benchmarks accelerators, chooses by those rules, shares the device |
//! | [`video`] | GStreamer decoding of clips, in a restricted child process; MP4 facts (frame count, rotation, edits), dataset folders, zip archives |
//! | [`camera`] | V4L2 devices, GStreamer sources and files as cameras; reconnecting; pixel formats |
//! | [`storage`] | npz, batches, kept frames, the recorder of clips and takes, the SQLite ledger with its outbox, atomic files, output folder, lock, mirror |
//! | [`mqtt`] | the broker connection: publishing the outbox, acknowledgements (PUBACK), TLS, subscribing |
//! | [`http`] | the preview page of a camera |
//! | [`system`] | systemd readiness and watchdog, signals, liveness, sensors, disk, clock |
//! | **applications** | |
//! | [`job`] | one dataset job: scan, worker pool, rescan; resumes what an earlier process recorded; makes sequences again from kept frames |
//! | [`recording`] | one camera session: detection, latency, stored takes |
//! | [`daemon`] | the service: job, camera, MQTT, resource limits, mirror, reload |
//! | [`export`] | the data of an output folder for other tools: pose, parquet, asl-signs, webdataset, npy |
//! | [`merge`] | the shards of one job, verified and joined into the output folder that one process would have written |
//! | [`report`] | the page about an output folder: what to trust, what to drop; the contact sheet |
//! | [`fleet`] | the state of all devices, from the broker's messages; the table and the terminal screen of `watch` |
//!
//! # What always holds
//!
//! Each line has a test.
//!
//! * Pure modules reach no file, socket, clock, environment or thread; modules import one way (`tests/architecture`).
//! * Equal input, settings, models and backend give equal bytes, whatever the workers (`tests/jobs/process`).
//! * A job that is killed or loses power resumes and gives the bytes of an undisturbed run (`tests/jobs/{kill,power}.rs`).
//! * A clip that ends, blocks or bloats its decoder changes no other clip (`tests/jobs/{decoder_process,hostile_job}.rs`).
//! * A batch that the ledger calls sealed is a whole file on disk ([`storage::batches`], `tests/jobs/power.rs`).
//! * Sequences made from kept frames are those of a run that decodes the clips (`tests/jobs/kept_frames.rs`).
//! * An export that is killed continues and gives the bytes of an undisturbed one (`tests/jobs/export.rs`).
//! * The batches of a shard have the bytes that the whole job gives them, and a shard's folder appears when it is whole
//!   (`tests/jobs/shards.rs`).
//! * Every instance of the metadata ends in exactly one state (`tests/jobs/bad_input.rs`).
//! * A dataset never drops a frame. A camera drops the oldest frame and counts it (`tests/camera`).
//! * The page about an output folder has equal bytes for equal results, and no text of the metadata is markup in it
//!   (`tests/jobs/report.rs`).
//! * Telemetry never blocks the pipeline: queues are bounded (`tests/daemon`).
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | gloss | the written label of a sign, as WLASL spells it |
//! | instance | one entry of the metadata: a gloss, a video id, a frame range. It ends in exactly one state |
//! | clip | the video file of a planned instance; the unit of work |
//! | subset | the first 100, 300, 1000 or 2000 classes of WLASL, in the official order |
//! | splits file | `nslt_*.json` or a csv: the split of each clip, and perhaps its class |
//! | class order | all classes in the order of their numbers, from a splits file, the metadata or a class list |
//! | plan | the clips of a job in their fixed order, made from the metadata and the plan options |
//! | state | what became of an instance: accepted, `too_short`, empty, missing, unreadable, `over_limit`, `not_selected` |
//! | sequence | `[L, 126]` f32: L sampled frames (32 by default), two hands × 21 landmarks × x, y, z |
//! | slot | the place of a hand in the 126 numbers: 0 for the first detected hand, 1 for the second; by sides 0 left, 1 right |
//! | frame range | the frames of a clip that are its sign, by the metadata |
//! | processed frame | a frame in which the detector has looked for hands; the frame stride leaves out others |
//! | gap | a run of processed frames without a hand, between two with it; a short one can be filled |
//! | mask | which slots of a sequence hold a hand, seen or filled |
//! | landmark | one of 21 points of a hand; x and y in fractions of the image, z relative to the wrist |
//! | palm, ROI, anchor | MediaPipe's first stage: palm boxes from anchors; the rotated square cut out for the hand model |
//! | handedness, presence, score | left or right; whether the crop holds a hand; the model's confidence |
//! | profile | named defaults of the sequence options; `notebook` reproduces the notebook exactly, `corrected` loses less |
//! | batch | a fixed run of plan positions, written as one npz file |
//! | seal | to write a batch file durably and mark it in the ledger |
//! | shard | the batches that one machine processes of a job that is divided among several; `i/n`, from 0 |
//! | attempt | one run of a shard, in a folder of its own until the shard is whole |
//! | kept frames | what was found in every frame of each clip, in `frames/*.npz`; resequencing makes other sequences from them |
//! | part | the file with the kept frames of one clip, until its batch is sealed |
//! | ledger | `ledger.sqlite`: what a restart needs; one transaction a finished clip |
//! | resume | to continue an interrupted job: [`storage::ledger`] knows what is recorded, [`job`]'s `recovery` finds what was lost |
//! | outbox | the ledger's table of messages that the broker has not acknowledged |
//! | manifest | `manifest.jsonl`: one line an instance, with its state and numbers |
//! | label map | `label_map.json`: the number of each class |
//! | provenance | `run.json`: settings, models, backend, decoder and versions of an output folder |
//! | take | one recorded sign of a camera; stored like a clip |
//! | segmenter | the rules that find where a sign begins and ends in a camera's frames |
//! | backend | what runs the models: `cpu`, `litert:cpu`, `litert:gpu`, a delegate |
//! | accelerator | a backend other than the CPU |
//! | reduced precision | arithmetic in fewer than 32 bits: fp16, or int8 for the hand model; by request only |
//! | published error | how far a backend of reduced precision is from the CPU in real clips, by `models/README.md` |
//! | agreement check | the comparison of a backend's landmarks with the CPU's on built-in images |
//! | mirror | a second folder, on another disk, that gets a copy of every sealed file |
//! | fault | a problem that an operator should see: a message on the channel `fault` |
//! | worker | a thread with its own decoder process and models that processes one clip at a time |
//! | decoder process | a child process that decodes a worker's clips, without network, other files and much memory |

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::float_cmp,
        reason = "tests work with small numbers and exact results"
    )
)]

pub mod camera;
pub mod cli;
pub mod color;
pub mod config;
pub mod daemon;
pub mod dataset;
pub mod digest;
pub mod draw;
pub mod error;
pub mod export;
pub mod fleet;
pub mod frame;
pub mod geometry;
pub mod hand;
pub mod http;
pub mod inference;
pub mod job;
pub mod limits;
pub mod logging;
pub mod merge;
pub mod messages;
pub mod mqtt;
pub mod recording;
pub mod report;
pub mod selection;
pub mod sequence;
pub mod shard;
pub mod storage;
pub mod system;
pub mod untrusted;
pub mod video;
