//! From an event to a policy's verdict, and from the verdict to the engine.

use std::sync::Arc;

use clawker_engine::containment::Input;
use clawker_model::event::{Cause, PluginQuarantined, PolicyDecided};
use clawker_model::{FullName, Row, Verdict};
use clawker_plugin_host::{Facts, PolicyReply, Unavailable};
use sha2::{Digest, Sha256};

use super::policies::{FailMode, Mode, STRIKES};
use super::task::{Done, Task};
use crate::core::now_ms;

/// A policy was asked and answered, or failed to.
pub(super) struct Decided {
    rule: usize,
    agent: FullName,
    row: Arc<Row>,
    /// The state it was given.
    before: String,
    result: Result<PolicyReply, String>,
}

impl Task {
    /// An event for a policy: evaluated when its turn comes.
    pub(super) async fn offer(&mut self, rule: usize, agent: &FullName, row: Arc<Row>) {
        if self.queues.is_quarantined(rule) {
            self.fall_back(rule, agent, &row, "it is quarantined").await;
        } else if self.queues.push(rule, agent, row.clone()) {
            self.evaluate(rule, agent);
        } else {
            let result = Err("too many events wait for it".to_owned());
            self.judged(Decided {
                rule,
                agent: agent.clone(),
                row,
                before: String::new(),
                result,
            })
            .await;
        }
    }

    fn evaluate(&mut self, rule: usize, agent: &FullName) {
        let Some(turn) = self.queues.next(rule, agent) else {
            return;
        };
        let windows = self.windows.at(&turn.row, &self.parts.rules[rule].windows);
        let containment = self
            .agents
            .get(agent)
            .map(|agent| agent.state.asked())
            .unwrap_or_default();
        let facts = Facts { windows, containment };
        let (judge, store) = (self.parts.judge.clone(), self.parts.store.clone());
        let (agent, name) = (agent.clone(), self.parts.rules[rule].name.clone());
        self.work.spawn(async move {
            let _permit = turn.permits.acquire().await;
            let before = match turn.state {
                Some(state) => Ok(state),
                None => store
                    .policy_state(&name, &agent)
                    .await
                    .map_err(|error| format!("reading its state: {error}")),
            };
            let (before, result) = match before {
                Err(error) => (String::new(), Err(error)),
                Ok(before) => {
                    let (row, state) = (turn.row.clone(), before.clone());
                    let judged = tokio::task::spawn_blocking(move || judge.judge(rule, &row, facts, state)).await;
                    let judged = judged.unwrap_or_else(|error| Err(Unavailable::Trap(error.to_string())));
                    (before, judged.map_err(|error| error.to_string()))
                }
            };
            Done::Decided(Box::new(Decided {
                rule,
                agent,
                row: turn.row,
                before,
                result,
            }))
        });
    }

    pub(super) async fn decided(&mut self, decided: Decided) {
        let (rule, agent) = (decided.rule, decided.agent.clone());
        let state = decided.result.as_ref().ok().map(|reply| reply.state.clone());
        self.judged(decided).await;
        self.queues.ended(rule, &agent, state);
        self.evaluate(rule, &agent);
    }

    /// Journals the decision, then gives each verdict to the engine.
    async fn judged(&mut self, decided: Decided) {
        let Decided {
            rule,
            agent,
            row,
            before,
            result,
        } = decided;
        if !self.agents.contains_key(&agent) {
            return;
        }
        let policy = &self.parts.rules[rule];
        let (verdicts, unavailable, fuel, micros, state) = match result {
            Ok(reply) => (reply.verdicts, None, reply.fuel, reply.micros, reply.state),
            Err(why) => (Vec::new(), Some(why), 0, 0, before.clone()),
        };
        let event = PolicyDecided {
            policy: policy.name.clone(),
            digest: policy.digest.clone(),
            seq: row.seq,
            verdicts: verdicts.clone(),
            unavailable: unavailable.clone(),
            fuel,
            micros,
            state_before: hash(&before),
            state_after: hash(&state),
            state,
        };
        let (by, mode) = (policy.by(), policy.mode);
        let journal = self.journal.clone();
        let consequences = async {
            if let Some(why) = unavailable {
                let quarantined = self.queues.failed(rule);
                self.fall_back(rule, &agent, &row, &why).await;
                if quarantined {
                    self.quarantine(rule, &agent, &why).await;
                }
                return;
            }
            self.queues.succeeded(rule);
            for Verdict { action, reason } in verdicts {
                if mode == Mode::Monitor {
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
    async fn fall_back(&mut self, rule: usize, agent: &FullName, row: &Row, why: &str) {
        let policy = &self.parts.rules[rule];
        if policy.fail_mode != FailMode::Closed || policy.mode == Mode::Monitor {
            return;
        }
        let reason = format!("the policy {} couldn't judge: {why}", policy.name);
        let action = policy.fallback.clone();
        let cause = Cause {
            by: policy.by(),
            action: action.clone(),
            reason,
            event: row.seq,
            at_ms: now_ms(),
        };
        self.hurry(agent, &action);
        self.take(agent, vec![Input::Asked { cause }], None).await;
    }

    async fn quarantine(&mut self, rule: usize, agent: &FullName, why: &str) {
        let policy = &self.parts.rules[rule];
        let (name, digest) = (policy.name.clone(), policy.digest.clone());
        let why = format!("{STRIKES} failures in a row, the last: {why}");
        let detail = format!("policy {name} is quarantined: {why}");
        self.journal.note(agent, PluginQuarantined { name, digest, why }).await;
        self.degrade(detail);
    }
}

fn hash(state: &str) -> String {
    Sha256::digest(state).iter().map(|byte| format!("{byte:02x}")).collect()
}
