//! When rules came true, of one agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::settings::Rule;

/// Milliseconds since the Unix epoch by rule, oldest first; at most `times - 1` of each.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Times(BTreeMap<String, Vec<u64>>);

impl Times {
    /// Forgets rules that there aren't any more.
    pub fn keep(&mut self, rules: &[Rule]) {
        self.0.retain(|name, _| rules.iter().any(|rule| rule.name == *name));
    }

    /// The rule came true at `at`. Says whether that was often enough; if so, it is counted anew from then on.
    pub fn note(&mut self, rule: &Rule, at: u64) -> bool {
        let within = u64::from(rule.within.unwrap_or(0)) * 1000;
        let mut times = self.0.remove(&rule.name).unwrap_or_default();
        times.retain(|then| at.abs_diff(*then) < within);
        times.push(at);
        if times.len() >= rule.times as usize {
            return true;
        }
        self.0.insert(rule.name.clone(), times);
        false
    }
}
