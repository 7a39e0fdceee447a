//! Policies as the task sees them: what each asked for, whose turn it is, and what becomes of a failure.
//!
//! For one agent a policy gets one event at a time and in order, because its state goes from one to the next; at
//! most [`AT_ONCE`] evaluations of a policy run, so that a slow one can't take every thread.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use clawker_model::{Action, FullName, PluginDigest, Row};
use clawker_plugin_host::{Facts, Plugin, PolicyCall, PolicyHost, PolicyReply, Unavailable, Window, is_offered};
use tokio::sync::Semaphore;

/// Failures in a row after which a policy is not asked any more.
pub(super) const STRIKES: u32 = 3;
/// Evaluations of one policy at a time.
const AT_ONCE: usize = 8;
/// Events that may wait for one policy and agent. More is a failure of the policy.
const WAITING: usize = 1024;

/// A policy plugin as it is configured.
#[derive(Debug, Clone)]
pub struct Policy {
    pub name: String,
    pub plugin: Arc<Plugin>,
    /// A JSON object.
    pub settings: String,
    /// What is done while it can't answer.
    pub fallback: Action,
    pub fail_mode: FailMode,
    pub mode: Mode,
}

/// What becomes of an event that a policy couldn't judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// The fallback action.
    Closed,
    /// Nothing.
    Open,
    /// What it asked last stands.
    Last,
}

/// Whether verdicts have consequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    /// They are journaled, and that is all.
    Monitor,
}

/// Whoever answers for the policies. Blocks.
pub(super) trait Judge: Send + Sync {
    fn judge(&self, rule: usize, row: &Row, facts: Facts, state: String) -> Result<PolicyReply, Unavailable>;
}

/// A policy without its code.
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) digest: PluginDigest,
    pub(super) events: HashSet<String>,
    pub(super) windows: Vec<Window>,
    pub(super) fallback: Action,
    pub(super) fail_mode: FailMode,
    pub(super) mode: Mode,
}

impl Rule {
    pub(super) fn wants(&self, kind: &str) -> bool {
        self.events.contains(kind) && is_offered(kind)
    }

    /// In the name of which it asks.
    pub(super) fn by(&self) -> String {
        format!("policy:{}", self.name)
    }
}

struct Plugins {
    host: Arc<dyn PolicyHost>,
    loaded: Vec<(Arc<Plugin>, String)>,
}

impl Judge for Plugins {
    fn judge(&self, rule: usize, row: &Row, facts: Facts, state: String) -> Result<PolicyReply, Unavailable> {
        let (plugin, settings) = self.loaded.get(rule).ok_or(Unavailable::Missing)?;
        let call = PolicyCall {
            plugin: plugin.clone(),
            settings: settings.clone(),
            row,
            facts,
            state,
        };
        self.host.evaluate(&call)
    }
}

/// The rules, and whoever runs their code.
pub(super) fn split(policies: Vec<Policy>, host: Arc<dyn PolicyHost>) -> (Vec<Rule>, Arc<dyn Judge>) {
    let loaded = policies
        .iter()
        .map(|policy| (policy.plugin.clone(), policy.settings.clone()))
        .collect();
    let rule = |policy: Policy| Rule {
        digest: policy.plugin.digest.clone(),
        events: policy.plugin.events.iter().cloned().collect(),
        windows: policy.plugin.windows.clone(),
        name: policy.name,
        fallback: policy.fallback,
        fail_mode: policy.fail_mode,
        mode: policy.mode,
    };
    (
        policies.into_iter().map(rule).collect(),
        Arc::new(Plugins { host, loaded }),
    )
}

/// Whose turn it is.
pub(super) struct Queues {
    waiting: HashMap<(usize, FullName), Queue>,
    standing: Vec<Standing>,
}

/// How a policy has been doing, whichever agent it was about.
struct Standing {
    strikes: u32,
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct Queue {
    busy: bool,
    rows: VecDeque<Arc<Row>>,
    /// What the policy left; `None` until the store was asked.
    state: Option<String>,
}

/// What is to be evaluated now.
pub(super) struct Turn {
    pub(super) row: Arc<Row>,
    pub(super) state: Option<String>,
    pub(super) permits: Arc<Semaphore>,
}

impl Queues {
    pub(super) fn new(rules: usize) -> Self {
        let standing = || Standing {
            strikes: 0,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        };
        Self {
            waiting: HashMap::new(),
            standing: (0..rules).map(|_| standing()).collect(),
        }
    }

    /// `false` when the queue is full.
    pub(super) fn push(&mut self, rule: usize, agent: &FullName, row: Arc<Row>) -> bool {
        let queue = self.waiting.entry((rule, agent.clone())).or_default();
        let room = queue.rows.len() < WAITING;
        if room {
            queue.rows.push_back(row);
        }
        room
    }

    /// The next event, unless one is being evaluated.
    pub(super) fn next(&mut self, rule: usize, agent: &FullName) -> Option<Turn> {
        let permits = self.standing.get(rule)?.permits.clone();
        let queue = self.waiting.get_mut(&(rule, agent.clone()))?;
        if queue.busy {
            return None;
        }
        let row = queue.rows.pop_front()?;
        queue.busy = true;
        Some(Turn {
            row,
            state: queue.state.clone(),
            permits,
        })
    }

    /// An evaluation ended; `state` is what the policy left, if it answered.
    pub(super) fn ended(&mut self, rule: usize, agent: &FullName, state: Option<String>) {
        if let Some(queue) = self.waiting.get_mut(&(rule, agent.clone())) {
            queue.busy = false;
            queue.state = state.or(queue.state.take());
        }
    }

    pub(super) fn succeeded(&mut self, rule: usize) {
        if let Some(standing) = self.standing.get_mut(rule) {
            standing.strikes = 0;
        }
    }

    /// Whether this failure is the one that quarantines it.
    pub(super) fn failed(&mut self, rule: usize) -> bool {
        let Some(standing) = self.standing.get_mut(rule) else {
            return false;
        };
        standing.strikes = standing.strikes.saturating_add(1);
        standing.strikes == STRIKES
    }

    pub(super) fn is_quarantined(&self, rule: usize) -> bool {
        self.standing
            .get(rule)
            .is_none_or(|standing| standing.strikes >= STRIKES)
    }

    pub(super) fn forget(&mut self, agent: &FullName) {
        self.waiting.retain(|(_, of), _| of != agent);
    }
}
