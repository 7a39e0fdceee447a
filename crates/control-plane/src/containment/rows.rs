//! Reads the journal: what policies have to know when the control plane begins.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use clawker_model::{Event, FullName, Row};
use clawker_plugin_host::Windows;
use clawker_store::{Error, Store};

use super::policies::Rule;

const PAGE: u32 = 1000;
/// At least so much of the journal is read, in milliseconds.
const LOOK_BACK: u64 = 3_600_000;
/// Only so many of the last rows of the life before may hold an event that nobody judged: a crash loses no more.
const TAIL: u64 = 256;

/// What the journal says at the beginning.
#[derive(Default)]
pub(super) struct Past {
    pub(super) last_seq: u64,
    /// Denied packets reported in each agent's present start.
    pub(super) denied: HashMap<FullName, u64>,
    /// Events that a crash kept from their policies, by agent.
    pub(super) unjudged: HashMap<FullName, Vec<(usize, Arc<Row>)>>,
}

/// Counts windows anew and finds what was left undone.
pub(super) async fn past(store: &Store, rules: &[Rule], windows: &mut Windows, now: u64) -> Result<Past, Error> {
    let until = store.last_seq();
    let since = now.saturating_sub(windows.longest().max(LOOK_BACK));
    let mut past = Past {
        last_seq: until,
        ..Past::default()
    };
    let mut open: BTreeMap<(u64, usize), Arc<Row>> = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = store.rows(after, PAGE, None, Some(since)).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for row in page.into_iter().filter(|row| row.seq <= until) {
            windows.note(&row);
            note_denied(&mut past.denied, &row);
            if let Event::PolicyDecided(decided) = &row.event {
                let rule = rules.iter().position(|rule| rule.name == decided.policy);
                rule.and_then(|rule| open.remove(&(decided.seq, rule)));
            }
            if row.seq + TAIL > until && row.agent.is_some() {
                let row = Arc::new(row);
                for (rule, _) in rules
                    .iter()
                    .enumerate()
                    .filter(|(_, rule)| rule.wants(row.event.kind()))
                {
                    open.insert((row.seq, rule), row.clone());
                }
            }
        }
    }
    for ((_, rule), row) in open {
        if let Some(agent) = &row.agent {
            past.unjudged
                .entry(agent.clone())
                .or_default()
                .push((rule, row.clone()));
        }
    }
    Ok(past)
}

/// Counts these windows up to that row.
pub(super) async fn count(store: &Store, mut windows: Windows, until: u64, now: u64) -> Result<Windows, Error> {
    let since = now.saturating_sub(windows.longest());
    let mut after = 0;
    loop {
        let page = store.rows(after, PAGE, None, Some(since)).await?;
        let Some(last) = page.last() else { return Ok(windows) };
        after = last.seq;
        page.iter()
            .filter(|row| row.seq <= until)
            .for_each(|row| windows.note(row));
        if after >= until {
            return Ok(windows);
        }
    }
}

/// A start begins at nothing; the rest is what was reported.
pub(super) fn note_denied(denied: &mut HashMap<FullName, u64>, row: &Row) {
    let Some(agent) = &row.agent else { return };
    match &row.event {
        Event::EgressDenied(event) => drop(denied.insert(agent.clone(), event.total)),
        Event::StartBegan(_) | Event::AgentRemoved(_) => drop(denied.remove(agent)),
        _ => {}
    }
}
