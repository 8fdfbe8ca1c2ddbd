//! Boxes of an MP4 file in memory, and the big-endian numbers in them.

/// Boxes of one level: type and content; ends at the first box that does not fit.
pub(super) fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (size, skip) = match be32(bytes, 0)? {
            0 => (bytes.len(), 8),
            1 => (usize::try_from(be64(bytes, 8)?).ok()?, 16),
            n => (n as usize, 8),
        };
        let kind = bytes.get(4..8)?;
        // A box that is cut off counts up to its actual end.
        let content = bytes.get(skip..size.min(bytes.len()))?;
        bytes = bytes.get(size..).unwrap_or(&[]);
        Some((kind, content))
    })
}

/// Content of the first box of a kind.
pub(super) fn child<'a>(bytes: &'a [u8], kind: &[u8]) -> Option<&'a [u8]> {
    boxes(bytes)
        .find(|(k, _)| *k == kind)
        .map(|(_, content)| content)
}

/// Rows of `width` bytes of a table that follows version, flags and the number of rows, up to its actual end.
pub(super) fn rows(table: &[u8], width: usize) -> impl Iterator<Item = &[u8]> {
    let entries = be32(table, 4).unwrap_or(0) as usize;
    let bytes = table.get(8..).unwrap_or(&[]);
    bytes.chunks_exact(width).take(entries)
}

/// Position of `part` in `whole`, which it borrows from.
pub(super) fn position(whole: &[u8], part: &[u8]) -> u64 {
    let from = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    from as u64
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

pub(super) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}
