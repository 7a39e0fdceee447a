//! Walks the hash chain.

use crate::Error;
use crate::chain::Hash;
use crate::journal::{self, MAX_ROWS};
use crate::reader::Reader;
use crate::record::{BadRow, Broken};

/// How far the walk came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    pub seq: u64,
    /// `None` until the row to begin after has been read.
    pub hash: Option<Hash>,
    /// The row that has to be there.
    pub last: u64,
}

pub(crate) enum Walked {
    On(Walk),
    Sound,
    Bad(BadRow),
}

/// Checks the next rows; in pieces, so that other questions come between.
pub(crate) fn walk(reader: &Reader, mut at: Walk) -> Result<Walked, Error> {
    let bad = |seq, why| Ok(Walked::Bad(BadRow { seq, why }));
    let error = reader.journal.error("verifying the journal");
    let known = match at.hash {
        Some(hash) => Some(hash),
        None => journal::hash_of(&reader.journal.conn, at.seq).map_err(error)?,
    };
    let Some(mut hash) = known else {
        return bad(at.seq, Broken::Missing);
    };
    let rows = journal::raw(&reader.journal, at.seq, MAX_ROWS, None)?;
    if rows.is_empty() && at.seq >= at.last {
        return Ok(Walked::Sound);
    }
    if rows.is_empty() {
        return bad(at.seq + 1, Broken::Missing);
    }
    for row in rows {
        if row.seq != at.seq + 1 {
            return bad(at.seq + 1, Broken::Missing);
        }
        let expected = row.expected_hash();
        if row.hash != expected {
            return bad(row.seq, Broken::Changed);
        }
        if row.prev_hash != hash {
            return bad(row.seq, Broken::Unchained);
        }
        (at.seq, hash) = (row.seq, expected);
    }
    at.hash = Some(hash);
    Ok(Walked::On(at))
}
