//! A host that exists in memory, for the tests of policies.

use std::marker::PhantomData;

use serde_json::Value;

use super::{Containment, Event, Facts, Fault, Network, Policy, Processes, Verdict, WindowCount, decide};

/// Bytes of a policy's state, as in a host.
const MAX_STATE: usize = 16 << 10;

/// Plays events of one agent to a policy, and keeps what a host would: the windows that it counts, the state, which goes
/// through JSON, and the containment, which follows the verdicts.
///
/// ```
/// # use clawker_plugin_sdk::policy::{Event, Facts, Fault, Policy, Session, Verdict, Window};
/// # struct OomAlert;
/// # impl Policy for OomAlert {
/// #     const NAME: &str = "oom-alert";
/// #     const VERSION: &str = "0.1.0";
/// #     const EVENTS: &[&str] = &["ContainerOom"];
/// #     const WINDOWS: &[Window] = &[Window { kind: "ContainerOom", seconds: 3600 }];
/// #     type Settings = ();
/// #     type State = ();
/// #     fn evaluate(_: &Event, facts: &Facts, _: &(), _: &mut ()) -> Result<Vec<Verdict>, Fault> {
/// #         Ok((facts.count("ContainerOom") > 2).then(|| Verdict::alert("often")).into_iter().collect())
/// #     }
/// # }
/// let mut session = Session::<OomAlert>::new();
/// assert_eq!(session.events(2, "ContainerOom", "{}")?, Vec::<&str>::new());
/// assert_eq!(session.event("ContainerOom", "{}")?, ["alert"]);
/// # Ok::<(), clawker_plugin_sdk::policy::Fault>(())
/// ```
#[derive(Debug)]
pub struct Session<P> {
    settings: String,
    state: String,
    at: u64,
    seen: Vec<(String, u64)>,
    containment: Containment,
    verdicts: Vec<Verdict>,
    policy: PhantomData<P>,
}

impl<P: Policy> Default for Session<P> {
    fn default() -> Self {
        Self {
            settings: "{}".to_owned(),
            state: String::new(),
            at: 0,
            seen: Vec::new(),
            containment: Containment::default(),
            verdicts: Vec::new(),
            policy: PhantomData,
        }
    }
}

impl<P: Policy> Session<P> {
    /// Of an agent of which nothing is known yet, with the policy's own settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// With settings as an operator writes them, a JSON object.
    #[must_use]
    pub fn settings(mut self, json: &str) -> Self {
        json.clone_into(&mut self.settings);
        self
    }

    /// The next event happens then, in milliseconds; without it a second after the one before.
    pub fn at(&mut self, at: u64) -> &mut Self {
        self.at = at.saturating_sub(1000);
        self
    }

