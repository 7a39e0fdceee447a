//! What a case file may say.

use std::path::Path;

use clawker_model::{Containment, Event, FullName};
use clawker_plugin_host::Kind;
use serde::Deserialize;

use crate::Error;
use crate::error::read_text;

/// Bytes of a case file.
pub const MAX_CASE: u64 = 1 << 20;
/// Cases of a plugin.
pub const MAX_CASES: usize = 1_000;
/// Events of a case, repeated ones counted as often as they happen.
pub const MAX_EVENTS: usize = 10_000;

/// For whom a case is, unless it says.
const AGENT: &str = "clawker.demo.a";
/// Milliseconds from one event to the next, unless the case says.
const PACE: u64 = 1_000;
/// For bodies that name a container, unless they say which.
const CONTAINER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A case of one kind of plugin.
#[derive(Debug, Clone, PartialEq)]
pub enum Case {
    Policy(PolicyCase),
    Step(StepCase),
}

/// Events, and what a policy should say to them.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyCase {
    pub name: String,
    /// A JSON object.
    pub settings: String,
    pub agent: FullName,
    pub budget: Budget,
    pub events: Vec<CaseEvent>,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseEvent {
    pub at: u64,
    pub event: Event,
    /// What is asked for the agent; `None` for what the case's own verdicts came to.
    pub containment: Option<Containment>,
    /// `None` if the case doesn't care.
    pub expect: Option<Vec<Expected>>,
}

/// What one call may cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    pub fuel: Option<u64>,
    pub micros: Option<u64>,
}

/// A verdict that is expected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Expected {
    Action(String),
    Verdict {
        action: String,
        /// Part of the reason.
        reason: String,
    },
}

/// What a step asks for and is answered, and what comes of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StepCase {
    pub name: String,
    #[serde(default)]
    pub settings: toml::Table,
    #[serde(default)]
    pub context: Context,
    /// In order.
    #[serde(default)]
    pub effect: Vec<Answered>,
    pub expect: Option<Outcome>,
}

/// `[context]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Context {
    pub agent: String,
    pub start: u64,
    pub first_start: bool,
    pub image: String,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            agent: AGENT.into(),
            start: 1,
            first_start: true,
            image: "debian:13".into(),
        }
    }
}

/// An effect that is expected, with its answer. A word `*` of `argv` is any word.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "asks")]
pub enum Answered {
    Exec {
        argv: Vec<String>,
        /// What it should be given; a secret stands there as `{NAME}`.
        stdin: Option<String>,
        #[serde(default)]
        code: i32,
        #[serde(default)]
        stdout: String,
        #[serde(default)]
        stderr: String,
        error: Option<Problem>,
    },
    WriteFile {
        path: String,
        mode: Option<u32>,
        /// What it should hold; a secret stands there as `{NAME}`.
        content: Option<String>,
        /// `false`: it was left as it was.
        written: Option<bool>,
        error: Option<Problem>,
    },
    ReadFile {
        path: String,
        #[serde(default)]
        content: String,
        error: Option<Problem>,
    },
}

/// Why an effect could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    pub code: String,
    #[serde(default)]
    pub message: String,
}

