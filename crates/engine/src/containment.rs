//! What is asked for an agent, and what has to be done so that it is in force. Pure.
//!
//! Every cause is kept with its reason; the strongest wins on each axis, and two restrictions allow what both allow.
//!
//! ```text
//!              asked changes, attached, interfaces changed, retry
//!   in force ────────────────────────────────────────────────► applying ── applied ──► in force, or again if
//!      ▲                                                          │                    asked changed meanwhile
//!      └── never without a read-back                              └─ failed ──► escalate one axis up, alert, retry
//! ```
//!
//! network fails → freeze; freeze fails → kill; kill fails → alert, and again at the next tick. An escalation is a
//! cause of its own: the network's goes when the network is in force, the processes' when that start has ended.

use clawker_model::event::Cause;
use clawker_model::{Action, Axis, Containment, IdentityState, NetworkState, ProcessState};

mod causes;
mod line;
#[cfg(test)]
mod tests;

pub use causes::asked;
use causes::{escalation, same, withdraws};
use line::Line;

/// Milliseconds between two attempts at what failed.
pub const RETRY_MS: u64 = 5_000;

/// Who stands behind the agent's own rules, which nobody releases.
pub const HOST: &str = "host";

/// One axis and a value on it: what to apply, or what was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Force {
    Network(NetworkState),
    Processes(ProcessState),
    Identity(IdentityState),
}

impl Force {
    pub fn axis(&self) -> Axis {
        match self {
            Force::Network(_) => Axis::Network,
            Force::Processes(_) => Axis::Processes,
            Force::Identity(_) => Axis::Identity,
        }
    }
}

/// What happened to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Its stored causes. Those that are known already change nothing.
    Adopted {
        causes: Vec<Cause>,
    },
    /// A policy or an operator asks for an action, or the control plane does in a policy's place.
    Asked {
        cause: Cause,
    },
    /// An operator withdraws all causes but the host's, anybody else their own.
    Released {
        by: String,
    },
    /// A start of its container is attested: there is something to apply to.
    Attached,
    /// Its session answers.
    Settled,
    /// That start has ended.
    Detached,
    /// Something changed that may have undone what is in force, e.g. an interface came.
    Disturbed {
        axis: Axis,
    },
    Applied {
        force: Force,
    },
    Failed {
        force: Force,
        error: String,
    },
    Tick,
}

/// What has to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Journal a new cause and what is asked with it.
    Ask { cause: Cause, asked: Containment },
    /// Journal that causes were withdrawn.
    Release {
        by: String,
        causes: u32,
        asked: Containment,
    },
    /// Put it in force and read it back; `verify` first where it may be in force already.
    Apply { force: Force, verify: bool },
    /// Journal a failure, with what it led to.
    Fail {
        force: Force,
        error: String,
        escalate: Option<Action>,
    },
    /// Tell people.
    Alert { reason: String },
}

/// An agent's containment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    causes: Vec<Cause>,
    attached: bool,
    network: Line<NetworkState>,
    processes: Line<ProcessState>,
    identity: Line<IdentityState>,
}

impl State {
    pub fn causes(&self) -> &[Cause] {
        &self.causes
    }

    pub fn asked(&self) -> Containment {
        asked(&self.causes)
    }

    /// What was read back; `None` while there is nothing to read from, or an axis hasn't been read.
    pub fn in_force(&self) -> Option<Containment> {
        if !self.attached {
            return None;
        }
        Some(Containment {
            network: self.network.in_force.clone()?,
            processes: self.processes_in_force()?,
            identity: self.identity.in_force.unwrap_or_default(),
        })
    }

    /// Running is what a start is before anybody did anything to it.
    fn processes_in_force(&self) -> Option<ProcessState> {
        let untouched = self.processes == Line::default();
        self.processes.in_force.or(untouched.then_some(ProcessState::Running))
    }

    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// The network policy as read back last, whatever the other axes.
    pub fn network_in_force(&self) -> Option<&NetworkState> {
        self.network.in_force.as_ref()
    }

    /// Whether something is under way on `axis`.
    pub fn is_applying(&self, axis: Axis) -> bool {
        match axis {
            Axis::Network => self.network.applying.is_some(),
            Axis::Processes => self.processes.applying.is_some(),
            Axis::Identity => self.identity.applying.is_some(),
        }
    }

    /// Whether what is asked on `axis` was read back.
    pub fn is_in_force(&self, axis: Axis) -> bool {
        let asked = self.asked();
        match axis {
            Axis::Network => self.network.in_force.as_ref() == Some(&asked.network),
            Axis::Processes => self.processes_in_force() == Some(asked.processes),
            Axis::Identity => self.identity.in_force.unwrap_or_default() == asked.identity,
        }
    }
}

/// Takes one input; `now` in milliseconds.
pub fn step(state: &mut State, input: Input, now: u64) -> Vec<Output> {
    let mut out = Vec::new();
    match input {
        Input::Adopted { causes } => {
            for cause in causes {
                if !state.causes.iter().any(|known| same(known, &cause)) {
                    state.causes.push(cause);
                }
            }
            // Journaled when it was revoked: it needs no second time.
            if state.identity.applying.is_none() {
                state.identity.in_force = Some(state.asked().identity);
            }
            state.pursue(&mut out);
        }
        Input::Asked { cause } => state.ask(cause, &mut out),
        Input::Released { by } => state.release(&by, &mut out),
        Input::Attached => state.attach(&mut out),
        Input::Settled => state.again(Axis::Processes, &mut out),
        Input::Detached => state.detach(&mut out),
        Input::Disturbed { axis } => state.again(axis, &mut out),
        Input::Applied { force } => state.applied(force, &mut out),
        Input::Failed { force, error } => state.failed(force, error, now, &mut out),
        Input::Tick => state.retry(now, &mut out),
    }
    out
}

