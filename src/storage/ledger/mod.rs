//! The ledger: what a restart needs, in one SQLite file. A clip is one transaction, a sealed batch is another. Each
//! is on disk before the call returns, so power may fail at any instruction.
//!
//! * [`clips`]: the finished clips, and their sequences until their batch is sealed.
//! * [`parts`]: the files with the kept frames of clips until their batch is sealed.
//! * [`outbox`]: the messages that must reach the broker.
//! * [`commands`]: the commands that the daemon received.
//!
//! A row that has changed since it was written is dropped, logged, and reported as a fault (`checksum`, `damage`). It
//! then counts as never written.
//!
//! The ledger reads no clock and knows no plan: callers pass timestamps, and a clip is a position with a key.
//! When SQLite fails, a method returns [`StoreError::Ledger`] and has changed nothing.

#![expect(clippy::missing_errors_doc, reason = "stated above for all methods")]

mod checksum;
pub mod clips;
pub mod commands;
mod damage;
mod journal;
mod log_check;
mod no_room;
pub mod outbox;
pub mod parts;

use super::StoreError;
use super::atomic_file::require_regular_file;
use super::error::LEDGER_PATH_MAX;
use crate::messages::payloads::Timestamp;
use checksum::META;
use outbox::insert_messages;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use clips::ClipRecord;
pub(super) use journal::Journal;
pub use outbox::{Message, OutboxLimits, PendingMessage};
pub use parts::PartRecord;

/// Metadata key: an operator paused the job.
pub const PAUSED: &str = "paused";
/// Metadata key: an operator cancelled the job.
pub const CANCELLED: &str = "cancelled";

/// Metadata key: the files of the results and their SHA-256, as JSON, while the results are closed.
pub(crate) const CLOSED: &str = "final";

/// Metadata key: the identity of this output folder, independent of its job.
const IDENTITY: &str = "identity";

/// File name in the output folder.
pub const LEDGER_NAME: &str = "ledger.sqlite";

/// Suffixes of the names of its files; the database itself comes last.
pub(super) const LEDGER_ENDINGS: [&str; 4] = ["-wal", "-shm", "-journal", ""];

/// Maximum wait for another process that uses the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Version of the tables below. Ledgers of other versions are refused, except [`EXTENDED_VERSION`].
const SCHEMA_VERSION: i64 = 3;
/// A ledger of this version gets the tables that are missing.
const EXTENDED_VERSION: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE clip (
    position INTEGER PRIMARY KEY, key TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT, clip TEXT, sum INTEGER NOT NULL
);
CREATE TABLE staged (position INTEGER PRIMARY KEY, row BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE batch (
    number INTEGER PRIMARY KEY, rows INTEGER NOT NULL, sha256 TEXT NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE sequence (channel TEXT PRIMARY KEY, last INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, unix_s INTEGER, payload BLOB NOT NULL,
    sum INTEGER NOT NULL
);
CREATE TABLE command (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, arrived INTEGER NOT NULL, reply TEXT, sum INTEGER NOT NULL
) WITHOUT ROWID;
";

/// What version 3 added: the files of kept frames.
const SCHEMA_3: &str = "
CREATE TABLE part (
    position INTEGER PRIMARY KEY, name TEXT NOT NULL, frames INTEGER NOT NULL, sha256 TEXT NOT NULL,
    sum INTEGER NOT NULL
);
CREATE TABLE frames_file (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL, sum INTEGER NOT NULL);
";

/// The open ledger of one output folder. One process at a time writes to it: see [`super::lock`].
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    db: Connection,
    limits: Option<OutboxLimits>,
    /// The rows that were dropped and not reported as faults yet.
    dropped: RefCell<Vec<String>>,
}

/// The job that a ledger belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct JobIdentity {
    /// Everything that decides the bytes of the results.
    pub settings: Value,
    /// Identifies the job in messages.
    pub run: String,
}

impl Ledger {
    /// Opens the ledger in `out`, or creates it.
    ///
    /// # Errors
    /// Fails when the file cannot be used, is damaged or comes from another version.
    pub fn open(out: &Path) -> Result<Self, StoreError> {
        Self::open_with(out, Journal::for_folder(out))
    }

    /// Like [`Self::open`], with `journal`.
    pub(super) fn open_with(out: &Path, journal: Journal) -> Result<Self, StoreError> {
        let path = ledger_path(out)?;
        let wrap = |source| unusable(&path, source);
        let is_log_damaged = journal::sync_log(&path)?;
        let mut db = journal.connect(&path).map_err(wrap)?;
        prepare(&mut db, journal).map_err(|source| match no_room::quota(&db, &source) {
            Some(quota) => StoreError::write(&path)(quota),
            None => wrap(source),
        })?;
        let verdict: String = db
            .query_row("PRAGMA quick_check(1)", [], |r| r.get(0))
            .map_err(wrap)?;
        if verdict != "ok" {
            return Err(bad(&path, &verdict));
        }
        let version = version(&db).map_err(wrap)?;
        if version != SCHEMA_VERSION {
            return Err(foreign(&path, version));
        }
        if journal != Journal::WriteAhead {
            let path = path.display();
            tracing::info!(%path, "a network file system: the ledger uses a rollback journal");
        }
        let ledger = Self::new(path, db)?;
        ledger.drop_damaged()?;
        if is_log_damaged {
            ledger.report_lost_log();
        }
        Ok(ledger)
    }

