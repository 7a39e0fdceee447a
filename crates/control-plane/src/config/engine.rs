//! Which engine runs the agents, and how the control plane and their clawkerds come together.

use std::net::IpAddr;
use std::path::Path;

use clawker_docker::Endpoint;
use serde::{Deserialize, Deserializer};

use super::PolicyConfig;

/// The engine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    pub transport: Transport,
    /// `unix:///path` or `tcp://address:port`; without it, `docker_socket`. The second is plain: it is for what a
    /// tunnel (`ssh -L`, a proxy with mTLS) brings to this host.
    #[serde(deserialize_with = "endpoint")]
    pub host: Option<Endpoint>,
    /// Where clawkerd listens in each container, with the transport `tcp`.
    pub session_port: u16,
    /// An address of the engine's host. With it that port is published there, and dialled instead of the container's own
    /// address: for an engine whose containers can't be reached from here.
    pub publish: Option<IpAddr>,
}

/// How a session's connection comes about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// clawkerd connects to a socket of this host, and the kernel says who it is. Containment is the kernel's.
    #[default]
    Unix,
    /// The engine is on another host: the control plane dials the container's address. Containment is reduced to what
    /// Docker can do.
    Tcp,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            transport: Transport::Unix,
            host: None,
            session_port: 7117,
            publish: None,
        }
    }
}

impl EngineConfig {
    /// Where the engine is.
    pub fn endpoint(&self, docker_socket: &Path) -> Endpoint {
        self.host
            .clone()
            .unwrap_or_else(|| Endpoint::Unix(docker_socket.to_owned()))
    }

    pub fn is_elsewhere(&self) -> bool {
        self.transport == Transport::Tcp
    }

    /// The session's port as an agent elsewhere has to publish it, on a port of Docker's choice.
    pub fn published(&self) -> Option<String> {
        let address = self.publish.filter(|_| self.is_elsewhere())?;
        let port = self.session_port;
        Some(match address {
            IpAddr::V4(address) => format!("{address}::{port}/tcp"),
            IpAddr::V6(address) => format!("[{address}]::{port}/tcp"),
        })
    }

    /// What is wrong with it, by key; `policies` are those that are to watch its agents.
    pub(super) fn problem(&self, policies: &[PolicyConfig]) -> Option<(&'static str, String, &'static str)> {
        let restricts = |policy: &&PolicyConfig| policy.settings.values().any(says_restrict);
        if self.is_elsewhere()
            && let Some(policy) = policies.iter().find(restricts)
        {
            return Some((
                "policies.settings",
                policy.plugin.clone(),
                "asks for restrict-egress, which an engine elsewhere can't put in force; choose lock-network",
            ));
        }
        match (&self.host, self.transport) {
            (Some(host @ Endpoint::Tcp(_)), Transport::Unix) => Some((
                "engine.host",
                host.to_string(),
                "is on another host, which needs `transport = \"tcp\"`",
            )),
            _ if self.publish.is_some_and(|address| address.is_unspecified()) => Some((
                "engine.publish",
                "every address".to_owned(),
                "must be one address of the engine's host",
            )),
            _ if self.session_port < 1024 => Some((
                "engine.session_port",
                self.session_port.to_string(),
                "must be 1024 to 65535",
            )),
            _ => None,
        }
    }
}

/// Whether a setting says it, at whatever depth: as a word, or as one in the text of a module.
fn says_restrict(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::String(text) => text == "restrict-egress" || text.contains("\"restrict-egress\""),
        Value::Array(items) => items.iter().any(says_restrict),
        Value::Object(fields) => fields.values().any(says_restrict),
        _ => false,
    }
}

fn endpoint<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Endpoint>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_needs_the_kernel_is_refused_for_an_engine_elsewhere() {
        let policy = |action: &str| -> Vec<PolicyConfig> {
            let text = format!("plugin = \"quarantine-untrusted\"\nsettings = {{ default = \"{action}\" }}");
            vec![toml::from_str(&text).expect("a policy")]
        };
        let elsewhere = EngineConfig {
            transport: Transport::Tcp,
            ..EngineConfig::default()
        };
        let (key, value, _) = elsewhere.problem(&policy("restrict-egress")).expect("refused");
        assert_eq!((key, value.as_str()), ("policies.settings", "quarantine-untrusted"));
        assert_eq!(elsewhere.problem(&policy("lock-network")), None);
        assert_eq!(EngineConfig::default().problem(&policy("restrict-egress")), None);
        for rules in [
            r#"plugin = "cel-rules"
            settings = { rules = [{ name = "r", on = ["EgressDenied"], action = "restrict-egress" }] }"#,
            r#"plugin = "rego-rules"
            settings = { policy = 'verdicts contains {"action": "restrict-egress"}' }"#,
        ] {
            let policy = toml::from_str(rules).expect("a policy");
            assert!(elsewhere.problem(&[policy]).is_some(), "{rules}");
        }
    }
}
