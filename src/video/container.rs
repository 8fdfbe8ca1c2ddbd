//! The first video track of an MP4 file: frame count, rotation and edit list, as FFmpeg's demuxer reads them for the
//! notebook. GStreamer gives no count and cuts at the edit's end in rounded nanoseconds. It reads everything else.

mod boxes;
mod edit_list;
mod other;
mod rotation;
mod samples;

use crate::dataset::clip_note::ClipNote;
use boxes::{be32, be64, boxes, child, position, rows};
pub use edit_list::Packet;
pub use other::{AviFrameFormat, other_track};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Number of top-level boxes that are read; a fragmented clip has about two per second.
const BOXES_MAX: usize = 20_000;
/// Largest index: a wrong box size must not exhaust the memory.
const MOOV_BYTES_MAX: u64 = 64 << 20;

/// The first video track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoTrack {
    /// Sum of the sample counts of the time-to-sample table, else of the fragments; of an AVI file the count in its
    /// header. 0 when it is unknown.
    pub frames: u64,
    /// Total duration of the frames in ticks, and ticks per second; `None` without a time-to-sample table.
    pub length: Option<(u64, u32)>,
    /// Clockwise quarter turns that make the picture upright, 0..=3.
    pub quarter_turns: u8,
    /// What the edit list sends to the decoder; `None` when each sample is decoded and shown once, in order.
    pub packets: Option<Arc<[Packet]>>,
    /// Notes on how the container's frames are read.
    pub notes: BTreeSet<ClipNote>,
    /// File positions and replacement bytes that hide the edit list, other tracks and the declared end of the media.
    pub patches: Vec<(u64, [u8; 4])>,
    /// The pictures of an AVI file.
    pub avi: Option<AviFrameFormat>,
    /// File position of media data that the end of the file may cut off.
    pub cut_off_from: Option<u64>,
    /// Number of bytes that the container has after each packet.
    pub trailer: usize,
    id: u32,
}

impl VideoTrack {
    /// Average frames per second; `None` without a time-to-sample table.
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let (ticks, timescale) = self.length?;
        Some(self.frames as f64 * f64::from(timescale) / ticks as f64)
    }
}

/// A top-level box of a file.
struct FileBox {
    kind: [u8; 4],
    /// Position of its content.
    at: u64,
    /// Number of bytes of its content as declared, which may exceed the file.
    size: u64,
}

impl FileBox {
    fn read(&self, file: &mut (impl Read + Seek)) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.at))?;
        file.take(self.size.min(MOOV_BYTES_MAX))
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The top-level boxes of a file of `length` bytes; ends at the first that does not fit.
fn file_boxes(file: &mut (impl Read + Seek), length: u64) -> io::Result<Vec<FileBox>> {
    let mut found = Vec::new();
    let mut at = 0_u64;
    while found.len() < BOXES_MAX && at.saturating_add(8) <= length {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; 16];
        let have = if length - at >= 16 { 16 } else { 8 };
        file.read_exact(&mut header[..have])?;
        let (size, skip) = match be32(&header, 0).map_or(0, u64::from) {
            0 => (length - at, 8),
            1 => (be64(&header, 8).unwrap_or(0), 16),
            size => (size, 8),
        };
        let Some(content) = size.checked_sub(skip) else {
            break;
        };
        found.push(FileBox {
            kind: [header[4], header[5], header[6], header[7]],
            at: at + skip,
            size: content,
        });
        at = at.saturating_add(size);
    }
    Ok(found)
}

/// Reads the index of an MP4 or MOV file; `None` for another file or one without a video track.
///
/// # Errors
/// Fails when the file cannot be read.
pub fn first_video_track(file: &mut (impl Read + Seek)) -> io::Result<Option<VideoTrack>> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut cut_off_from = None;
    let mut track: Option<VideoTrack> = None;
    let mut in_fragments = 0;
    for found in file_boxes(file, length)? {
        match (&found.kind, &mut track) {
            (b"mdat", _) if found.size > length - found.at => cut_off_from = Some(found.at),
            (b"moov", track @ None) => {
                *track = video_track(&found.read(file)?);
                for (from, _) in track.iter_mut().flat_map(|t| &mut t.patches) {
                    *from += found.at;
                }
            }
            (b"moof", Some(track)) => {
                in_fragments += fragment_count(&found.read(file)?, track.id);
            }
            _ => {}
        }
    }
    if let Some(track) = &mut track {
        track.cut_off_from = cut_off_from;
        if cut_off_from.is_some() {
            track.notes.insert(ClipNote::CutOffFile);
        }
        if track.frames == 0 {
            track.frames = in_fragments;
        }
    }
    Ok(track)
}

/// Sets the dates of a whole MP4 file to 0, which means unknown.
///
/// # Errors
/// Fails when the file cannot be read or written.
pub(super) fn clear_dates(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let indexes = file_boxes(file, length)?;
    for index in indexes.iter().filter(|found| found.kind == *b"moov") {
        let moov = index.read(file)?;
        for header in headers(&moov) {
            // After version and flags; two dates of 8 bytes in version 1, of 4 in version 0.
            let dates = if header.first() == Some(&1) { 16 } else { 8 };
            let at = index.at + position(&moov, header) + 4;
            if header.len() >= 4 + dates {
                file.write_all_at(&[0; 16][..dates], at)?;
            }
        }
    }
    Ok(())
}

