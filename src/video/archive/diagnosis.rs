//! Explains why a file is no readable zip archive, from its first and last bytes.

use crate::dataset::advice;
use crate::dataset::file_kind::FileKind;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of the file's start that are examined.
const HEAD_BYTES: u64 = 16 * 1024;

/// Bytes of the file's end that are examined: the end record with the longest comment, twice.
const TAIL_BYTES: u64 = 128 * 1024;

/// Bytes of an end record without its comment.
const END_RECORD_BYTES: usize = 22;

/// Bytes of the locator before the end record, and of the shortest 64-bit end record before that.
const LOCATOR_BYTES: usize = 20;
const END_RECORD_64_BYTES: usize = 56;

/// The first and last bytes of a file.
pub(super) struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// What the record at the end of a zip archive states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EndRecord {
    /// Number of the part, from 0, in an archive of several.
    part: u16,
    /// Files and folders in the archive.
    entries: u64,
}

impl Ends {
    /// Reads the first and last bytes of `file`.
    pub(super) fn of(mut file: &File) -> io::Result<Self> {
        let mut ends = Self {
            head: Vec::new(),
            tail: Vec::new(),
        };
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        file.take(TAIL_BYTES).read_to_end(&mut ends.tail)?;
        file.seek(SeekFrom::Start(0))?;
        file.take(HEAD_BYTES).read_to_end(&mut ends.head)?;
        Ok(ends)
    }

    /// Number of files and folders that the archive states; 0 when the file is no archive.
    pub(super) fn entries(&self) -> u64 {
        self.end_record().map_or(0, |record| record.entries)
    }

    fn end_record(&self) -> Option<EndRecord> {
        let tail = &self.tail;
        let starts = (0..(tail.len() + 1).saturating_sub(END_RECORD_BYTES)).rev();
        let at = { starts }.find(|at| tail[*at..].starts_with(b"PK\x05\x06"))?;
        let number = |at: usize| Some(u16::from_le_bytes(*tail.get(at..)?.first_chunk()?));
        let record = EndRecord {
            part: number(at + 4)?,
            entries: u64::from(number(at + 10)?),
        };
        let entries_64 = || {
            let locator = at.checked_sub(LOCATOR_BYTES)?;
            let record = locator.checked_sub(END_RECORD_64_BYTES)?;
            let is_there = tail[locator..].starts_with(b"PK\x06\x07")
                && tail[record..].starts_with(b"PK\x06\x06");
            let entries = is_there.then(|| tail.get(record + 32..))?;
            Some(u64::from_le_bytes(*entries?.first_chunk()?))
        };
        Some(EndRecord {
            entries: entries_64().unwrap_or(record.entries).max(record.entries),
            ..record
        })
    }

    /// What the file at `path` with these ends is, and what to do about it; `None` when it may be an archive.
    pub(super) fn other_kind(&self, path: &Path) -> Option<String> {
        let is_zip = self.end_record().is_some() || self.head.starts_with(b"PK") || is_part(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).display().to_string();
        (!is_zip).then(|| advice::of_file(&folder, &name, &self.head))
    }

    /// Why the file at `path` with these ends is no readable zip archive, and what to do about it. `cause` is the zip
    /// reader's message.
    pub(super) fn explain(&self, path: &Path, cause: &dyn Display) -> String {
        let end = self.end_record();
        let is_zip = self.head.starts_with(b"PK\x03\x04");
        if self.head.starts_with(b"PK\x07\x08") || end.is_some_and(|end| end.part > 0) {
            "it is one part of a split archive: put all parts into one folder, join them with \
             `zip -s 0 NAME.zip --out WHOLE.zip`, and give that archive"
                .to_owned()
        } else if is_part(path) {
            "it is one part of a file that was cut into several: join them with `cat NAME.0* > WHOLE`, and give that file"
                .to_owned()
        } else if let Some(kind) = FileKind::of(&self.head).filter(|_| !is_zip) {
            format!("it is {}: {}", kind.name, kind.dataset_advice())
        } else if end.is_some() {
            format!(
                "its directory is damaged ({cause}): copy it again, or repair it with `zip -FF NAME.zip --out REPAIRED.zip`"
            )
        } else {
            "its end is missing, so it is cut short: compare its size with the original and copy it again".to_owned()
        }
    }
}

/// Whether the name of the file at `path` is that of one part of a file that was cut into several.
fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        let digits = extension.as_encoded_bytes();
        digits.len() == 3 && digits.iter().all(u8::is_ascii_digit)
    })
}
