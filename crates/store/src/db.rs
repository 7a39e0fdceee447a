//! Connections: how a file is made, opened and checked, and what SQLite's errors mean to us.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::Error;

/// Which of the two files, for what its errors say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Journal,
    State,
}

impl Which {
    pub fn file(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Which::Journal => "journal.db",
            Which::State => "state.db",
        })
    }
}

/// A connection that knows its file.
#[derive(Debug)]
pub(crate) struct Db {
    pub conn: Connection,
    pub file: PathBuf,
    pub which: Which,
}

impl Db {
    /// Opens for writing, and makes the file (0600) if there is none.
    pub fn open(dir: &Path, which: Which) -> Result<Self, Error> {
        let file = which.file(dir);
        let io = |e: std::io::Error| Error::Io {
            doing: "opening",
            file: file.clone(),
            detail: e.to_string(),
        };
        // SQLite gives -wal and -shm the mode of the file itself.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(io)?;
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(io)?;
        Self::connect(file, which, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// Opens for reading a file that a writer of this process has open.
    pub fn open_read_only(dir: &Path, which: Which) -> Result<Self, Error> {
        Self::connect(which.file(dir), which, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn connect(file: PathBuf, which: Which, mode: OpenFlags) -> Result<Self, Error> {
        let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let open = || -> rusqlite::Result<Connection> {
            let conn = Connection::open_with_flags(&file, flags)?;
            conn.busy_timeout(Duration::from_secs(2))?;
            conn.set_prepared_statement_cache_capacity(64);
            if mode.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
                conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
                conn.pragma_update(None, "synchronous", "normal")?;
                // A burst must not leave a large -wal behind for good.
                conn.pragma_update_and_check(None, "journal_size_limit", 8 << 20, |_| Ok(()))?;
            }
            conn.pragma_update(None, "trusted_schema", false)?;
            Ok(conn)
        };
        match open() {
            Ok(conn) => Ok(Self { conn, file, which }),
            Err(e) => Err(classify(which, &file, "opening", &e)),
        }
    }

    /// What an error of this file's connection means.
    pub fn error(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> Error + Copy {
        move |e| classify(self.which, &self.file, doing, &e)
    }

    /// `Err(…Corrupt)` unless SQLite finds the file sound.
    pub fn check(&self) -> Result<(), Error> {
        let found: String = self
            .conn
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(self.error("checking"))?;
        if found == "ok" {
            return Ok(());
        }
        Err(corrupt(self.which, &self.file, "checking", found))
    }

    pub fn version(&self) -> Result<i64, Error> {
        self.conn
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(self.error("reading the schema version"))
    }

    /// A transaction that may write from the start; dropped, it rolls back.
    pub fn begin(&self) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)
    }

    /// Runs one migration and its version in one transaction.
    pub fn migrate(&self, sql: &str, version: i64) -> Result<(), Error> {
        let run = || {
            let tx = self.begin()?;
            tx.execute_batch(sql)?;
            tx.pragma_update(None, "user_version", version)?;
            tx.commit()
        };
        run().map_err(self.error("making the tables"))
    }
}

fn classify(which: Which, file: &Path, doing: &'static str, e: &rusqlite::Error) -> Error {
    let file = file.to_owned();
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full { doing, file },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => corrupt(which, &file, doing, e.to_string()),
        _ => Error::Io {
            doing,
            file,
            detail: e.to_string(),
        },
    }
}

fn corrupt(which: Which, file: &Path, doing: &'static str, detail: String) -> Error {
    let file = file.to_owned();
    match which {
        Which::Journal => Error::JournalCorrupt { doing, file, detail },
        Which::State => Error::StateCorrupt { doing, file, detail },
    }
}
