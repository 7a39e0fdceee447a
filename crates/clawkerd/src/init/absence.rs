//! A start without a control plane: how long it is waited for, what is said meanwhile, and what follows.
//!
//! ```text
//!   waiting --a line on the terminal after 3 s, then each 30 s--> waiting
//!      |  first Hello of this start                                  | deadline
//!      v                                                             v
//!    over: from here on the lease rules            give up (exit 75), or run the command by the defaults
//! ```
//! Pure. Like the lease it counts only time in which PID 1 itself ran: after a gap the deadline begins anew.

use std::time::{Duration, Instant};

use clawker_model::OnAbsent;

use super::later;
use super::lease::MAX_GAP;

const FIRST_WORD: Duration = Duration::from_secs(3);
const NEXT_WORD: Duration = Duration::from_secs(30);

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    Nothing,
    Say(String),
    GiveUp,
    RunDefaults,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    rule: OnAbsent,
    started: Instant,
    /// From when the deadline counts.
    since: Instant,
    next_word: Instant,
    last_tick: Instant,
    over: bool,
}

impl Absence {
    pub fn new(rule: OnAbsent, now: Instant) -> Self {
        Self {
            rule,
            started: now,
            since: now,
            next_word: later(now, FIRST_WORD),
            last_tick: now,
            over: false,
        }
    }

    /// A control plane came.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// When [`Self::tick`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let deadline = self.limit().map(|limit| later(self.since, limit));
        (!self.over).then(|| deadline.map_or(self.next_word, |at| at.min(self.next_word)))
    }

    /// To be called at least once a second. With `connected` somebody was attested and has to say Hello, for which
    /// there is a deadline of its own: then nothing is due yet.
    pub fn tick(&mut self, connected: bool, now: Instant) -> Due {
        let gap = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        if gap > MAX_GAP {
            self.since = now;
        }
        if self.over || connected {
            return Due::Nothing;
        }
        let waited = now.saturating_duration_since(self.since);
        if self.limit().is_some_and(|limit| waited >= limit) {
            self.over = true;
            return match self.rule {
                OnAbsent::Await { .. } => Due::GiveUp,
                OnAbsent::Defaults { .. } => Due::RunDefaults,
            };
        }
        if now < self.next_word {
            return Due::Nothing;
        }
        self.next_word = later(now, NEXT_WORD);
        let so_far = now.saturating_duration_since(self.started).as_secs();
        let left = self
            .limit()
            .map(|limit| limit.saturating_sub(waited).as_secs().saturating_add(1));
        let then = match (self.rule, left) {
            (OnAbsent::Defaults { .. }, Some(left)) => format!("in {left} s the command runs without one"),
            (_, Some(left)) => format!("giving up in {left} s"),
            (_, None) => "nothing runs until one does".to_owned(),
        };
        Due::Say(format!("waiting for the control plane, for {so_far} s now; {then}"))
    }

    fn limit(&self) -> Option<Duration> {
        match self.rule {
            OnAbsent::Await { deadline_s } => deadline_s,
            OnAbsent::Defaults { after_s } => Some(after_s),
        }
        .map(|seconds| Duration::from_secs(u64::from(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Ticks once a second; what was due in which second.
    fn ticked(absence: &mut Absence, from: Instant, seconds: u32) -> Vec<(u32, Due)> {
        (1..=seconds)
            .map(|n| (n, absence.tick(false, from + SECOND * n)))
            .filter(|(_, due)| *due != Due::Nothing)
            .collect()
    }

    #[test]
    fn it_says_that_it_waits_each_half_minute() {
        let start = Instant::now();
        let mut absence = Absence::new(OnAbsent::default(), start);
        let said = ticked(&mut absence, start, 70);
        assert_eq!(said.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3, 33, 63]);
        assert_eq!(
            said[1].1,
            Due::Say("waiting for the control plane, for 33 s now; nothing runs until one does".to_owned())
        );
        absence.end();
        assert_eq!(ticked(&mut absence, start + 70 * SECOND, 100), [], "it talks on");
        assert_eq!(absence.due(), None);
    }

    #[test]
    fn a_deadline_gives_up_or_runs_the_defaults_once() {
        for (rule, what, then) in [
            (OnAbsent::Await { deadline_s: Some(5) }, Due::GiveUp, "giving up in 3 s"),
            (
                OnAbsent::Defaults { after_s: 5 },
                Due::RunDefaults,
                "in 3 s the command runs without one",
            ),
        ] {
            let start = Instant::now();
            let mut absence = Absence::new(rule, start);
            let due = ticked(&mut absence, start, 60);
            assert_eq!(due.len(), 2, "{due:?}");
            assert!(
                matches!(&due[0], (3, Due::Say(text)) if text.ends_with(then)),
                "{due:?}"
            );
            assert_eq!(due[1], (5, what));
        }
    }

    #[test]
    fn one_that_is_connecting_is_not_absent_until_it_leaves() {
        let start = Instant::now();
        let mut absence = Absence::new(OnAbsent::Await { deadline_s: Some(2) }, start);
        for n in 1..=4 {
            assert_eq!(absence.tick(true, start + SECOND * n), Due::Nothing);
        }
        assert_eq!(absence.tick(false, start + 5 * SECOND), Due::GiveUp);
    }

    #[test]
    fn a_gap_in_our_own_loop_begins_the_deadline_anew() {
        let start = Instant::now();
        let mut absence = Absence::new(OnAbsent::Await { deadline_s: Some(5) }, start);
        assert_eq!(ticked(&mut absence, start, 2), []);
        let thawed = start + 3600 * SECOND;
        assert!(matches!(absence.tick(false, thawed), Due::Say(_)));
        assert_eq!(ticked(&mut absence, thawed, 10), [(5, Due::GiveUp)]);
    }
}