    fn new(path: PathBuf, db: Connection) -> Result<Self, StoreError> {
        checksum::add_row_sum(&db).map_err(|source| unusable(&path, source))?;
        Ok(Self {
            path,
            db,
            limits: None,
            dropped: RefCell::default(),
        })
    }

    /// Opens the ledger in `out` for reading, also while another process writes to it. `None` when there is none.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is no ledger or comes from another version.
    pub fn open_read_only(out: &Path) -> Result<Option<Self>, StoreError> {
        let path = ledger_path(out)?;
        if !path.exists() {
            return Ok(None);
        }
        let opened = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let opened = opened.and_then(|db| {
            db.busy_timeout(BUSY_TIMEOUT)?;
            let version = version(&db)?;
            Ok((db, version))
        });
        match opened {
            // The power failed before the first table was created.
            Ok((_, 0)) => Ok(None),
            Ok((db, SCHEMA_VERSION)) => Self::new(path, db).map(Some),
            Ok((db, EXTENDED_VERSION)) => {
                // Temporary tables, which exist for this connection only.
                let missing = SCHEMA_3.replace("CREATE TABLE", "CREATE TEMP TABLE");
                let added = db.execute_batch(&missing);
                added.map_err(|source| unusable(&path, source))?;
                Self::new(path, db).map(Some)
            }
            Ok((_, version)) => Err(foreign(&path, version)),
            Err(source) => Err(unusable(&path, source)),
        }
    }

    /// Closes its file. Until [`Ledger::open_again`] the ledger is empty, and what is written to it is lost.
    pub(crate) fn close(&mut self) -> Result<(), StoreError> {
        self.db = Connection::open_in_memory().map_err(|source| self.error(source))?;
        Ok(())
    }

    /// Opens its file again, which is now in `out`.
    pub(crate) fn open_again(&mut self, out: &Path) -> Result<(), StoreError> {
        let opened = Self::open(out)?;
        (self.path, self.db) = (opened.path, opened.db);
        Ok(())
    }

    /// Path of its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps messages for the broker within `limits`. With `None` no message is kept.
    pub fn set_outbox_limits(&mut self, limits: Option<OutboxLimits>) {
        self.limits = limits;
    }

    /// The job that the ledger belongs to; `None` when it is new.
    ///
    /// # Errors
    /// Fails when SQLite fails or the settings do not parse.
    pub fn job(&self) -> Result<Option<JobIdentity>, StoreError> {
        let (Some(settings), Some(run)) = (self.metadata("settings")?, self.metadata("run")?)
        else {
            return Ok(None);
        };
        let settings = serde_json::from_str(&settings).map_err(|e| bad(&self.path, &e))?;
        Ok(Some(JobIdentity { settings, run }))
    }

    /// The identity of this output folder: 32 hex digits. Empty until [`Ledger::ensure_identity`] creates it.
    pub(crate) fn identity(&self) -> Result<String, StoreError> {
        self.metadata(IDENTITY).map(Option::unwrap_or_default)
    }

