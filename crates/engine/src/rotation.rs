//! When a rotation of the host's root goes on.
//!
//! ```text
//!  Standby ──asked, or the root ends soon──▶ Introduced ──every connected agent knows the new root──▶ Switched
//!     ▲                                                                                                  │
//!     └────────────────── every connected agent has a leaf of the new root, and knows no other need ◀────┘
//! ```
//! An agent that is away holds nothing up: the preamble finds out what it knows when it comes back, and gives it a new
//! bundle if that is nothing in use. Owns the decision and nothing else; the authority carries a step out durably, so
//! a crash between two steps resumes here with the phase that is on disk.

use std::collections::BTreeSet;

use clawker_model::identity::RotationPhase;

/// A root this close to its end is replaced, seconds.
pub const REPLACE_BEFORE_S: i64 = 30 * 24 * 3600;

/// The roots in force, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    pub phase: RotationPhase,
    pub signer: String,
    /// The one that comes, or the one that goes.
    pub other: Option<String>,
    /// When the signer ends, seconds since the Unix epoch.
    pub signer_not_after: i64,
}

/// What a connected agent has acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    pub roots: BTreeSet<String>,
    /// The root under which its leaf was signed.
    pub leaf_root: String,
}

/// What the authority is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Introduce,
    Switch,
    Retire,
}

impl Roots {
    /// Ids of all roots in force, the signer's first.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.signer).chain(self.other.as_ref())
    }

    /// Whether an agent that acknowledged this has nothing left to be told.
    pub fn is_current(&self, holder: &Holder) -> bool {
        holder.leaf_root == self.signer && self.ids().collect::<BTreeSet<_>>() == holder.roots.iter().collect()
    }

    /// Under which root the control plane shows itself to an agent that knows these; `None` if it knows none in use.
    pub fn shown_to<'a>(&'a self, known: &[String]) -> Option<&'a str> {
        self.ids().find(|id| known.contains(id)).map(String::as_str)
    }
}

/// The next step, if it is time.
pub fn next<'a>(
    roots: &Roots,
    asked: bool,
    now_s: i64,
    connected: impl IntoIterator<Item = &'a Holder>,
) -> Option<Step> {
    let mut connected = connected.into_iter();
    match (roots.phase, &roots.other) {
        (RotationPhase::Standby, _) => {
            (asked || roots.signer_not_after.saturating_sub(now_s) < REPLACE_BEFORE_S).then_some(Step::Introduce)
        }
        (RotationPhase::Introduced, Some(next)) => connected
            .all(|holder| holder.roots.contains(next))
            .then_some(Step::Switch),
        (RotationPhase::Switched, _) => connected
            .all(|holder| holder.leaf_root == roots.signer && holder.roots.contains(&roots.signer))
            .then_some(Step::Retire),
        // A manifest like that isn't accepted; nothing is done on the strength of it.
        (RotationPhase::Introduced, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(phase: RotationPhase, signer: &str, other: Option<&str>) -> Roots {
        Roots {
            phase,
            signer: signer.into(),
            other: other.map(Into::into),
            signer_not_after: 365 * 24 * 3600,
        }
    }

    fn holder(roots: &[&str], leaf_root: &str) -> Holder {
        Holder {
            roots: roots.iter().map(|root| (*root).to_owned()).collect(),
            leaf_root: leaf_root.into(),
        }
    }

    #[test]
    fn a_rotation_begins_when_asked_or_when_the_root_ends_soon() {
        let standby = roots(RotationPhase::Standby, "a", None);
        assert_eq!(next(&standby, false, 0, []), None);
        assert_eq!(next(&standby, true, 0, []), Some(Step::Introduce));
        let soon = standby.signer_not_after - REPLACE_BEFORE_S + 1;
        assert_eq!(next(&standby, false, soon, []), Some(Step::Introduce));
    }

    #[test]
    fn it_goes_on_only_when_every_connected_agent_has_acknowledged() {
        let introduced = roots(RotationPhase::Introduced, "a", Some("b"));
        let (old, told) = (holder(&["a"], "a"), holder(&["a", "b"], "a"));
        assert_eq!(next(&introduced, false, 0, [&told, &old]), None);
        assert_eq!(next(&introduced, false, 0, [&told]), Some(Step::Switch));
        assert_eq!(
            next(&introduced, false, 0, []),
            Some(Step::Switch),
            "nobody is connected"
        );

        let switched = roots(RotationPhase::Switched, "b", Some("a"));
        let renewed = holder(&["a", "b"], "b");
        assert_eq!(next(&switched, false, 0, [&renewed, &told]), None);
        assert_eq!(next(&switched, false, 0, [&renewed]), Some(Step::Retire));
    }

    #[test]
    fn an_agent_is_told_until_it_has_all_roots_and_a_leaf_of_the_signer() {
        let switched = roots(RotationPhase::Switched, "b", Some("a"));
        for (holder, current) in [
            (holder(&["a", "b"], "b"), true),
            (holder(&["a", "b"], "a"), false),
            (holder(&["b"], "b"), false),
            (holder(&["a", "b", "c"], "b"), false),
        ] {
            assert_eq!(switched.is_current(&holder), current, "{holder:?}");
        }
    }

    #[test]
    fn the_control_plane_shows_itself_under_a_root_that_the_agent_knows() {
        let switched = roots(RotationPhase::Switched, "b", Some("a"));
        let known = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(switched.shown_to(&known(&["a", "b"])), Some("b"));
        assert_eq!(switched.shown_to(&known(&["a"])), Some("a"));
        assert_eq!(switched.shown_to(&known(&["c"])), None);
    }
}
