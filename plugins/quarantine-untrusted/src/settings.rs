//! Which action each reason leads to.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;

/// Every reason that a control plane of this release gives.
pub const REASONS: &[&str] = &[
    "chain_invalid",
    "cert_malformed",
    "cert_expired",
    "possession_unproven",
    "eku_invalid",
    "cn_mismatch",
    "san_mismatch",
    "label_mismatch",
    "peer_mismatch",
    "thumbprint_mismatch",
    "generation_replayed",
    "register_failed",
    "init_bypassed",
    "registry_unavailable",
];

/// Every action, weakest first.
#[cfg(test)]
pub const ACTIONS: &[&str] = &[
    "observe",
    "alert",
    "restrict-egress",
    "lock-network",
    "freeze",
    "stop",
    "kill",
    "revoke",
];

/// Reasons that say nothing bad of an agent by themselves, so that nobody's network is cut for them.
///
/// `register_failed`: whoever is refused has no identity, and a lie that was found in the refusal has a reason of its
/// own on the session. `registry_unavailable`: a fault of this host would lock all of its agents at once, and each
/// would have to be released by hand; meanwhile they get nothing new anyway.
///
/// `cert_expired` is not among them: a leaf that expired while the control plane was away is replaced without an
/// event. What is published of that reason is a leaf that isn't the one that was issued last, or one that was
/// replaced too often.
const ALERTED: &[&str] = &["register_failed", "registry_unavailable"];

/// What the operator configures.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Given")]
pub struct Settings {
    default: Action,
    /// Destinations of `restrict-egress`.
    pub allow: Vec<SocketAddr>,
    chosen: BTreeMap<String, Action>,
}

/// What is done about an untrusted agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Observe,
    Alert,
    RestrictEgress,
    LockNetwork,
    Freeze,
    Stop,
    Kill,
    Revoke,
}

/// As it is written.
#[derive(Deserialize)]
struct Given {
    #[serde(default = "lock")]
    default: Action,
    #[serde(default)]
    allow: Vec<SocketAddr>,
    #[serde(flatten)]
    chosen: BTreeMap<String, Action>,
}

fn lock() -> Action {
    Action::LockNetwork
}

impl TryFrom<Given> for Settings {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let known = |reason: &String| REASONS.contains(&reason.as_str());
        match given.chosen.keys().find(|reason| !known(reason)) {
            Some(unknown) => Err(format!("there is no reason `{unknown:.64}`")),
            None => Ok(Self {
                default: given.default,
                allow: given.allow,
                chosen: given.chosen,
            }),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default: lock(),
            allow: Vec::new(),
            chosen: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// What is done for `reason`.
    pub fn action(&self, reason: &str) -> Action {
        match self.chosen.get(reason) {
            Some(action) => *action,
            None if ALERTED.contains(&reason) => Action::Alert,
            None => self.default,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> serde_json::Value {
        serde_json::from_str(include_str!("settings.schema.json")).expect("JSON")
    }

    #[test]
    fn the_schema_has_every_reason_and_every_action_with_its_default() {
        let schema = schema();
        let properties = schema["properties"].as_object().expect("properties");
        let mut expected: Vec<&str> = REASONS.iter().copied().chain(["allow", "default"]).collect();
        let mut named: Vec<&str> = properties.keys().map(String::as_str).collect();
        expected.sort_unstable();
        named.sort_unstable();
        assert_eq!(named, expected);
        let settings = Settings::default();
        for name in REASONS.iter().chain(&["default"]) {
            let property = &properties[*name];
            assert_eq!(property["enum"], serde_json::json!(ACTIONS), "{name}");
            // No default is written where the reason follows `default`.
            let action: Action = match property.get("default") {
                Some(default) => serde_json::from_value(default.clone()).expect("an action"),
                None => lock(),
            };
            assert_eq!(settings.action(name), action, "{name}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        for bad in [
            r#"{"chain_invalit":"kill"}"#,
            r#"{"chain_invalid":"lock"}"#,
            r#"{"default":"throttle"}"#,
            r#"{"chain_invalid":["kill"]}"#,
            r#"{"allow":["example.com:443"]}"#,
        ] {
            assert!(serde_json::from_str::<Settings>(bad).is_err(), "{bad}");
        }
        assert_eq!(
            serde_json::from_str::<Settings>("{}").expect("nothing"),
            Settings::default()
        );
    }
}
