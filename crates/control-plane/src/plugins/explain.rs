//! A decision of the past, made again: the same code, event, facts, settings and state must give the same answer, to the
//! last unit of fuel.
//!
//! ```text
//! PolicyDecided{seq, facts, hashes} ─┬─ the event's row
//!                                    ├─ PolicyLoaded before it ──► settings, digest ──► code: in force, or in the store
//!                                    └─ the decision before it for that agent ──► state, proved by its hash
//! ```

use std::sync::Arc;

use clawker_model::event::PolicyDecided;
use clawker_model::{Event, FullName, PluginDigest, Row};
use clawker_plugin_host::{Plugin, PolicyCall, PolicyHost, PolicyReply};

use clawker_plugin_package::Entry;

use super::Plugins;
use crate::containment::{SHADOW, hash};
use crate::core::Core;

const PAGE: u32 = 1000;

/// Why a decision can't be made again.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("row {0} is no decision of a policy")]
    NoDecision(u64),
    #[error("row {0} isn't in the journal any more")]
    Gone(u64),
    #[error("the decision is of a release that didn't keep what a policy was told")]
    NoFacts,
    #[error("the policy's state before the decision isn't in the journal any more")]
    NoState,
    #[error("the settings that the policy had aren't in the journal any more")]
    NoSettings,
    #[error("the policy's code, {digest}, isn't on this host any more: {why}")]
    NoCode { digest: PluginDigest, why: String },
    #[error("the journal: {0}")]
    Journal(#[from] clawker_store::Error),
    #[error("it broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// What was asked, and what is answered now.
#[derive(Debug)]
pub struct Explained {
    pub decision: Row,
    pub event: Row,
    pub decided: PolicyDecided,
    pub settings: String,
    pub state: String,
    pub answer: Result<PolicyReply, String>,
    pub same: bool,
}

/// Makes the decision of that row again.
pub async fn explain(core: &Arc<Core>, number: u64) -> Result<Explained, ExplainError> {
    let decision = row(core, number).await?;
    let (Event::PolicyDecided(decided), Some(agent)) = (decision.event.clone(), decision.agent.clone()) else {
        return Err(ExplainError::NoDecision(number));
    };
    let facts = decided.facts.clone().ok_or(ExplainError::NoFacts)?;
    let event = row(core, decided.seq).await?;
    let state = state_before(core, &decided, &agent, number).await?;
    let settings = settings_then(core, &decided, number).await?;
    let (plugins, digest) = (core.plugins.clone(), decided.digest.clone());
    let policy = decided.policy.clone();
    let plugin = tokio::task::spawn_blocking(move || plugins.code(&policy, &digest)).await?;
    let plugin = plugin.map_err(|why| ExplainError::NoCode {
        digest: decided.digest.clone(),
        why,
    })?;
    let (host, asked) = (
        core.plugins.host.clone(),
        (event.clone(), settings.clone(), state.clone()),
    );
    let reply = tokio::task::spawn_blocking(move || {
        let (row, settings, state) = asked;
        host.evaluate(&PolicyCall {
            plugin,
            settings,
            row: &row,
            facts,
            state,
        })
    });
    let answer = reply.await?.map_err(|unavailable| unavailable.to_string());
    let same = match (&answer, &decided.unavailable) {
        (Ok(answer), None) => {
            answer.verdicts == decided.verdicts && answer.fuel == decided.fuel && answer.state == decided.state
        }
        (Err(now), Some(then)) => now == then,
        _ => false,
    };
    Ok(Explained {
        decision,
        event,
        decided,
        settings,
        state,
        answer,
        same,
    })
}

async fn row(core: &Core, number: u64) -> Result<Row, ExplainError> {
    let rows = core.store.rows(number.saturating_sub(1), 1, None, None).await?;
    let found = rows.into_iter().find(|row| row.seq == number);
    found.ok_or(ExplainError::Gone(number))
}

/// What the last decision of the same policy for that agent left. Its hash stands in the decision.
async fn state_before(
    core: &Core,
    decided: &PolicyDecided,
    agent: &FullName,
    number: u64,
) -> Result<String, ExplainError> {
    let is_it = |state: &str| hash(state) == decided.state_before;
    if is_it("") {
        return Ok(String::new());
    }
    let left = |event| match event {
        Event::PolicyDecided(before) if before.policy == decided.policy && is_it(&before.state) => Some(before.state),
        _ => None,
    };
    let last = last_before(core, Some(agent), number, left).await?;
    last.ok_or(ExplainError::NoState)
}

/// The settings with which that code was put into force last before the decision.
async fn settings_then(core: &Core, decided: &PolicyDecided, number: u64) -> Result<String, ExplainError> {
    let had = |event| match event {
        Event::PolicyLoaded(loaded) if loaded.policy == decided.policy && loaded.digest == decided.digest => {
            Some(loaded.settings)
        }
        _ => None,
    };
    let last = last_before(core, None, number, had).await?;
    last.ok_or(ExplainError::NoSettings)
}

/// The last event before a row of which `of` says something.
async fn last_before<T>(
    core: &Core,
    agent: Option<&FullName>,
    number: u64,
    of: impl Fn(Event) -> Option<T>,
) -> Result<Option<T>, ExplainError> {
    let (mut after, mut last) = (0, None);
    while after < number {
        let rows = core.store.rows(after, PAGE, agent, None).await?;
        let Some(end) = rows.last().map(|row| row.seq) else {
            break;
        };
        let before = rows.into_iter().filter(|row| row.seq < number);
        last = before.filter_map(|row| of(row.event)).last().or(last);
        after = end;
    }
    Ok(last)
}

impl Plugins {
    /// The code of that digest, from wherever it still is. Blocks.
    fn code(&self, policy: &str, digest: &PluginDigest) -> Result<Arc<Plugin>, String> {
        let name = policy.strip_suffix(SHADOW).unwrap_or(policy);
        if self.is_built_in(name) {
            let plugin = self.built_in(name).map_err(|error| error.to_string())?;
            let other = || "this release has another version of it".to_owned();
            return (plugin.digest == *digest).then_some(plugin).ok_or_else(other);
        }
        let (bytes, signer, limits) = {
            let installed = self.installed();
            if let Some(plugin) = installed.held(digest) {
                return Ok(plugin);
            }
            let mut pins = installed.store.entries().values().flat_map(Entry::pins);
            let pin = pins.find(|pin| pin.digest == *digest);
            let pin = pin.ok_or("no version that is kept is of it")?;
            (
                installed.store.read(digest).map_err(|error| error.to_string())?,
                pin.signer,
                pin.limits,
            )
        };
        let class = super::installed::class(signer);
        self.host
            .load_with(&bytes, class, super::installed::wanted(limits))
            .map_err(|error| error.to_string())
    }
}
