//! Parameter sets in front of a stream that was cut in the middle. FFmpeg searches the stream for them before it
//! decodes, so that OpenCV shows the frames before the first set; a parser of GStreamer drops these frames.

use super::PipelineShared;
use crate::dataset::clip_note::ClipNote;
use crate::video::file_source::FileSource;
use gstreamer as gst;
use gstreamer::prelude::*;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum bytes of a stream that are searched, as FFmpeg's `probesize`.
const SEARCHED_BYTES_MAX: usize = 5_000_000;
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A codec whose streams hold parameter sets, by the name of its parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    H264,
    H265,
    Mpeg4,
}

/// The kind of unit after a start code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// A parameter set; `true` for the one without which the decoder does not start.
    Set(bool),
    Frame,
    Other,
}

impl Codec {
    fn of_parser(name: &str) -> Option<Self> {
        match name {
            "h264parse" => Some(Self::H264),
            "h265parse" => Some(Self::H265),
            "mpeg4videoparse" => Some(Self::Mpeg4),
            _ => None,
        }
    }

    fn unit(self, first: u8) -> Unit {
        match (self, first & 0x1f, first >> 1 & 0x3f, first) {
            (Self::H264, 7, ..) | (Self::H265, _, 33, _) | (Self::Mpeg4, .., 0x20..=0x2f) => {
                Unit::Set(true)
            }
            (Self::H264, 8, ..)
            | (Self::H265, _, 32 | 34, _)
            | (Self::Mpeg4, .., 0x00..=0x1f | 0xb0 | 0xb2 | 0xb5) => Unit::Set(false),
            (Self::H264, 1..=5, ..) | (Self::H265, _, 0..=31, _) | (Self::Mpeg4, .., 0xb6) => {
                Unit::Frame
            }
            _ => Unit::Other,
        }
    }
}

/// Finds the first parameter sets of a stream.
struct Search {
    codec: Codec,
    bytes: Vec<u8>,
    /// Where the last start code is, and from where the next one is searched.
    unit: Option<usize>,
    searched: usize,
    /// The sets, each with its start code.
    sets: Vec<u8>,
    has_main: bool,
    is_behind_frame: bool,
}

impl Search {
    fn new(codec: Codec) -> Self {
        Self {
            codec,
            bytes: Vec::new(),
            unit: None,
            searched: 0,
            sets: Vec::new(),
            has_main: false,
            is_behind_frame: false,
        }
    }

    /// Takes more of the stream. When the search is over, it returns the sets that the stream lacks at its start,
    /// which may be none.
    fn add(&mut self, more: &[u8]) -> Option<Vec<u8>> {
        self.bytes.extend_from_slice(more);
        while let Some(at) = self.bytes[self.searched..]
            .windows(4)
            .position(|four| four.starts_with(&[0, 0, 1]))
            .map(|at| at + self.searched)
        {
            if let Some(from) = self.unit {
                self.take(from, at);
            }
            self.unit = Some(at);
            self.searched = at + 3;
            // A picture ends the sets in front of it.
            let begins = self.bytes.get(at + 3).map(|first| self.codec.unit(*first));
            if begins == Some(Unit::Frame) {
                if self.has_main {
                    let sets = std::mem::take(&mut self.sets);
                    return Some(if self.is_behind_frame {
                        sets
                    } else {
                        Vec::new()
                    });
                }
                self.is_behind_frame = true;
            }
        }
        self.searched = self.searched.max(self.bytes.len().saturating_sub(3));
        (self.bytes.len() > SEARCHED_BYTES_MAX).then(Vec::new)
    }

    /// Takes the unit between two start codes.
    fn take(&mut self, from: usize, to: usize) {
        let unit = &self.bytes[from + 3..to];
        if let Some(first) = unit.first()
            && let Unit::Set(is_main) = self.codec.unit(*first)
        {
            self.has_main |= is_main;
            self.sets.extend_from_slice(&[0, 0, 0, 1]);
            // Zeros may stand in front of the next start code.
            let end = unit.iter().rposition(|byte| *byte != 0);
            self.sets
                .extend_from_slice(&unit[..end.map_or(1, |end| end + 1)]);
        }
    }
}

