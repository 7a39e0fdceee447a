//! Whether an agent that has ended is started again, and when. Pure.
//!
//! ```text
//!   ended ──policy says no, an operator stopped it──► stays
//!     ├──contained, as often as allowed──► never, until an operator starts it
//!     └──► again after 100 ms, each time twice as long, a minute at most; from 100 ms on after it ran for 10 s
//! ```

use clawker_model::Restart;

const FIRST_MS: u64 = 100;
const MAX_MS: u64 = 60_000;
/// One that ran for so long has not failed at once.
const RAN_MS: u64 = 10_000;

/// What became of it since somebody started it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    pub restarts: u32,
    /// Before the latest of them; 0 without any.
    pub delay_ms: u64,
    pub over: Option<Over>,
}

/// Why it was not to be started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// An operator stopped it.
    Stopped,
    /// See [`Decision::Never`].
    GivenUp,
}

/// How it ended this time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    pub code: i64,
    /// `None` where nobody saw it run.
    pub ran_ms: Option<u64>,
    /// What holds it, if its processes or its identity are contained.
    pub contained: Option<String>,
    /// The control plane has just begun and found it like this.
    pub found: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays as it is, and the next end is looked at afresh.
    Stay,
    /// It stays until an operator starts it, whatever comes.
    Never { why: String },
    /// Its restart number `restarts`, after this long.
    Again { restarts: u32, delay_ms: u64 },
}

pub fn decide(policy: Restart, past: Past, end: &End) -> Decision {
    let past = match past.over {
        None => past,
        // As Docker has it: what always runs runs again when its supervisor begins.
        Some(Over::Stopped) if policy == Restart::Always && end.found => Past::default(),
        Some(_) => return Decision::Stay,
    };
    match policy {
        Restart::No => return Decision::Stay,
        Restart::OnFailure { .. } if end.code == 0 => return Decision::Stay,
        Restart::OnFailure { max: Some(max) } if past.restarts >= max => {
            return Decision::Never {
                why: format!("it failed again after {max} restarts"),
            };
        }
        Restart::OnFailure { .. } | Restart::Always | Restart::UnlessStopped => {}
    }
    if let Some(contained) = &end.contained {
        return Decision::Never {
            why: format!("it is contained: {contained}"),
        };
    }
    let calm = end.ran_ms.is_some_and(|ran| ran >= RAN_MS);
    let delay_ms = match past.delay_ms {
        0 => FIRST_MS,
        _ if calm => FIRST_MS,
        delay => delay.saturating_mul(2).min(MAX_MS),
    };
    Decision::Again {
        restarts: past.restarts.saturating_add(1),
        delay_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: [Restart; 5] = [
        Restart::No,
        Restart::OnFailure { max: None },
        Restart::OnFailure { max: Some(2) },
        Restart::Always,
        Restart::UnlessStopped,
    ];

    fn again(policy: Restart, past: Past, end: &End) -> bool {
        matches!(decide(policy, past, end), Decision::Again { .. })
    }

    #[test]
    fn each_policy_restarts_what_it_says() {
        let past = |restarts, over| Past {
            restarts,
            over,
            ..Past::default()
        };
        let ended = |code, found| End {
            code,
            found,
            ..End::default()
        };
        let stopped = Some(Over::Stopped);
        // What it was, how it ended, and whether each of POLICIES starts it again.
        for (past, end, expected) in [
            (past(0, None), ended(0, false), [false, false, false, true, true]),
            (past(0, None), ended(1, false), [false, true, true, true, true]),
            (past(0, None), ended(137, true), [false, true, true, true, true]),
            (past(2, None), ended(1, false), [false, true, false, true, true]),
            (past(0, stopped), ended(1, false), [false; 5]),
            (past(0, stopped), ended(1, true), [false, false, false, true, false]),
            (past(0, Some(Over::GivenUp)), ended(1, true), [false; 5]),
        ] {
            let got = POLICIES.map(|policy| again(policy, past, &end));
            assert_eq!(got, expected, "{past:?} {end:?}");
        }
    }

    #[test]
    fn what_is_contained_is_not_started_again() {
        let end = End {
            code: 1,
            contained: Some("frozen".into()),
            ..End::default()
        };
        for policy in POLICIES {
            let decision = decide(policy, Past::default(), &end);
            match policy {
                Restart::No => assert_eq!(decision, Decision::Stay),
                _ => assert!(
                    matches!(&decision, Decision::Never { why } if why.contains("frozen")),
                    "{decision:?}"
                ),
            }
        }
    }

    #[test]
    fn it_waits_twice_as_long_each_time_and_forgets_that_after_it_ran() {
        let mut past = Past::default();
        let mut delays = Vec::new();
        let fail = |past: &mut Past, ran_ms| {
            let end = End {
                code: 1,
                ran_ms,
                ..End::default()
            };
            let Decision::Again { restarts, delay_ms } = decide(Restart::Always, *past, &end) else {
                panic!("it gave up");
            };
            *past = Past {
                restarts,
                delay_ms,
                over: None,
            };
            delay_ms
        };
        for _ in 0..12 {
            delays.push(fail(&mut past, Some(50)));
        }
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[10..], [60_000, 60_000]);
        assert_eq!(fail(&mut past, Some(RAN_MS)), 100);
        // Nobody saw whether it ran.
        assert_eq!(fail(&mut past, None), 200);
        assert_eq!(past.restarts, 14);
    }

    #[test]
    fn one_that_fails_too_often_is_given_up() {
        let past = Past {
            restarts: 2,
            delay_ms: 200,
            over: None,
        };
        let end = End {
            code: 1,
            ..End::default()
        };
        let decision = decide(Restart::OnFailure { max: Some(2) }, past, &end);
        assert!(
            matches!(&decision, Decision::Never { why } if why.contains("2 restarts")),
            "{decision:?}"
        );
    }
}
