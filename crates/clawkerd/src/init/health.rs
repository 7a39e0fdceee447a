//! The image's health check, run as the image's user after AgentReady. Docker's own is off: it would run before.
//!
//! ```text
//!  Waiting --interval--> Running --exit 0--> healthy
//!     ^                     |---- other exit, timeout: failure; `retries` in a row: unhealthy
//!     +---------------------+
//! ```
//! Failures inside the start period don't count.

use std::time::{Duration, Instant};

use clawker_proc::wait::Ended;

use super::later;
use crate::halves::{HealthSpec, Stage};

/// Docker's defaults for what an image leaves at 0.
const INTERVAL: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// Spawn the check; then [`Health::spawned`].
    Start,
    /// It takes too long: kill the process and all below it.
    Kill(i32),
}

pub struct Health {
    pub stage: Stage,
    interval: Duration,
    timeout: Duration,
    retries: u32,
    lenient_until: Instant,
    phase: Phase,
    failures: u32,
    /// What was told last.
    reported: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Waiting { until: Instant },
    Running { pid: i32, deadline: Instant },
}

impl Health {
    pub fn new(spec: &HealthSpec, main: &Stage, now: Instant) -> Self {
        let or = |ms: u64, default: Duration| if ms == 0 { default } else { Duration::from_millis(ms) };
        let interval = or(spec.interval_ms, INTERVAL);
        Self {
            stage: Stage {
                argv: spec.argv.clone(),
                ..main.clone()
            },
            interval,
            timeout: or(spec.timeout_ms, INTERVAL),
            retries: if spec.retries == 0 { RETRIES } else { spec.retries },
            lenient_until: later(now, Duration::from_millis(spec.start_period_ms)),
            phase: Phase::Waiting {
                until: later(now, interval),
            },
            failures: 0,
            reported: None,
        }
    }

    pub fn pid(&self) -> Option<i32> {
        match self.phase {
            Phase::Running { pid, .. } => Some(pid),
            Phase::Waiting { .. } => None,
        }
    }

    pub fn healthy(&self) -> Option<bool> {
        self.reported
    }

    pub fn due(&self, now: Instant) -> Due {
        match self.phase {
            Phase::Waiting { until } if now >= until => Due::Start,
            Phase::Running { pid, deadline } if now >= deadline => Due::Kill(pid),
            _ => Due::Nothing,
        }
    }

    pub fn next(&self) -> Instant {
        match self.phase {
            Phase::Waiting { until } => until,
            Phase::Running { deadline, .. } => deadline,
        }
    }

    pub fn spawned(&mut self, pid: i32, now: Instant) {
        self.phase = Phase::Running {
            pid,
            deadline: later(now, self.timeout),
        };
    }

    /// Not now: the command itself isn't there yet.
    pub fn postpone(&mut self, now: Instant) {
        self.phase = Phase::Waiting {
            until: later(now, self.interval),
        };
    }

    /// The check ended, or couldn't be spawned. What changed, if anything did.
    pub fn ended(&mut self, ended: Ended, now: Instant) -> Option<(bool, String)> {
        self.phase = Phase::Waiting {
            until: later(now, self.interval),
        };
        let verdict = if ended == Ended::Exited(0) {
            self.failures = 0;
            Some(true)
        } else if now < self.lenient_until && self.reported != Some(true) {
            None
        } else {
            self.failures = self.failures.saturating_add(1);
            (self.failures >= self.retries).then_some(false)
        };
        let healthy = verdict.filter(|healthy| self.reported != Some(*healthy))?;
        self.reported = Some(healthy);
        let detail = match ended {
            Ended::Exited(code) => format!("exit code {code}"),
            Ended::Signaled(signo) => format!("ended by signal {signo}"),
        };
        Some((healthy, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn health(start_period_ms: u64, now: Instant) -> Health {
        let spec = HealthSpec {
            argv: vec!["check".to_owned()],
            interval_ms: 1000,
            timeout_ms: 500,
            start_period_ms,
            retries: 2,
        };
        let main = Stage {
            argv: vec!["main".to_owned()],
            user: "agent".to_owned(),
            env: Vec::new(),
            cwd: "/work".to_owned(),
        };
        Health::new(&spec, &main, now)
    }

    #[test]
    fn changes_are_told_once_and_retries_count_in_a_row() {
        let now = Instant::now();
        let mut health = health(0, now);
        assert_eq!(
            (health.stage.user.as_str(), health.stage.argv[0].as_str()),
            ("agent", "check")
        );
        let mut told = Vec::new();
        for code in [0, 0, 1, 0, 1, 1, 1, 0] {
            told.push(health.ended(Ended::Exited(code), now).map(|(healthy, _)| healthy));
        }
        let expected = [Some(true), None, None, None, None, Some(false), None, Some(true)];
        assert_eq!(told, expected);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let now = Instant::now();
        let mut health = health(10_000, now);
        for _ in 0..5 {
            assert_eq!(health.ended(Ended::Exited(1), now + SECOND), None);
        }
        assert_eq!(health.ended(Ended::Exited(1), now + 11 * SECOND), None);
        assert!(health.ended(Ended::Exited(1), now + 12 * SECOND).is_some());
    }

    #[test]
    fn a_check_that_hangs_is_killed() {
        let now = Instant::now();
        let mut health = health(0, now);
        assert_eq!(health.due(now), Due::Nothing);
        assert_eq!(health.due(now + SECOND), Due::Start);
        health.spawned(42, now + SECOND);
        assert_eq!(health.due(now + SECOND), Due::Nothing);
        assert_eq!(health.due(now + 2 * SECOND), Due::Kill(42));
    }
}
