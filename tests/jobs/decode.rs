//! Decodes clips rendered here: whole, cut off, rotated and broken files.

use handloom::draw::scene::signing_scene;
use handloom::frame::FrameSource;
use handloom::video::clip::{VideoClip, VideoOptions};
use handloom::video::encode::{Codec, encode_mp4};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const FRAMES: usize = 24;
const FPS: u32 = 24;

/// Renders a clip of [`FRAMES`] frames in `dir` and returns its bytes.
pub(crate) fn clip(dir: &TempDir, codec: Codec) -> Vec<u8> {
    let path = dir.path().join("made.mp4");
    let frames = (0..FRAMES).map(|i| signing_scene(7, i, 160, 112));
    encode_mp4(&path, frames, FPS, codec).unwrap();
    fs::read(path).unwrap()
}

pub(crate) fn save(dir: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join("tried.mp4");
    fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn open(path: &Path) -> Result<VideoClip, String> {
    let options = VideoOptions {
        timeout: Duration::from_secs(10),
        ..VideoOptions::default()
    };
    VideoClip::open_path(path, &options).map_err(|e| e.to_string())
}

/// Size and CRC-32 of each frame of a clip, or the reason why it cannot be decoded.
pub(crate) fn decode(path: &Path) -> Result<Vec<(usize, usize, u32)>, String> {
    let mut clip = open(path)?;
    let mut out = Vec::new();
    while clip.advance().map_err(|e| e.to_string())? {
        let image = clip.frame().map_err(|e| e.to_string())?;
        let crc = crc32fast::hash(image.pixels());
        out.push((image.width(), image.height(), crc));
    }
    Ok(out)
}

/// Offset of the first box of this type.
pub(crate) fn find(bytes: &[u8], kind: [u8; 4]) -> usize {
    bytes.windows(4).position(|w| w == kind).unwrap() - 4
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Inserts `more` at `at` and adds its length to the size of each parent box.
pub(crate) fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8], parents: &[usize]) {
    for parent in parents {
        let size = u32::try_from(be32(bytes, *parent) + more.len()).unwrap();
        bytes[*parent..*parent + 4].copy_from_slice(&size.to_be_bytes());
    }
    bytes.splice(at..at, more.iter().copied());
}

/// Replaces the edit list by one edit: length in movie ticks, start in media ticks.
fn with_edit(bytes: &[u8], length: usize, start: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    while let Some(at) = out.windows(4).position(|w| w == b"edts") {
        out[at..at + 4].copy_from_slice(b"free");
    }
    let word = |v: usize| u32::try_from(v).unwrap().to_be_bytes();
    let mut elst = [word(36), *b"edts", word(28), *b"elst", word(0), word(1)].concat();
    elst.extend([word(length), word(start), word(0x1_0000)].concat());
    let (moov, trak) = (find(&out, *b"moov"), find(&out, *b"trak"));
    let end = trak + be32(&out, trak);
    assert!(find(&out, *b"mdat") < moov, "sample offsets stay valid");
    insert(&mut out, end, &elst, &[moov, trak]);
    out
}

#[test]
fn every_frame_comes_once_and_in_order() {
    let dir = TempDir::new().unwrap();
    for codec in [Codec::H264, Codec::Mpeg4] {
        let path = save(&dir, &clip(&dir, codec));
        let frames = decode(&path).unwrap();
        assert_eq!(frames.len(), FRAMES, "{codec:?}");
        assert_eq!(frames, decode(&path).unwrap(), "{codec:?}");
        let mut clip = open(&path).unwrap();
        assert_eq!(clip.declared_frames(), Some(FRAMES as u64));
        // Each frame is nearer to its own original than to one six frames away.
        for i in 0..FRAMES {
            assert!(clip.advance().unwrap());
            let shown = clip.frame().unwrap().clone();
            let distance = |j: usize| {
                let made = signing_scene(7, j, 160, 112);
                let pairs = made.pixels().iter().zip(shown.pixels());
                pairs
                    .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
                    .sum::<u64>()
            };
            let far = if i < FRAMES / 2 { i + 6 } else { i - 6 };
            assert!(distance(i) < distance(far), "{codec:?} {i}");
        }
        assert!(!clip.advance().unwrap());
        assert!(clip.facts().notes.is_empty());
    }
}

