//! The first video track of an MP4 file: frame count, rotation and edit list, as FFmpeg's demuxer reads them for the
//! notebook. GStreamer gives no count and cuts at the edit's end in rounded nanoseconds. It reads everything else.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Number of top-level boxes that are read; a fragmented clip has about two per second.
const BOXES_MAX: usize = 20_000;
/// Largest index: a wrong box size must not exhaust the memory.
const MOOV_BYTES_MAX: u64 = 64 << 20;

/// The first video track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoTrack {
    /// Sum of the sample counts of the time-to-sample table, else of the fragments.
    pub frames: u64,
    /// Their total duration in ticks, and ticks per second; `None` without a time-to-sample table.
    pub length: Option<(u64, u32)>,
    /// Clockwise quarter turns that make the picture upright, 0..=3.
    pub quarter_turns: u8,
    /// The part of the track that is shown.
    pub edits: EditList,
    /// File positions and replacement bytes that hide the edit list, other tracks and the declared end of the media; none
    /// for a track of several edits.
    pub patches: Vec<(u64, [u8; 4])>,
    /// File position of media data that the end of the file cuts off.
    pub cut_off_from: Option<u64>,
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

/// A track's edit list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EditList {
    /// The whole track is shown.
    #[default]
    None,
    /// One part is shown.
    One(Edit),
    /// Several parts, one after another; left to GStreamer.
    Several,
}

/// Frames whose time lies in `start..end` are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// First time, in ticks.
    pub start: u64,
    /// Time after the last, in ticks.
    pub end: u64,
    /// Ticks per second.
    pub timescale: u32,
}

impl Edit {
    /// Whether a frame at `nanoseconds` of media time is shown.
    #[must_use]
    pub fn shows(&self, nanoseconds: u64) -> bool {
        let ticks =
            (u128::from(nanoseconds) * u128::from(self.timescale) + 500_000_000) / 1_000_000_000;
        ticks >= u128::from(self.start) && ticks < u128::from(self.end)
    }
}

/// A top-level box of a file.
struct FileBox {
    kind: [u8; 4],
    /// Position of its content.
    at: u64,
    /// Bytes of its content as declared, also those behind the end of the file.
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
/// When the file cannot be read.
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
        if track.frames == 0 {
            track.frames = in_fragments;
        }
    }
    Ok(track)
}

/// Sets the dates of a whole MP4 file to 0, which means unknown.
///
/// # Errors
/// When the file cannot be read or written.
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

/// Position of `part` in `whole`, which it borrows from.
fn position(whole: &[u8], part: &[u8]) -> u64 {
    let from = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    from as u64
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

/// Boxes of one level: type and content; ends at the first box that does not fit.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (size, skip) = match be32(bytes, 0)? {
            0 => (bytes.len(), 8),
            1 => (usize::try_from(be64(bytes, 8)?).ok()?, 16),
            n => (n as usize, 8),
        };
        let kind = bytes.get(4..8)?;
        // A box that is cut off still counts as far as it goes.
        let content = bytes.get(skip..size.min(bytes.len()))?;
        bytes = bytes.get(size..).unwrap_or(&[]);
        Some((kind, content))
    })
}

fn child<'a>(bytes: &'a [u8], kind: &[u8]) -> Option<&'a [u8]> {
    boxes(bytes)
        .find(|(k, _)| *k == kind)
        .map(|(_, content)| content)
}

fn video_track(moov: &[u8]) -> Option<VideoTrack> {
    let movie_timescale = child(moov, b"mvhd").and_then(timescale);
    boxes(moov)
        .filter(|(kind, _)| *kind == b"trak")
        .find_map(|(_, trak)| {
            let mdia = child(trak, b"mdia")?;
            if child(mdia, b"hdlr")?.get(8..12)? != b"vide" {
                return None;
            }
            let stbl = child(child(mdia, b"minf")?, b"stbl")?;
            let (frames, ticks) = child(stbl, b"stts").map_or((0, 0), sample_times);
            let timescale = child(mdia, b"mdhd").and_then(timescale);
            let tkhd = child(trak, b"tkhd").unwrap_or(&[]);
            let edts = child(trak, b"edts");
            let elst = edts.and_then(|edts| child(edts, b"elst"));
            let lead = child(stbl, b"ctts").map_or(0, composition_lead);
            let edits = elst
                .zip(movie_timescale.zip(timescale))
                .map_or(EditList::None, |(elst, (movie, media))| {
                    edits(elst, movie, media, lead)
                });
            Some(VideoTrack {
                frames,
                length: timescale.filter(|_| ticks > 0).map(|t| (ticks, t)),
                quarter_turns: rotation(tkhd).unwrap_or(0),
                edits,
                patches: if edits == EditList::Several {
                    Vec::new()
                } else {
                    patches(moov, trak, frames > 0)
                },
                cut_off_from: None,
                id: be32(tkhd, if tkhd.first() == Some(&1) { 20 } else { 12 }).unwrap_or(0),
            })
        })
}

