//! Brings the projection up to the journal: after a crash between their commits, and from nothing.

use crate::Error;
use crate::db::Db;
use crate::faults::{Faults, Point};
use crate::journal::{self, MAX_ROWS};
use crate::projection::{self, Fact};

/// Applies every row after the last applied one; returns how many.
pub(crate) fn catch_up(journal: &Db, state: &Db, faults: &Faults) -> Result<u64, Error> {
    let doing = "applying journal rows";
    if faults.strikes(Point::CatchUp) {
        let file = state.file.clone();
        return Err(Error::Full { doing, file });
    }
    let applied = projection::applied(&state.conn).map_err(state.error(doing))?;
    let (mut after, mut count) = (applied.map_or(0, |(seq, _)| seq), 0);
    loop {
        let rows = journal::raw(journal, after, MAX_ROWS, None)?;
        let Some(last) = rows.last() else { return Ok(count) };
        let (seq, hash) = (last.seq, last.hash.clone());
        let hash = hash.try_into().map_err(|_| Error::Unreadable {
            seq,
            kind: last.kind.clone(),
            detail: "its hash isn't 32 bytes".into(),
        })?;
        count += rows.len() as u64;
        let rows = rows.into_iter().map(journal::decode).collect::<Result<Vec<_>, _>>()?;
        let error = state.error(doing);
        let tx = state.begin().map_err(error)?;
        for row in &rows {
            let fact = Fact {
                seq: row.seq,
                at_ms: row.at_ms,
                agent: row.agent.as_ref(),
                event: &row.event,
            };
            projection::apply(&tx, fact).map_err(error)?;
        }
        projection::mark(&tx, seq, &hash).map_err(error)?;
        tx.commit().map_err(error)?;
        after = seq;
    }
}
