//! Taking over a container of ours that the store doesn't know, because its journal was lost. Pure.
//!
//! ```text
//! labels: name, spec ─▶ what create writes from that spec ─┐
//! inspect: what the container is ──────────────────────────┴─▶ judge ─┬▶ equal: adopted, contained by `causes`
//!                                                                     └▶ differences: refused, for good
//! kernel: network, processes; or it doesn't run ─▶ causes: what is in force stays in force, and what nobody can
//!                                                  tell is locked
//! ```
//! Nobody is freed by a rebuild, and nobody is guessed: a label is a claim until the container is what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use clawker_model::event::Cause;
use clawker_model::{Action, AgentSpec, Egress, EgressRule, FullName, NetworkState};

/// In whose name an adopted agent is contained. An operator may release it.
pub const BY: &str = "host:rebuild";

/// Most characters of a value that a difference shows.
const MAX_SHOWN: usize = 200;
/// Most differences that are told.
const MAX_TOLD: usize = 8;

/// A container's configuration by the names of its fields.
pub type Shape = BTreeMap<String, String>;

/// A field that isn't as create writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub field: String,
    /// `None` is nothing.
    pub shown: Option<String>,
    pub written: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |value: &Option<String>| match value {
            None => "nothing".to_owned(),
            Some(value) if value.chars().count() > MAX_SHOWN => {
                value.chars().take(MAX_SHOWN).chain("…".chars()).collect()
            }
            Some(value) => value.clone(),
        };
        write!(
            f,
            "{} is {} instead of {}",
            self.field,
            short(&self.shown),
            short(&self.written)
        )
    }
}

/// Why a container isn't taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Its definition is another agent's.
    Name {
        labels: FullName,
        spec: FullName,
    },
    Different(Vec<Difference>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Name { labels, spec } => {
                write!(f, "its labels name {labels}, and the definition in them {spec}")
            }
            Refusal::Different(differences) => {
                f.write_str("it isn't as create makes it: ")?;
                for (n, difference) in differences.iter().take(MAX_TOLD).enumerate() {
                    let comma = if n == 0 { "" } else { "; " };
                    write!(f, "{comma}{difference}")?;
                }
                match differences.len().saturating_sub(MAX_TOLD) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
        }
    }
}

/// Whether a container is the agent that its labels say. `written` is what create makes from `spec`, `shown` what the
/// container is.
pub fn judge(labels: &FullName, spec: &AgentSpec, written: &Shape, shown: &Shape) -> Result<(), Refusal> {
    if *labels != spec.name {
        return Err(Refusal::Name {
            labels: labels.clone(),
            spec: spec.name.clone(),
        });
    }
    let fields: BTreeSet<&String> = written.keys().chain(shown.keys()).collect();
    let differences: Vec<Difference> = fields
        .into_iter()
        .filter(|field| written.get(*field) != shown.get(*field))
        .map(|field| Difference {
            field: field.clone(),
            shown: shown.get(field).cloned(),
            written: written.get(field).cloned(),
        })
        .collect();
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Refusal::Different(differences)),
    }
}

/// How a container that is taken over is contained, by the kernel's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It doesn't run, so the kernel has nothing of it.
    Down,
    Up {
        /// An error says why it couldn't be told.
        network: Result<NetworkState, String>,
        /// The freezer of its processes holds them, or is about to.
        frozen: bool,
    },
}

/// What is asked for an agent that is taken over. `own` is the rule that it was created with, which is a cause already.
pub fn causes(found: &Found, own: &Egress, now_ms: u64) -> Vec<Cause> {
    let cause = |action, reason: String| Cause {
        by: BY.to_owned(),
        action,
        reason,
        event: 0,
        at_ms: now_ms,
    };
    let lost = "the journal knows nothing of it";
    let (network, frozen) = match found {
        Found::Down => {
            let reason = format!("{lost}, and it doesn't run: nobody can tell how it was contained");
            return vec![cause(Action::LockNetwork, reason)];
        }
        Found::Up { network, frozen } => (network, *frozen),
    };
    let mut causes = Vec::new();
    match network {
        Ok(NetworkState::Open) => {}
        Ok(NetworkState::Locked) => causes.push(cause(
            Action::LockNetwork,
            format!("{lost}, and the kernel has its network locked"),
        )),
        Ok(NetworkState::Restricted { allow }) if is_own(allow, own) => {}
        Ok(NetworkState::Restricted { allow }) => causes.push(cause(
            Action::RestrictEgress { allow: allow.clone() },
            format!("{lost}, and the kernel has its network restricted"),
        )),
        Err(why) => causes.push(cause(
            Action::LockNetwork,
            format!("{lost}, and the kernel doesn't tell how its network was contained: {why}"),
        )),
    }
    if frozen {
        causes.push(cause(
            Action::Freeze,
            format!("{lost}, and the kernel has its processes frozen"),
        ));
    }
    causes
}

fn is_own(allow: &[EgressRule], own: &Egress) -> bool {
    let plain = |rules: &[EgressRule]| -> BTreeSet<EgressRule> {
        let plain = |rule: &EgressRule| EgressRule {
            addr: rule.addr.to_canonical(),
            port: rule.port,
        };
        rules.iter().map(plain).collect()
    };
    matches!(own, Egress::Only { allow: own } if plain(own) == plain(allow))
}

#[cfg(test)]
mod tests;
