//! Rows of `journal.db`: written once, never changed.

use clawker_model::{Event, FullName, Row};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::Error;
use crate::chain::{Hash, Head, Link, RawRow};
use crate::checkpoint;
use crate::db::Db;

/// The most bytes of JSON that one event may have.
pub const MAX_BODY: usize = 16 << 20;

/// The most rows that one call of `rows` gives.
pub const MAX_ROWS: u32 = 1000;

/// Bodies are cut off an answer beyond this many bytes, so that it stays small; never the first.
const MAX_ANSWER: usize = 8 << 20;

/// An event with its body as the journal keeps it.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub agent: Option<FullName>,
    pub event: Event,
    body: String,
}

impl Encoded {
    pub fn new(agent: Option<&FullName>, event: Event) -> Result<Self, Error> {
        let kind = event.kind();
        let encode = |detail: String| Error::Encode { kind, detail };
        let text = serde_json::to_string(&event).map_err(|e| encode(e.to_string()))?;
        // `{"kind":"X","body":…}`: adjacent tagging writes exactly this, and the row has the kind already.
        let body = text
            .strip_prefix(&format!(r#"{{"kind":"{kind}","body":"#))
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or_else(|| encode("its tag isn't where it belongs".into()))?
            .to_owned();
        if body.len() > MAX_BODY {
            return Err(Error::TooLarge {
                kind,
                bytes: body.len(),
                limit: MAX_BODY,
            });
        }
        Ok(Self {
            agent: agent.cloned(),
            event,
            body,
        })
    }
}

/// Writes the next row and returns the head that it makes.
pub(crate) fn insert(
    tx: &Transaction<'_>,
    head: &Head,
    cp_life: &str,
    now_ms: u64,
    entry: &Encoded,
) -> rusqlite::Result<Head> {
    let agent = entry.agent.as_ref().map(ToString::to_string);
    let seq = head.seq + 1;
    // Clocks go back; the journal doesn't.
    let at_ms = now_ms.max(head.at_ms);
    let kind = entry.event.kind();
    let hash = Link {
        prev: &head.hash,
        seq,
        at_ms,
        cp_life,
        kind,
        agent: agent.as_deref(),
        body: &entry.body,
    }
    .hash();
    tx.prepare_cached(
        "INSERT INTO journal (seq, at_ms, cp_life, kind, agent, body, prev_hash, hash) VALUES (?1,?2,?3,?4,?5,?6,?7,?8)",
    )?
    .execute(params![seq, at_ms, cp_life, kind, agent, entry.body, head.hash, hash])?;
    Ok(Head { seq, hash, at_ms })
}

/// The last row's, or that of an empty journal.
pub(crate) fn head(conn: &Connection) -> rusqlite::Result<Head> {
    let last = conn
        .prepare_cached("SELECT seq, hash, at_ms FROM journal ORDER BY seq DESC LIMIT 1")?
        .query_row([], head_row)
        .optional()?;
    let base = checkpoint::base(conn)?;
    Ok(last.filter(|last| last.seq > base.seq).unwrap_or(base))
}

/// The journal as it ended with a row.
pub(crate) fn head_at(conn: &Connection, seq: u64) -> rusqlite::Result<Option<Head>> {
    conn.prepare_cached("SELECT seq, hash, at_ms FROM journal WHERE seq = ?1")?
        .query_row([signed(seq)], head_row)
        .optional()
}

fn head_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head {
        seq: row.get(0)?,
        hash: row.get(1)?,
        at_ms: row.get(2)?,
    })
}

/// The hash of a row; of the last one that was dropped, or of row 0, the one before the first.
pub(crate) fn hash_of(conn: &Connection, seq: u64) -> rusqlite::Result<Option<Hash>> {
    let base = checkpoint::base(conn)?;
    if seq <= base.seq {
        return Ok((seq == base.seq).then_some(base.hash));
    }
    conn.prepare_cached("SELECT hash FROM journal WHERE seq = ?1")?
        .query_row([signed(seq)], |row| row.get(0))
        .optional()
}

