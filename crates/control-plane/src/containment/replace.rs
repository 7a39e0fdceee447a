//! Other policies in the place of those in force, with no event dropped and none judged twice.
//!
//! ```text
//! policies ─┬─ their windows are counted already ───────────────────────────────────┐
//!           └─ else: counted anew from the journal, by a task of its own            ├──► each takes its place
//!              meanwhile rows go on to those in force, and are kept for the count ──┘
//! ```
//! What waits for a policy is judged by whatever is in its place when its turn comes. An evaluation under way ends with
//! the version that began it, whose verdict counts: it is *draining*. State goes on to other settings of the same code,
//! and not to other code.

use std::sync::Arc;

use clawker_model::event::PolicyUnloaded;
use clawker_model::{PluginDigest, Row};
use clawker_plugin_host::Windows;
use tokio::sync::mpsc;

use super::policies::{Mode, Rule, SHADOW};
use super::task::{Done, Task};
use super::trial::{Said, Side, Tally, Trial};
use super::{Answer, ContainError, rows};
use crate::core::now_ms;

/// A replacement that waits for its windows to be counted.
pub(super) struct Replacing {
    rules: Vec<Rule>,
    reply: Answer<()>,
    /// Rows that came since the count began.
    since: Vec<Arc<Row>>,
}

/// A trial, and the two versions in it.
pub(super) struct Beside {
    in_force: Arc<Rule>,
    on_trial: Arc<Rule>,
    trial: Trial,
}

/// A version on trial was clean for as long as was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// The policy's name, without [`SHADOW`].
    pub policy: String,
    /// The version on trial.
    pub digest: PluginDigest,
    pub agreed: u64,
}

/// Where promotions go.
pub type Promotions = mpsc::UnboundedSender<Promotion>;

/// How a policy is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub policy: String,
    pub digest: PluginDigest,
    pub version: String,
    pub mode: &'static str,
    pub quarantined: bool,
    pub calls: u64,
    pub failures: u64,
    /// Units, of all calls together.
    pub fuel: u64,
    /// Microseconds of a call; `None` before the first.
    pub p50_micros: Option<u64>,
    pub p99_micros: Option<u64>,
    /// Events that wait.
    pub waiting: usize,
    /// Calls under way, and those of versions that were replaced.
    pub running: u32,
    pub draining: u32,
    /// Of one on trial.
    pub trial: Option<Tally>,
}

impl Task {
    pub(super) async fn replace(&mut self, rules: Vec<Rule>, reply: Answer<()>) {
        if self.replacing.is_some() {
            let _ = reply.send(Err(ContainError::Replacing));
            return;
        }
        let wanted = || rules.iter().flat_map(|rule| &rule.windows);
        if self.windows.counts(wanted()) {
            self.take_places(rules).await;
            let _ = reply.send(Ok(()));
            return;
        }
        let windows = Windows::new(wanted());
        self.replacing = Some(Replacing {
            rules,
            reply,
            since: Vec::new(),
        });
        let (store, until) = (self.parts.store.clone(), self.past.last_seq);
        self.work.spawn(async move {
            let counted = rows::count(&store, windows, until, now_ms()).await;
            Done::Counted(counted.map_err(|error| error.to_string()))
        });
    }

    /// A row that a count which is under way doesn't see.
    pub(super) fn keep_for_count(&mut self, row: &Arc<Row>) {
        if let Some(replacing) = &mut self.replacing {
            replacing.since.push(row.clone());
        }
    }

    pub(super) async fn counted(&mut self, counted: Result<Windows, String>) {
        let Some(replacing) = self.replacing.take() else { return };
        let Replacing { rules, reply, since } = replacing;
        match counted {
            Ok(mut windows) => {
                since.iter().for_each(|row| windows.note(row));
                self.windows = windows;
                self.take_places(rules).await;
                let _ = reply.send(Ok(()));
            }
            Err(error) => drop(reply.send(Err(ContainError::Journal(error)))),
        }
    }

    /// Puts the rules into force, and no others.
    pub(super) async fn take_places(&mut self, rules: Vec<Rule>) {
        for place in 0..self.rules.len() {
            let goes = |rule: &Arc<Rule>| !rules.iter().any(|new| new.name == rule.name);
            if let Some(rule) = self
                .rules
                .get_mut(place)
                .and_then(|rule| rule.take_if(|rule| goes(rule)))
            {
                self.queues.end(place);
                let event = PolicyUnloaded {
                    policy: rule.name.clone(),
                    digest: rule.digest.clone(),
                };
                self.journal.note(None, event).await;
                self.drain(rule);
            }
        }
        for rule in rules {
            self.take_place(Arc::new(rule)).await;
        }
        self.begin_trials();
    }

