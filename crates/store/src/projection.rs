//! The projection: what each event means for `state.db`.
//!
//! `apply` is total and a function of the journal alone: no clock, no outcome of its own, and no event that
//! it refuses, because the event has already happened. What may not happen is refused before it is
//! journaled, by `admit`. An event about a container that isn't the agent's present one changes nothing
//! of the agent.

mod adopt;
mod identity;

use clawker_model::event::{Cause, RegistryRow};
use clawker_model::{Action, Event, FullName};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;

use crate::chain::Hash;
use crate::query;
use crate::record::{Exit, InitProgress, Issued, Restarts, StepFailure};

use adopt::adopt;
use identity::{amend, burn, deny, write_registry};

/// A row of the journal, as far as the projection is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact<'a> {
    pub seq: u64,
    pub at_ms: u64,
    pub agent: Option<&'a FullName>,
    pub event: &'a Event,
}

/// Notes the last row that the transaction has applied.
pub(crate) fn mark(tx: &Connection, seq: u64, hash: &Hash) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO applied (only, seq, hash) VALUES (1, ?1, ?2)
         ON CONFLICT (only) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
    )?
    .execute(params![seq, hash])?;
    Ok(())
}

/// The last row applied, and its hash.
pub(crate) fn applied(conn: &Connection) -> rusqlite::Result<Option<(u64, Hash)>> {
    conn.query_row("SELECT seq, hash FROM applied", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
    .optional()
}

/// Applies one event.
pub(crate) fn apply(tx: &Connection, fact: Fact<'_>) -> rusqlite::Result<()> {
    match fact.event {
        Event::RegistryRowWritten(e) => {
            if let Some(token) = &e.token {
                burn(tx, token, fact.at_ms)?;
            }
            write_registry(tx, &e.row)
        }
        Event::RegistryRowEvicted(e) => run(
            tx,
            "DELETE FROM registry WHERE container = ?1",
            params![e.container.as_str()],
        ),
        Event::IdentityRotated(e) => match query::registry_row(tx, &e.container)? {
            Some(row) if row.generation == e.generation && row.thumbprint != e.thumbprint => {
                // Of the leaves before it, the one that the agent is known to have.
                let held = e.held.clone().filter(|held| *held != e.thumbprint);
                write_registry(
                    tx,
                    &RegistryRow {
                        previous_thumbprint: Some(held.unwrap_or(row.thumbprint)),
                        thumbprint: e.thumbprint.clone(),
                        ..row
                    },
                )
            }
            _ => Ok(()),
        },
        Event::IdentityConfirmed(e) => match query::registry_row(tx, &e.container)? {
            Some(row) if row.thumbprint == e.thumbprint => write_registry(
                tx,
                &RegistryRow {
                    previous_thumbprint: None,
                    ..row
                },
            ),
            _ => Ok(()),
        },
        Event::RebuildBegun(_) => run(
            tx,
            "INSERT OR IGNORE INTO rebuild (only, seq) VALUES (1, ?1)",
            params![fact.seq],
        ),
        Event::StoreRebuilt(_) => run(tx, "DELETE FROM rebuild", params![]),
        _ => match fact.agent {
            Some(agent) => apply_to(tx, fact, &agent.to_string()),
            None => Ok(()),
        },
    }
}

fn apply_to(tx: &Connection, fact: Fact<'_>, agent: &str) -> rusqlite::Result<()> {
    match fact.event {
        Event::AgentCreating(e) => {
            // A new definition begins with nothing of an earlier agent of that name.
            remove(tx, agent)?;
            run(
                tx,
                "INSERT INTO agents (name, spec, run, created_ms, init) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    agent,
                    json(&e.spec)?,
                    e.run.as_str(),
                    fact.at_ms,
                    json(&InitProgress::NotStarted)?
                ],
            )
        }
        Event::AgentCreated(e) => {
            let container = e.container.as_str();
            run(
                tx,
                "UPDATE agents SET container = NULL WHERE container = ?1 AND name <> ?2",
                params![container, agent],
            )?;
            run(
                tx,
                "UPDATE agents SET container = ?2, run = ?3 WHERE name = ?1",
                params![agent, container, e.run.as_str()],
            )
        }
        Event::AgentCreateFailed(_) => remove(tx, agent),
        Event::AgentAdopted(e) => adopt(tx, fact, agent, e),
        Event::AgentRemoved(e) => {
            if let Some(container) = &e.container {
                run(
                    tx,
                    "DELETE FROM registry WHERE container = ?1",
                    params![container.as_str()],
                )?;
            }
            remove(tx, agent)
        }
        Event::StartBegan(e) => run(
            tx,
            "UPDATE agents SET start = ?3, start_pid = ?4 WHERE name = ?1 AND container = ?2",
            params![agent, e.container.as_str(), json(&e.start)?, e.pid],
        ),
        Event::BundleIssued(e) => {
            let earlier = query::issued(tx, agent)?;
            let issued = Issued {
                start: e.start,
                generation: e.generation,
                thumbprint: e.thumbprint.clone(),
                key_hash: e.key_hash.clone(),
                count: 1 + earlier.as_ref().filter(|i| i.start == e.start).map_or(0, |i| i.count),
                recovered: earlier.filter(|i| i.start == e.start).map_or(0, |i| i.recovered),
                revoked: false,
                join: e.join.clone(),
            };
            // A generation never falls, whatever was journaled.
            run(
                tx,
                "UPDATE agents SET generation = ?3, issued = ?4 WHERE name = ?1 AND container = ?2 AND generation <= ?3",
                params![agent, e.container.as_str(), e.generation, json(&issued)?],
            )
        }
        Event::IdentityRecovered(e) => amend(tx, agent, e.container.as_str(), |issued| {
            if issued.start == e.start {
                issued.recovered = e.count;
            }
        }),
        Event::SessionConnected(_) => run(
            tx,
            "UPDATE registry SET last_seen_ms = max(last_seen_ms, ?2) WHERE cn = ?1",
            params![agent, fact.at_ms],
        ),
        Event::InitStarted(e) => {
            let init = InitProgress::Running {
                start: e.start,
                steps: e.steps,
                step: None,
            };
            set_init(tx, agent, e.container.as_str(), &init)
        }
        Event::InitStepStarted(e) => match query::init(tx, agent)? {
            Some(InitProgress::Running { start, steps, .. }) => run(
                tx,
                "UPDATE agents SET init = ?2 WHERE name = ?1",
                params![
                    agent,
                    json(&InitProgress::Running {
                        start,
                        steps,
                        step: Some(e.name.clone())
                    })?
                ],
            ),
            _ => Ok(()),
        },
        Event::InitCompleted(e) => {
            let init = InitProgress::Completed {
                start: e.start,
                duration_ms: e.duration_ms,
            };
            set_init(tx, agent, e.container.as_str(), &init)
        }
        Event::InitFailed(e) => {
            let init = InitProgress::Failed {
                start: e.start,
                step: e.step.clone(),
                reason: e.reason,
                detail: e.detail.clone(),
            };
            set_init(tx, agent, e.container.as_str(), &init)
        }
        Event::InitEffectIntended(e) => run(
            tx,
            // The same intent again, after a crash, keeps a result that is known already.
            "INSERT INTO effects (key, n, agent, effect) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key, n) DO UPDATE SET agent = excluded.agent, effect = excluded.effect,
             result = CASE WHEN effect = excluded.effect THEN result END, tries = tries + 1",
            params![e.key, e.n, agent, json(&e.effect)?],
        ),
        Event::InitEffectDone(e) => run(
            tx,
            "UPDATE effects SET result = ?4 WHERE key = ?1 AND n = ?2 AND agent = ?3",
            params![e.key, e.n, agent, json(&e.result)?],
        ),
        Event::InitStepCompleted(e) => end_step(tx, agent, fact.seq, &e.key, None),
        Event::InitStepFailed(e) => {
            let (start, reason, detail) = (e.start, e.reason, e.detail.clone());
            let failed = StepFailure { start, reason, detail };
            end_step(tx, agent, fact.seq, &e.key, Some(json(&failed)?))
        }
        Event::AgentReadyFound(e) => {
            let init = InitProgress::Completed {
                start: e.start,
                duration_ms: 0,
            };
            set_init(tx, agent, e.container.as_str(), &init)?;
            made_ready(tx, agent, e.container.as_str(), e.start)
        }
        Event::AgentReadyIntended(e) => made_ready(tx, agent, e.container.as_str(), e.start),
        Event::AgentReadySent(e) => run(
            tx,
            "UPDATE agents SET sent_start = ?3 WHERE name = ?1 AND container = ?2",
            params![agent, e.container.as_str(), e.start],
        ),
        Event::MainExited(e) => {
            let exit = Exit {
                start: e.start,
                code: e.code,
                signal: e.signal,
                oom: e.oom,
                at_ms: fact.at_ms,
            };
            run(
                tx,
                "UPDATE agents SET exit = ?3 WHERE name = ?1 AND container = ?2",
                params![agent, e.container.as_str(), json(&exit)?],
            )
        }
        Event::RestartPlanned(e) => {
            let restarts = Restarts {
                end: e.end.clone(),
                restarts: e.restarts,
                delay_ms: e.delay_ms,
                due_ms: e.due_ms,
                over: None,
            };
            set_restarts(tx, agent, e.container.as_str(), &restarts)
        }
        Event::RestartsEnded(e) => {
            let restarts = Restarts {
                over: Some(e.by.clone()),
                ..query::restarts(tx, agent)?.unwrap_or_default()
            };
            set_restarts(tx, agent, e.container.as_str(), &restarts)
        }
        Event::RestartsBegun(e) => run(
            tx,
            "UPDATE agents SET restarts = NULL WHERE name = ?1 AND container = ?2",
            params![agent, e.container.as_str()],
        ),
        Event::PolicyDecided(e) if e.unavailable.is_none() => run(
            tx,
            "INSERT OR REPLACE INTO policy_state (policy, agent, digest, state) VALUES (?1, ?2, ?3, ?4)",
            params![e.policy, agent, e.digest.as_str(), e.state],
        ),
        Event::ContainmentAsked(e) => add_cause(tx, "INSERT OR REPLACE", agent, fact.seq, &e.cause),
        // Normally its cause is here already, with the reason; a revocation may not hang on that.
        Event::IdentityRevoked(e) => {
            let cause = Cause {
                by: e.by.clone(),
                action: Action::Revoke,
                reason: "identity revoked".into(),
                event: fact.seq,
                at_ms: fact.at_ms,
            };
            add_cause(tx, "INSERT OR IGNORE", agent, fact.seq, &cause)?;
            deny(tx, agent, e.container.as_str())
        }
        Event::IdentityLeaked(e) => deny(tx, agent, e.container.as_str()),
        Event::Released(e) if is_operator(&e.by) => run(
            tx,
            "DELETE FROM causes WHERE agent = ?1 AND by <> 'host'",
            params![agent],
        ),
        Event::Released(e) => run(
            tx,
            "DELETE FROM causes WHERE agent = ?1 AND by = ?2",
            params![agent, e.by],
        ),
        _ => Ok(()),
    }
}

