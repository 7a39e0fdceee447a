//! From an event to a policy's verdict, and from the verdict to the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use clawker_engine::containment::Input;
use clawker_model::event::{Cause, Facts, PluginQuarantined, PolicyDecided};
use clawker_model::{FullName, Row, Verdict};
use clawker_plugin_host::{PolicyReply, Unavailable};
use sha2::{Digest, Sha256};

use super::policies::{FailMode, Mode, Rule};
use super::queues::STRIKES;
use super::task::{Done, Task};
use crate::core::now_ms;

/// A policy was asked and answered, or failed to.
pub(super) struct Decided {
    place: usize,
    /// Whoever was asked; another may have that place meanwhile.
    rule: Arc<Rule>,
    agent: FullName,
    row: Arc<Row>,
    /// The state it was given.
    before: String,
    facts: Option<Facts>,
    result: Result<PolicyReply, String>,
}

impl Task {
    /// An event for a policy: evaluated when its turn comes.
    pub(super) async fn offer(&mut self, place: usize, agent: &FullName, row: Arc<Row>) {
        let Some(rule) = self.rules.get(place).and_then(Clone::clone) else {
            return;
        };
        if self.queues.is_quarantined(place) {
            self.said(place, &row, None);
            self.fall_back(&rule, agent, &row, "it is quarantined").await;
        } else if self.queues.push(place, agent, row.clone()) {
            self.evaluate(place, agent);
        } else {
            let result = Err("too many events wait for it".to_owned());
            self.judged(Decided {
                place,
                rule,
                agent: agent.clone(),
                row,
                before: String::new(),
                facts: None,
                result,
            })
            .await;
        }
    }

    pub(super) fn evaluate(&mut self, place: usize, agent: &FullName) {
        let Some(rule) = self.rules.get(place).and_then(Clone::clone) else {
            return;
        };
        let Some(turn) = self.queues.next(place, agent) else {
            return;
        };
        let counts = self.windows.at(&turn.row, &rule.windows);
        let containment = self
            .agents
            .get(agent)
            .map(|agent| agent.state.asked())
            .unwrap_or_default();
        let facts = Facts { counts, containment };
        let (store, agent) = (self.parts.store.clone(), agent.clone());
        let span =
            tracing::debug_span!("policy", policy = rule.name, digest = %rule.digest, %agent, seq = turn.row.seq);
        rule.running.fetch_add(1, Ordering::Relaxed);
        let told = facts.clone();
        self.work.spawn(async move {
            let _permit = turn.permits.acquire().await;
            let before = match turn.state {
                Some(state) => Ok(state),
                None => store
                    .policy_state(&rule.name, &rule.digest, &agent)
                    .await
                    .map_err(|error| format!("reading its state: {error}")),
            };
            let (before, result) = match before {
                Err(error) => (String::new(), Err(error)),
                Ok(before) => {
                    let (row, state, judge) = (turn.row.clone(), before.clone(), rule.judge.clone());
                    let judged =
                        tokio::task::spawn_blocking(move || span.in_scope(|| judge.judge(&row, facts, state))).await;
                    let judged = judged.unwrap_or_else(|error| Err(Unavailable::Trap(error.to_string())));
                    (before, judged.map_err(|error| error.to_string()))
                }
            };
            Done::Decided(Box::new(Decided {
                place,
                rule,
                agent,
                row: turn.row,
                before,
                facts: Some(told),
                result,
            }))
        });
    }

    pub(super) async fn decided(&mut self, decided: Decided) {
        let (place, rule, agent) = (decided.place, decided.rule.clone(), decided.agent.clone());
        rule.running.fetch_sub(1, Ordering::Relaxed);
        self.draining.retain(|old| old.running() > 0);
        let left = decided.result.as_ref().ok().map(|reply| reply.state.clone());
        self.judged(decided).await;
        // State is that of the code which left it.
        let left = left.filter(|_| self.in_place(place).is_some_and(|now| now.digest == rule.digest));
        self.queues.ended(place, &agent, left);
        self.evaluate(place, &agent);
    }

    fn in_place(&self, place: usize) -> Option<&Arc<Rule>> {
        self.rules.get(place).and_then(Option::as_ref)
    }

    /// Journals the decision, then gives each verdict to the engine.
    async fn judged(&mut self, decided: Decided) {
        let Decided {
            place,
            rule,
            agent,
            row,
            before,
            facts,
            result,
        } = decided;
        if !self.agents.contains_key(&agent) {
            return;
        }
        let said = result.as_ref().ok().map(|reply| &reply.verdicts);
        let said = said.map(|verdicts| verdicts.iter().map(|verdict| verdict.action.clone()).collect());
        self.said(place, &row, said);
        let is_current = self.in_place(place).is_some_and(|now| Arc::ptr_eq(now, &rule));
        let (verdicts, unavailable, fuel, micros, state) = match result {
            Ok(reply) => (reply.verdicts, None, reply.fuel, reply.micros, reply.state),
            Err(why) => (Vec::new(), Some(why), 0, 0, before.clone()),
        };
        let event = PolicyDecided {
            policy: rule.name.clone(),
            digest: rule.digest.clone(),
            seq: row.seq,
            verdicts: verdicts.clone(),
            unavailable: unavailable.clone(),
            fuel,
            micros,
            state_before: hash(&before),
            state_after: hash(&state),
            state,
            facts,
        };
        let (by, mode) = (rule.by(), rule.mode);
        let journal = self.journal.clone();
        let consequences = async {
            if let Some(why) = unavailable {
                // What a version that was replaced fails at says nothing of the one in its place.
                let quarantined = is_current && self.queues.failed(place);
                self.fall_back(&rule, &agent, &row, &why).await;
                if quarantined {
                    self.quarantine(&rule, &agent, &why).await;
                }
                return;
            }
            if is_current {
                self.queues.succeeded(place, fuel, micros);
            }
            for Verdict { action, reason } in verdicts {
                if mode != Mode::Enforce {
                    continue;
                }
                self.hurry(&agent, &action);
                let cause = Cause {
                    by: by.clone(),
                    action,
                    reason,
                    event: row.seq,
                    at_ms: now_ms(),
                };
                self.take(&agent, vec![Input::Asked { cause }], None).await;
            }
        };
        // The decision's row is handed over first, so it is written first; nobody waits for it alone.
        tokio::join!(biased; journal.note(&agent, event), consequences);
    }

    /// What is done for an event that a policy couldn't judge.
    async fn fall_back(&mut self, rule: &Rule, agent: &FullName, row: &Row, why: &str) {
        if rule.fail_mode != FailMode::Closed || rule.mode != Mode::Enforce {
            return;
        }
        let reason = format!("the policy {} couldn't judge: {why}", rule.name);
        let action = rule.fallback.clone();
        let cause = Cause {
            by: rule.by(),
            action: action.clone(),
            reason,
            event: row.seq,
            at_ms: now_ms(),
        };
        self.hurry(agent, &action);
        self.take(agent, vec![Input::Asked { cause }], None).await;
    }

    async fn quarantine(&mut self, rule: &Rule, agent: &FullName, why: &str) {
        let (name, digest) = (rule.name.clone(), rule.digest.clone());
        let why = format!("{STRIKES} failures in a row, the last: {why}");
        let detail = format!("policy {name} is quarantined: {why}");
        self.journal.note(agent, PluginQuarantined { name, digest, why }).await;
        self.degrade(detail);
    }
}

/// What a decision's row says of a policy's state.
pub fn hash(state: &str) -> String {
    Sha256::digest(state).iter().map(|byte| format!("{byte:02x}")).collect()
}
