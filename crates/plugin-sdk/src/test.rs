//! What stands for the host in tests of policies, which then are plain `cargo test`.
//!
//! ```
//! use std::time::Duration;
//!
//! use clawker_plugin_sdk::events::ExecExited;
//! use clawker_plugin_sdk::policy;
//! use clawker_plugin_sdk::policy::{Facts, Processes, Verdict};
//! use clawker_plugin_sdk::test::MockHost;
//! use serde_json::json;
//!
//! #[policy(events(ExecExited), windows(ExecExited = 10))]
//! fn busy(facts: &Facts) -> Option<Verdict> {
//!     let new = facts.containment.processes == Processes::Running;
//!     (new && facts.count("ExecExited") >= 5).then(|| Verdict::freeze("five in ten seconds"))
//! }
//!
//! let mut host = MockHost::<busy>::new();
//! host.event("ExecExited", json!({"exec": "e", "code": 0})).repeat(4, Duration::from_secs(1)).expect_nothing();
//! // Typed; a second later, as always.
//! host.happens(&ExecExited::default()).expect(["freeze"]);
//! // It was frozen, so the policy says nothing more; once released it is counted on.
//! host.happens(&ExecExited::default()).expect_nothing();
//! host.released().happens(&ExecExited::default()).expect(["freeze"]);
//! // Another agent has windows, state and containment of its own.
//! host.agent("clawker.other").happens(&ExecExited::default()).expect_nothing();
//! ```

mod agent;
mod session;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use serde_json::Value;

use crate::events::Kind;
use crate::policy::{Containment, Event, Facts, Policy, Verdict};
use agent::Agent;

pub use session::Session;

/// Bytes of settings, as the host's.
const MAX_SETTINGS: usize = 64 << 10;
/// Bytes of a state, as the host's.
const MAX_STATE: usize = 16 << 10;
/// Verdicts of one decision, as the host's.
const MAX_VERDICTS: usize = 16;
/// Destinations of a `restrict-egress`, as the host's.
const MAX_ALLOW: usize = 64;
/// Bytes of a reason, as the host's.
const MAX_TEXT: usize = 1 << 10;

/// The host of one policy: counts its windows, keeps its state as JSON and the containment that it asked for, agent by
/// agent, and holds it to the host's caps. Every event is put twice, and answered alike or the test fails: a policy is
/// a function.
///
/// Its methods panic where the policy or the host isn't as the test says.
#[derive(Debug)]
pub struct MockHost<P> {
    settings: String,
    /// Milliseconds.
    clock: u64,
    seq: u64,
    agent: String,
    agents: BTreeMap<String, Agent>,
    last: Option<(String, Value)>,
    said: Vec<Verdict>,
    policy: PhantomData<P>,
}

impl<P: Policy> Default for MockHost<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Policy> MockHost<P> {
    /// Without settings, with one agent, `clawker.demo.a`. Panics if a host would refuse the policy.
    #[track_caller]
    pub fn new() -> Self {
        if let Err(why) = fit::<P>() {
            panic!("a host would refuse `{}`: {why}", P::NAME);
        }
        Self {
            settings: "{}".into(),
            clock: 0,
            seq: 0,
            agent: "clawker.demo.a".into(),
            agents: BTreeMap::new(),
            last: None,
            said: Vec::new(),
            policy: PhantomData,
        }
    }

    /// What the operator configured. Panics if the policy can't read it; see [`MockHost::refuses`].
    #[track_caller]
    pub fn settings(mut self, settings: Value) -> Self {
        if let Err(why) = read::<P>(&settings) {
            panic!("settings {settings}: {why}");
        }
        self.settings = settings.to_string();
        self
    }

