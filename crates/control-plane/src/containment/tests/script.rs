//! Policies that a function answers for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clawker_model::{Action, PluginDigest, Row, Verdict};
use clawker_plugin_host::{Facts, PolicyReply, Unavailable, Window};

use super::super::policies::{FailMode, Judge, Mode, Rule};

type Answer = Result<PolicyReply, Unavailable>;
type Line = dyn Fn(usize, &Row, &Facts, &str) -> Answer + Send + Sync;

/// A judge that answers by a function, and counts how often it was asked.
#[derive(Clone)]
pub struct Script {
    line: Arc<Line>,
    asked: Arc<AtomicUsize>,
}

impl Script {
    pub fn new(line: impl Fn(usize, &Row, &Facts, &str) -> Answer + Send + Sync + 'static) -> Self {
        Self {
            line: Arc::new(line),
            asked: Arc::default(),
        }
    }

    pub fn silent() -> Self {
        Self::new(|_, _, _, _| Err(Unavailable::Missing))
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The script as the nth policy.
struct Nth(usize, Script);

impl Judge for Nth {
    fn judge(&self, row: &Row, facts: Facts, state: String) -> Answer {
        let Self(nth, script) = self;
        script.asked.fetch_add(1, Ordering::SeqCst);
        (script.line)(*nth, row, &facts, &state)
    }
}

pub fn reply(actions: Vec<Action>, state: &str) -> PolicyReply {
    let verdict = |action| Verdict {
        action,
        reason: "scripted".into(),
    };
    let verdicts = actions.into_iter().map(verdict).collect();
    PolicyReply {
        verdicts,
        state: state.into(),
        fuel: 1,
        micros: 1,
    }
}

/// A closed, enforced policy with a window of ten minutes on each of its events.
pub fn policy(name: &str, events: &[&str]) -> Rule {
    Rule {
        name: name.into(),
        digest: PluginDigest::parse(&"ab".repeat(32)).expect("digest"),
        events: events.iter().map(ToString::to_string).collect(),
        windows: events
            .iter()
            .take(16)
            .map(|kind| Window {
                kind: kind.to_string(),
                seconds: 600,
            })
            .collect(),
        fallback: Action::LockNetwork,
        fail_mode: FailMode::Closed,
        mode: Mode::Enforce,
        version: "1".into(),
        settings: "{}".into(),
        judge: Arc::new(Nth(0, Script::silent())),
        running: Default::default(),
    }
}

/// Each policy answered for by the script, as the one of its number.
pub fn scripted(rules: Vec<Rule>, script: &Script) -> Vec<Rule> {
    let nth = |(nth, rule)| Rule {
        judge: Arc::new(Nth(nth, script.clone())),
        ..rule
    };
    rules.into_iter().enumerate().map(nth).collect()
}