    /// Plays an event with that body, a JSON object. The names of the actions that the policy asks for, in order; none for
    /// an event that it isn't asked about.
    pub fn event(&mut self, kind: &str, body: &str) -> Result<Vec<&'static str>, Fault> {
        let body: serde_json::Map<String, Value> =
            serde_json::from_str(body).map_err(|error| format!("the event's body: {error}"))?;
        self.at += 1000;
        self.seen.push((kind.to_owned(), self.at));
        self.verdicts.clear();
        if !P::EVENTS.contains(&kind) {
            return Ok(Vec::new());
        }
        let event = Event {
            kind: kind.to_owned(),
            seq: self.seen.len() as u64,
            at: self.at,
            agent: Some("clawker.demo.a".to_owned()),
            body: Value::Object(body).to_string(),
        };
        let facts = Facts {
            counts: P::WINDOWS.iter().map(|window| self.count(window)).collect(),
            containment: self.containment.clone(),
        };
        let (verdicts, state) = decide::<P>(&event, &facts, &self.settings, &self.state)?;
        if state.len() > MAX_STATE {
            return Err(format!("a state of {} bytes, the limit is {MAX_STATE}", state.len()).into());
        }
        self.state = state;
        verdicts.iter().for_each(|verdict| self.contain(verdict));
        self.verdicts = verdicts;
        Ok(self.verdicts.iter().map(|verdict| verdict.action).collect())
    }

    /// The same event so many times, a second apart; what the policy asked for in all.
    pub fn events(&mut self, times: usize, kind: &str, body: &str) -> Result<Vec<&'static str>, Fault> {
        let mut said = Vec::new();
        for _ in 0..times {
            said.extend(self.event(kind, body)?);
        }
        Ok(said)
    }

    /// What was said to the last event, with reasons.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// What contains the agent after the last event.
    pub fn containment(&self) -> &Containment {
        &self.containment
    }

    /// An operator released the agent.
    pub fn release(&mut self) {
        self.containment = Containment::default();
    }

    fn count(&self, window: &super::Window) -> WindowCount {
        let long = u64::from(window.seconds) * 1000;
        let within = |(kind, at): &&(String, u64)| kind == window.kind && at + long > self.at;
        WindowCount {
            kind: window.kind.to_owned(),
            seconds: window.seconds,
            count: self.seen.iter().filter(within).count() as u64,
        }
    }

    fn contain(&mut self, verdict: &Verdict) {
        let now = &mut self.containment;
        match verdict.action {
            "restrict-egress" if now.network == Network::Open => now.network = Network::Restricted,
            "lock-network" => now.network = Network::Locked,
            "freeze" if now.processes == Processes::Running => now.processes = Processes::Frozen,
            "stop" if now.processes != Processes::Killed => now.processes = Processes::Stopped,
            "kill" => now.processes = Processes::Killed,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Window;
    use super::*;

    /// Locks on the second event within ten seconds, and remembers how many there were in all.
    struct Guard;

    impl Policy for Guard {
        const NAME: &str = "guard";
        const VERSION: &str = "1";
        const EVENTS: &[&str] = &["EgressDenied"];
        const WINDOWS: &[Window] = &[Window {
            kind: "EgressDenied",
            seconds: 10,
        }];
        type Settings = std::collections::BTreeMap<String, u64>;
        type State = u64;

        fn evaluate(
            event: &Event,
            facts: &Facts,
            settings: &Self::Settings,
            seen: &mut u64,
        ) -> Result<Vec<Verdict>, Fault> {
            #[derive(serde::Deserialize)]
            struct Denied {
                count: u64,
            }
            *seen += event.read::<Denied>()?.count;
            if facts.containment.network == Network::Locked {
                return Ok(vec![Verdict::freeze(format!("{seen} in all"))]);
            }
            let often = facts.count("EgressDenied") >= settings.get("often").copied().unwrap_or(2);
            Ok(often.then(|| Verdict::lock_network("often")).into_iter().collect())
        }
    }

    const DENIED: &str = r#"{"count":2}"#;

    #[test]
    fn a_session_counts_remembers_and_contains_as_a_host_does() {
        let mut session = Session::<Guard>::new();
        let none: [&str; 0] = [];
        assert_eq!(session.event("EgressDenied", DENIED).expect("answers"), none);
        assert_eq!(session.at(60_000).event("EgressDenied", DENIED).expect("answers"), none);
        assert_eq!(session.event("ContainerOom", "{}").expect("not asked"), none);
        assert_eq!(
            session.event("EgressDenied", DENIED).expect("answers"),
            ["lock-network"]
        );
        assert_eq!(session.containment().network, Network::Locked);
        assert_eq!(session.event("EgressDenied", DENIED).expect("answers"), ["freeze"]);
        assert_eq!(session.verdicts()[0].reason, "8 in all");
        session.release();
        assert_eq!(session.containment(), &Containment::default());
    }

    #[test]
    fn settings_are_an_operators_and_a_fault_is_an_error() {
        let mut session = Session::<Guard>::new().settings(r#"{"often":1}"#);
        assert_eq!(
            session.event("EgressDenied", DENIED).expect("answers"),
            ["lock-network"]
        );
        assert!(session.event("EgressDenied", "{}").is_err());
        assert!(session.event("EgressDenied", "[]").is_err());
        let mut wrong = Session::<Guard>::new().settings("[]");
        assert!(wrong.event("EgressDenied", DENIED).is_err());
    }
}