/// A source of `file`, which the parser of this name reads, with the sets that the stream lacks at its start.
pub(super) fn source(file: File, parser: &str, shared: &PipelineShared) -> io::Result<FileSource> {
    let Some(codec) = Codec::of_parser(parser) else {
        return Ok(FileSource::new(file, Vec::new()));
    };
    let (mut search, mut chunk, mut at) = (Search::new(codec), vec![0; CHUNK_BYTES], 0);
    let sets = loop {
        match file.read_at(&mut chunk, at) {
            Ok(0) => break Vec::new(),
            Ok(count) => {
                at += count as u64;
                if let Some(sets) = search.add(&chunk[..count]) {
                    break sets;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    // FFmpeg makes the first frames of MPEG-4 up in another way.
    if codec == Codec::Mpeg4 && !sets.is_empty() {
        shared.notes().insert(ClipNote::MissingReferences);
    }
    Ok(FileSource::new(file, sets))
}

/// Packets that wait until the parameter sets are found.
struct Waiting {
    search: Search,
    packets: Vec<gst::Buffer>,
    is_over: bool,
}

/// Puts the sets that the stream of `caps` lacks at its start in front of the first packet that leaves `output` for
/// `parser`.
///
/// GStreamer's demuxers begin at another place of such a stream than FFmpeg's. The difference shows where frames
/// without their references are shown.
pub(super) fn put_first(
    output: &gst::Pad,
    caps: &gst::CapsRef,
    parser: &gst::Element,
    shared: &Arc<PipelineShared>,
) {
    let name = parser.factory().map(|factory| factory.name().to_string());
    let Some(codec) = name.as_deref().and_then(Codec::of_parser) else {
        return;
    };
    let fields = caps.structure(0);
    // Packets with lengths have their sets in `codec_data`.
    if fields.is_some_and(|fields| fields.has_field("codec_data")) {
        return;
    }
    let shared = Arc::clone(shared);
    let waiting = Mutex::new(Waiting {
        search: Search::new(codec),
        packets: Vec::new(),
        is_over: false,
    });
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    output.add_probe(kinds, move |pad, info| {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_over {
            return gst::PadProbeReturn::Ok;
        }
        let sets = match &info.data {
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Eos => {
                Some(Vec::new())
            }
            Some(gst::PadProbeData::Buffer(packet)) => match packet.map_readable() {
                Ok(bytes) => waiting.search.add(&bytes),
                Err(_) => Some(Vec::new()),
            },
            _ => return gst::PadProbeReturn::Ok,
        };
        let is_packet = matches!(info.data, Some(gst::PadProbeData::Buffer(_)));
        if is_packet && let Some(gst::PadProbeData::Buffer(packet)) = info.data.take() {
            waiting.packets.push(packet);
        }
        if let Some(sets) = sets {
            waiting.is_over = true;
            waiting.search.bytes = Vec::new();
            if codec != Codec::H264 && !sets.is_empty() {
                shared.notes().insert(ClipNote::MissingReferences);
            }
            let mut packets = std::mem::take(&mut waiting.packets);
            drop(waiting);
            if let (false, Some(first)) = (sets.is_empty(), packets.first_mut()) {
                first
                    .make_mut()
                    .prepend_memory(gst::Memory::from_slice(sets));
            }
            if let Some(next) = pad.peer() {
                let mut sent = packets.into_iter().map(|packet| next.chain(packet));
                info.flow_res = sent
                    .find(Result::is_err)
                    .unwrap_or(Ok(gst::FlowSuccess::Ok));
            }
        }
        if is_packet {
            gst::PadProbeReturn::Handled
        } else {
            gst::PadProbeReturn::Ok
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(kinds: &[u8]) -> Vec<u8> {
        let units = kinds.iter().map(|kind| [0, 0, 0, 1, *kind, 0x81, 0x82]);
        units.flatten().collect()
    }

    #[test]
    fn parameter_sets_are_found_behind_slices() {
        for (codec, slice, sets) in [
            (Codec::H264, 0x41, &[0x67, 0x68][..]),
            (Codec::H265, 0x02, &[0x40, 0x42, 0x44]),
            (Codec::Mpeg4, 0xb6, &[0xb0, 0xb5, 0x00, 0x20]),
        ] {
            let cut = units(&[&[slice, slice], sets, &[slice]].concat());
            let whole = units(&[sets, &[slice]].concat());
            // The result does not depend on the size of the pieces.
            for size in 1..cut.len() {
                let find = |stream: &[u8]| {
                    let mut search = Search::new(codec);
                    stream.chunks(size).find_map(|piece| search.add(piece))
                };
                assert_eq!(find(&cut), Some(units(sets)), "{codec:?} {size}");
                assert_eq!(find(&whole), Some(Vec::new()), "{codec:?} {size}");
                assert_eq!(find(&cut[..14]), None, "{codec:?} {size}");
            }
        }
    }
}