/// An operator releases all but the host's own rules; anybody else only what they asked for.
fn is_operator(by: &str) -> bool {
    by == "operator" || by.starts_with("operator:")
}

fn remove(tx: &Connection, agent: &str) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM agents WHERE name = ?1",
        "DELETE FROM registry WHERE cn = ?1",
        "DELETE FROM causes WHERE agent = ?1",
        "DELETE FROM steps WHERE agent = ?1",
        "DELETE FROM effects WHERE agent = ?1",
        "DELETE FROM policy_state WHERE agent = ?1",
    ] {
        run(tx, sql, params![agent])?;
    }
    Ok(())
}

/// A completed step is never called again, and one that failed begins anew: neither has a history.
fn end_step(tx: &Connection, agent: &str, seq: u64, key: &str, failed: Option<String>) -> rusqlite::Result<()> {
    run(
        tx,
        "INSERT OR REPLACE INTO steps (key, agent, seq, failed) VALUES (?1, ?2, ?3, ?4)",
        params![key, agent, seq, failed],
    )?;
    run(tx, "DELETE FROM effects WHERE key = ?1", params![key])
}

fn set_init(tx: &Connection, agent: &str, container: &str, init: &InitProgress) -> rusqlite::Result<()> {
    run(
        tx,
        "UPDATE agents SET init = ?3 WHERE name = ?1 AND container = ?2",
        params![agent, container, json(init)?],
    )
}

fn made_ready(tx: &Connection, agent: &str, container: &str, start: u64) -> rusqlite::Result<()> {
    run(
        tx,
        "UPDATE agents SET ready_start = ?3 WHERE name = ?1 AND container = ?2",
        params![agent, container, start],
    )
}

fn set_restarts(tx: &Connection, agent: &str, container: &str, restarts: &Restarts) -> rusqlite::Result<()> {
    run(
        tx,
        "UPDATE agents SET restarts = ?3 WHERE name = ?1 AND container = ?2",
        params![agent, container, json(restarts)?],
    )
}

fn add_cause(tx: &Connection, insert: &str, agent: &str, seq: u64, cause: &Cause) -> rusqlite::Result<()> {
    run(
        tx,
        &format!("{insert} INTO causes (agent, by, action, seq, cause) VALUES (?1, ?2, ?3, ?4, ?5)"),
        params![agent, cause.by, json(&cause.action)?, seq, json(cause)?],
    )
}

fn run(tx: &Connection, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<()> {
    tx.prepare_cached(sql)?.execute(params).map(|_| ())
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}
