//! When an agent's leaf is renewed, and when its trust ends for want of a renewal.
//!
//! ```text
//!            due: half its life (± a tenth), or the roots in force are others
//!   Held ───────────────────────────────────────────────────────▶ Offered ──acknowledged──▶ Held
//!    │                                                             │   ▲
//!    │                                                             └───┘ no answer: the same leaf again, after 1 s,
//!    └──────── its end passed ────────▶ Expired ◀──────────────────┘      doubling to 30 s
//! ```
//! The leaf that is offered again is the one that was journaled: of the two that the registry knows, the agent holds
//! one. Times are milliseconds since the Unix epoch and come in.

use std::time::Duration;

const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// Share of a leaf's life by which agents of the same age are kept apart, in both directions.
const JITTER: f64 = 0.1;

/// A leaf's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it was signed; NotBefore lies before that.
    pub from_ms: u64,
    pub until_ms: u64,
}

/// Where the renewal of one session's leaf stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewal {
    held: Life,
    /// From 0 to 1, drawn once a session.
    chance: f64,
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Held,
    /// Signed, journaled and sent, not acknowledged yet.
    Offered {
        leaf: Life,
        again_ms: u64,
        pause: Duration,
    },
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing before then, unless something else happens.
    Wait { until_ms: u64 },
    /// Sign a leaf, journal and send it, then call [`Renewal::offered`].
    Sign,
    /// Send the last one again, then call [`Renewal::sent_again`].
    SendAgain,
    /// The leaf's end has passed: trust ends.
    Expired,
}

impl Renewal {
    /// `chance` from 0 to 1 spreads agents of the same age.
    pub fn new(held: Life, chance: f64) -> Self {
        Self {
            held,
            chance: chance.clamp(0.0, 1.0),
            state: State::Held,
        }
    }

    /// When the held leaf is due.
    pub fn due_ms(&self) -> u64 {
        let life = self.held.until_ms.saturating_sub(self.held.from_ms);
        let share = 0.5 + JITTER * (2.0 * self.chance - 1.0);
        // A share between 0.4 and 0.6 of a u64 fits one.
        self.held.from_ms + Duration::from_millis(life).mul_f64(share).as_millis() as u64
    }

    /// What to do; `outdated` when the agent's roots, or the root of its leaf, aren't those in force.
    pub fn next(&self, now_ms: u64, outdated: bool) -> Next {
        if now_ms >= self.held.until_ms {
            return Next::Expired;
        }
        match &self.state {
            State::Held if outdated || now_ms >= self.due_ms() => Next::Sign,
            State::Held => Next::Wait {
                until_ms: self.due_ms().min(self.held.until_ms),
            },
            // One that ran out unacknowledged is of no use any more.
            State::Offered { leaf, .. } if now_ms >= leaf.until_ms => Next::Sign,
            State::Offered { again_ms, .. } if now_ms >= *again_ms => Next::SendAgain,
            State::Offered { again_ms, .. } => Next::Wait {
                until_ms: (*again_ms).min(self.held.until_ms),
            },
        }
    }

    /// A leaf was signed, journaled and sent.
    pub fn offered(&mut self, leaf: Life, now_ms: u64) {
        self.state = State::Offered {
            leaf,
            again_ms: now_ms + millis(AGAIN_FIRST),
            pause: AGAIN_FIRST,
        };
    }

    /// The same leaf was sent again.
    pub fn sent_again(&mut self, now_ms: u64) {
        if let State::Offered { again_ms, pause, .. } = &mut self.state {
            *pause = (*pause * 2).min(AGAIN_MAX);
            *again_ms = now_ms + millis(*pause);
        }
    }

    /// PID 1 has stored it.
    pub fn acknowledged(&mut self) {
        if let State::Offered { leaf, .. } = std::mem::replace(&mut self.state, State::Held) {
            self.held = leaf;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    fn life(from_ms: u64) -> Life {
        Life {
            from_ms,
            until_ms: from_ms + HOUR,
        }
    }

    #[test]
    fn a_leaf_is_renewed_at_half_its_life_give_or_take_a_tenth() {
        for (chance, due) in [(0.0, 4 * HOUR / 10), (0.5, HOUR / 2), (1.0, 6 * HOUR / 10)] {
            let renewal = Renewal::new(life(0), chance);
            assert_eq!(renewal.due_ms(), due, "{chance}");
            assert_eq!(renewal.next(due - 1, false), Next::Wait { until_ms: due });
            assert_eq!(renewal.next(due, false), Next::Sign);
        }
    }

    #[test]
    fn other_roots_in_force_make_it_due_at_once() {
        let renewal = Renewal::new(life(0), 0.5);
        assert_eq!(renewal.next(1, true), Next::Sign);
    }

    #[test]
    fn without_an_answer_the_same_leaf_is_sent_again_until_the_old_one_ends() {
        let mut renewal = Renewal::new(life(0), 0.5);
        let mut now = HOUR / 2;
        renewal.offered(life(now), now);
        let mut sent = 0;
        loop {
            match renewal.next(now, true) {
                Next::Wait { until_ms } => now = until_ms,
                Next::SendAgain => {
                    renewal.sent_again(now);
                    sent += 1;
                }
                Next::Sign => panic!("another leaf while one is on its way"),
                Next::Expired => break,
            }
        }
        assert_eq!(now, HOUR);
        assert!((60..70).contains(&sent), "{sent} times in half an hour");
    }

    #[test]
    fn an_acknowledged_leaf_is_the_one_that_counts() {
        let mut renewal = Renewal::new(life(0), 0.5);
        renewal.offered(life(HOUR / 2), HOUR / 2);
        renewal.acknowledged();
        assert_eq!(
            renewal.next(HOUR - 1, false),
            Next::Wait { until_ms: HOUR },
            "half of the new one's life"
        );
    }

    proptest! {
        /// Whatever answers come or don't, trust never outlives the leaf that was acknowledged last.
        #[test]
        fn trust_ends_with_the_last_acknowledged_leaf(answers in proptest::collection::vec(any::<bool>(), 1..200), chance in 0.0..1.0) {
            let mut renewal = Renewal::new(life(0), chance);
            let (mut now, mut acknowledged_until, mut offered_until) = (0, HOUR, 0);
            for answer in answers {
                match renewal.next(now, false) {
                    Next::Wait { until_ms } => {
                        prop_assert!(until_ms > now && until_ms <= acknowledged_until);
                        now = until_ms;
                    }
                    Next::Sign => { offered_until = now + HOUR; renewal.offered(life(now), now); }
                    Next::SendAgain => renewal.sent_again(now),
                    Next::Expired => { prop_assert!(now >= acknowledged_until); return Ok(()); }
                }
                if answer && offered_until > 0 { renewal.acknowledged(); acknowledged_until = acknowledged_until.max(offered_until); }
                prop_assert!(now <= acknowledged_until);
            }
        }
    }
}