/// SQLite's integers are signed: nothing comes after more than it can count.
pub(crate) fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(crate) fn id(conn: &Connection) -> rusqlite::Result<String> {
    conn.query_row("SELECT id FROM identity", [], |row| row.get(0))
}

/// Which rows are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub after: u64,
    pub limit: u32,
    pub agent: Option<FullName>,
    pub since_ms: Option<u64>,
}

pub(crate) fn select(db: &Db, query: &Query) -> Result<Vec<(Row, Vec<u8>)>, Error> {
    let error = db.error("reading the journal");
    let mut after = query.after;
    if let Some(since) = query.since_ms {
        after = after.max(last_before(&db.conn, since).map_err(error)?);
    }
    raw(db, after, query.limit, query.agent.as_ref())?
        .into_iter()
        .map(|raw| {
            let hash = raw.hash.clone();
            Ok((decode(raw)?, hash))
        })
        .collect()
}

/// Rows as they are stored, in order. Those behind the checkpoint are gone, whether or not they are deleted yet.
pub(crate) fn raw(db: &Db, after: u64, limit: u32, agent: Option<&FullName>) -> Result<Vec<RawRow>, Error> {
    let error = db.error("reading the journal");
    let sql = match agent {
        Some(_) => format!("{ROW} WHERE seq > ?1 AND agent = ?3 ORDER BY seq LIMIT ?2"),
        None => format!("{ROW} WHERE seq > ?1 AND ?3 IS NULL ORDER BY seq LIMIT ?2"),
    };
    let mut statement = db.conn.prepare_cached(&sql).map_err(error)?;
    let after = signed(after.max(checkpoint::base(&db.conn).map_err(error)?.seq));
    let mut rows = statement
        .query(params![after, limit.min(MAX_ROWS), agent.map(ToString::to_string)])
        .map_err(error)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(error)? {
        let row = raw_row(row).map_err(error)?;
        bytes += row.body.len();
        if bytes > MAX_ANSWER && !found.is_empty() {
            break;
        }
        found.push(row);
    }
    Ok(found)
}

/// What [`raw_row`] reads.
pub(crate) const ROW: &str = "SELECT seq, at_ms, cp_life, kind, agent, body, prev_hash, hash FROM journal";

pub(crate) fn raw_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<RawRow> {
    Ok(RawRow {
        seq: row.get(0)?,
        at_ms: row.get(1)?,
        cp_life: row.get(2)?,
        kind: row.get(3)?,
        agent: row.get(4)?,
        body: row.get(5)?,
        prev_hash: row.get(6)?,
        hash: row.get(7)?,
    })
}

pub(crate) fn decode(raw: RawRow) -> Result<Row, Error> {
    let unreadable = |detail: String| Error::Unreadable {
        seq: raw.seq,
        kind: raw.kind.clone(),
        detail,
    };
    let text = format!(r#"{{"kind":"{}","body":{}}}"#, raw.kind, raw.body);
    let event: Event = serde_json::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
    let agent = match raw.agent.as_deref() {
        Some(name) => Some(FullName::parse(name).map_err(|e| unreadable(e.to_string()))?),
        None => None,
    };
    Ok(Row {
        seq: raw.seq,
        at_ms: raw.at_ms,
        cp_life: raw.cp_life,
        agent,
        event,
    })
}

/// The last seq written before a time: times never fall along the journal, so halving finds it.
pub(crate) fn last_before(conn: &Connection, since_ms: u64) -> rusqlite::Result<u64> {
    let mut statement = conn.prepare_cached("SELECT at_ms FROM journal WHERE seq = ?1")?;
    let (mut before, mut end) = (checkpoint::base(conn)?.seq, head(conn)?.seq + 1);
    while end - before > 1 {
        let middle = before + (end - before) / 2;
        let at: Option<u64> = statement.query_row([middle], |row| row.get(0)).optional()?;
        // A hole in the chain is verify's to report; here it counts as old.
        if at.is_none_or(|at| at < since_ms) {
            before = middle;
        } else {
            end = middle;
        }
    }
    Ok(before)
}