    /// Gives the output folder its identity, if it has none.
    pub(super) fn ensure_identity(&mut self) -> Result<(), StoreError> {
        // Avoids a needless write, which fails on a full disk.
        if !self.identity()?.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            let make = "SELECT lower(hex(randomblob(16)))";
            let random: String = tx.query_row(make, [], |r| r.get(0))?;
            set_metadata(tx, IDENTITY, Some(&random))
        })
    }

    /// Makes the ledger belong to `job`. Keeps the identity, the messages with their numbers, the commands,
    /// [`PAUSED`] and [`CANCELLED`], and forgets everything else.
    pub(super) fn begin_job(&mut self, job: &JobIdentity) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute_batch(
                "DELETE FROM clip; DELETE FROM staged; DELETE FROM batch; DELETE FROM part; DELETE FROM frames_file;",
            )?;
            tx.execute(
                "DELETE FROM meta WHERE key NOT IN (?1, ?2, ?3)",
                [PAUSED, CANCELLED, IDENTITY],
            )?;
            set_metadata(tx, "settings", Some(&job.settings.to_string()))?;
            set_metadata(tx, "run", Some(&job.run))
        })
    }

    /// The metadata value of `key`.
    pub fn metadata(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.read(|db| metadata(db, key))
    }

    /// The files of the results with their SHA-256, if the results are closed.
    pub(super) fn closed(&self) -> Result<Option<BTreeMap<String, String>>, StoreError> {
        let files = self.metadata(CLOSED)?;
        let files = files.map(|files| serde_json::from_str(&files)).transpose();
        files.map_err(|e| bad(&self.path, &e))
    }

    /// Notes that the results are closed and consist of `files`.
    pub(super) fn set_closed(
        &mut self,
        files: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        self.set_metadata(CLOSED, Some(&json!(files).to_string()))
    }

    /// Sets a metadata value. `None` removes it.
    pub(crate) fn set_metadata(
        &mut self,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), StoreError> {
        self.write(|tx| set_metadata(tx, key, value))
    }

    /// Runs `query`. If it finds damaged rows, these are dropped and the query is repeated once.
    fn read<T>(&self, query: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let done = match query(&self.db) {
            Err(error) if self.drops(&error)? => query(&self.db),
            done => done,
        };
        done.map_err(|source| self.error(source))
    }

    /// Makes `change` in one transaction. All of it is on disk when this returns, or nothing. If it finds damaged
    /// rows, these are dropped and the change is repeated once.
    fn write<T>(
        &mut self,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let done = match in_transaction(&mut self.db, &change) {
            Err(error) if self.drops(&error)? => in_transaction(&mut self.db, &change),
            done => done,
        };
        done.map_err(|source| self.error(source))
    }

    /// Like [`Self::write`], with `messages` in the same transaction, and a fault about each row that was dropped.
    fn write_and_post(
        &mut self,
        messages: &[Message],
        stamp: &Timestamp,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let limits = self.limits;
        let dropped = self.dropped.borrow().clone();
        let faults = dropped.iter().map(|what| self.damage_fault(what));
        let messages: Vec<Message> = faults.chain(messages.iter().cloned()).collect();
        self.write(|tx| {
            change(tx)?;
            insert_messages(tx, limits, &messages, stamp)
        })?;
        self.dropped.borrow_mut().drain(..dropped.len());
        Ok(())
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        if let Some(quota) = no_room::quota(&self.db, &source) {
            return StoreError::write(&self.path)(quota);
        }
        StoreError::Ledger {
            path: self.path.clone(),
            source,
        }
    }
}

fn in_transaction<T>(
    db: &mut Connection,
    change: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = change(&tx)?;
    tx.commit()?;
    Ok(value)
}

fn metadata(db: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    let mut values = META.select(db, "WHERE key = ?1", [key], |r| r.get(1))?;
    Ok(values.pop())
}

/// Sets a metadata value. `None` removes it.
fn set_metadata(tx: &Transaction<'_>, key: &str, value: Option<&str>) -> rusqlite::Result<()> {
    match value {
        Some(value) => tx.prepare_cached(&META.replace())?.execute([key, value])?,
        None => tx.execute("DELETE FROM meta WHERE key = ?1", [key])?,
    };
    Ok(())
}

fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("PRAGMA user_version", [], |r| r.get(0))
}

fn foreign(path: &Path, version: i64) -> StoreError {
    let reason = format!(
        "its schema is version {version}, this program writes {SCHEMA_VERSION}: finish with the program that began it, or \
         start over"
    );
    bad(path, &reason)
}

/// The error of a file that SQLite cannot use, or that is no database.
fn unusable(path: &Path, source: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match source.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => bad(path, &source),
        _ => StoreError::Ledger {
            path: path.to_path_buf(),
            source,
        },
    }
}

fn bad(path: &Path, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::BadLedger {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}

/// Path of the ledger in the output folder `out`. Fails when one of its files is a link or no regular file.
fn ledger_path(out: &Path) -> Result<PathBuf, StoreError> {
    let path = out.join(LEDGER_NAME);
    // SQLite resolves links and makes the path absolute.
    let whole = out.canonicalize().or_else(|_| std::path::absolute(out));
    let length = whole.map_or(0, |out| out.join(LEDGER_NAME).as_os_str().len());
    if length > LEDGER_PATH_MAX {
        return Err(StoreError::TooLong { path, length });
    }
    for ending in LEDGER_ENDINGS {
        require_regular_file(&out.join(format!("{LEDGER_NAME}{ending}")))?;
    }
    Ok(path)
}

/// Sets up the connection and creates the tables of a new file.
fn prepare(db: &mut Connection, journal: Journal) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    journal.set(db)?;
    db.pragma_update(None, "journal_size_limit", 8 << 20)?;
    // A page with a bad structure is an error, not another value.
    db.pragma_update(None, "cell_size_check", true)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let missing = match version(&tx)? {
        0 if tables == 0 => [SCHEMA, SCHEMA_3].concat(),
        EXTENDED_VERSION => SCHEMA_3.to_owned(),
        _ => String::new(),
    };
    if !missing.is_empty() {
        tx.execute_batch(&missing)?;
        tx.execute_batch(&format!("PRAGMA user_version = {SCHEMA_VERSION}"))?;
    }
    tx.commit()
}

#[cfg(test)]
mod tests;