/// The contents of all boxes of an index that begin with version, flags, time of creation and time of modification.
fn headers(moov: &[u8]) -> impl Iterator<Item = &[u8]> {
    let tracks = boxes(moov).filter(|(kind, _)| *kind == b"trak");
    let in_tracks = tracks.flat_map(|(_, trak)| {
        let mdhd = child(trak, b"mdia").and_then(|mdia| child(mdia, b"mdhd"));
        [child(trak, b"tkhd"), mdhd]
    });
    in_tracks.chain([child(moov, b"mvhd")]).flatten()
}

/// Number of samples of track `id` in a fragment.
fn fragment_count(moof: &[u8], id: u32) -> u64 {
    let of_track = boxes(moof).filter(|(kind, traf)| {
        *kind == b"traf" && child(traf, b"tfhd").and_then(|t| be32(t, 4)) == Some(id)
    });
    let runs = of_track.flat_map(|(_, traf)| boxes(traf).filter(|(kind, _)| *kind == b"trun"));
    runs.filter_map(|(_, trun)| be32(trun, 4))
        .map(u64::from)
        .sum()
}

/// Whether a file that begins with these bytes is an MP4 or MOV file, also an incomplete one.
#[must_use]
pub fn is_mp4(head: &[u8; 8]) -> bool {
    const KINDS: [&[u8]; 10] = [
        b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx",
    ];
    KINDS.contains(&&head[4..8])
}

fn video_track(moov: &[u8]) -> Option<VideoTrack> {
    let movie_timescale = child(moov, b"mvhd").and_then(timescale);
    // FFmpeg knows only what the movie header states before the track.
    let mut mvhd: &[u8] = &[];
    boxes(moov).find_map(|(kind, trak)| {
        if kind == b"mvhd" {
            mvhd = trak;
        }
        if kind != b"trak" {
            return None;
        }
        let mdia = child(trak, b"mdia")?;
        if child(mdia, b"hdlr")?.get(8..12)? != b"vide" {
            return None;
        }
        let stbl = child(child(mdia, b"minf")?, b"stbl")?;
        let (frames, ticks) = child(stbl, b"stts").map_or((0, 0), sample_times);
        let timescale = child(mdia, b"mdhd").and_then(timescale);
        let tkhd = child(trak, b"tkhd").unwrap_or(&[]);
        let elst = child(trak, b"edts").and_then(|edts| child(edts, b"elst"));
        let packets = elst
            .zip(movie_timescale.zip(timescale))
            .map_or(Ok(None), |(elst, scales)| {
                edit_list::packets(elst, stbl, scales)
            });
        let note = match &packets {
            Err(_) => Some(ClipNote::LongEditList),
            Ok(Some(_)) if elst.is_some_and(edit_list::is_several) => Some(ClipNote::SeveralEdits),
            Ok(_) => None,
        };
        Some(VideoTrack {
            frames,
            length: timescale.filter(|_| ticks > 0).map(|t| (ticks, t)),
            quarter_turns: rotation::quarter_turns(tkhd, mvhd),
            notes: note.into_iter().collect(),
            packets: packets.unwrap_or_default().map(Arc::from),
            avi: None,
            patches: patches(moov, trak, frames > 0),
            cut_off_from: None,
            trailer: 0,
            id: be32(tkhd, if tkhd.first() == Some(&1) { 20 } else { 12 }).unwrap_or(0),
        })
    })
}

/// Patches that hide what keeps the demuxer from the track's samples: its edit list, other tracks, and with
/// `has_samples` the durations in the headers (the demuxer counts fragments itself).
fn patches(moov: &[u8], trak: &[u8], has_samples: bool) -> Vec<(u64, [u8; 4])> {
    let mut out = Vec::new();
    let mut put = |content: &[u8], offset: i64, bytes: [u8; 4]| {
        out.push((position(moov, content).saturating_add_signed(offset), bytes));
    };
    // A box's type stands right before its content.
    for (kind, content) in boxes(moov) {
        if kind == b"trak" && content.as_ptr() != trak.as_ptr() {
            put(content, -4, *b"free");
        }
    }
    if let Some(edts) = child(trak, b"edts") {
        put(edts, -4, *b"free");
    }
    let mdhd = child(trak, b"mdia").and_then(|m| child(m, b"mdhd"));
    for header in [child(moov, b"mvhd"), mdhd].into_iter().flatten() {
        match header {
            [0, rest @ ..] if has_samples && rest.len() > 18 => {
                put(header, 16, [0x7f, 0xff, 0xff, 0xff]);
            }
            [1, rest @ ..] if has_samples && rest.len() > 30 => put(header, 24, [0, 0, 0, 1]),
            _ => {}
        }
    }
    out
}

/// Ticks per second of a movie or media header.
fn timescale(header: &[u8]) -> Option<u32> {
    be32(header, if *header.first()? == 1 { 20 } else { 12 }).filter(|t| *t > 0)
}

/// Sums of the counts and of the ticks of a time-to-sample table, up to its actual end.
fn sample_times(stts: &[u8]) -> (u64, u64) {
    let rows = rows(stts, 8).filter_map(|row| be32(row, 0).zip(be32(row, 4)));
    rows.fold((0, 0), |(frames, ticks), (count, delta)| {
        let (count, delta) = (u64::from(count), u64::from(delta));
        (frames + count, ticks.saturating_add(count * delta))
    })
}

#[cfg(test)]
mod tests;
