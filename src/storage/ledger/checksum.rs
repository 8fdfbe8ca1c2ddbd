//! The checksum of every row. SQLite checks the structure of its file only: a flipped bit in a value would be read as
//! another value.
//!
//! Each table ends in a column `sum`, computed by the SQL function `row_sum` over the table's name and its other
//! columns. All reads go through [`Table::select`], which compares it. The ledger drops a row that has changed,
//! reports it, and repeats the read: a damaged row counts as missing.

use crate::digest::Hasher;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row};

/// A table.
pub(super) struct Table {
    name: &'static str,
    /// The columns that the checksum covers, in the order of the schema.
    columns: &'static str,
    /// Description of its rows in messages; the value of the first column is appended.
    pub(super) content: &'static str,
}

const fn table(name: &'static str, columns: &'static str, content: &'static str) -> Table {
    Table {
        name,
        columns,
        content,
    }
}

pub(super) const META: Table = table("meta", "key, value", "the value of");
pub(super) const CLIP: Table = table(
    "clip",
    "position, key, state, reason, clip",
    "the record of clip",
);
pub(super) const STAGED: Table = table("staged", "position, row", "the sequence of clip");
pub(super) const BATCH: Table = table("batch", "number, rows, sha256", "the mark of batch");
pub(super) const PART: Table = table(
    "part",
    "position, name, frames, sha256",
    "the kept frames of clip",
);
pub(super) const FRAMES_FILE: Table = table(
    "frames_file",
    "number, sha256",
    "the mark of the kept frames of batch",
);
pub(super) const SEQUENCE: Table = table("sequence", "channel, last", "the last message number of");
// Without `id`, which SQLite chooses.
pub(super) const OUTBOX: Table = table("outbox", "channel, unix_s, payload", "a message on");
pub(super) const COMMAND: Table = table("command", "id, name, arrived, reply", "the command");
pub(super) const TABLES: [Table; 9] = [
    META,
    CLIP,
    STAGED,
    BATCH,
    PART,
    FRAMES_FILE,
    SEQUENCE,
    OUTBOX,
    COMMAND,
];

/// A row does not match its checksum.
#[derive(Debug, thiserror::Error)]
#[error("a row of the table {0} has changed since it was written")]
struct DamagedRow(&'static str);

impl Table {
    /// SQL expression for the checksum of `values`, one for each column.
    fn sum(&self, values: &str) -> String {
        format!("row_sum('{}', {values})", self.name)
    }

    /// SQL condition that a row matches its checksum.
    pub(super) fn is_sound(&self) -> String {
        format!("sum IS {}", self.sum(self.columns))
    }

    /// SQL statement that adds a row. Its parameters are the columns in order.
    pub(super) fn insert(&self) -> String {
        self.write("INSERT")
    }

    /// Like [`Self::insert`], but replaces a row with the same key.
    pub(super) fn replace(&self) -> String {
        self.write("INSERT OR REPLACE")
    }

    fn write(&self, verb: &str) -> String {
        let (name, columns) = (self.name, self.columns);
        let values: Vec<String> = (1..=columns.split(',').count())
            .map(|n| format!("?{n}"))
            .collect();
        let values = values.join(", ");
        let sum = self.sum(&values);
        format!("{verb} INTO {name} ({columns}, sum) VALUES ({values}, {sum})")
    }

    /// SQL statement that moves the rows of `condition` to the position `to`. It leaves damaged rows.
    pub(super) fn move_rows(&self, to: &str, condition: &str) -> String {
        let sum = self.sum(&self.columns.replacen("position", to, 1));
        let (name, is_sound) = (self.name, self.is_sound());
        format!("UPDATE {name} SET position = {to}, sum = {sum} WHERE {condition} AND {is_sound}")
    }

    /// The rows that `clause` selects, with all columns in the order of the schema.
    ///
    /// # Errors
    /// Fails when a row does not match its checksum, or when SQLite fails.
    pub(super) fn select<T>(
        &self,
        db: &Connection,
        clause: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let (name, is_sound) = (self.name, self.is_sound());
        let mut query = db.prepare_cached(&format!(
            "SELECT *, {is_sound} AS is_sound FROM {name} {clause}"
        ))?;
        let rows = query.query_map(params, |row| {
            if row.get("is_sound")? {
                return read(row);
            }
            Err(rusqlite::Error::UserFunctionError(Box::new(DamagedRow(
                name,
            ))))
        })?;
        rows.collect()
    }

    /// Removes the rows that do not match their checksums and returns a description of each.
    pub(super) fn drop_damaged(&self, db: &Connection) -> rusqlite::Result<Vec<String>> {
        let (name, is_sound) = (self.name, self.is_sound());
        let key = self.columns.split(',').next().unwrap_or_default();
        let mut query = db.prepare(&format!("SELECT {key} FROM {name} WHERE NOT ({is_sound})"))?;
        let rows = query.query_map([], |row| {
            let key = match row.get_ref(0)? {
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => other.data_type().to_string(),
            };
            Ok(format!("{} {key}", self.content))
        })?;
        let dropped: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
        if !dropped.is_empty() {
            db.execute(&format!("DELETE FROM {name} WHERE NOT ({is_sound})"), [])?;
        }
        Ok(dropped)
    }
}

/// Whether `error` reports a damaged row.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::UserFunctionError(cause) if cause.is::<DamagedRow>())
}

/// Adds the SQL function `row_sum` to `db`: 8 bytes of the SHA-256 of its arguments, each with its type and length.
pub(super) fn add_row_sum(db: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    db.create_scalar_function("row_sum", -1, flags, |values| {
        let mut hasher = Hasher::default();
        for n in 0..values.len() {
            let (kind, bytes): (u8, &[u8]) = match values.get_raw(n) {
                ValueRef::Null => (0, &[]),
                ValueRef::Integer(number) => (1, &number.to_le_bytes()),
                ValueRef::Real(number) => (2, &number.to_le_bytes()),
                ValueRef::Text(text) => (3, text),
                ValueRef::Blob(blob) => (4, blob),
            };
            hasher.update(&[kind]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        Ok(hasher.first_8_bytes())
    })
}