impl State {
    fn ask(&mut self, cause: Cause, out: &mut Vec<Output>) {
        if cause.action == Action::Alert {
            out.push(Output::Alert {
                reason: format!("{}: {}", cause.by, cause.reason),
            });
        }
        if cause.action.axis().is_some() && !self.causes.iter().any(|known| same(known, &cause)) {
            self.causes.push(cause.clone());
            out.push(Output::Ask {
                cause,
                asked: self.asked(),
            });
        }
        self.pursue(out);
    }

    fn release(&mut self, by: &str, out: &mut Vec<Output>) {
        let before = self.causes.len();
        self.causes.retain(|cause| !withdraws(by, cause));

        let causes = u32::try_from(before - self.causes.len()).unwrap_or(u32::MAX);
        if causes > 0 {
            out.push(Output::Release {
                by: by.to_owned(),
                causes,
                asked: self.asked(),
            });
        }
        self.pursue(out);
    }

    fn attach(&mut self, out: &mut Vec<Output>) {
        let identity = std::mem::take(&mut self.identity);
        // What an earlier start had says nothing about this one.
        *self = Self {
            causes: std::mem::take(&mut self.causes),
            attached: true,
            identity,
            ..Self::default()
        };
        self.again(Axis::Network, out);
        if self.asked().processes != ProcessState::Running {
            self.again(Axis::Processes, out);
        }
        self.pursue(out);
    }

    fn detach(&mut self, out: &mut Vec<Output>) {
        self.attached = false;
        (self.network, self.processes) = (Line::default(), Line::default());
        for axis in [Axis::Network, Axis::Processes] {
            self.release(&escalation(axis), out);
        }
    }

    fn applied(&mut self, force: Force, out: &mut Vec<Output>) {
        let axis = force.axis();
        match force {
            Force::Network(network) => self.network.done(network),
            Force::Processes(processes) => self.processes.done(processes),
            Force::Identity(identity) => self.identity.done(identity),
        }
        if axis == Axis::Network && self.is_in_force(axis) {
            self.release(&escalation(axis), out);
        }
        self.pursue(out);
    }

    fn failed(&mut self, force: Force, error: String, now: u64, out: &mut Vec<Output>) {
        let axis = force.axis();
        let asked = self.asked();
        // What isn't asked any more needs no stronger action, but the attempt that `pursue` makes then.
        let still_asked = match force.clone() {
            Force::Network(network) => self.network.fail(now, network, &asked.network),
            Force::Processes(processes) => self.processes.fail(now, processes, &asked.processes),
            Force::Identity(identity) => self.identity.fail(now, identity, &asked.identity),
        };
        // Failing to undo something leaves the agent more contained than asked.
        let escalate = match &force {
            Force::Network(NetworkState::Open) | Force::Processes(ProcessState::Running) => None,
            Force::Network(_) => Some(Action::Freeze),
            Force::Processes(ProcessState::Frozen | ProcessState::Stopped) => Some(Action::Kill),
            Force::Processes(ProcessState::Killed) | Force::Identity(_) => None,
        };
        let escalate = escalate.filter(|_| still_asked);
        out.push(Output::Alert {
            reason: format!("{axis}: {error}"),
        });
        out.push(Output::Fail {
            force,
            error: error.clone(),
            escalate: escalate.clone(),
        });
        if let Some(action) = escalate {
            let cause = Cause {
                by: escalation(axis),
                action,
                reason: error,
                event: 0,
                at_ms: now,
            };
            self.ask(cause, out);
        } else {
            self.pursue(out);
        }
    }

    /// Tries again what failed long enough ago.
    fn retry(&mut self, now: u64, out: &mut Vec<Output>) {
        self.network.retry(now);
        self.processes.retry(now);
        self.identity.retry(now);
        self.pursue(out);
    }

    /// Looks at `axis` once more, even if it was in force.
    fn again(&mut self, axis: Axis, out: &mut Vec<Output>) {
        match axis {
            Axis::Network => self.network.again = true,
            Axis::Processes => self.processes.again = true,
            Axis::Identity => self.identity.again = true,
        }
        self.pursue(out);
    }

    /// Starts what is asked and neither in force nor under way, nor failed a moment ago.
    fn pursue(&mut self, out: &mut Vec<Output>) {
        let asked = self.asked();
        if self.attached {
            if let Some((network, verify)) = self.network.start(asked.network) {
                out.push(Output::Apply {
                    force: Force::Network(network),
                    verify,
                });
            }
            let untouched = asked.processes == ProcessState::Running && self.processes == Line::default();
            if !untouched && let Some((processes, verify)) = self.processes.start(asked.processes) {
                out.push(Output::Apply {
                    force: Force::Processes(processes),
                    verify,
                });
            }
        }
        // A revocation is durable and holds without a container.
        let untouched = asked.identity == IdentityState::Valid && self.identity == Line::default();
        if !untouched && let Some((identity, verify)) = self.identity.start(asked.identity) {
            out.push(Output::Apply {
                force: Force::Identity(identity),
                verify,
            });
        }
    }
}
