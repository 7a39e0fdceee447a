//! Rows of the registry, spent tokens, and what is known of the bundle issued last.

use clawker_model::event::RegistryRow;
use rusqlite::{Connection, params};

use super::{json, run};
use crate::query;
use crate::record::Issued;

/// How long a spent token is remembered: far longer than one is good for.
const KEEP_BURNT_MS: u64 = 3_600_000;

pub(super) fn write_registry(tx: &Connection, row: &RegistryRow) -> rusqlite::Result<()> {
    run(
        tx,
        "INSERT OR REPLACE INTO registry (container, cn, thumbprint, previous_thumbprint, last_seen_ms, entry)
         VALUES (?1, ?2, ?3, ?4, max(?5, coalesce((SELECT last_seen_ms FROM registry WHERE container = ?1), 0)), ?6)",
        params![
            row.container.as_str(),
            row.name.to_string(),
            row.thumbprint.as_str(),
            row.previous_thumbprint.as_ref().map(|t| t.as_str()),
            row.registered_at_ms,
            json(row)?
        ],
    )
}

/// The key in force is denied for good: what follows is another, with the next generation.
pub(super) fn deny(tx: &Connection, agent: &str, container: &str) -> rusqlite::Result<()> {
    run(tx, "DELETE FROM registry WHERE container = ?1", params![container])?;
    amend(tx, agent, container, |issued| issued.revoked = true)
}

/// Changes what is known of the bundle issued last, if there is one.
pub(super) fn amend(
    tx: &Connection,
    agent: &str,
    container: &str,
    change: impl FnOnce(&mut Issued),
) -> rusqlite::Result<()> {
    let Some(mut issued) = query::issued(tx, agent)? else {
        return Ok(());
    };
    change(&mut issued);
    run(
        tx,
        "UPDATE agents SET issued = ?3 WHERE name = ?1 AND container = ?2",
        params![agent, container, json(&issued)?],
    )
}

/// Notes that a token was spent. One that is old can't be used for its age, so it is forgotten.
pub(super) fn burn(tx: &Connection, token: &str, at_ms: u64) -> rusqlite::Result<()> {
    run(
        tx,
        "DELETE FROM burnt_tokens WHERE at_ms < ?1",
        params![at_ms.saturating_sub(KEEP_BURNT_MS)],
    )?;
    run(
        tx,
        "INSERT OR IGNORE INTO burnt_tokens (token, at_ms) VALUES (?1, ?2)",
        params![token, at_ms],
    )
}
