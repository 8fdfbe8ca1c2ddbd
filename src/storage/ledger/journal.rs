//! How SQLite keeps a transaction whole: a write-ahead log on local disks; on network file systems, where it does not
//! work, a rollback journal. A commit is on the medium with both when it returns.

use super::{LEDGER_NAME, log_check};
use crate::storage::atomic_file::open_plain;
use crate::storage::{StoreError, file_system};
use rusqlite::{Connection, OpenFlags};
use std::io::ErrorKind;
use std::path::Path;

/// How SQLite keeps a transaction whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Journal {
    /// Readers do not wait for the writer. Needs memory that all users of the file share.
    WriteAhead,
    /// Needs no shared memory.
    Rollback,
    /// Like `Rollback`, without SQLite's locks: for a folder that only one process uses.
    Unlocked,
}

impl Journal {
    /// The journal for a ledger in `folder`.
    pub(super) fn for_folder(folder: &Path) -> Self {
        match file_system::network(folder) {
            Some(_) => Self::Rollback,
            None => Self::WriteAhead,
        }
    }

    /// Opens the database `path`, or creates it.
    pub(super) fn connect(self, path: &Path) -> rusqlite::Result<Connection> {
        match self {
            Self::WriteAhead | Self::Rollback => Connection::open(path),
            Self::Unlocked => {
                let flags = OpenFlags::default();
                Connection::open_with_flags_and_vfs(path, flags, c"unix-none")
            }
        }
    }

    /// Makes `db` use this journal. SQLite first applies what a journal of the other kind holds.
    pub(super) fn set(self, db: &Connection) -> rusqlite::Result<()> {
        if self == Self::WriteAhead {
            db.pragma_update(None, "journal_mode", "WAL")?;
        } else {
            // While the lock is exclusive, SQLite reads the log of an earlier process without shared memory.
            db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            // A truncated journal needs no sync of its folder, a deleted one does.
            db.pragma_update(None, "journal_mode", "TRUNCATE")?;
            db.pragma_update(None, "locking_mode", "NORMAL")?;
        }
        // A commit returns when it is on the medium.
        db.pragma_update(None, "synchronous", "FULL")
    }
}

/// Makes the end of the write-ahead log, or of the rollback journal, durable. A process that is killed during a
/// commit may leave one that is complete and not synced. Its transaction counts as committed from here on and must
/// survive a power cut. Returns whether SQLite silently drops transactions of the log, because something before them
/// has changed.
pub(super) fn sync_log(path: &Path) -> Result<bool, StoreError> {
    let synced = |ending: &str| {
        let log = path.with_file_name(format!("{LEDGER_NAME}{ending}"));
        let file = open_plain(&log).and_then(|file| file.sync_all().map(|()| file));
        match file {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            file => file.map(Some).map_err(StoreError::write(&log)),
        }
    };
    synced("-journal")?;
    let log = synced("-wal")?.map_or(Ok(false), log_check::loses_transactions);
    log.map_err(StoreError::write(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Ledger;
    use crate::storage::ledger::LEDGER_ENDINGS;
    use std::fs;
    use tempfile::TempDir;

    const KINDS: [Journal; 3] = [Journal::WriteAhead, Journal::Rollback, Journal::Unlocked];

    /// What a process that is killed now leaves behind.
    fn killed(out: &Path) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for ending in LEDGER_ENDINGS {
            let name = format!("{LEDGER_NAME}{ending}");
            // The log's index is memory that ends with its last user.
            if ending != "-shm" && out.join(&name).exists() {
                fs::copy(out.join(&name), copy.path().join(&name)).unwrap();
            }
        }
        copy
    }

    fn mode(ledger: &Ledger) -> String {
        let query = "PRAGMA journal_mode";
        ledger.db.query_row(query, [], |r| r.get(0)).unwrap()
    }

    #[test]
    fn a_commit_outlives_a_kill_and_half_a_transaction_does_not_with_either_journal() {
        for journal in KINDS {
            let dir = tempfile::tempdir().unwrap();
            let mut ledger = Ledger::open_with(dir.path(), journal).unwrap();
            ledger.set_metadata("a", Some("committed")).unwrap();
            let after = killed(dir.path());
            // Enough for SQLite to write to the database before the commit.
            ledger.db.pragma_update(None, "cache_size", 2).unwrap();
            ledger.db.execute_batch("BEGIN IMMEDIATE").unwrap();
            let large = "UPDATE meta SET value = 'half';
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200)
                INSERT INTO staged (position, row, sum) SELECT i, randomblob(2000), 0 FROM n";
            ledger.db.execute_batch(large).unwrap();
            let within = killed(dir.path());
            if journal != Journal::WriteAhead {
                // The test is about a journal that must be rolled back.
                let size = |dir: &TempDir, ending: &str| {
                    let path = dir.path().join(format!("{LEDGER_NAME}{ending}"));
                    fs::metadata(path).map_or(0, |m| m.len())
                };
                assert!(size(&within, "-journal") > 0 && size(&within, "") > 200 * 2000);
            }
            for next in KINDS {
                for left in [&after, &within] {
                    let copy = killed(left.path());
                    let ledger = Ledger::open_with(copy.path(), next).unwrap();
                    let kept = ledger.metadata("a").unwrap();
                    assert_eq!(kept.as_deref(), Some("committed"), "{journal:?} {next:?}");
                    let query = "SELECT count(*) FROM staged";
                    let rows: usize = ledger.db.query_row(query, [], |r| r.get(0)).unwrap();
                    assert_eq!(rows, 0);
                    let expected = match next {
                        Journal::WriteAhead => "wal",
                        Journal::Rollback | Journal::Unlocked => "truncate",
                    };
                    assert_eq!(mode(&ledger), expected);
                    // No unused log remains.
                    let log = copy.path().join(format!("{LEDGER_NAME}-wal"));
                    assert_eq!(log.exists(), next == Journal::WriteAhead);
                }
            }
        }
    }

    #[test]
    fn a_ledger_with_a_rollback_journal_is_read_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open_with(dir.path(), Journal::Rollback).unwrap();
        for value in ["1", "2"] {
            ledger.set_metadata("a", Some(value)).unwrap();
            let reader = Ledger::open_read_only(dir.path()).unwrap().unwrap();
            assert_eq!(reader.metadata("a").unwrap().as_deref(), Some(value));
        }
    }
}
