//! Copies of the journal: one to restore from, and lines of JSON to read.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::chain::{RawRow, hex};
use crate::db::{Db, Which};
use crate::{Error, SignedHead, head};

/// Copies journal.db by SQLite's own means: in one step, which sees one moment and keeps no writer waiting.
pub(crate) fn copy(dir: &Path, file: &Path, id: &str) -> Result<SignedHead, Error> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let made = made.map_err(|e| Error::io("making a backup", file, &e))?;
    let source = Db::open_read_only(dir, Which::Journal)?;
    let failed = |e: rusqlite::Error| Error::Io {
        doing: "making a backup",
        file: file.to_owned(),
        detail: e.to_string(),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut target = Connection::open_with_flags(file, flags).map_err(failed)?;
    Backup::new(&source.conn, &mut target)
        .and_then(|backup| backup.step(-1))
        .map_err(failed)?;
    // One file, without a -wal beside it.
    target
        .pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
        .map_err(failed)?;
    let last = head::last(&target, id).map_err(failed)?;
    drop(target);
    made.sync_all().map_err(|e| Error::io("making a backup", file, &e))?;
    last.ok_or_else(|| Error::Io {
        doing: "making a backup",
        file: file.to_owned(),
        detail: "the copy has no signed head".into(),
    })
}

/// A row as it is stored. `body` is a string, because the hash covers its bytes and not its meaning.
pub(crate) fn line(row: &RawRow, journal: &str) -> String {
    json!({
        "seq": row.seq,
        "at_ms": row.at_ms,
        "cp_life": row.cp_life,
        "kind": row.kind,
        "agent": row.agent,
        "body": row.body,
        "prev_hash": hex(&row.prev_hash),
        "hash": hex(&row.hash),
        "cursor": format!("{journal}/{}/{}", row.seq, hex(&row.hash)),
    })
    .to_string()
}
