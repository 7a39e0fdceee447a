//! What the host looks like, as far as the journal tells: the read model behind every list and status.
//!
//! Plain data made from rows and from nothing else, so that a copy at one row and the rows after it make the same as
//! all of them. Every kind of event says here what it changes ([`Apply`]); a kind that says nothing doesn't compile.
//! A value that nothing was said of is unknown, and no row makes this panic, whatever its order.
//!
//! ```text
//! row ─▶ already applied? ─yes▶ nothing
//!     └▶ of whom? ─┬ host ─▶ life, subsystems, plugins
//!                  └ agent ─▶ a row of an earlier container or start? ─yes▶ nothing
//!                                                                     └▶ container, session, trust, plan, …
//! ```
//! Tasks append independently, so a row of a start may follow the next start's first: numbers of starts decide, not
//! the order of rows. What is in force is as the journal has it; the kernel's word is containment's own view.

mod agent;
mod apply;
mod host;

use std::collections::BTreeMap;

use clawker_model::{FullName, Row};

pub use agent::{
    Agent, Applied, Command, ContainerState, Distrust, Exit, FailedStep, Health, Life, Plan, PlanState, Registration,
    Session, SessionState, Since, Verdict,
};
pub use apply::Apply;
pub use host::{Degraded, Host, Plugin};

/// The host and its agents after a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worldview {
    /// The last row that was applied; 0 before any.
    pub seq: u64,
    pub host: Host,
    pub agents: BTreeMap<FullName, Agent>,
}

/// What a body doesn't say of itself: whom it is about, and when.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub agent: Option<&'a FullName>,
    pub seq: u64,
    pub at_ms: u64,
    pub cp_life: &'a str,
}

impl Worldview {
    /// Applies the next row. A row that was applied already changes nothing.
    pub fn apply(&mut self, row: &Row) {
        if row.seq <= self.seq {
            return;
        }
        self.seq = row.seq;
        self.note(row);
    }

    /// Applies a row whatever came before it.
    fn note(&mut self, row: &Row) {
        let about = About {
            agent: row.agent.as_ref(),
            seq: row.seq,
            at_ms: row.at_ms,
            cp_life: &row.cp_life,
        };
        row.event.apply(about, self);
    }

    /// Agents by project, then name.
    pub fn sorted(&self) -> Vec<(&FullName, &Agent)> {
        let mut agents: Vec<_> = self.agents.iter().collect();
        agents.sort_by_key(|(name, _)| (name.project(), name.agent()));
        agents
    }

    fn agent(&mut self, about: About<'_>) -> Option<&mut Agent> {
        self.agents.get_mut(about.agent?)
    }
}

#[cfg(test)]
mod tests;
