//! What becomes of an exec that nobody is attached to: nothing, or a signal after a while.
//!
//! ```text
//!  attached <--> alone since t --the while is over--> told, once
//! ```
//! The session half counts who is attached; when the half dies nobody is, until the next one says otherwise.

use std::time::{Duration, Instant};

use super::later;
use crate::halves::Goodbye;

/// Without a rule (the default) it goes on for ever.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Leave {
    rule: Option<(Goodbye, Duration)>,
    /// When it is told; `None` while somebody is attached, and after it was told.
    at: Option<Instant>,
}

impl Leave {
    /// Nobody is attached yet, so the while begins now.
    pub fn new(rule: Option<(Goodbye, Duration)>, now: Instant) -> Self {
        let mut leave = Self { rule, at: None };
        leave.attached(false, now);
        leave
    }

    pub fn attached(&mut self, attached: bool, now: Instant) {
        self.at = match self.rule {
            Some((_, after)) if !attached => Some(self.at.unwrap_or_else(|| later(now, after))),
            _ => None,
        };
    }

    /// What it is to be told now.
    pub fn tick(&mut self, now: Instant) -> Option<Goodbye> {
        self.at.take_if(|at| now >= *at)?;
        self.rule.take().map(|(goodbye, _)| goodbye)
    }

    pub fn due(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(60);

    #[test]
    fn one_that_is_left_alone_is_told_once_and_one_without_a_rule_never() {
        let now = Instant::now();
        let mut leave = Leave::new(Some((Goodbye::Hangup, AFTER)), now);
        assert_eq!((leave.due(), leave.tick(now)), (Some(now + AFTER), None));
        leave.attached(true, now);
        assert_eq!(leave.tick(now + 2 * AFTER), None);
        let left = now + 3 * AFTER;
        leave.attached(false, left);
        // Told again meanwhile, by a half that is new: the while began before.
        leave.attached(false, left + AFTER / 2);
        assert_eq!(leave.tick(left + AFTER), Some(Goodbye::Hangup));
        leave.attached(false, left + AFTER);
        assert_eq!((leave.tick(left + 9 * AFTER), leave.due()), (None, None));

        let mut keep = Leave::new(None, now);
        keep.attached(false, now);
        assert_eq!((keep.tick(now + 9 * AFTER), keep.due()), (None, None));
    }
}