/// How a step should end; each with a part of its message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Completed(String),
    Failed(String),
    Denied(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicyCase {
    name: String,
    #[serde(default)]
    settings: toml::Table,
    agent: Option<String>,
    #[serde(default)]
    budget: Budget,
    #[serde(default)]
    event: Vec<RawEvent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    kind: String,
    at: Option<u64>,
    #[serde(default)]
    body: toml::Table,
    containment: Option<Containment>,
    expect: Option<Vec<Expected>>,
    #[serde(default = "once")]
    repeat: usize,
}

fn once() -> usize {
    1
}

/// A case for a plugin of this kind.
pub fn read(path: &Path, kind: Kind) -> Result<Case, Error> {
    let text = read_text(path, MAX_CASE)?;
    let wrong = |problem: String| Error::malformed(path, problem);
    match kind {
        Kind::Policy => {
            let raw: RawPolicyCase = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            raw.case().map(Case::Policy).map_err(wrong)
        }
        _ => {
            let case = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            Ok(Case::Step(case))
        }
    }
}

impl RawPolicyCase {
    fn case(self) -> Result<PolicyCase, String> {
        let agent = self.agent.as_deref().unwrap_or(AGENT);
        let agent = FullName::parse(agent).map_err(|error| format!("agent: {error}"))?;
        let settings = serde_json::to_string(&self.settings).map_err(|error| format!("settings: {error}"))?;
        let (mut events, mut at) = (Vec::new(), 0);
        for (number, raw) in self.event.into_iter().enumerate() {
            let number = number + 1;
            if events.len().saturating_add(raw.repeat) > MAX_EVENTS {
                return Err(format!("more than {MAX_EVENTS} events"));
            }
            let event = raw.event().map_err(|problem| format!("event {number}: {problem}"))?;
            for turn in 0..raw.repeat {
                let next = match (raw.at, turn) {
                    (Some(at), 0) => at,
                    _ => at + PACE,
                };
                if next < at {
                    return Err(format!("event {number}: at {next} ms, after one at {at} ms"));
                }
                at = next;
                events.push(CaseEvent {
                    at,
                    event: event.clone(),
                    containment: raw.containment.clone(),
                    expect: raw.expect.clone(),
                });
            }
        }
        if events.is_empty() {
            return Err("there is no [[event]] in it".into());
        }
        Ok(PolicyCase {
            name: self.name,
            settings,
            agent,
            budget: self.budget,
            events,
        })
    }
}

impl RawEvent {
    fn event(&self) -> Result<Event, String> {
        if !Event::KINDS.contains(&self.kind.as_str()) {
            return Err(format!("there is no event kind `{:.80}`", self.kind));
        }
        let mut body = serde_json::to_value(&self.body).map_err(|error| error.to_string())?;
        if let Some(fields) = body.as_object_mut() {
            // Nobody wants to write 64 digits that mean nothing.
            fields.entry("container").or_insert_with(|| CONTAINER.into());
        }
        let event = serde_json::json!({"kind": self.kind, "body": body});
        serde_json::from_value(event).map_err(|error| format!("body of {}: {error}", self.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<PolicyCase, String> {
        let raw: RawPolicyCase = toml::from_str(text).map_err(|error| error.to_string())?;
        raw.case()
    }

    #[test]
    fn events_come_a_second_apart_unless_they_say_when() {
        let case = policy(
            "name = \"x\"\n[[event]]\nkind = \"ContainerOom\"\nrepeat = 2\n\
             [[event]]\nkind = \"EgressDenied\"\nat = 9000\nbody = { count = 1, total = 2 }\nexpect = [\"alert\", { action = \"freeze\", reason = \"r\" }]\n\
             [[event]]\nkind = \"ContainerOom\"\n",
        )
        .expect("a case");
        let at: Vec<u64> = case.events.iter().map(|event| event.at).collect();
        assert_eq!(at, [1_000, 2_000, 9_000, 10_000]);
        assert_eq!(case.events[2].expect.as_ref().map(Vec::len), Some(2));
        assert_eq!(case.settings, "{}");
    }

    #[test]
    fn cases_out_of_bounds_are_refused_with_what_is_wrong() {
        for (text, says) in [
            ("name = \"x\"\n", "no [[event]]"),
            (
                "name = \"x\"\n[[event]]\nkind = \"Nothing\"\n",
                "event 1: there is no event kind `Nothing`",
            ),
            (
                "name = \"x\"\n[[event]]\nkind = \"EgressDenied\"\n",
                "missing field `count`",
            ),
            (
                "name = \"x\"\n[[event]]\nkind = \"ContainerOom\"\nrepeat = 10001\n",
                "more than 10000 events",
            ),
            (
                "name = \"x\"\n[[event]]\nkid = \"ContainerOom\"\n",
                "unknown field `kid`",
            ),
            (
                "name = \"x\"\nagent = \"a\"\n[[event]]\nkind = \"ContainerOom\"\n",
                "agent: ",
            ),
            (
                "name = \"x\"\n[[event]]\nkind = \"ContainerOom\"\nat = 5\n[[event]]\nkind = \"ContainerOom\"\nat = 4\n",
                "event 2: at 4 ms, after one at 5 ms",
            ),
        ] {
            let problem = policy(text).expect_err(says);
            assert!(problem.contains(says), "{problem}");
        }
    }
}
