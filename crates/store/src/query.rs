//! Questions to `state.db`.

use clawker_model::event::{Cause, RegistryRow};
use clawker_model::{ContainerId, FullName, PluginDigest, RunId, Thumbprint};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::de::DeserializeOwned;

use crate::record::{AgentRecord, EffectRecord, InitProgress, Issued, RegistryMatch, Restarts, StepEnd};
use crate::registry::Entry;

const AGENT: &str = "SELECT spec, run, container, created_ms, start, start_pid, generation, issued, ready_start, \
                     sent_start, exit, init, restarts, adopted FROM agents";

pub(crate) fn agents(conn: &Connection) -> rusqlite::Result<Vec<AgentRecord>> {
    let mut found = conn
        .prepare_cached(AGENT)?
        .query_map([], agent_row)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for record in &mut found {
        record.causes = causes(conn, &record.spec.name.to_string())?;
    }
    found.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    Ok(found)
}

pub(crate) fn agent(conn: &Connection, name: &FullName) -> rusqlite::Result<Option<AgentRecord>> {
    one_agent(conn, "name", &name.to_string())
}

pub(crate) fn agent_by_container(conn: &Connection, id: &ContainerId) -> rusqlite::Result<Option<AgentRecord>> {
    one_agent(conn, "container", id.as_str())
}

fn one_agent(conn: &Connection, column: &str, value: &str) -> rusqlite::Result<Option<AgentRecord>> {
    let found = conn
        .prepare_cached(&format!("{AGENT} WHERE {column} = ?1"))?
        .query_row([value], agent_row)
        .optional()?;
    let Some(mut record) = found else { return Ok(None) };
    record.causes = causes(conn, &record.spec.name.to_string())?;
    Ok(Some(record))
}

fn agent_row(row: &Row<'_>) -> rusqlite::Result<AgentRecord> {
    Ok(AgentRecord {
        spec: json(row, 0)?,
        run: parsed(row, 1, RunId::parse)?,
        container: match row.get::<_, Option<String>>(2)? {
            Some(_) => Some(parsed(row, 2, ContainerId::parse)?),
            None => None,
        },
        created_ms: row.get(3)?,
        start: optional_json(row, 4)?,
        start_pid: row.get(5)?,
        generation: row.get(6)?,
        issued: optional_json(row, 7)?,
        causes: Vec::new(),
        ready_start: row.get(8)?,
        sent_start: row.get(9)?,
        exit: optional_json(row, 10)?,
        init: json(row, 11)?,
        restarts: optional_json(row, 12)?,
        adopted: row.get(13)?,
    })
}

pub(crate) fn rebuilding(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM rebuild")?.exists([])
}

/// Why an agent is contained, whether or not it is known otherwise.
pub(crate) fn causes(conn: &Connection, agent: &str) -> rusqlite::Result<Vec<Cause>> {
    conn.prepare_cached("SELECT cause FROM causes WHERE agent = ?1 ORDER BY seq, by, action")?
        .query_map([agent], |row| json(row, 0))?
        .collect()
}

pub(crate) fn issued(conn: &Connection, agent: &str) -> rusqlite::Result<Option<Issued>> {
    conn.prepare_cached("SELECT issued FROM agents WHERE name = ?1")?
        .query_row([agent], |row| optional_json(row, 0))
        .optional()
        .map(Option::flatten)
}

pub(crate) fn restarts(conn: &Connection, agent: &str) -> rusqlite::Result<Option<Restarts>> {
    conn.prepare_cached("SELECT restarts FROM agents WHERE name = ?1")?
        .query_row([agent], |row| optional_json(row, 0))
        .optional()
        .map(Option::flatten)
}

pub(crate) fn init(conn: &Connection, agent: &str) -> rusqlite::Result<Option<InitProgress>> {
    conn.prepare_cached("SELECT init FROM agents WHERE name = ?1")?
        .query_row([agent], |row| json(row, 0))
        .optional()
}

