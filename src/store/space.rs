//! How much room is left.

use super::durable::StoreError;
use std::path::Path;

/// MiB that this user may still write to the file system of `path`, which exists.
///
/// # Errors
/// When the system does not say.
pub fn free_mib(path: &Path) -> Result<u64, StoreError> {
    let stat = rustix::fs::statvfs(path).map_err(|errno| StoreError::read(path)(errno.into()))?;
    // What is left beyond root's share.
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_told_or_why_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_mib(dir.path()).unwrap() > 0);
        let gone = dir.path().join("gone");
        assert!(free_mib(&gone).unwrap_err().to_string().contains("gone"));
    }
}
