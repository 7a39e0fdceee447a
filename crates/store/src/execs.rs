//! What the journal knows of one exec.

use clawker_model::event::ExecExited;
use clawker_model::{Event, FullName};
use rusqlite::params;

use crate::db::Db;
use crate::journal::{ROW, decode, raw_row, signed};
use crate::reader;
use crate::{Error, Store, checkpoint};

/// An exec that was journaled before it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRecord {
    pub argv: Vec<String>,
    /// Which PID 1 was asked.
    pub init_life: String,
    /// How it ended, if that is known.
    pub exited: Option<ExecExited>,
}

impl Store {
    /// The exec of this id in an agent made at `since_ms` or later; `None` if none was journaled. What retention has
    /// dropped isn't known any more.
    pub async fn exec(&self, agent: &FullName, since_ms: u64, id: &str) -> Result<Option<ExecRecord>, Error> {
        let (agent, id) = (agent.to_string(), id.to_owned());
        reader::ask(&self.reader, move |reader| find(&reader.journal, &agent, since_ms, &id)).await
    }
}

fn find(db: &Db, agent: &str, since_ms: u64, id: &str) -> Result<Option<ExecRecord>, Error> {
    let error = db.error("reading what became of an exec");
    let base = checkpoint::base(&db.conn).map_err(error)?.seq;
    let mut statement = db
        .conn
        .prepare_cached(&format!(
            "{ROW} WHERE kind IN ('ExecStarted', 'ExecExited') AND agent = ?1 AND body ->> '$.exec' = ?2 \
             AND seq > ?3 AND at_ms >= ?4 ORDER BY seq LIMIT 1000"
        ))
        .map_err(error)?;
    let rows = statement
        .query_map(params![agent, id, signed(base), signed(since_ms)], raw_row)
        .map_err(error)?;
    let mut found: Option<ExecRecord> = None;
    for row in rows {
        let event = decode(row.map_err(error)?)?.event;
        let record = found.get_or_insert_default();
        match event {
            Event::ExecStarted(started) => {
                record.argv = started.argv;
                record.init_life = started.init_life;
            }
            // The first one was told; a later one says the same.
            Event::ExecExited(exited) => {
                record.exited.get_or_insert(exited);
            }
            _ => {}
        }
    }
    Ok(found)
}
