//! The sealed checkpoint: what rows that are dropped added up to, signed by the host key.
//!
//! ```text
//!   rows   1 ………… from │ from+1 ………… seq │ seq+1 ………… last
//!          dropped     │ kept            │ kept
//!                      └ `from_hash`: the chain goes on from here
//!                                        └ `state`: a lost state.db begins with it and replays what follows
//! ```
//! The state is text by table and column, so that a later schema can take it: a column that it lacks is passed over,
//! one that is missing gets its default. There is one checkpoint at a time; a new one replaces it in the transaction
//! that writes it, and rows are dropped after that alone.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::chain::{GENESIS, Head, fields};
use crate::db::Db;
use crate::key::{self, HostKey, PublicKey, Sealed};
use crate::projection;

const DOMAIN: &[u8] = b"clawker.checkpoint.v1\0";

/// Where the rows that there are begin: after this one.
pub(crate) fn base(conn: &Connection) -> rusqlite::Result<Head> {
    let base = conn
        .prepare_cached("SELECT from_seq, from_hash, from_at_ms FROM checkpoint")?
        .query_row([], |row| {
            Ok(Head {
                seq: row.get(0)?,
                hash: row.get(1)?,
                at_ms: row.get(2)?,
            })
        })
        .optional()?;
    Ok(base.unwrap_or(Head {
        seq: 0,
        hash: GENESIS,
        at_ms: 0,
    }))
}

#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub from: Head,
    pub at: Head,
    pub state_version: i64,
    pub state: String,
    pub key: PublicKey,
    pub signature: Sealed,
}

impl Checkpoint {
    /// Of a projection that has applied `at`.
    pub fn seal(state: &Db, journal: &str, from: Head, at: Head, version: i64, key: &HostKey) -> Result<Self, Error> {
        let state = dump(&state.conn).map_err(state.error("reading the state for a checkpoint"))?;
        let mut sealed = Self {
            from,
            at,
            state_version: version,
            state,
            key: key.public(),
            signature: [0; 64],
        };
        sealed.signature = key.sign(&sealed.message(journal));
        Ok(sealed)
    }

    pub fn holds(&self, journal: &str) -> bool {
        key::signed(&self.key, &self.message(journal), &self.signature)
    }

    fn message(&self, journal: &str) -> Vec<u8> {
        fields(&[
            DOMAIN,
            journal.as_bytes(),
            &self.from.seq.to_be_bytes(),
            &self.from.hash,
            &self.from.at_ms.to_be_bytes(),
            &self.at.seq.to_be_bytes(),
            &self.at.hash,
            &self.at.at_ms.to_be_bytes(),
            &self.state_version.to_be_bytes(),
            &Sha256::digest(self.state.as_bytes()),
        ])
    }

    pub fn write(&self, conn: &Connection) -> rusqlite::Result<()> {
        conn.execute(
            "INSERT OR REPLACE INTO checkpoint (only, from_seq, from_hash, from_at_ms, seq, hash, at_ms, state_version,
             state, key, signature) VALUES (1,?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
            params![
                self.from.seq,
                self.from.hash,
                self.from.at_ms,
                self.at.seq,
                self.at.hash,
                self.at.at_ms,
                self.state_version,
                self.state,
                self.key,
                self.signature
            ],
        )?;
        Ok(())
    }

    pub fn read(conn: &Connection) -> rusqlite::Result<Option<Self>> {
        let head = |row: &rusqlite::Row<'_>, first: usize| {
            Ok::<_, rusqlite::Error>(Head {
                seq: row.get(first)?,
                hash: row.get(first + 1)?,
                at_ms: row.get(first + 2)?,
            })
        };
        conn.query_row(
            "SELECT from_seq, from_hash, from_at_ms, seq, hash, at_ms, state_version, state, key, signature
             FROM checkpoint",
            [],
            |row| {
                Ok(Self {
                    from: head(row, 0)?,
                    at: head(row, 3)?,
                    state_version: row.get(6)?,
                    state: row.get(7)?,
                    key: row.get(8)?,
                    signature: row.get(9)?,
                })
            },
        )
        .optional()
    }

    /// Fills a state.db that has its tables and nothing in them.
    pub fn restore(&self, state: &Db) -> Result<(), Error> {
        let unreadable = |detail: String| Error::StateCorrupt {
            doing: "reading the state in the journal's checkpoint",
            file: state.file.clone(),
            detail,
        };
        let tables: Map<String, Value> = serde_json::from_str(&self.state).map_err(|e| unreadable(e.to_string()))?;
        let error = state.error("writing the state of the journal's checkpoint");
        let tx = state.begin().map_err(error)?;
        for (table, rows) in &tables {
            let known = columns(&tx, table).map_err(error)?;
            for row in rows.as_array().into_iter().flatten() {
                let row = row
                    .as_object()
                    .ok_or_else(|| unreadable(format!("a row of {table} is no object")))?;
                insert(&tx, table, &known, row).map_err(error)?;
            }
        }
        projection::mark(&tx, self.at.seq, &self.at.hash).map_err(error)?;
        tx.commit().map_err(error)
    }
}

/// Every table but the mark of how far they are, as `{table: [{column: value}]}`.
fn dump(conn: &Connection) -> rusqlite::Result<String> {
    let tables: Vec<String> = conn
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'applied' ORDER BY name")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut dumped = Map::new();
    for table in tables {
        let mut statement = conn.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut rows = statement.query([])?;
        let mut values = Vec::new();
        while let Some(row) = rows.next()? {
            let mut object = Map::new();
            for (column, name) in names.iter().enumerate() {
                object.insert(name.clone(), value(row.get_ref(column)?)?);
            }
            values.push(Value::Object(object));
        }
        dumped.insert(table, Value::Array(values));
    }
    Ok(Value::Object(dumped).to_string())
}

/// The tables hold text and whole numbers.
fn value(value: ValueRef<'_>) -> rusqlite::Result<Value> {
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(number.into()),
        ValueRef::Text(_) => Ok(value.as_str()?.into()),
        ValueRef::Real(_) | ValueRef::Blob(_) => Err(rusqlite::types::FromSqlError::InvalidType.into()),
    }
}

/// The columns of a table; of one that there is no more, none.
fn columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map([table], |row| row.get(0))?
        .collect()
}

fn insert(conn: &Connection, table: &str, known: &[String], row: &Map<String, Value>) -> rusqlite::Result<()> {
    let columns: Vec<&String> = known.iter().filter(|column| row.contains_key(*column)).collect();
    if columns.is_empty() {
        return Ok(());
    }
    let names = columns
        .iter()
        .map(|c| format!("\"{c}\""))
        .collect::<Vec<_>>()
        .join(", ");
    let places = (1..=columns.len())
        .map(|n| format!("?{n}"))
        .collect::<Vec<_>>()
        .join(", ");
    let values = columns.iter().map(|column| match &row[column.as_str()] {
        Value::String(text) => rusqlite::types::Value::Text(text.clone()),
        Value::Number(number) => number
            .as_i64()
            .map_or(rusqlite::types::Value::Null, rusqlite::types::Value::Integer),
        _ => rusqlite::types::Value::Null,
    });
    conn.prepare_cached(&format!("INSERT INTO \"{table}\" ({names}) VALUES ({places})"))?
        .execute(params_from_iter(values))?;
    Ok(())
}
