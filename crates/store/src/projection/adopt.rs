//! An agent that was taken over after the journal was lost.

use clawker_model::event::AgentAdopted;
use rusqlite::{Connection, params};

use super::{Fact, add_cause, json, run};
use crate::record::{InitProgress, Restarts};

/// Who keeps an agent that didn't run from being started again by itself.
const HOST: &str = "host";

/// The agent with all that contains it, at once: there is no moment at which it is known and not contained.
pub(super) fn adopt(tx: &Connection, fact: Fact<'_>, agent: &str, e: &AgentAdopted) -> rusqlite::Result<()> {
    // Whether an operator had stopped it, nobody knows any more.
    let over = Restarts {
        over: Some(HOST.into()),
        ..Restarts::default()
    };
    let restarts = e.start.is_none().then(|| json(&over)).transpose()?;
    let start = e.start.as_ref().map(json).transpose()?;
    run(
        tx,
        "INSERT OR REPLACE INTO agents (name, spec, run, container, created_ms, start, start_pid, restarts, adopted, init)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            agent,
            json(&e.spec)?,
            e.run.as_str(),
            e.container.as_str(),
            fact.at_ms,
            start,
            e.pid,
            restarts,
            e.start.as_ref().map_or(0, |start| start.number),
            json(&InitProgress::NotStarted)?
        ],
    )?;
    for cause in &e.causes {
        add_cause(tx, "INSERT OR REPLACE", agent, fact.seq, cause)?;
    }
    Ok(())
}
