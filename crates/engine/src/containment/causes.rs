//! What causes add up to, and who may withdraw which.

use clawker_model::event::Cause;
use clawker_model::{Action, Axis, Containment, EgressRule, IdentityState, NetworkState, ProcessState};

use super::HOST;

/// What these causes add up to.
pub fn asked(causes: &[Cause]) -> Containment {
    let mut asked = Containment::default();
    for cause in causes {
        match &cause.action {
            Action::Observe | Action::Alert => {}
            Action::RestrictEgress { allow } => asked.network = restrict(asked.network, allow),
            Action::LockNetwork => asked.network = NetworkState::Locked,
            Action::Freeze => asked.processes = asked.processes.max(ProcessState::Frozen),
            Action::Stop => asked.processes = asked.processes.max(ProcessState::Stopped),
            Action::Kill => asked.processes = ProcessState::Killed,
            Action::Revoke => asked.identity = IdentityState::Revoked,
        }
    }
    asked
}

fn restrict(network: NetworkState, by: &[EgressRule]) -> NetworkState {
    let mut allow = match network {
        NetworkState::Locked => return NetworkState::Locked,
        NetworkState::Open => by.to_vec(),
        NetworkState::Restricted { allow } => allow.into_iter().filter(|rule| by.contains(rule)).collect(),
    };
    allow.sort();
    allow.dedup();
    NetworkState::Restricted { allow }
}

pub(super) fn same(a: &Cause, b: &Cause) -> bool {
    a.by == b.by && a.action == b.action
}

fn is_operator(by: &str) -> bool {
    by == "operator" || by.starts_with("operator:")
}

/// Who asks for what an axis couldn't have.
pub(super) fn escalation(axis: Axis) -> String {
    let axis = match axis {
        Axis::Network => "network",
        Axis::Processes => "processes",
        Axis::Identity => "identity",
    };
    format!("escalation:{axis}")
}

/// Whether `by` may withdraw this cause: an operator all but the host's, anybody else their own.
pub(super) fn withdraws(by: &str, cause: &Cause) -> bool {
    cause.by != HOST && (is_operator(by) || cause.by == by)
}
