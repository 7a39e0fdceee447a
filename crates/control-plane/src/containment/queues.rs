//! Whose turn it is, and how each policy has been doing.
//!
//! For one agent a policy gets one event at a time and in order, because its state goes from one to the next; at
//! most [`AT_ONCE`] evaluations of a policy run, so that a slow one can't take every thread. Another version in a
//! policy's place takes over what waits; what is under way goes on with the one before.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use clawker_model::{FullName, Row};
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

/// Failures in a row after which a policy is not asked any more.
pub(super) const STRIKES: u32 = 3;
/// Evaluations of one policy at a time.
const AT_ONCE: usize = 8;
/// Events that may wait for one policy and agent. More is a failure of the policy.
const WAITING: usize = 1024;
/// Longest evaluation that is told from longer ones, in microseconds.
const LONGEST: u64 = 60_000_000;

#[derive(Default)]
pub(super) struct Queues {
    waiting: HashMap<(usize, FullName), Queue>,
    standing: HashMap<usize, Standing>,
}

/// How a policy has been doing, whichever agent it was about.
pub(super) struct Standing {
    strikes: u32,
    permits: Arc<Semaphore>,
    /// Answers, and failures to answer.
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) fuel: u64,
    /// Of an answer, in microseconds.
    micros: Histogram<u64>,
}

impl Standing {
    fn new() -> Option<Self> {
        Some(Self {
            strikes: 0,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            calls: 0,
            failures: 0,
            fuel: 0,
            micros: Histogram::new_with_max(LONGEST, 2).ok()?,
        })
    }

    /// Microseconds that a part of the answers took at most; `None` without one.
    pub(super) fn micros(&self, quantile: f64) -> Option<u64> {
        (!self.micros.is_empty()).then(|| self.micros.value_at_quantile(quantile))
    }
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
    /// A policy begins anew: without strikes, and with what the store has of its state for each agent.
    pub(super) fn begin(&mut self, rule: usize, keeps_state: bool) {
        let Some(new) = Standing::new() else { return };
        let standing = self.standing.entry(rule).or_insert(new);
        standing.strikes = 0;
        if !keeps_state {
            let queues = self.waiting.iter_mut().filter(|((of, _), _)| *of == rule);
            queues.for_each(|(_, queue)| queue.state = None);
        }
    }

    /// A policy is asked no more.
    pub(super) fn end(&mut self, rule: usize) {
        self.standing.remove(&rule);
        self.waiting.retain(|(of, _), _| *of != rule);
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
        let permits = self.standing.get(&rule)?.permits.clone();
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

    pub(super) fn succeeded(&mut self, rule: usize, fuel: u64, micros: u64) {
        if let Some(standing) = self.standing.get_mut(&rule) {
            standing.strikes = 0;
            standing.calls = standing.calls.saturating_add(1);
            standing.fuel = standing.fuel.saturating_add(fuel);
            standing.micros.saturating_record(micros);
        }
    }

    /// Whether this failure is the one that quarantines it.
    pub(super) fn failed(&mut self, rule: usize) -> bool {
        let Some(standing) = self.standing.get_mut(&rule) else {
            return false;
        };
        standing.failures = standing.failures.saturating_add(1);
        standing.strikes = standing.strikes.saturating_add(1);
        standing.strikes == STRIKES
    }

    pub(super) fn is_quarantined(&self, rule: usize) -> bool {
        self.standing
            .get(&rule)
            .is_none_or(|standing| standing.strikes >= STRIKES)
    }

    pub(super) fn standing(&self, rule: usize) -> Option<&Standing> {
        self.standing.get(&rule)
    }

    /// Events that wait for a policy.
    pub(super) fn waiting(&self, rule: usize) -> usize {
        let of = |((of, _), queue): (&(usize, FullName), &Queue)| if *of == rule { queue.rows.len() } else { 0 };
        self.waiting.iter().map(of).sum()
    }

    /// Agents of which events wait for a policy.
    pub(super) fn agents(&self, rule: usize) -> Vec<FullName> {
        let waits = |((of, agent), queue): (&(usize, FullName), &Queue)| {
            (*of == rule && !queue.rows.is_empty()).then(|| agent.clone())
        };
        self.waiting.iter().filter_map(waits).collect()
    }

    pub(super) fn forget(&mut self, agent: &FullName) {
        self.waiting.retain(|(_, of), _| of != agent);
    }
}