    async fn take_place(&mut self, rule: Arc<Rule>) {
        let named = |old: &Option<Arc<Rule>>| old.as_ref().is_some_and(|old| old.name == rule.name);
        let place = self.rules.iter().position(named);
        let place = place.unwrap_or_else(|| {
            self.rules.push(None);
            self.rules.len() - 1
        });
        let Some(slot) = self.rules.get_mut(place) else { return };
        if slot.as_ref().is_some_and(|old| old.is_as(&rule)) && !self.queues.is_quarantined(place) {
            return;
        }
        let old = slot.replace(rule.clone());
        let keeps_state = old.as_ref().is_some_and(|old| old.digest == rule.digest);
        self.queues.begin(place, keeps_state);
        self.journal.note(None, rule.loaded()).await;
        if let Some(old) = old {
            self.drain(old);
        }
        for agent in self.queues.agents(place) {
            self.evaluate(place, &agent);
        }
    }

    fn drain(&mut self, rule: Arc<Rule>) {
        self.draining.retain(|rule| rule.running() > 0);
        if rule.running() > 0 {
            self.draining.push(rule);
        }
    }

    /// A trial for each rule that is a shadow; one of which neither side was replaced goes on.
    fn begin_trials(&mut self) {
        let mut before = std::mem::take(&mut self.trials);
        for (on_trial, rule) in self.rules.iter().enumerate() {
            let Some(rule) = rule else { continue };
            let Mode::Shadow { promote_after } = rule.mode else {
                continue;
            };
            let base = rule.name.strip_suffix(SHADOW);
            let named = |old: &&Arc<Rule>| Some(old.name.as_str()) == base;
            let placed = self.rules.iter().enumerate();
            let mut placed = placed.filter_map(|(place, rule)| Some((place, rule.as_ref().filter(named)?)));
            let Some((in_force, other)) = placed.next() else {
                continue;
            };
            let same = |old: &Beside| Arc::ptr_eq(&old.in_force, other) && Arc::ptr_eq(&old.on_trial, rule);
            let kept = before.iter().position(same).map(|kept| before.swap_remove(kept));
            self.trials.push(kept.unwrap_or_else(|| Beside {
                in_force: other.clone(),
                on_trial: rule.clone(),
                trial: Trial::new(in_force, on_trial, promote_after),
            }));
        }
    }

    /// What a policy said to an event, for the trial that it is a side of.
    pub(super) fn said(&mut self, rule: usize, row: &Row, said: Said) {
        let Some(agent) = &row.agent else { return };
        for beside in &mut self.trials {
            let Some(side) = beside.trial.side(rule) else { continue };
            let Some(agreed) = beside.trial.said(row.seq, agent, side, said.clone()) else {
                continue;
            };
            let promotion = Promotion {
                policy: beside.in_force.name.clone(),
                digest: beside.on_trial.digest.clone(),
                agreed,
            };
            tracing::info!(policy = promotion.policy, agreed, "its version on trial is clean");
            // Nobody who promotes is left when the control plane ends.
            let _ = self.parts.promotions.send(promotion);
        }
    }

    /// Of an event that one side of a trial isn't asked about it says nothing.
    pub(super) fn not_asked(&mut self, row: &Row) {
        let kind = row.event.kind();
        let silent = |beside: &Beside| match (beside.in_force.wants(kind), beside.on_trial.wants(kind)) {
            (true, false) => Some(beside.trial.rules.1),
            (false, true) => Some(beside.trial.rules.0),
            _ => None,
        };
        let silent: Vec<usize> = self.trials.iter().filter_map(silent).collect();
        for rule in silent {
            self.said(rule, row, Some(Vec::new()));
        }
    }

    pub(super) fn standings(&self) -> Vec<Standing> {
        let places = self.rules.iter().enumerate();
        places
            .filter_map(|(place, rule)| {
                let rule = rule.as_ref()?;
                let standing = self.queues.standing(place)?;
                let draining = self.draining.iter().filter(|old| old.name == rule.name);
                let trial = self
                    .trials
                    .iter()
                    .find(|beside| beside.trial.side(place) == Some(Side::OnTrial));
                Some(Standing {
                    policy: rule.name.clone(),
                    digest: rule.digest.clone(),
                    version: rule.version.clone(),
                    mode: rule.mode.word(),
                    quarantined: self.queues.is_quarantined(place),
                    calls: standing.calls,
                    failures: standing.failures,
                    fuel: standing.fuel,
                    p50_micros: standing.micros(0.5),
                    p99_micros: standing.micros(0.99),
                    waiting: self.queues.waiting(place),
                    running: rule.running(),
                    draining: draining.map(|old| old.running()).sum(),
                    trial: trial.map(|beside| beside.trial.tally().clone()),
                })
            })
            .collect()
    }
}
