//! Verdicts, actions and the containment that they add up to.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a policy answers, or an operator orders, for one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub action: Action,
    /// For people: why. At most 1 KiB; longer is cut.
    pub reason: String,
}

/// One destination that a restricted agent may reach, TCP and UDP alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EgressRule {
    pub addr: IpAddr,
    pub port: u16,
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => write!(f, "{addr}:{}", self.port),
            IpAddr::V6(addr) => write!(f, "[{addr}]:{}", self.port),
        }
    }
}

/// What the control plane can do about an agent, weakest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Action {
    /// Note it in the journal, nothing else.
    Observe,
    /// Tell the operator.
    Alert,
    RestrictEgress {
        allow: Vec<EgressRule>,
    },
    LockNetwork,
    Freeze,
    Stop,
    Kill,
    Revoke,
}

/// The three independent lines along which an agent is contained. The strongest verdict wins on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    Network,
    Processes,
    Identity,
}

impl Action {
    /// The axis that the action moves; `None` for those that only inform.
    pub fn axis(&self) -> Option<Axis> {
        match self {
            Action::Observe | Action::Alert => None,
            Action::RestrictEgress { .. } | Action::LockNetwork => Some(Axis::Network),
            Action::Freeze | Action::Stop | Action::Kill => Some(Axis::Processes),
            Action::Revoke => Some(Axis::Identity),
        }
    }

    /// The action's name on the command line and in the journal.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Observe => "observe",
            Action::Alert => "alert",
            Action::RestrictEgress { .. } => "restrict-egress",
            Action::LockNetwork => "lock-network",
            Action::Freeze => "freeze",
            Action::Stop => "stop",
            Action::Kill => "kill",
            Action::Revoke => "revoke",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Action::RestrictEgress { allow } = self {
            let allow: Vec<String> = allow.iter().map(ToString::to_string).collect();
            write!(
                f,
                " to {}",
                if allow.is_empty() {
                    "nothing".into()
                } else {
                    allow.join(", ")
                }
            )?;
        }
        Ok(())
    }
}

/// What may leave and enter an agent's network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum NetworkState {
    #[default]
    Open,
    Restricted {
        allow: Vec<EgressRule>,
    },
    Locked,
}

/// What an agent's processes may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessState {
    #[default]
    Running,
    Frozen,
    Stopped,
    Killed,
}

/// What an agent's identity is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityState {
    #[default]
    Valid,
    Revoked,
}

/// All that is in force for an agent, axis by axis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containment {
    pub network: NetworkState,
    pub processes: ProcessState,
    pub identity: IdentityState,
}

impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = match &self.network {
            NetworkState::Open => "open",
            NetworkState::Restricted { .. } => "restricted",
            NetworkState::Locked => "locked",
        };
        f.write_str(network)?;
        match self.processes {
            ProcessState::Running => {}
            ProcessState::Frozen => f.write_str(", frozen")?,
            ProcessState::Stopped => f.write_str(", stopped")?,
            ProcessState::Killed => f.write_str(", killed")?,
        }
        if self.identity == IdentityState::Revoked {
            f.write_str(", revoked")?;
        }
        Ok(())
    }
}
