//! One agent as the task keeps it: the engine's state, the target, and who waits for what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use clawker_engine::containment::State;
use clawker_model::{Action, Axis, FullName, NetworkState};
use tokio::sync::watch;

use super::apply::Attached;
use super::{Answer, ContainError, Outcome, Reach, View, is_ended};

pub(super) struct Agent {
    pub(super) name: FullName,
    pub(super) state: State,
    pub(super) attached: Option<Arc<Attached>>,
    /// Counts attachments, so that the result of an effect on an earlier one is nobody's.
    pub(super) epoch: u64,
    /// The row of the last cause or release.
    pub(super) cause: u64,
    /// Denied packets that were reported; `None` until the counter was read under a restriction.
    pub(super) denied: Option<u64>,
    read_back: BTreeMap<Axis, String>,
    errors: BTreeMap<Axis, String>,
    waiters: Vec<Waiter>,
    view: watch::Sender<View>,
}

/// Who waits until nothing is under way on these axes.
pub(super) struct Waiter {
    pub(super) axes: Vec<Axis>,
    pub(super) began: Instant,
    pub(super) reply: Reply,
}

pub(super) enum Reply {
    /// An attach or a settle: nothing is given to an agent that was stopped.
    Start(Answer<View>, u64),
    Operator(Answer<Outcome>),
    Nothing(Answer<()>),
}

impl Agent {
    pub(super) fn new(name: FullName, view: watch::Sender<View>) -> Self {
        Self {
            name,
            state: State::default(),
            attached: None,
            epoch: 0,
            cause: 0,
            denied: None,
            read_back: BTreeMap::new(),
            errors: BTreeMap::new(),
            waiters: Vec::new(),
            view,
        }
    }

    pub(super) fn is_at(&self, start: u64) -> bool {
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.target.start == start)
    }

    /// A new start, or none.
    pub(super) fn begin(&mut self, attached: Option<Arc<Attached>>) {
        self.epoch += 1;
        self.attached = attached;
        self.denied = None;
        self.read_back.clear();
        self.errors.clear();
    }

    pub(super) fn read(&mut self, axis: Axis, text: String) {
        self.errors.remove(&axis);
        self.read_back.insert(axis, text);
    }

    pub(super) fn failed(&mut self, axis: Axis, error: String) {
        self.read_back.remove(&axis);
        self.errors.insert(axis, error);
    }

    /// Whether denied packets are to be watched.
    pub(super) fn is_restricted(&self) -> bool {
        matches!(self.state.network_in_force(), Some(NetworkState::Restricted { .. }))
    }

    /// Who asked for the revocation.
    pub(super) fn revoker(&self) -> String {
        let revokes = self.state.causes().iter().find(|cause| cause.action == Action::Revoke);
        revokes.map_or_else(|| "control-plane".to_owned(), |cause| cause.by.clone())
    }

    pub(super) fn view(&self) -> View {
        let texts = self
            .read_back
            .values()
            .cloned()
            .chain(self.errors.values().map(|error| format!("failed: {error}")));
        View {
            asked: self.state.asked(),
            in_force: self.state.in_force(),
            causes: self.state.causes().to_vec(),
            read_back: texts.collect::<Vec<_>>().join("; "),
            reduced: self
                .attached
                .as_ref()
                .is_some_and(|attached| matches!(attached.target.reach, Reach::Engine(_))),
        }
    }

    pub(super) fn wait(&mut self, axes: Vec<Axis>, began: Instant, reply: Reply) {
        self.waiters.push(Waiter { axes, began, reply });
    }

    /// Shows what changed, and answers those for whom all has ended.
    pub(super) fn publish(&mut self) {
        let view = self.view();
        self.view.send_if_modified(|shown| {
            let changed = *shown != view;
            if changed {
                shown.clone_from(&view);
            }
            changed
        });
        let (waiting, done): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|waiter| waiter.axes.iter().any(|axis| self.state.is_applying(*axis)));
        self.waiters = waiting;
        done.into_iter().for_each(|waiter| self.answer(waiter, &view));
    }

    fn answer(&self, waiter: Waiter, view: &View) {
        let missing = waiter.axes.iter().find(|axis| !self.state.is_in_force(**axis));
        let failed = missing
            .filter(|_| self.state.is_attached())
            .map(|axis| ContainError::Failed {
                agent: self.name.clone(),
                axis: *axis,
                error: self
                    .errors
                    .get(axis)
                    .cloned()
                    .unwrap_or_else(|| "it wasn't read back".to_owned()),
            });
        // Whoever gave up waiting needs no answer.
        match waiter.reply {
            Reply::Start(reply, start) => {
                let agent = self.name.clone();
                let _ = reply.send(match failed {
                    _ if !self.is_at(start) => Err(ContainError::NotAttached { agent, start }),
                    _ if is_ended(&view.asked) => Err(ContainError::Ended {
                        agent,
                        asked: view.asked.clone(),
                    }),
                    Some(error) => Err(error),
                    None => Ok(view.clone()),
                });
            }
            Reply::Operator(reply) => {
                let micros = waiter.began.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
                let _ = reply.send(match failed {
                    Some(error) => Err(error),
                    None => Ok(Outcome {
                        view: view.clone(),
                        micros,
                    }),
                });
            }
            Reply::Nothing(reply) => {
                let _ = reply.send(Ok(()));
            }
        }
    }
}
