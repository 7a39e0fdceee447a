//! Gates: may a deploy to one host go ahead?
//!
//! ```
//! use clawker_plugin_sdk::gate::{Decision, Facts, Request};
//! use clawker_plugin_sdk::policy::Fault;
//! use clawker_plugin_sdk::{Settings, gate};
//!
//! #[derive(Settings)]
//! struct Settings {
//!     /// Minutes between two deploys to the same host.
//!     #[settings(default = 60, min = 1, max = 1440)]
//!     minutes: u32,
//! }
//!
//! #[gate]
//! fn not_too_often(request: &Request, facts: &Facts, settings: &Settings) -> Result<Decision, Fault> {
//!     let since = facts.last_deploy.map_or(u64::MAX, |last| request.at.saturating_sub(last) / 1000);
//!     let least = settings.minutes * 60;
//!     if since >= least.into() {
//!         return Ok(Decision::allow());
//!     }
//!     Ok(Decision::hold("it was deployed to just now", least - since as u32))
//! }
//!
//! let mut request = Request::of("web-1", "2c6a4b1e0f9d8c7b6a5948372615049382716051");
//! request.at = 3_600_000;
//! let facts = Facts { last_deploy: Some(3_000_000), ..Facts::default() };
//! let hour = Settings::default();
//! assert_eq!(not_too_often(&request, &facts, &hour)?, Decision::hold("it was deployed to just now", 3_000));
//! assert_eq!(not_too_often(&request, &Facts::default(), &hour)?, Decision::allow());
//! # Ok::<(), Fault>(())
//! ```

use serde::de::DeserializeOwned;

use crate::policy::Fault;

/// A gate. It is a function: the same request, facts and settings give the same decision, whenever asked.
pub trait Gate {
    /// `[a-z0-9-]`, 64 characters at most.
    const NAME: &str;
    /// For people, e.g. `env!("CARGO_PKG_VERSION")`.
    const VERSION: &str;
    /// A JSON Schema of [`Settings`](Self::Settings).
    const SETTINGS_SCHEMA: &str = r#"{"type":"object"}"#;

    /// What the operator configures; `()` for nothing. Read from a JSON object, `{}` where nothing is configured.
    type Settings: DeserializeOwned;

    /// The schema that the component shows: [`SETTINGS_SCHEMA`](Self::SETTINGS_SCHEMA), unless the settings derive theirs.
    fn settings_schema() -> String {
        Self::SETTINGS_SCHEMA.into()
    }

    /// The settings that a JSON object holds.
    fn read_settings(json: &str) -> Result<Self::Settings, Fault> {
        Ok(crate::read("settings", json)?)
    }

    /// Says whether the deploy may go ahead. A fault counts as a hold.
    fn decide(request: &Request, facts: &Facts, settings: &Self::Settings) -> Result<Decision, Fault>;
}

/// One host that a rollout is about to deploy to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The request's id. The same one comes again after a hold.
    pub id: String,
    /// Milliseconds since the Unix epoch. The only time that a gate knows.
    pub at: u64,
    /// When the request was made, on the same clock.
    pub requested_at: u64,
    /// How often it was held so far.
    pub holds: u32,
    /// The rollout that this is a part of.
    pub rollout: String,
    /// Which wave of the rollout it is in, counted from 1.
    pub wave: u32,
    /// How many waves the rollout has.
    pub waves: u32,
    /// The host's id in the fleet's registry.
    pub host: String,
    /// The host's channel, if it has one.
    pub channel: Option<String>,
    /// The host's tags, sorted.
    pub tags: Vec<String>,
    /// Who asks: `operator:<peer>`, `agent:<full name>` or `fleet`.
    pub by: String,
    /// The commit to deploy, 40 or 64 hex digits.
    pub commit: String,
    /// The commit that the host runs; `None` if nobody knows.
    pub running: Option<String>,
    /// The digest of the rollout's deploy plan, `sha256:<hex>`.
    pub plan: String,
    /// What changes on this host, as a JSON object; read it with [`Request::read_changes`].
    pub changes: String,
}

impl Request {
    /// The only host of an operator's rollout, for tests.
    pub fn of(host: &str, commit: &str) -> Self {
        Self {
            id: "request-1".into(),
            at: 0,
            requested_at: 0,
            holds: 0,
            rollout: "rollout-1".into(),
            wave: 1,
            waves: 1,
            host: host.into(),
            channel: None,
            tags: Vec::new(),
            by: "operator:uid 0".into(),
            commit: commit.into(),
            running: None,
            plan: format!("sha256:{}", "0".repeat(64)),
            changes: "{}".into(),
        }
    }

    /// What changes, as a type of yours. Name only the fields that you need: others may come at any time.
    ///
    /// ```
    /// # use clawker_plugin_sdk::gate::Request;
    /// #[derive(serde::Deserialize)]
    /// struct Changes {
    ///     #[serde(default)]
    ///     reboot: bool,
    /// }
    /// let mut request = Request::of("web-1", "2c6a4b1e0f9d8c7b6a5948372615049382716051");
    /// request.changes = r#"{"reboot": true, "units": []}"#.into();
    /// assert!(request.read_changes::<Changes>()?.reboot);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn read_changes<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.changes)
    }
}

/// What the fleet knows beside the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Hosts of this rollout.
    pub hosts: u32,
    /// Those that have the commit and are healthy.
    pub done: u32,
    /// Those that are being deployed to now.
    pub running: u32,
    /// Those that failed or went back.
    pub failed: u32,
    /// Those of the whole fleet that can't be reached.
    pub unreachable: u32,
    /// Agents that run on the host.
    pub agents: u32,
    /// Those of them that are contained.
    pub contained: u32,
    /// When the host was deployed to last, in milliseconds since the Unix epoch; `None` if never.
    pub last_deploy: Option<u64>,
}

/// Whether it may go ahead. Of several gates' answers the strictest counts.
///
/// ```
/// # use clawker_plugin_sdk::gate::Decision;
/// let held = Decision::hold("a holiday", 3600);
/// assert_eq!(held, Decision::Hold { reason: "a holiday".into(), retry_after: 3600 });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allow,
    /// It may not, and the rollout stops there.
    Deny {
        /// For people: why. Over 1 KiB it is cut.
        reason: String,
    },
    /// Not now: the same request is put again.
    Hold {
        /// For people: why. Over 1 KiB it is cut.
        reason: String,
        /// Seconds until it is put again, 1 to 86400.
        retry_after: u32,
    },
}

impl Decision {
    /// It may go ahead.
    pub fn allow() -> Self {
        Self::Allow
    }

    /// It may not.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny { reason: reason.into() }
    }

    /// Ask again after so many seconds; fewer than 1 are 1, more than a day's are a day's.
    pub fn hold(reason: impl Into<String>, retry_after: u32) -> Self {
        Self::Hold {
            reason: reason.into(),
            retry_after: retry_after.clamp(1, 86_400),
        }
    }
}

/// Makes a [`Gate`] the component's. Off WebAssembly it only checks that it is one.
#[macro_export]
#[rustfmt::skip]
macro_rules! export_gate {
    ($gate:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::guest::gate::GateGuest<$gate>;
            $crate::guest::gate::bindings::export!(Exported with_types_in $crate::guest::gate::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            #[used]
            static EXPORTED: fn() = $crate::gate::exported::<$gate>;
        };
    };
}

#[doc(hidden)]
pub fn exported<G: Gate>() {}
