//! The rules, as a pure function.

use clawker_plugin_sdk::policy::{Containment, Network, Processes, Verdict};
use serde::{Deserialize, Serialize};

/// What is remembered of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub phase: Phase,
    /// Events since the phase began.
    pub seen: u64,
    /// It was locked before and released since: the next time is a repeat.
    #[serde(default)]
    pub again: bool,
}

/// How far it has come with an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    #[default]
    Watching,
    /// We asked for its network to be locked.
    Locked,
    /// We asked for it to be frozen too.
    Frozen,
}

/// One more event of an agent, of which `in_window` lie in the last minute.
///
/// Events of an earlier phase don't count, though they may still be in the window: of both, the events in the window
/// and those since the phase began, the smaller number is those that are in both.
pub fn judge(state: &mut State, in_window: u64, threshold: u64, containment: &Containment) -> Vec<Verdict> {
    // Somebody released the agent since: it is watched anew, and what it did isn't forgotten.
    let held = match state.phase {
        Phase::Watching => true,
        Phase::Locked => containment.network == Network::Locked,
        Phase::Frozen => containment.processes != Processes::Running,
    };
    if !held {
        *state = State {
            again: true,
            ..State::default()
        };
    }
    state.seen = state.seen.saturating_add(1);
    let count = in_window.min(state.seen);
    if count < threshold {
        return Vec::new();
    }
    let (phase, verdicts) = match state.phase {
        Phase::Watching if state.again => {
            let reason =
                format!("{count} denials of egress or out-of-memory kills within 60 s, and locked once before");
            let verdicts = vec![Verdict::lock_network(reason.clone()), Verdict::freeze(reason)];
            (Phase::Frozen, verdicts)
        }
        Phase::Watching => {
            let reason = format!("{count} denials of egress or out-of-memory kills within 60 s");
            (Phase::Locked, vec![Verdict::lock_network(reason)])
        }
        Phase::Locked => {
            let reason = format!("{count} more within 60 s after its network was locked");
            (Phase::Frozen, vec![Verdict::freeze(reason)])
        }
        Phase::Frozen => return Vec::new(),
    };
    *state = State {
        phase,
        seen: 0,
        again: state.again,
    };
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Containment = Containment {
        network: Network::Open,
        processes: Processes::Running,
    };
    const LOCKED: Containment = Containment {
        network: Network::Locked,
        processes: Processes::Running,
    };
    const FROZEN: Containment = Containment {
        network: Network::Locked,
        processes: Processes::Frozen,
    };

    /// Plays events (how many are in the window, what is in force) and says what was asked for at each.
    fn play(threshold: u64, events: &[(u64, &Containment)]) -> Vec<&'static str> {
        let mut state = State::default();
        let mut actions = Vec::new();
        for (in_window, containment) in events {
            let verdicts = judge(&mut state, *in_window, threshold, containment);
            // The strongest comes last.
            actions.push(verdicts.last().map_or("-", |verdict| verdict.action));
        }
        actions
    }

    #[test]
    fn the_second_in_a_minute_locks() {
        assert_eq!(play(2, &[(1, &OPEN), (2, &OPEN)]), ["-", "lock-network"]);
    }

    #[test]
    fn two_that_are_far_apart_do_nothing() {
        assert_eq!(play(2, &[(1, &OPEN), (1, &OPEN), (1, &OPEN)]), ["-", "-", "-"]);
    }

    #[test]
    fn the_threshold_reached_again_freezes() {
        let events = [(1, &OPEN), (2, &OPEN), (3, &LOCKED), (4, &LOCKED)];
        assert_eq!(play(2, &events), ["-", "lock-network", "-", "freeze"]);
    }

    #[test]
    fn one_more_long_after_the_lock_is_no_repeat() {
        let events = [(1, &OPEN), (2, &OPEN), (1, &LOCKED), (1, &LOCKED)];
        assert_eq!(play(2, &events), ["-", "lock-network", "-", "-"]);
    }

    #[test]
    fn a_frozen_agent_is_left_at_that() {
        let events = [
            (1, &OPEN),
            (2, &OPEN),
            (3, &LOCKED),
            (4, &LOCKED),
            (5, &FROZEN),
            (6, &FROZEN),
        ];
        assert_eq!(play(2, &events)[4..], ["-", "-"]);
    }

    #[test]
    fn a_released_agent_is_counted_anew_and_frozen_for_the_repeat() {
        let events = [(1, &OPEN), (2, &OPEN), (3, &OPEN), (4, &OPEN)];
        assert_eq!(play(2, &events), ["-", "lock-network", "-", "freeze"]);
        let far_apart = [(1, &OPEN), (2, &OPEN), (1, &OPEN), (1, &OPEN)];
        assert_eq!(play(2, &far_apart), ["-", "lock-network", "-", "-"]);
    }

    #[test]
    fn a_repeat_after_a_release_is_locked_as_well_as_frozen() {
        let mut state = State {
            again: true,
            ..State::default()
        };
        let verdicts = judge(&mut state, 1, 1, &OPEN);
        let actions: Vec<_> = verdicts.iter().map(|verdict| verdict.action).collect();
        assert_eq!(actions, ["lock-network", "freeze"]);
    }

    #[test]
    fn the_threshold_is_the_operators() {
        assert_eq!(play(1, &[(1, &OPEN), (2, &LOCKED)]), ["lock-network", "freeze"]);
        assert_eq!(
            play(3, &[(1, &OPEN), (2, &OPEN), (3, &OPEN)]),
            ["-", "-", "lock-network"]
        );
    }
}