pub(crate) fn step_end(conn: &Connection, key: &str) -> rusqlite::Result<Option<StepEnd>> {
    conn.prepare_cached("SELECT failed FROM steps WHERE key = ?1")?
        .query_row([key], |row| {
            Ok(optional_json(row, 0)?.map_or(StepEnd::Completed, StepEnd::Failed))
        })
        .optional()
}

pub(crate) fn effects(conn: &Connection, key: &str) -> rusqlite::Result<Vec<EffectRecord>> {
    conn.prepare_cached("SELECT n, effect, result, tries FROM effects WHERE key = ?1 ORDER BY n")?
        .query_map([key], |row| {
            Ok(EffectRecord {
                n: row.get(0)?,
                effect: json(row, 1)?,
                result: optional_json(row, 2)?,
                tries: row.get(3)?,
            })
        })?
        .collect()
}

pub(crate) fn policy_state(
    conn: &Connection,
    policy: &str,
    digest: &PluginDigest,
    agent: &FullName,
) -> rusqlite::Result<String> {
    conn.prepare_cached("SELECT state FROM policy_state WHERE policy = ?1 AND agent = ?2 AND digest = ?3")?
        .query_row(params![policy, agent.to_string(), digest.as_str()], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
}

pub(crate) fn registry_row(conn: &Connection, id: &ContainerId) -> rusqlite::Result<Option<RegistryRow>> {
    Ok(entry(conn, id)?.map(|entry| entry.row))
}

pub(crate) fn registry_by_thumbprint(conn: &Connection, t: &Thumbprint) -> rusqlite::Result<Option<RegistryMatch>> {
    let found = entry_by_thumbprint(conn, t)?;
    Ok(found.and_then(|entry| {
        let matched = entry.matched(t)?;
        let row = entry.row;
        Some(RegistryMatch { row, matched })
    }))
}

const ENTRY: &str = "SELECT entry, cn, last_seen_ms FROM registry";

pub(crate) fn entry(conn: &Connection, id: &ContainerId) -> rusqlite::Result<Option<Entry>> {
    one_entry(conn, "container", id.as_str())
}

/// By the current thumbprint, else by the previous one.
pub(crate) fn entry_by_thumbprint(conn: &Connection, t: &Thumbprint) -> rusqlite::Result<Option<Entry>> {
    match one_entry(conn, "thumbprint", t.as_str())? {
        Some(entry) => Ok(Some(entry)),
        None => one_entry(conn, "previous_thumbprint", t.as_str()),
    }
}

fn one_entry(conn: &Connection, column: &str, value: &str) -> rusqlite::Result<Option<Entry>> {
    conn.prepare_cached(&format!("{ENTRY} WHERE {column} = ?1"))?
        .query_row([value], entry_row)
        .optional()
}

fn entry_row(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        row: json(row, 0)?,
        cn: row.get(1)?,
        last_seen_ms: row.get(2)?,
    })
}

pub(crate) fn entries(conn: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut entries = conn
        .prepare_cached(ENTRY)?
        .query_map([], entry_row)?
        .collect::<rusqlite::Result<Vec<Entry>>>()?;
    entries.sort_by(|a, b| (&a.row.name, &a.row.container).cmp(&(&b.row.name, &b.row.container)));
    Ok(entries)
}

/// Whether a registration token was spent, by its hash.
pub(crate) fn is_burnt(conn: &Connection, token: &str) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM burnt_tokens WHERE token = ?1")?
        .exists([token])
}

pub(crate) fn registry(conn: &Connection) -> rusqlite::Result<Vec<RegistryRow>> {
    Ok(entries(conn)?.into_iter().map(|entry| entry.row).collect())
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    parsed(row, column, |text| serde_json::from_str(text))
}

fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)?.as_str_or_null() {
        Ok(None) => Ok(None),
        _ => json(row, column).map(Some),
    }
}

fn parsed<T, E>(row: &Row<'_>, column: usize, parse: impl FnOnce(&str) -> Result<T, E>) -> rusqlite::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    parse(text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}