/// Patches that hide what keeps the demuxer from the track's samples: its edit list, other tracks, and with `has_samples`
/// the durations in the headers (the demuxer counts fragments itself).
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

/// Largest time, in ticks, by which a picture is shown before it is decoded: GStreamer shifts all times by it.
fn composition_lead(ctts: &[u8]) -> u64 {
    let entries = be32(ctts, 4).unwrap_or(0) as usize;
    let rows = ctts.get(8..).unwrap_or(&[]).chunks_exact(8).take(entries);
    #[expect(clippy::cast_possible_wrap, reason = "offsets are signed")]
    let least = rows.filter_map(|row| be32(row, 4)).map(|v| v as i32).min();
    least.map_or(0, |v| u64::from(v.min(0).unsigned_abs()))
}

/// Ticks per second of a movie or media header.
fn timescale(header: &[u8]) -> Option<u32> {
    be32(header, if *header.first()? == 1 { 20 } else { 12 }).filter(|t| *t > 0)
}

/// The edits that show media, in media ticks from `lead` on; a length is given in movie ticks and rounded to the
/// nearest.
fn edits(elst: &[u8], movie_timescale: u32, timescale: u32, lead: u64) -> EditList {
    let is_wide = elst.first() == Some(&1);
    let count = be32(elst, 4).unwrap_or(0) as usize;
    let rows = elst
        .get(8..)
        .unwrap_or(&[])
        .chunks_exact(if is_wide { 20 } else { 12 })
        .take(count);
    let mut shown = rows.filter_map(|row| {
        #[expect(
            clippy::cast_possible_wrap,
            reason = "-1 marks an edit that shows nothing"
        )]
        let (length, start) = if is_wide {
            (be64(row, 0)?, be64(row, 8)? as i64)
        } else {
            (u64::from(be32(row, 0)?), i64::from(be32(row, 4)? as i32))
        };
        let (movie, media) = (u128::from(movie_timescale), u128::from(timescale));
        let ticks = u64::try_from((u128::from(length) * media + movie / 2) / movie).ok()?;
        let start = u64::try_from(start).ok()?.checked_add(lead)?;
        (length > 0).then_some(Edit {
            start,
            end: start.checked_add(ticks)?,
            timescale,
        })
    });
    match (shown.next(), shown.next()) {
        (None, _) => EditList::None,
        (Some(edit), None) => EditList::One(edit),
        _ => EditList::Several,
    }
}

/// Sums of the counts and of the ticks of a time-to-sample table, up to its actual end.
fn sample_times(stts: &[u8]) -> (u64, u64) {
    let entries = be32(stts, 4).unwrap_or(0) as usize;
    let rows = stts.get(8..).unwrap_or(&[]).chunks_exact(8).take(entries);
    let rows = rows.filter_map(|row| be32(row, 0).zip(be32(row, 4)));
    rows.fold((0, 0), |(frames, ticks), (count, delta)| {
        let (count, delta) = (u64::from(count), u64::from(delta));
        (frames + count, ticks.saturating_add(count * delta))
    })
}

/// Quarter turns of a track header's matrix; other angles count as none, as for OpenCV.
fn rotation(tkhd: &[u8]) -> Option<u8> {
    let matrix = if *tkhd.first()? == 1 { 52 } else { 40 };
    #[expect(clippy::cast_possible_wrap, reason = "16.16 fixed point is signed")]
    let cell = |i: usize| be32(tkhd, matrix + 4 * i).map(|v| f64::from(v as i32));
    let (a, b, c, d) = (cell(0)?, cell(1)?, cell(3)?, cell(4)?);
    let length = |x: f64, y: f64| (x * x + y * y).sqrt();
    let (scale_x, scale_y) = (length(a, c), length(b, d));
    if scale_x == 0.0 || scale_y == 0.0 {
        return Some(0);
    }
    let degrees = (b / scale_y).atan2(a / scale_x).to_degrees().round();
    Some(match degrees.rem_euclid(360.0) {
        90.0 => 1,
        180.0 => 2,
        270.0 => 3,
        _ => 0,
    })
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests;