    /// Why the policy can't read these settings. Panics if it can.
    ///
    /// ```
    /// # use clawker_plugin_sdk::{Settings, policy, policy::Verdict, test::MockHost};
    /// # use serde_json::json;
    /// #[derive(Settings)]
    /// struct Settings {
    ///     #[settings(default = 3, min = 1)]
    ///     often: u64,
    /// }
    ///
    /// #[policy(events(ContainerOom))]
    /// fn rule(settings: &Settings) -> Option<Verdict> {
    ///     // …
    /// #   None
    /// }
    ///
    /// assert!(MockHost::<rule>::refuses(json!({"often": 0})).contains("`often` must be at least 1"));
    /// ```
    #[track_caller]
    pub fn refuses(settings: Value) -> String {
        match read::<P>(&settings) {
            Ok(()) => panic!("settings {settings}: it takes them"),
            Err(why) => why,
        }
    }

    /// Whom the next events are about.
    pub fn agent(&mut self, name: &str) -> &mut Self {
        self.agent = name.into();
        self
    }

    /// Time passes, beside the second between two events.
    pub fn after(&mut self, time: Duration) -> &mut Self {
        self.clock += millis(time);
        self
    }

    /// Something happens, a second after what happened before. A kind that the policy isn't asked about is counted, if
    /// it declared a window of it. Panics if the policy can't decide, or goes over a cap; see [`MockHost::faults`].
    #[track_caller]
    pub fn event(&mut self, kind: &str, body: Value) -> &mut Self {
        self.clock += 1000;
        self.put(kind, body);
        self
    }

    /// The same with one of the SDK's [`events`](crate::events).
    #[track_caller]
    pub fn happens<K: Kind>(&mut self, event: &K) -> &mut Self {
        match serde_json::to_value(event) {
            Ok(body) => self.event(K::KIND, body),
            Err(error) => panic!("{}: {error}", K::KIND),
        }
    }

    /// The last event again until it was there so many times, each so long after the one before.
    #[track_caller]
    pub fn repeat(&mut self, times: u32, every: Duration) -> &mut Self {
        let Some((kind, body)) = self.last.clone() else {
            panic!("nothing has happened that could be repeated")
        };
        for _ in 1..times {
            self.after(every).put(&kind, body.clone());
        }
        self
    }

    /// Plays a script.
    #[track_caller]
    pub fn play(&mut self, session: &Session) -> &mut Self {
        session.play(self);
        self
    }

    /// An operator releases the agent: nothing is asked for it any more.
    pub fn released(&mut self) -> &mut Self {
        self.current().containment = Containment::default();
        self
    }

    /// Somebody else contains the agent.
    pub fn contained(&mut self, containment: Containment) -> &mut Self {
        self.current().containment = containment;
        self
    }

    /// The actions that were asked for since the last expectation, in order.
    #[track_caller]
    pub fn expect<'a>(&mut self, actions: impl IntoIterator<Item = &'a str>) -> &mut Self {
        let expected: Vec<&str> = actions.into_iter().collect();
        let said: Vec<&str> = self.said.iter().map(|verdict| verdict.action).collect();
        assert_eq!(said, expected, "it said {:?}", self.said);
        self.said.clear();
        self
    }

    /// That nothing was asked for since the last expectation.
    #[track_caller]
    pub fn expect_nothing(&mut self) -> &mut Self {
        self.expect([])
    }

    /// The event has to be one that the policy can't decide about, so that the operator's fallback acts; says why.
    #[track_caller]
    pub fn faults(&mut self, kind: &str, body: Value) -> String {
        self.clock += 1000;
        match self.decide(kind, &body) {
            Ok(verdicts) => panic!("{kind} {body}: it decided: {verdicts:?}"),
            Err(why) => why,
        }
    }

    /// What was asked for since the last expectation, with reasons.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.said
    }

    /// What the policy left for the agent, as JSON; empty before its first event.
    pub fn state(&self) -> &str {
        self.agents.get(&self.agent).map_or("", |agent| agent.state.as_str())
    }

    fn current(&mut self) -> &mut Agent {
        self.agents.entry(self.agent.clone()).or_default()
    }

    #[track_caller]
    fn put(&mut self, kind: &str, body: Value) {
        match self.decide(kind, &body) {
            Ok(verdicts) => self.said.extend(verdicts),
            Err(why) => panic!("{kind} {body}: it can't decide: {why}"),
        }
        self.last = Some((kind.into(), body));
    }

    fn decide(&mut self, kind: &str, body: &Value) -> Result<Vec<Verdict>, String> {
        self.seq += 1;
        let event = Event {
            kind: kind.into(),
            seq: self.seq,
            at: self.clock,
            agent: Some(self.agent.clone()),
            body: body.to_string(),
        };
        let settings = self.settings.clone();
        let agent = self.current();
        agent.note(&event, P::WINDOWS);
        let asked = P::EVENTS.contains(&kind);
        let facts = agent.facts(event.at, P::WINDOWS);
        let decided = match asked {
            true => ask::<P>(&event, &facts, &settings, &agent.state).map(Some),
            false => Ok(None),
        };
        if kind == "AgentRemoved" {
            self.agents.remove(&self.agent);
            return Ok(decided?.map_or_else(Vec::new, |(verdicts, _)| verdicts));
        }
        let Some((verdicts, state)) = decided? else {
            return Ok(Vec::new());
        };
        agent.state = state;
        verdicts.iter().for_each(|verdict| agent.contain(verdict.action));
        Ok(verdicts)
    }
}

