//! Checks whether SQLite's write-ahead log has transactions after a damaged one. SQLite reads the log up to the first
//! frame whose checksum is wrong and silently drops the rest: a log whose last write was cut off ends in this way.

use std::io::{self, BufReader, Read};

/// Sizes of the header of a log and of a frame, in bytes.
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Magic number of a log. Its last bit means that the checksums read big-endian words.
const MAGIC: u32 = 0x377f_0682;
/// Page sizes that SQLite allows, in bytes.
const PAGE_BYTES: std::ops::RangeInclusive<usize> = 512..=65536;

/// The running checksum of a log.
#[derive(Clone, Copy, Default)]
struct Checksum {
    first: u32,
    second: u32,
    is_big_endian: bool,
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for two in bytes.as_chunks::<4>().0.as_chunks::<2>().0 {
            let [x, y] = two.map(|word| {
                if self.is_big_endian {
                    u32::from_be_bytes(word)
                } else {
                    u32::from_le_bytes(word)
                }
            });
            self.first = self.first.wrapping_add(x).wrapping_add(self.second);
            self.second = self.second.wrapping_add(y).wrapping_add(self.first);
        }
    }

    fn is(self, bytes: &[u8], at: usize) -> bool {
        (self.first, self.second) == (word(bytes, at), word(bytes, at + 4))
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk);
    four.copied().map_or(0, u32::from_be_bytes)
}

/// Whether SQLite drops a whole transaction of the log. A transaction that is cut off was never committed.
pub(super) fn loses_transactions(log: impl Read) -> io::Result<bool> {
    let mut log = BufReader::new(log);
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(false);
    }
    let mut sum = Checksum {
        is_big_endian: word(&header, 0) & 1 == 1,
        ..Checksum::default()
    };
    sum.add(&header[..24]);
    let page = word(&header, 8) as usize;
    if word(&header, 0) & !1 != MAGIC || !PAGE_BYTES.contains(&page) || !sum.is(&header, 24) {
        // The header is on the medium before the first frame.
        let mut frame = vec![0; FRAME_HEADER + PAGE_BYTES.start()];
        return fill(&mut log, &mut frame);
    }
    let mut frame = vec![0; FRAME_HEADER + page];
    let mut is_sound = true;
    while fill(&mut log, &mut frame)? {
        let salts = [8, 12].map(|at| word(&frame, at) == word(&header, at + 8));
        // Frames of an earlier use of the log follow; both of their salts differ.
        if salts == [false; 2] {
            break;
        }
        if is_sound {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER..]);
            is_sound = salts == [true; 2] && sum.is(&frame, 16);
        }
        // Only the last frame of a transaction holds the size of the database.
        if !is_sound && word(&frame, 4) != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Fills `bytes`; `false` when the file ends first.
fn fill(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ledger::{LEDGER_NAME, Ledger};
    use std::fs;

    #[test]
    fn a_changed_frame_before_a_commit_loses_transactions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("{LEDGER_NAME}-wal"));
        let mut ledger = Ledger::open(dir.path()).unwrap();
        for n in 0..4 {
            let value = n.to_string();
            ledger.set_metadata("a", Some(&value)).unwrap();
        }
        let log = fs::read(&path).unwrap();
        let frame = FRAME_HEADER + word(&log, 8) as usize;
        let frames = (log.len() - HEADER) / frame;
        assert!(frames > 4);
        assert!(!loses_transactions(&log[..]).unwrap());
        // Each bit of the headers, and one of each page.
        let headers = (0..frames).flat_map(|n| {
            let at = HEADER + n * frame;
            (at..at + FRAME_HEADER).chain([at + FRAME_HEADER + 100])
        });
        for at in (0..HEADER).chain(headers) {
            for bit in 0..8 {
                let mut changed = log.clone();
                changed[at] ^= 1 << bit;
                // The log's version is not covered by what is read here; a commit that is marked as none is its own
                // end.
                let is_last_mark = at >= log.len() - frame + 4 && at < log.len() - frame + 8;
                assert!(
                    loses_transactions(&changed[..]).unwrap() || is_last_mark,
                    "byte {at}"
                );
            }
        }
        // A write that was cut off loses nothing that was committed.
        for length in 0..log.len() {
            assert!(!loses_transactions(&log[..length]).unwrap(), "{length}");
        }
    }
}
