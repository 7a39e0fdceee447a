//! Forged identities against the live listeners of a real control plane: none is accepted, each reason is journaled,
//! and the configured action is in force afterwards.
//!
//! A forgery is one lie. Who can tell it differs:
//! - `certificates`: a container that the store doesn't know, made by somebody with the engine's socket. Where a
//!   certificate is signed by the host's own authority, an insider did it who has read its key in the state folder.
//! - `registration`: an agent that the control plane created, whose PID 1 somebody has taken over. It is attested and
//!   holds an identity of its own, so everything but its lie is true.
//! - `processes`: somebody who isn't the container's init at all.

mod certificates;
mod engine_hung;
mod input;
mod processes;
mod registration;

use anyhow::{Result, ensure};
use clawker_tests::wait::{PATIENCE, until};
use clawker_tests::{Agent, Host, Row};

/// What a refused registration and a lie are answered with.
const REFUSED: &str = "PermissionDenied: refused";

/// Waits for the event that says why `agent` isn't trusted, and for what the policy asks because of it.
fn expect_untrusted(host: &Host, agent: &Agent<'_>, reason: &str) -> Result<Row> {
    let row = host.expect_event("AgentUntrusted", |row| {
        row.agent == agent.full() && row.body["reason"] == reason
    })?;
    host.expect_event("PolicyDecided", |decided| {
        decided.body["policy"] == "quarantine-untrusted" && decided.body["seq"] == row.seq
    })?;
    Ok(row)
}

/// Its network is locked because a policy asked for it, as the kernel says.
fn expect_quarantined(host: &Host, agent: &Agent<'_>) -> Result<()> {
    agent.expect_containment("locked")?;
    let asked = host.expect_event("ContainmentAsked", |row| row.agent == agent.full())?;
    ensure!(asked.body["cause"]["by"] == "policy:quarantine-untrusted", "{asked:?}");
    let applied = host.expect_event("ActionApplied", |row| {
        row.agent == agent.full() && row.body["action"] == "lock-network"
    })?;
    ensure!(applied.seq > asked.seq, "{applied:?}");
    Ok(())
}

/// Somebody was told, and nobody is contained.
fn expect_alerted(host: &Host, agent: &Agent<'_>, word: &str) -> Result<()> {
    host.expect_event("ThresholdCrossed", |row| {
        let detail = row.body["detail"].as_str().unwrap_or_default();
        row.agent == agent.full() && row.body["what"] == "alert" && detail.contains(word)
    })?;
    Ok(())
}

/// Events of this kind about an agent.
fn rows(host: &Host, agent: &Agent<'_>, kind: &str) -> Vec<Row> {
    let of = |row: &Row| row.kind == kind && row.agent == agent.full();
    host.events().into_iter().filter(of).collect()
}

/// It isn't in the registry, nothing was prepared, and its command was let loose by nobody.
fn expect_nothing_given(host: &Host, agent: &Agent<'_>) -> Result<()> {
    for kind in [
        "RegistryRowWritten",
        "InitStarted",
        "InitEffectIntended",
        "AgentReadyIntended",
        "AgentReadySent",
    ] {
        let found = rows(host, agent, kind);
        ensure!(found.is_empty(), "{found:?}");
    }
    Ok(())
}

/// What the forged PID 1 of `container` has said, one object a line.
fn said(host: &Host, container: &str) -> Result<Vec<serde_json::Value>> {
    let logs = host.docker.logs(container)?;
    Ok(logs
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// Waits until it has said something of which `wanted` makes something.
fn until_said<T>(
    host: &Host,
    container: &str,
    what: &str,
    wanted: impl Fn(&serde_json::Value) -> Option<T>,
) -> Result<T> {
    until(what, PATIENCE, || {
        let said = said(host, container)?;
        ensure!(!said.is_empty(), "it said nothing");
        Ok(said.iter().find_map(&wanted))
    })
}
