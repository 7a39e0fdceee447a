//! Signed heads: where the journal ended at a time, signed by the host key.
//!
//! One is written every 1,000 rows and, if there are new rows, every 10 s and at a close. One that is held by somebody
//! else proves a truncation that this folder alone can't show.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use crate::chain::{Head, fields, hex, unhex};
use crate::key::{self, HostKey, PublicKey, Sealed};

const DOMAIN: &[u8] = b"clawker.head.v1\0";

/// The end of a journal as its host signed it. As JSON it is what `clawker audit head` hands out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    pub journal: String,
    pub seq: u64,
    /// SHA-256 of the row, in hex.
    pub hash: String,
    /// The row's time, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The host's public key, in hex.
    pub key: String,
    /// ed25519 over `clawker.head.v1`, journal, seq, hash and time, each with its length; in hex.
    pub signature: String,
}

impl SignedHead {
    pub(crate) fn sign(journal: &str, head: &Head, key: &HostKey) -> Self {
        Self {
            journal: journal.to_owned(),
            seq: head.seq,
            hash: hex(&head.hash),
            at_ms: head.at_ms,
            key: hex(&key.public()),
            signature: hex(&key.sign(&message(journal, head))),
        }
    }

    /// What it says, if its own key signed it.
    pub(crate) fn open(&self) -> Option<(Head, PublicKey)> {
        let head = Head {
            seq: self.seq,
            hash: unhex(&self.hash)?,
            at_ms: self.at_ms,
        };
        let (public, signature): (PublicKey, Sealed) = (unhex(&self.key)?, unhex(&self.signature)?);
        key::signed(&public, &message(&self.journal, &head), &signature).then_some((head, public))
    }
}

fn message(journal: &str, head: &Head) -> Vec<u8> {
    fields(&[
        DOMAIN,
        journal.as_bytes(),
        &head.seq.to_be_bytes(),
        &head.hash,
        &head.at_ms.to_be_bytes(),
    ])
}

pub(crate) fn insert(conn: &Connection, head: &Head, signed: &SignedHead) -> rusqlite::Result<()> {
    let (key, signature) = (unhex::<32>(&signed.key), unhex::<64>(&signed.signature));
    conn.prepare_cached("INSERT INTO heads (seq, at_ms, hash, key, signature) VALUES (?1,?2,?3,?4,?5)")?
        .execute(params![head.seq, head.at_ms, head.hash, key, signature])?;
    Ok(())
}

/// A head with its place in the table.
pub(crate) struct Kept {
    pub n: i64,
    pub seq: u64,
    pub head: SignedHead,
}

/// Heads in the order in which they were written, after the nth.
pub(crate) fn after(conn: &Connection, journal: &str, n: i64, limit: u32) -> rusqlite::Result<Vec<Kept>> {
    conn.prepare_cached("SELECT n, seq, at_ms, hash, key, signature FROM heads WHERE n > ?1 ORDER BY n LIMIT ?2")?
        .query_map(params![n, limit], |row| kept(row, journal))?
        .collect()
}

/// The last one written.
pub(crate) fn last(conn: &Connection, journal: &str) -> rusqlite::Result<Option<SignedHead>> {
    let kept = conn
        .prepare_cached("SELECT n, seq, at_ms, hash, key, signature FROM heads ORDER BY n DESC LIMIT 1")?
        .query_row([], |row| kept(row, journal))
        .optional()?;
    Ok(kept.map(|kept| kept.head))
}

/// The highest seq of any.
pub(crate) fn highest(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT coalesce(max(seq), 0) FROM heads", [], |row| row.get(0))
}

fn kept(row: &rusqlite::Row<'_>, journal: &str) -> rusqlite::Result<Kept> {
    let bytes = |column| row.get_ref(column)?.as_blob().map(hex).map_err(rusqlite::Error::from);
    let seq = row.get(1)?;
    Ok(Kept {
        n: row.get(0)?,
        seq,
        head: SignedHead {
            journal: journal.to_owned(),
            seq,
            at_ms: row.get(2)?,
            hash: bytes(3)?,
            key: bytes(4)?,
            signature: bytes(5)?,
        },
    })
}

/// Forgets those up to a seq, which rows no longer bear out.
pub(crate) fn forget(conn: &Connection, up_to: u64) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM heads WHERE seq < ?1", [up_to])?;
    Ok(())
}
