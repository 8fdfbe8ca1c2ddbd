//! The header of an npy array: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`. It is compared with the
//! size of its file before memory for its values is reserved.

use std::io::{self, Read};

/// Maximum length of a header. numpy writes 118 bytes.
const LENGTH_MAX: usize = 1 << 16;
/// Maximum number of dimensions, as in numpy.
const DIMENSIONS_MAX: usize = 64;

/// Type and shape of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArrayHeader {
    /// numpy's type string.
    pub(super) descr: String,
    /// The size of each dimension.
    pub(super) shape: Vec<usize>,
    /// Number of values.
    pub(super) items: usize,
    /// Bytes of a value.
    pub(super) item_bytes: usize,
    /// Whether the first index changes fastest.
    pub(super) is_fortran: bool,
}

pub(super) fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

impl ArrayHeader {
    /// Reads the header at the beginning of an array file of `size` bytes.
    ///
    /// # Errors
    /// Fails when it is no header, or when the rest of the file does not have exactly the size that it declares.
    pub(super) fn read(from: &mut impl Read, size: u64) -> io::Result<Self> {
        let mut start = [0; 8];
        from.read_exact(&mut start)?;
        if start[..6] != *b"\x93NUMPY" {
            return Err(invalid("it is no numpy array"));
        }
        let (length, prefix) = match start[6] {
            1 => (usize::from(u16::from_le_bytes(bytes(from)?)), 10),
            2 | 3 => (u32::from_le_bytes(bytes(from)?) as usize, 12),
            other => {
                return Err(invalid(format!(
                    "version {other} of the format is not known"
                )));
            }
        };
        if length > LENGTH_MAX {
            return Err(invalid(format!("its header has {length} bytes")));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)?;
        let text = String::from_utf8(text).map_err(|_| invalid("its header is no text"))?;
        let header = Self::parse(&text)?;
        let promised = header.items.checked_mul(header.item_bytes);
        let left = size.checked_sub(prefix + length as u64);
        if promised.map(|bytes| bytes as u64) != left {
            return Err(invalid(format!(
                "the header promises {} values of {} bytes, the file has other bytes",
                header.items, header.item_bytes
            )));
        }
        Ok(header)
    }

    fn parse(text: &str) -> io::Result<Self> {
        let field = |name: &str| {
            let found = text.split_once(&format!("'{name}':"));
            let found = found.map(|(_, rest)| rest.trim_start());
            found.ok_or_else(|| invalid(format!("its header has no {name}")))
        };
        let descr = field("descr")?;
        let descr = descr.strip_prefix('\'').and_then(|d| d.split_once('\''));
        let (descr, _) = descr.ok_or_else(|| invalid("its values are records"))?;
        let shape = field("shape")?;
        let shape = shape.strip_prefix('(').and_then(|s| s.split_once(')'));
        let (shape, _) = shape.ok_or_else(|| invalid("its header has no shape"))?;
        let sizes = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
        let sizes = sizes.map(|size| size.parse().ok());
        let shape: Option<Vec<usize>> = sizes.take(DIMENSIONS_MAX + 1).collect();
        let shape = shape.filter(|shape| shape.len() <= DIMENSIONS_MAX);
        let shape = shape.ok_or_else(|| invalid("its header has no valid shape"))?;
        let items = if shape.contains(&0) {
            Some(0)
        } else {
            shape.iter().try_fold(1_usize, |all, n| all.checked_mul(*n))
        };
        Ok(Self {
            descr: descr.to_owned(),
            items: items.ok_or_else(|| invalid("its header promises too many values"))?,
            item_bytes: item_bytes(descr)?,
            shape,
            is_fortran: field("fortran_order")?.starts_with("True"),
        })
    }
}

/// Bytes of a value of the type `descr`, at least 1.
fn item_bytes(descr: &str) -> io::Result<usize> {
    let unknown = || invalid(format!("values of the type {descr:?} are not read"));
    let kind = descr.strip_prefix(['<', '>', '|', '=']).unwrap_or(descr);
    let mut rest = kind.chars();
    let unit = match rest.next() {
        Some('b' | 'i' | 'u' | 'f' | 'c' | 'S' | 'V' | 'M' | 'm') => 1,
        Some('U') => 4,
        _ => return Err(unknown()),
    };
    // Times have a unit: `<M8[ns]`.
    let count = rest.as_str().split('[').next().unwrap_or_default();
    let count: usize = count.parse().map_err(|_| unknown())?;
    let bytes = count.checked_mul(unit).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(unknown)
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str, values: usize) -> io::Result<ArrayHeader> {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        let all = [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat();
        let size = (all.len() + values) as u64;
        ArrayHeader::read(&mut all.as_slice(), size)
    }

    fn header(descr: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}   \n")
    }

    #[test]
    fn headers_are_read() {
        let found = read(&header("<f4", "(2, 3)"), 24).unwrap();
        assert_eq!(
            (found.items, found.item_bytes, found.is_fortran),
            (6, 4, false)
        );
        assert_eq!((found.descr.as_str(), found.shape), ("<f4", vec![2, 3]));
        assert_eq!(read(&header("<U5", "(3,)"), 60).unwrap().item_bytes, 20);
        assert_eq!(read(&header("|u1", "()"), 1).unwrap().items, 1);
        assert_eq!(read(&header("<M8[ns]", "(0, 7)"), 0).unwrap().items, 0);
        assert!(
            read(&header("<f4", "(1,)").replace("False", "True"), 4)
                .unwrap()
                .is_fortran
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let big = u64::MAX.to_string();
        for (header, values) in [
            (header("<f4", "(2, 3)"), 23),
            (header("<f4", "(2, 3)"), 25),
            (header("<f4", "(4294967296, 4294967296)"), 0),
            (header("<f4", &format!("({big},)")), 4),
            (header("<f4", &format!("({big}0,)")), 4),
            (header("<f4", "(-1,)"), 4),
            (header(&format!("<U{big}"), "(1,)"), 4),
            // Values without bytes: any number would fit.
            (header("<U0", "(1000000000000,)"), 0),
            (header("|O", "(1,)"), 8),
            (header("<f4", &format!("({})", "1,".repeat(65))), 4),
            ("{'descr': [('a', '<f4')], 'shape': (1,)}".to_owned(), 4),
            (String::new(), 4),
        ] {
            assert!(read(&header, values).is_err(), "{header}");
        }
        let long = [&b"\x93NUMPY\x02\x00"[..], &[0xff; 4]].concat();
        let error = ArrayHeader::read(&mut long.as_slice(), 1 << 40).unwrap_err();
        assert!(error.to_string().contains("its header has"), "{error}");
    }
}
