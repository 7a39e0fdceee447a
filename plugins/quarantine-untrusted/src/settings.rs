//! Which action each reason leads to.

use std::net::SocketAddr;

use clawker_plugin_sdk::Settings;

/// What the operator configures.
///
/// `register_failed` and `registry_unavailable` say nothing bad of an agent by themselves, so nobody's network is cut
/// for them. Whoever is refused a registration has no identity, and a lie that was found in the refusal has a reason of
/// its own on the session. A registry that can't be read would lock all agents of the host at once, and each would have
/// to be released by hand; meanwhile they get nothing new anyway.
///
/// `cert_expired` is not among them: a leaf that expired while the control plane was away is replaced without an event.
/// What is published of that reason is a leaf that isn't the one that was issued last, or one that was replaced too
/// often.
#[derive(Debug, Clone, PartialEq, Eq, Settings)]
pub struct Settings {
    /// What is done for a reason that has no action of its own here.
    #[settings(default = Action::LockNetwork)]
    default: Action,
    /// Destinations (`address:port`) that `restrict-egress` leaves open.
    #[settings(default, max_len = 64)]
    pub allow: Vec<SocketAddr>,
    /// The leaf doesn't chain to a root of this host.
    chain_invalid: Option<Action>,
    /// No certificate was shown, or bytes that are none.
    cert_malformed: Option<Action>,
    /// The leaf is out of date, and isn't the one issued last: that one is replaced without an event.
    cert_expired: Option<Action>,
    /// The handshake wasn't signed with the leaf's key.
    possession_unproven: Option<Action>,
    /// The leaf isn't for both client and server.
    eku_invalid: Option<Action>,
    /// The leaf's common name isn't the agent's.
    cn_mismatch: Option<Action>,
    /// The leaf names another agent or container.
    san_mismatch: Option<Action>,
    /// A container's labels claim another agent's name.
    label_mismatch: Option<Action>,
    /// Another process than the container's init connected, or something stands in clawkerd's place.
    peer_mismatch: Option<Action>,
    /// The key isn't the one issued with the identity in force.
    thumbprint_mismatch: Option<Action>,
    /// An identity that was replaced came back.
    generation_replayed: Option<Action>,
    /// A registration was refused.
    #[settings(default = Action::Alert)]
    register_failed: Action,
    /// The command runs, and no control plane let it.
    init_bypassed: Option<Action>,
    /// The host's registry couldn't be read; that is a fault of the host.
    #[settings(default = Action::Alert)]
    registry_unavailable: Action,
}

/// What is done about an untrusted agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Settings)]
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

impl Settings {
    /// What is done for `reason`.
    pub fn action(&self, reason: &str) -> Action {
        let chosen = match reason {
            "chain_invalid" => self.chain_invalid,
            "cert_malformed" => self.cert_malformed,
            "cert_expired" => self.cert_expired,
            "possession_unproven" => self.possession_unproven,
            "eku_invalid" => self.eku_invalid,
            "cn_mismatch" => self.cn_mismatch,
            "san_mismatch" => self.san_mismatch,
            "label_mismatch" => self.label_mismatch,
            "peer_mismatch" => self.peer_mismatch,
            "thumbprint_mismatch" => self.thumbprint_mismatch,
            "generation_replayed" => self.generation_replayed,
            "register_failed" => Some(self.register_failed),
            "init_bypassed" => self.init_bypassed,
            "registry_unavailable" => Some(self.registry_unavailable),
            // Of a later release.
            _ => None,
        };
        chosen.unwrap_or(self.default)
    }
}

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

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::events::UNTRUSTED_REASONS;
    use clawker_plugin_sdk::settings::SettingsSchema;

    use super::*;

    #[test]
    fn there_is_a_setting_for_every_reason() {
        let schema: serde_json::Value = serde_json::from_str(&Settings::schema()).expect("JSON");
        let properties = schema["properties"].as_object().expect("properties");
        let mut expected: Vec<&str> = UNTRUSTED_REASONS.iter().copied().chain(["allow", "default"]).collect();
        let mut named: Vec<&str> = properties.keys().map(String::as_str).collect();
        expected.sort_unstable();
        named.sort_unstable();
        assert_eq!(named, expected);
        for reason in UNTRUSTED_REASONS {
            let only = format!(r#"{{"{reason}":"observe"}}"#);
            let settings = Settings::read(&only).expect("reads");
            assert_eq!(settings.action(reason), Action::Observe, "{reason}");
            assert_eq!(properties[*reason]["enum"], serde_json::json!(ACTIONS));
        }
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
            assert!(Settings::read(bad).is_err(), "{bad}");
        }
        assert_eq!(Settings::read("{}").expect("nothing"), Settings::default());
    }
}
