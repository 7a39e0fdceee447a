//! The lease: how long PID 1 goes on without a word from its control plane.
//!
//! Counts CLOCK_MONOTONIC from receipt. A gap in PID 1's own loop means that it was stopped itself (the container
//! was frozen, the machine slept): then the lease begins anew, because the control plane had no chance to renew it.

use std::time::{Duration, Instant};

use super::later;

/// Longest gap between two ticks that is taken for running.
pub const MAX_GAP: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// `None` while it is for ever, or before the first.
    armed: Option<Armed>,
    last_tick: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Armed {
    length: Duration,
    deadline: Instant,
}

impl Lease {
    pub fn new(now: Instant) -> Self {
        Self {
            armed: None,
            last_tick: now,
        }
    }

    /// A lease of this length from now; zero is for ever.
    pub fn arm(&mut self, length: Duration, now: Instant) {
        self.armed = (!length.is_zero()).then(|| Armed {
            length,
            deadline: later(now, length),
        });
    }

    /// To be called at least once a second. Whether the lease has just run out.
    pub fn tick(&mut self, now: Instant) -> bool {
        let gap = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        let Some(armed) = &mut self.armed else { return false };
        if gap > MAX_GAP {
            armed.deadline = later(now, armed.length);
        }
        let over = now >= armed.deadline;
        if over {
            self.armed = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Ticks once a second; at which second the lease ran out.
    fn runs_out(lease: &mut Lease, from: Instant, seconds: u32) -> Option<u32> {
        (1..=seconds).find(|n| lease.tick(from + SECOND * *n))
    }

    #[test]
    fn it_runs_out_once_after_its_length() {
        let start = Instant::now();
        let mut lease = Lease::new(start);
        lease.arm(5 * SECOND, start);
        assert_eq!(runs_out(&mut lease, start, 20), Some(5));
        assert_eq!(runs_out(&mut lease, start + 5 * SECOND, 20), None, "it ran out twice");
    }

    #[test]
    fn without_one_or_with_one_for_ever_it_never_runs_out() {
        let start = Instant::now();
        let mut lease = Lease::new(start);
        assert_eq!(runs_out(&mut lease, start, 1000), None);
        lease.arm(SECOND, start + 1000 * SECOND);
        lease.arm(Duration::ZERO, start + 1000 * SECOND);
        assert_eq!(runs_out(&mut lease, start + 1000 * SECOND, 1000), None);
    }

    #[test]
    fn a_later_one_replaces_it() {
        let start = Instant::now();
        let mut lease = Lease::new(start);
        lease.arm(5 * SECOND, start);
        assert_eq!(runs_out(&mut lease, start, 4), None);
        lease.arm(2 * SECOND, start + 4 * SECOND);
        assert_eq!(runs_out(&mut lease, start + 4 * SECOND, 10), Some(2));
    }

    #[test]
    fn a_gap_in_our_own_loop_begins_it_anew() {
        let start = Instant::now();
        let mut lease = Lease::new(start);
        lease.arm(5 * SECOND, start);
        assert_eq!(runs_out(&mut lease, start, 3), None);
        // Stopped for an hour, longer than the lease.
        let thawed = start + 3600 * SECOND;
        assert!(!lease.tick(thawed));
        assert_eq!(runs_out(&mut lease, thawed, 10), Some(5));
    }
}