/// Twice, because a policy is a function.
fn ask<P: Policy>(event: &Event, facts: &Facts, settings: &str, state: &str) -> Result<(Vec<Verdict>, String), String> {
    let once = || crate::policy::decide::<P>(event, facts, settings, state).map_err(|fault| fault.to_string());
    let first = once();
    if first != once() {
        return Err("asked the same twice, it answered differently: a policy is a function".into());
    }
    let (mut verdicts, state) = first?;
    if state.len() > MAX_STATE {
        return Err(format!("a state of {} bytes, the limit is {MAX_STATE}", state.len()));
    }
    if verdicts.len() > MAX_VERDICTS {
        return Err(format!("{} verdicts, the limit is {MAX_VERDICTS}", verdicts.len()));
    }
    for verdict in &mut verdicts {
        if verdict.allow.len() > MAX_ALLOW {
            let entries = verdict.allow.len();
            return Err(format!("an allow list of {entries} entries, the limit is {MAX_ALLOW}"));
        }
        let end = (0..=MAX_TEXT.min(verdict.reason.len()))
            .rev()
            .find(|end| verdict.reason.is_char_boundary(*end));
        verdict.reason.truncate(end.unwrap_or_default());
    }
    Ok((verdicts, state))
}

fn read<P: Policy>(settings: &Value) -> Result<(), String> {
    let text = settings.to_string();
    if !settings.is_object() {
        return Err("they are not a JSON object".into());
    }
    if text.len() > MAX_SETTINGS {
        return Err(format!("they have {} bytes, the limit is {MAX_SETTINGS}", text.len()));
    }
    P::read_settings(&text).map(drop).map_err(|fault| fault.to_string())
}

/// Whether a host would load it.
fn fit<P: Policy>() -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (name, version) = (P::NAME.as_bytes(), P::VERSION);
    let edges = name.first().is_some_and(|byte| word(*byte)) && name.last().is_some_and(|byte| word(*byte));
    if !edges || name.len() > 64 || !name.iter().all(|byte| word(*byte) || *byte == b'-') {
        return Err("a name is 1 to 64 of a-z, 0-9 and `-`, with a `-` at neither end".into());
    }
    if version.is_empty() || version.len() > 32 {
        return Err(format!("the version `{version:.40}` is not 1 to 32 bytes long"));
    }
    if P::EVENTS.is_empty() {
        return Err("it is asked about no events".into());
    }
    if P::WINDOWS.len() > 16 {
        return Err(format!("{} windows, the limit is 16", P::WINDOWS.len()));
    }
    if let Some(window) = P::WINDOWS.iter().find(|window| !(1..=86_400).contains(&window.seconds)) {
        return Err(format!("a window of {} s: it is 1 to 86400", window.seconds));
    }
    match serde_json::from_str(&P::settings_schema()) {
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err("its settings' schema is not an object".into()),
        Err(error) => Err(format!("its settings' schema is not JSON: {error}")),
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}
