//! SHA-256 in lower-case hex.

use sha2::{Digest, Sha256};

/// Hashes data piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Lower-case hex, 64 digits.
    #[must_use]
    pub fn hex(self) -> String {
        let bytes = self.0.finalize();
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.concat()
    }

    /// The first 8 bytes as a number.
    #[must_use]
    pub fn first_8_bytes(self) -> i64 {
        let bytes = self.0.finalize();
        i64::from_be_bytes(std::array::from_fn(|n| bytes[n]))
    }
}

/// Lower-case hex SHA-256 of `bytes`.
///
/// ```
/// let digest = handloom::digest::sha256_hex(b"");
/// assert_eq!(&digest[..8], "e3b0c442");
/// ```
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(b""), empty);
        let mut pieces = Hasher::default();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!(
            pieces.clone().first_8_bytes(),
            0xba78_16bf_8f01_cfea_u64.cast_signed()
        );
        assert_eq!(pieces.hex(), sha256_hex(b"abc"));
        assert_eq!(&sha256_hex(b"abc")[..8], "ba7816bf");
    }
}
