//! A version on trial: its verdicts beside those of the version in force, for the same events.
//!
//! ```text
//! event ──► in force: actions ─┐
//!     └──► on trial: actions ──┴► alike: agreed + 1 ──► agreed = promote_after, none differed ──► promoted
//!                                └► not: differed + 1, the first is kept; never promoted by itself
//! ```
//! Pure. Reasons are for people and may differ; an action is compared with its parameters. An event that one of both
//! isn't asked about counts as one that it did nothing for. A failure to answer is a difference of its own kind.

use std::collections::HashMap;

use clawker_model::{Action, FullName};

/// Events of which one verdict is here. More means that one of both doesn't keep up: the oldest answer is then missing
/// for good, so the trial begins anew.
const PENDING: usize = 10_000;

/// What a version said to an event; `None` for no answer.
pub(super) type Said = Option<Vec<Action>>;

/// Of which version a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    InForce,
    OnTrial,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub agreed: u64,
    pub differed: u64,
    /// The first difference, for people.
    pub first: Option<String>,
}

pub(super) struct Trial {
    /// The rule in force, and the one on trial.
    pub(super) rules: (usize, usize),
    promote_after: u64,
    pending: HashMap<(u64, FullName), (Side, Said)>,
    tally: Tally,
    over: bool,
}

impl Trial {
    pub(super) fn new(in_force: usize, on_trial: usize, promote_after: u64) -> Self {
        Self {
            rules: (in_force, on_trial),
            promote_after,
            pending: HashMap::new(),
            tally: Tally::default(),
            over: false,
        }
    }

    pub(super) fn side(&self, rule: usize) -> Option<Side> {
        match rule {
            rule if rule == self.rules.0 => Some(Side::InForce),
            rule if rule == self.rules.1 => Some(Side::OnTrial),
            _ => None,
        }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// A verdict. Returns how many agreed when that makes it clean: once.
    pub(super) fn said(&mut self, seq: u64, agent: &FullName, side: Side, said: Said) -> Option<u64> {
        if self.pending.len() >= PENDING {
            self.pending.clear();
            self.tally.agreed = 0;
        }
        let key = (seq, agent.clone());
        let (in_force, on_trial) = match (self.pending.remove(&key), side) {
            (None, side) => {
                self.pending.insert(key, (side, said));
                return None;
            }
            (Some((Side::InForce, first)), Side::OnTrial) => (first, said),
            (Some((Side::OnTrial, first)), Side::InForce) => (said, first),
            // The same side twice: the event was offered again.
            (Some(_), side) => {
                self.pending.insert(key, (side, said));
                return None;
            }
        };
        if in_force.is_some() && in_force == on_trial {
            self.tally.agreed = self.tally.agreed.saturating_add(1);
        } else {
            self.tally.differed = self.tally.differed.saturating_add(1);
            let first = || {
                let (was, is) = (words(in_force.as_deref()), words(on_trial.as_deref()));
                format!("event {seq} of {agent}: {was} in force, {is} on trial")
            };
            self.tally.first.get_or_insert_with(first);
        }
        let clean = self.tally.differed == 0 && self.promote_after > 0 && self.tally.agreed >= self.promote_after;
        (clean && !std::mem::replace(&mut self.over, true)).then_some(self.tally.agreed)
    }
}

fn words(said: Option<&[Action]>) -> String {
    match said {
        None => "no answer".to_owned(),
        Some([]) => "nothing".to_owned(),
        Some(actions) => actions.iter().map(Action::name).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> FullName {
        FullName::parse("clawker.a").expect("name")
    }

    fn both(trial: &mut Trial, seq: u64, was: Said, is: Said) -> Option<u64> {
        assert_eq!(trial.said(seq, &agent(), Side::InForce, was), None);
        trial.said(seq, &agent(), Side::OnTrial, is)
    }

    #[test]
    fn a_trial_is_clean_after_so_many_events_judged_alike_and_says_so_once() {
        let mut trial = Trial::new(0, 1, 2);
        let freeze = || Some(vec![Action::Freeze]);
        assert_eq!(both(&mut trial, 1, Some(Vec::new()), Some(Vec::new())), None);
        // Whichever answers first.
        assert_eq!(trial.said(2, &agent(), Side::OnTrial, freeze()), None);
        assert_eq!(trial.said(2, &agent(), Side::InForce, freeze()), Some(2));
        assert_eq!(both(&mut trial, 3, freeze(), freeze()), None);
        assert_eq!(trial.tally().agreed, 3);
    }

    #[test]
    fn one_difference_keeps_it_from_promotion_and_is_told() {
        for (was, is, says) in [
            (
                Some(vec![Action::Freeze]),
                Some(Vec::new()),
                "freeze in force, nothing on trial",
            ),
            (Some(Vec::new()), None, "nothing in force, no answer on trial"),
            // Nobody knows what the one in force would have said.
            (None, None, "no answer in force, no answer on trial"),
            (
                Some(vec![Action::RestrictEgress { allow: Vec::new() }]),
                Some(vec![Action::RestrictEgress {
                    allow: vec![clawker_model::EgressRule {
                        addr: [192, 0, 2, 1].into(),
                        port: 1,
                    }],
                }]),
                "restrict-egress in force, restrict-egress on trial",
            ),
        ] {
            let mut trial = Trial::new(0, 1, 1);
            assert_eq!(both(&mut trial, 7, was, is), None);
            assert_eq!(both(&mut trial, 8, Some(Vec::new()), Some(Vec::new())), None);
            let first = trial.tally().first.clone().expect("a difference");
            assert_eq!(first, format!("event 7 of clawker.a: {says}"));
            assert_eq!((trial.tally().agreed, trial.tally().differed), (1, 1));
        }
    }

    #[test]
    fn a_side_that_lags_far_behind_begins_the_trial_anew() {
        let mut trial = Trial::new(0, 1, 1_000_000);
        assert_eq!(both(&mut trial, 1, Some(Vec::new()), Some(Vec::new())), None);
        for seq in 0..=PENDING as u64 {
            trial.said(seq + 2, &agent(), Side::InForce, Some(Vec::new()));
        }
        assert_eq!(trial.tally().agreed, 0);
        assert!(trial.pending.len() <= 1);
    }
}