#[test]
fn a_file_that_is_cut_off_gives_a_beginning_of_the_whole() {
    let dir = TempDir::new().unwrap();
    for codec in [Codec::H264, Codec::Mpeg4] {
        let whole = clip(&dir, codec);
        let all = decode(&save(&dir, &whole)).unwrap();
        // Moves the index to the front, so that a cut hits the frames.
        let (mdat, moov) = (find(&whole, *b"mdat"), find(&whole, *b"moov"));
        assert!(mdat < moov);
        let mut front = whole.clone();
        let stco = find(&whole, *b"stco");
        for i in 0..be32(&whole, stco + 12) {
            let at = stco + 16 + 4 * i;
            let to = be32(&whole, at) + whole.len() - moov;
            front[at..at + 4].copy_from_slice(&u32::try_from(to).unwrap().to_be_bytes());
        }
        let front = [&front[..mdat], &front[moov..], &front[mdat..moov]].concat();
        assert_eq!(decode(&save(&dir, &front)).unwrap(), all);
        let mut last = 0;
        for percent in [40, 60, 80, 95] {
            let cut = &front[..front.len() * percent / 100];
            let some = decode(&save(&dir, cut)).unwrap_or_default();
            assert!(
                some.len() >= last && some.len() <= FRAMES,
                "{codec:?} {percent}"
            );
            // MPEG-4 shows the last frame as far as its data goes.
            let sure = some.len().saturating_sub(1);
            assert_eq!(some[..sure], all[..sure], "{codec:?} {percent}");
            last = some.len();
        }
        assert!(last > FRAMES / 2, "{codec:?} {last}");
    }
}

#[test]
fn an_edit_shows_its_part_to_the_tick() {
    let dir = TempDir::new().unwrap();
    for codec in [Codec::H264, Codec::Mpeg4] {
        let whole = clip(&dir, codec);
        let movie = be32(&whole, find(&whole, *b"mvhd") + 20);
        let media = be32(&whole, find(&whole, *b"mdhd") + 20);
        let fps = FPS as usize;
        let all = decode(&save(&dir, &with_edit(&whole, 10 * movie, 0))).unwrap();
        let shift = FRAMES - all.len();
        assert_eq!(shift, 0);
        for (from, count) in [(0, 9), (5, 7), (13, 4)] {
            let edited = with_edit(&whole, count * movie / fps, from * media / fps);
            let part = decode(&save(&dir, &edited)).unwrap();
            // An offset of the composition times moves the part but keeps its length.
            assert_eq!(part.len(), count, "{codec:?} {from}");
            let begin = all.iter().position(|f| *f == part[0]).unwrap();
            assert!(begin <= from, "{codec:?} {from}");
            assert_eq!(part[..], all[begin..begin + count], "{codec:?} {from}");
        }
    }
}

#[test]
fn a_turned_track_is_shown_upright() {
    let dir = TempDir::new().unwrap();
    let whole = clip(&dir, Codec::H264);
    let upright = decode(&save(&dir, &whole)).unwrap();
    let matrix = find(&whole, *b"tkhd") + 8 + 40;
    for (a, b, c, d, turns) in [
        (0, 1, -1, 0, true),
        (-1, 0, 0, -1, false),
        (0, -1, 1, 0, true),
    ] {
        let mut turned = whole.clone();
        for (i, cell) in [(0, a), (1, b), (3, c), (4, d)] {
            let at = matrix + 4 * i;
            turned[at..at + 4].copy_from_slice(&(cell * 0x1_0000_i32).to_be_bytes());
        }
        let frames = decode(&save(&dir, &turned)).unwrap();
        assert_eq!(frames.len(), FRAMES);
        let size = if turns { (112, 160) } else { (160, 112) };
        assert!(frames.iter().all(|f| (f.0, f.1) == size));
        assert!(frames.iter().zip(&upright).all(|(f, u)| f.2 != u.2));
    }
}

#[test]
fn what_is_no_clip_is_refused_at_once() {
    let dir = TempDir::new().unwrap();
    let reason = |path: &Path| {
        let reason = decode(path).unwrap_err();
        assert!(!reason.contains("clip timeout"), "{reason}");
        reason
    };
    assert!(reason(&save(&dir, b"")).contains("empty"));
    assert!(!reason(&save(&dir, &[0x5a; 5000])).is_empty());
    assert!(!reason(&save(&dir, b"\0\0\0\x18ftypisom\0\0\0\0isomiso2")).is_empty());
    assert!(reason(Path::new("/dev/zero")).contains("not a regular file"));
    assert!(reason(dir.path()).contains("not a regular file"));
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    assert!(reason(&fifo).contains("not a regular file"));
    // A file with sound only: the handler of its only track is renamed.
    let mut sound = clip(&dir, Codec::H264);
    let hdlr = find(&sound, *b"hdlr");
    sound[hdlr + 16..hdlr + 20].copy_from_slice(b"soun");
    assert!(!reason(&save(&dir, &sound)).is_empty());
}

#[test]
fn broken_files_leave_nothing_open() {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let dir = TempDir::new().unwrap();
    let whole = clip(&dir, Codec::H264);
    // Other tests run in the same process. Only growth with the number of opens shows a leak.
    let run = |n: usize| {
        for i in 0..n {
            let mut broken = whole.clone();
            broken.truncate(whole.len() * (i % 10 + 1) / 11);
            let len = broken.len();
            broken[len / 2..len / 2 + 20].fill(0xa5);
            decode(&save(&dir, &broken)).ok();
        }
    };
    run(5);
    let before = (count("task"), count("fd"));
    run(50);
    let after = (count("task"), count("fd"));
    assert!(
        after.0 < before.0 + 25 && after.1 < before.1 + 25,
        "{before:?} {after:?}"
    );
}
