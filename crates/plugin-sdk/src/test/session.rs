//! What happens to agents, as a script.

use std::time::Duration;

use serde_json::Value;

use super::MockHost;
use crate::policy::Policy;

/// A script that several hosts may play: other settings, the same events.
///
/// ```
/// use std::time::Duration;
///
/// use clawker_plugin_sdk::policy::{Facts, Verdict};
/// use clawker_plugin_sdk::test::{MockHost, Session};
/// use clawker_plugin_sdk::{Settings, policy};
/// use serde_json::json;
///
/// #[derive(Settings)]
/// struct Settings {
///     #[settings(default = 3)]
///     often: u64,
/// }
///
/// #[policy(events(ContainerOom), windows(ContainerOom = 60))]
/// fn oom(facts: &Facts, settings: &Settings) -> Option<Verdict> {
///     (facts.count("ContainerOom") == settings.often).then(|| Verdict::alert("often"))
/// }
///
/// let twice = Session::new().event("ContainerOom", json!({})).repeat(2, Duration::from_secs(10));
/// MockHost::<oom>::new().settings(json!({"often": 2})).play(&twice).expect(["alert"]);
/// MockHost::<oom>::new().play(&twice).expect_nothing();
/// ```
#[derive(Debug, Clone, Default)]
pub struct Session {
    moves: Vec<Move>,
}

#[derive(Debug, Clone)]
enum Move {
    Agent(String),
    After(Duration),
    Event(String, Value),
    Repeat(u32, Duration),
    Released,
}

impl Session {
    /// In which nothing happens.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`MockHost::agent`].
    pub fn agent(self, name: &str) -> Self {
        self.and(Move::Agent(name.into()))
    }

    /// As [`MockHost::after`].
    pub fn after(self, time: Duration) -> Self {
        self.and(Move::After(time))
    }

    /// As [`MockHost::event`].
    pub fn event(self, kind: &str, body: Value) -> Self {
        self.and(Move::Event(kind.into(), body))
    }

    /// As [`MockHost::repeat`].
    pub fn repeat(self, times: u32, every: Duration) -> Self {
        self.and(Move::Repeat(times, every))
    }

    /// As [`MockHost::released`].
    pub fn released(self) -> Self {
        self.and(Move::Released)
    }

    fn and(mut self, next: Move) -> Self {
        self.moves.push(next);
        self
    }

    #[track_caller]
    pub(super) fn play<P: Policy>(&self, host: &mut MockHost<P>) {
        for next in &self.moves {
            match next {
                Move::Agent(name) => host.agent(name),
                Move::After(time) => host.after(*time),
                Move::Event(kind, body) => host.event(kind, body.clone()),
                Move::Repeat(times, every) => host.repeat(*times, *every),
                Move::Released => host.released(),
            };
        }
    }
}
