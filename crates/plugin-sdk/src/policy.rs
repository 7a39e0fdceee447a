//! Policies: what happened, in; what should be done, out.

use std::net::SocketAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::events::Kind;

/// Why a policy can't decide. The host journals it as unavailable and applies the operator's fallback, so returning
/// one is the safe answer to anything unexpected.
pub type Fault = Box<dyn std::error::Error>;

/// A policy. It is a function: the same event, facts, settings and state give the same verdicts, whenever asked.
pub trait Policy {
    /// `[a-z0-9-]`, 64 characters at most.
    const NAME: &str;
    /// For people, e.g. `env!("CARGO_PKG_VERSION")`.
    const VERSION: &str;
    /// A JSON Schema of [`Settings`](Self::Settings).
    const SETTINGS_SCHEMA: &str = r#"{"type":"object"}"#;
    /// The event kinds that it is asked about.
    const EVENTS: &[&str];
    /// What the host counts for it; 16 at most.
    const WINDOWS: &[Window] = &[];

    /// What the operator configures; `()` for nothing. Read from a JSON object, `{}` where nothing is configured.
    type Settings: DeserializeOwned;
    /// What it remembers of an agent from one event to the next; `()` for nothing. 16 KiB of JSON at most.
    type State: Serialize + DeserializeOwned + Default;

    /// The schema that the component shows: [`SETTINGS_SCHEMA`](Self::SETTINGS_SCHEMA), unless the settings derive theirs.
    fn settings_schema() -> String {
        Self::SETTINGS_SCHEMA.into()
    }

    /// The settings that a JSON object holds.
    fn read_settings(json: &str) -> Result<Self::Settings, Fault> {
        Ok(crate::read("settings", json)?)
    }

    /// Says what should be done about the agent; an empty list is "nothing". Called once for each event of a kind in
    /// [`EVENTS`](Self::EVENTS), in the journal's order.
    fn evaluate(
        event: &Event,
        facts: &Facts,
        settings: &Self::Settings,
        state: &mut Self::State,
    ) -> Result<Vec<Verdict>, Fault>;
}

/// Events of one kind that the host counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// E.g. `EgressDenied`.
    pub kind: &'static str,
    /// 1 to 86400.
    pub seconds: u32,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// E.g. `ContainerOom`.
    pub kind: String,
    /// The row's number in the journal.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// The agent's full name; `None` for an event of the host itself.
    pub agent: Option<String>,
    /// The event's fields as a JSON object; read it with [`Event::read`].
    pub body: String,
}

impl Event {
    /// The event's fields as a type of yours. Name only the fields that you need: others may come at any time.
    ///
    /// ```
    /// # use clawker_plugin_sdk::policy::Event;
    /// #[derive(serde::Deserialize)]
    /// struct Denied {
    ///     count: u64,
    /// }
    /// # let (agent, body) = (None, r#"{"count":2,"total":5}"#.into());
    /// let event = Event { kind: "EgressDenied".into(), seq: 7, at: 0, agent, body };
    /// assert_eq!(event.read::<Denied>()?.count, 2);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.body)
    }

    /// The event as one of the SDK's types; `None` if it is of another kind.
    ///
    /// ```
    /// use clawker_plugin_sdk::events::{ContainerOom, ExecExited};
    /// use clawker_plugin_sdk::policy::Event;
    ///
    /// let body = r#"{"exec": "e1", "code": 137, "signal": 9, "of": "a later release"}"#;
    /// let event = Event { kind: "ExecExited".into(), seq: 7, at: 0, agent: None, body: body.into() };
    /// let exited = event.typed::<ExecExited>()?.expect("it is of that kind");
    /// assert_eq!((exited.code, exited.signal, exited.oom), (137, Some(9), false));
    /// assert!(event.typed::<ContainerOom>()?.is_none());
    /// # Ok::<(), clawker_plugin_sdk::policy::Fault>(())
    /// ```
    pub fn typed<K: Kind>(&self) -> Result<Option<K>, Fault> {
        if self.kind != K::KIND {
            return Ok(None);
        }
        let read = self.read().map_err(|error| format!("{}: {error}", self.kind))?;
        Ok(Some(read))
    }
}

/// What the host knows beside the event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What was counted, in the order of [`Policy::WINDOWS`].
    pub counts: Vec<WindowCount>,
    /// What is asked for the agent now, by anybody.
    pub containment: Containment,
}

impl Facts {
    /// Events of `kind` in the first window of that kind, the one being evaluated included; 0 without a window.
    pub fn count(&self, kind: &str) -> u64 {
        self.counts
            .iter()
            .find(|window| window.kind == kind)
            .map_or(0, |window| window.count)
    }
}

/// What was counted in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowCount {
    /// As declared.
    pub kind: String,
    /// As declared.
    pub seconds: u32,
    /// Events of this agent in the window, the one being evaluated included.
    pub count: u64,
}

/// All containment that is asked for an agent, on three axes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Containment {
    /// What may leave and enter its network.
    #[serde(default)]
    pub network: Network,
    /// What its processes may do.
    #[serde(default)]
    pub processes: Processes,
}

