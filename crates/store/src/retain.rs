//! Retention: which rows are old enough to go, and the steps by which they go.
//!
//! ```text
//! due? ──no──▶ nothing          rows are verified up to where they would be dropped ──broken──▶ Tampered, all stay
//!  │ yes                          │ sound
//!  │                              ▼
//!  └────────────────────────▶ the projection catches up ─▶ checkpoint sealed ─▶ rows dropped, 2,000 at a time ─▶ heads
//! ```
//! A crash between two steps loses nothing: a checkpoint without its drop only leaves rows that are no longer read, and
//! the next run goes on with them. The file doesn't shrink: what is freed is used again.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use crate::chain::Head;
use crate::{checkpoint, journal};

/// How much of the past is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of journal.db, without what is free in it.
    pub max_bytes: u64,
    pub max_age: Duration,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// Rows that were dropped.
    pub dropped: u64,
    /// The row before the oldest that there is.
    pub from: u64,
}

/// Rows of one transaction.
pub(crate) const CHUNK: u64 = 2000;

/// How far beyond the limit of age the oldest row may be before a run is worth a checkpoint.
const SLACK: Duration = Duration::from_secs(3600);

/// What a row has besides its body: its other columns, its hashes and its place in the index.
const ROW_BYTES: u64 = 200;

/// The last row to go, if any is to.
pub(crate) fn due(conn: &Connection, limits: &Limits, now_ms: u64) -> rusqlite::Result<Option<Head>> {
    let base = checkpoint::base(conn)?;
    let last = journal::head(conn)?;
    let to = by_age(conn, &base, limits, now_ms)?.max(by_size(conn, &base, limits)?);
    if to <= base.seq || to > last.seq {
        return Ok(None);
    }
    journal::head_at(conn, to)
}

fn by_age(conn: &Connection, base: &Head, limits: &Limits, now_ms: u64) -> rusqlite::Result<u64> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let before = now_ms.saturating_sub(ms(limits.max_age));
    let oldest: Option<u64> = conn
        .prepare_cached("SELECT at_ms FROM journal WHERE seq > ?1 ORDER BY seq LIMIT 1")?
        .query_row([base.seq], |row| row.get(0))
        .optional()?;
    let slack = ms(SLACK.min(limits.max_age / 10));
    match oldest {
        Some(oldest) if oldest < before.saturating_sub(slack) => journal::last_before(conn, before),
        _ => Ok(0),
    }
}

/// An eighth below the limit, so that not every few rows cost a checkpoint.
fn by_size(conn: &Connection, base: &Head, limits: &Limits) -> rusqlite::Result<u64> {
    let used = used(conn)?;
    if used <= limits.max_bytes {
        return Ok(0);
    }
    let excess = used - limits.max_bytes / 8 * 7;
    let mut rows = conn.prepare_cached("SELECT seq, octet_length(body) FROM journal WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = rows.query([base.seq])?;
    let (mut to, mut freed) = (base.seq, 0);
    while freed < excess
        && let Some(row) = rows.next()?
    {
        to = row.get(0)?;
        freed += row.get::<_, u64>(1)? + ROW_BYTES;
    }
    Ok(to)
}

/// Bytes of the file that hold something.
pub(crate) fn used(conn: &Connection) -> rusqlite::Result<u64> {
    let ask = |what: &str| conn.query_row(&format!("PRAGMA {what}"), [], |row| row.get::<_, u64>(0));
    Ok((ask("page_count")? - ask("freelist_count")?) * ask("page_size")?)
}

/// Whether an earlier run left rows behind its checkpoint.
pub(crate) fn left_over(conn: &Connection) -> rusqlite::Result<bool> {
    let base = checkpoint::base(conn)?;
    conn.prepare_cached("SELECT 1 FROM journal WHERE seq <= ?1 LIMIT 1")?
        .exists([base.seq])
}

/// Deletes the oldest rows behind the checkpoint; returns how many.
pub(crate) fn drop_some(conn: &Connection) -> rusqlite::Result<u64> {
    let base = checkpoint::base(conn)?;
    let dropped = conn
        .prepare_cached(
            "DELETE FROM journal WHERE seq IN (SELECT seq FROM journal WHERE seq <= ?1 ORDER BY seq LIMIT ?2)",
        )?
        .execute([base.seq, CHUNK])?;
    if (dropped as u64) < CHUNK {
        crate::head::forget(conn, base.seq)?;
    }
    Ok(dropped as u64)
}
