//! Checks whether a disk quota is the cause of an error of SQLite, which has an error code for a full disk but not
//! for a quota.

use rusqlite::{Connection, ErrorCode};
use std::io;

/// Returns the system's error when the last call of `db`, which failed with `error`, reached a quota.
#[allow(unsafe_code, reason = "rusqlite does not offer this number")]
pub(super) fn quota(db: &Connection, error: &rusqlite::Error) -> Option<io::Error> {
    use ErrorCode::{CannotOpen, SystemIoFailure};
    let code = error.sqlite_error_code()?;
    if !matches!(code, SystemIoFailure | CannotOpen) {
        return None;
    }
    // SAFETY: the handle is that of `db`, which is borrowed and so stays open during the call. The call reads a number
    // that SQLite keeps in the connection, under the connection's own mutex.
    let number = unsafe { rusqlite::ffi::sqlite3_system_errno(db.handle()) };
    (number == libc::EDQUOT).then(|| io::Error::from_raw_os_error(number))
}

#[cfg(test)]
mod tests {
    use crate::messages::payloads::Timestamp;
    use crate::storage::StoreError;
    use crate::storage::ledger::{ClipRecord, Ledger};
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

    #[test]
    fn a_quota_counts_as_a_full_disk() {
        let dir = tempfile::tempdir().unwrap();
        let error = std::thread::scope(|scope| {
            // The filter holds for this thread until it ends.
            let thread = scope.spawn(|| {
                let mut ledger = Ledger::open(dir.path()).unwrap();
                let writes = [libc::SYS_write, libc::SYS_pwrite64];
                let filter = SeccompFilter::new(
                    writes.map(|call| (call, Vec::new())).into(),
                    SeccompAction::Allow,
                    SeccompAction::Errno(libc::EDQUOT.unsigned_abs()),
                    std::env::consts::ARCH.try_into().unwrap(),
                );
                let filter: BpfProgram = filter.unwrap().try_into().unwrap();
                apply_filter(&filter).unwrap();
                let clip = ClipRecord::default();
                ledger.record(0, &clip, None, &[], &Timestamp::default())
            });
            thread.join().unwrap().unwrap_err()
        });
        assert!(error.is_full(), "{error:?}");
        assert!(matches!(error, StoreError::Write { .. }), "{error}");
        assert!(error.to_string().contains("raise the quota"), "{error}");
        // The failed write can be repeated.
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let clip = ClipRecord::default();
        ledger
            .record(0, &clip, None, &[], &Timestamp::default())
            .unwrap();
        assert_eq!(ledger.clips().unwrap().len(), 1);
    }
}