/// The network axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Network {
    /// Nothing is held back.
    #[default]
    Open,
    /// Only listed destinations.
    Restricted,
    /// Nothing passes.
    Locked,
    /// A state newer than this SDK.
    #[serde(other)]
    Unknown,
}

/// The process axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Processes {
    /// They run.
    #[default]
    Running,
    /// They exist, and get no CPU.
    Frozen,
    /// They were ended.
    Stopped,
    /// They were ended by SIGKILL.
    Killed,
    /// A state newer than this SDK.
    #[serde(other)]
    Unknown,
}

/// What should be done about the agent.
///
/// ```
/// # use clawker_plugin_sdk::policy::Verdict;
/// let only_dns = Verdict::restrict_egress(["192.0.2.53:53".parse()?], "talks to strangers");
/// assert_eq!((only_dns.action, only_dns.allow), ("restrict-egress", vec!["192.0.2.53:53".to_owned()]));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The action's name.
    pub action: &'static str,
    /// Destinations, for `restrict-egress` alone.
    pub allow: Vec<String>,
    /// For people: why. Over 1 KiB it is cut.
    pub reason: String,
}

impl Verdict {
    fn new(action: &'static str, reason: impl Into<String>) -> Self {
        Self {
            action,
            allow: Vec::new(),
            reason: reason.into(),
        }
    }

    /// Note it in the journal, nothing else.
    pub fn observe(reason: impl Into<String>) -> Self {
        Self::new("observe", reason)
    }

    /// Tell the operator.
    pub fn alert(reason: impl Into<String>) -> Self {
        Self::new("alert", reason)
    }

    /// Let the agent reach these destinations and no others; 64 at most.
    pub fn restrict_egress(allow: impl IntoIterator<Item = SocketAddr>, reason: impl Into<String>) -> Self {
        let allow = allow.into_iter().map(|address| address.to_string()).collect();
        Self {
            allow,
            ..Self::new("restrict-egress", reason)
        }
    }

    /// Let nothing leave or enter the agent's network.
    pub fn lock_network(reason: impl Into<String>) -> Self {
        Self::new("lock-network", reason)
    }

    /// Stop the agent's processes from running, and keep them.
    pub fn freeze(reason: impl Into<String>) -> Self {
        Self::new("freeze", reason)
    }

    /// End the agent's processes.
    pub fn stop(reason: impl Into<String>) -> Self {
        Self::new("stop", reason)
    }

    /// End the agent's processes at once.
    pub fn kill(reason: impl Into<String>) -> Self {
        Self::new("kill", reason)
    }

    /// Take the agent's identity away.
    pub fn revoke(reason: impl Into<String>) -> Self {
        Self::new("revoke", reason)
    }
}

/// What the function of a [`#[policy]`](macro@crate::policy) may answer: verdicts, one of them or none, with or without
/// a way to fail.
///
/// ```
/// use clawker_plugin_sdk::policy::{Answer, Verdict};
///
/// assert_eq!(Answer::verdicts(None::<Verdict>).ok(), Some(vec![]));
/// assert_eq!(Answer::verdicts(Verdict::alert("look")).ok(), Some(vec![Verdict::alert("look")]));
/// assert!(Answer::verdicts(Err::<Vec<Verdict>, _>("broken")).is_err());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer of a policy",
    note = "a policy answers `Vec<Verdict>`, `Option<Verdict>`, `Verdict`, or a `Result` of one of them with `Fault`"
)]
pub trait Answer {
    /// As [`Policy::evaluate`] answers.
    fn verdicts(self) -> Result<Vec<Verdict>, Fault>;
}

impl Answer for Vec<Verdict> {
    fn verdicts(self) -> Result<Vec<Verdict>, Fault> {
        Ok(self)
    }
}

impl Answer for Option<Verdict> {
    fn verdicts(self) -> Result<Vec<Verdict>, Fault> {
        Ok(self.into_iter().collect())
    }
}

impl Answer for Verdict {
    fn verdicts(self) -> Result<Vec<Verdict>, Fault> {
        Ok(vec![self])
    }
}

impl<T: Answer, E: Into<Fault>> Answer for Result<T, E> {
    fn verdicts(self) -> Result<Vec<Verdict>, Fault> {
        self.map_err(Into::into)?.verdicts()
    }
}

/// Makes a [`Policy`] the component's. Off WebAssembly it only checks that it is one.
#[macro_export]
#[rustfmt::skip]
macro_rules! export_policy {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::guest::PolicyGuest<$policy>;
            $crate::guest::policy::export!(Exported with_types_in $crate::guest::policy);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            #[used]
            static EXPORTED: fn() = $crate::policy::exported::<$policy>;
        };
    };
}

#[doc(hidden)]
pub fn exported<P: Policy>() {}

/// What the component does with strings around [`Policy::evaluate`].
pub(crate) fn decide<P: Policy>(
    event: &Event,
    facts: &Facts,
    settings: &str,
    state: &str,
) -> Result<(Vec<Verdict>, String), Fault> {
    let settings = P::read_settings(settings)?;
    let mut remembered: P::State = if state.is_empty() {
        P::State::default()
    } else {
        crate::read("state", state)?
    };
    let verdicts = P::evaluate(event, facts, &settings, &mut remembered)?;
    Ok((verdicts, serde_json::to_string(&remembered)?))
}
