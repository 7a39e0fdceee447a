//! Policies: what happened, in; what should be done, out.

mod session;

use std::net::SocketAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use session::Session;

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
    let settings: P::Settings = crate::read("settings", settings)?;
    let mut remembered: P::State = if state.is_empty() {
        P::State::default()
    } else {
        crate::read("state", state)?
    };
    let verdicts = P::evaluate(event, facts, &settings, &mut remembered)?;
    Ok((verdicts, serde_json::to_string(&remembered)?))
}
