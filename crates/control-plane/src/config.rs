//! The control plane's configuration: one TOML file, every key optional.
//!
//! Reads and checks; opens nothing that it names. An error says file, key and what would be right.

mod engine;
mod plugins;
mod project;

use std::path::{Path, PathBuf};

use clawker_model::{OnFailure, When};
use serde::Deserialize;

use crate::containment::{FALLBACKS, FailMode, Mode};

pub use engine::{EngineConfig, Transport};
pub use plugins::PluginsConfig;
pub use project::{ProjectConfig, ProjectKey};

/// Where the file stands unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/clawker/control-plane.toml";

/// Most bytes of a configuration file.
const MAX_FILE: u64 = 1024 * 1024;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Holds identities, journal, run folders and secrets.
    pub state_dir: PathBuf,
    pub admin_socket: PathBuf,
    pub docker_socket: PathBuf,
    pub engine: EngineConfig,
    /// Prefix of the labels by which this control plane knows its containers; one per control plane.
    pub label_prefix: String,
    /// Docker network of agents that name none; made when missing.
    pub network: String,
    /// Where clawkerd and the built-in plugins are; found beside the program when absent.
    pub libexec: Option<PathBuf>,
    /// How much of the journal is kept.
    pub journal: JournalConfig,
    /// Seconds that clawkerd goes on without hearing from the control plane.
    pub lease_seconds: u32,
    pub identity: IdentityConfig,
    /// Policies that watch every agent.
    pub policies: Vec<PolicyConfig>,
    /// Steps that prepare every agent, in order, before those of a project's file.
    pub plan: Vec<StepConfig>,
    pub project: ProjectConfig,
    pub plugins: PluginsConfig,
}

/// How agents are identified.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Seconds that an agent's leaf is valid; it is renewed at half of them.
    pub leaf_seconds: u32,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self { leaf_seconds: 3600 }
    }
}

/// Old rows go behind a signed checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// Of journal.db.
    pub max_bytes: u64,
    pub max_age_days: u32,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_age_days: 30,
        }
    }
}

/// A plugin's settings, as the JSON object that it gets.
pub type Settings = serde_json::Map<String, serde_json::Value>;

/// A policy by the name of its plugin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    pub plugin: String,
    /// The plugin's settings; its schema says which there are.
    #[serde(default)]
    pub settings: Settings,
    /// What is done while the policy can't answer.
    #[serde(default = "default_fallback")]
    pub fallback: String,
    /// `closed` (the fallback), `open` (nothing) or `last` (its last answer stands).
    #[serde(default = "default_fail_mode")]
    pub fail_mode: String,
    /// `enforce` or `monitor`.
    #[serde(default = "default_mode")]
    pub mode: String,
}

/// A step by the name of its plugin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    pub plugin: String,
    #[serde(default)]
    pub settings: Settings,
    /// Without it, as that plugin is usually run.
    #[serde(default)]
    pub when: Option<When>,
    #[serde(default = "default_on_failure")]
    pub on_failure: OnFailure,
    /// Seconds for the whole step.
    #[serde(default = "default_timeout")]
    pub timeout: u32,
}

fn default_fallback() -> String {
    "lock-network".into()
}

fn default_fail_mode() -> String {
    "closed".into()
}

fn default_mode() -> String {
    "enforce".into()
}

fn default_on_failure() -> OnFailure {
    OnFailure::Halt
}

/// Seconds for a step in all.
pub fn default_timeout() -> u32 {
    600
}

/// A built-in policy that is on unless the configuration lists others.
fn default_policy(plugin: &str) -> PolicyConfig {
    PolicyConfig {
        plugin: plugin.to_owned(),
        settings: Settings::new(),
        fallback: default_fallback(),
        fail_mode: default_fail_mode(),
        mode: default_mode(),
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/clawker".into(),
            admin_socket: "/run/clawker/admin.sock".into(),
            docker_socket: "/var/run/docker.sock".into(),
            engine: EngineConfig::default(),
            label_prefix: "dev.clawker".into(),
            network: "clawker-net".into(),
            libexec: None,
            journal: JournalConfig::default(),
            lease_seconds: 120,
            identity: IdentityConfig::default(),
            policies: ["quarantine-untrusted", "egress-guard"].map(default_policy).to_vec(),
            plan: vec![StepConfig {
                plugin: "welcome".into(),
                settings: Settings::new(),
                when: None,
                on_failure: default_on_failure(),
                timeout: default_timeout(),
            }],
            project: ProjectConfig::default(),
            plugins: PluginsConfig::default(),
        }
    }
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than {MAX_FILE} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}: {}", path.display(), source.to_string().trim_end())]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("`{key}` = {value}: {problem}")]
    Value {
        key: &'static str,
        value: String,
        problem: String,
    },
}

impl Config {
    /// Reads `path`; without one, the default file if it exists, else the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path.or_else(|| Some(Path::new(DEFAULT_PATH)).filter(|path| path.exists())) else {
            return Ok(Self::default());
        };
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_FILE {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// Checks what the types can't say. Called after the command line has had its word.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, path) in [
            ("state_dir", &self.state_dir),
            ("admin_socket", &self.admin_socket),
            ("docker_socket", &self.docker_socket),
            ("plugins.trust", &self.plugins.trust),
        ] {
            if !path.is_absolute() {
                return Err(bad(key, path.display(), "must be an absolute path"));
            }
        }
        if let Some((key, value, problem)) = self.engine.problem(&self.policies) {
            return Err(bad(key, value, problem));
        }
        if let Some(libexec) = &self.libexec
            && !libexec.is_dir()
        {
            return Err(bad("libexec", libexec.display(), "is not a folder"));
        }
        // sun_path is 108 bytes (unix(7)); the admin socket is bound by its plain path.
        if self.admin_socket.as_os_str().len() >= 108 {
            return Err(bad(
                "admin_socket",
                self.admin_socket.display(),
                "is longer than 107 bytes",
            ));
        }
        let word = |text: &str, extra: &str| {
            (1..=64).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || extra.as_bytes().contains(&b))
        };
        if !word(&self.label_prefix, ".-") {
            return Err(bad(
                "label_prefix",
                &self.label_prefix,
                "must be 1 to 64 of a-z, 0-9, `.` and `-`",
            ));
        }
        if !word(&self.network, "_.-") {
            return Err(bad(
                "network",
                &self.network,
                "must be 1 to 64 of a-z, 0-9, `_`, `.` and `-`",
            ));
        }
        if !(4..=86_400).contains(&self.lease_seconds) {
            return Err(bad("lease_seconds", self.lease_seconds, "must be 4 to 86400"));
        }
        if !(10..=86_400).contains(&self.identity.leaf_seconds) {
            return Err(bad(
                "identity.leaf_seconds",
                self.identity.leaf_seconds,
                "must be 10 to 86400",
            ));
        }
        // A backup's archive holds files of less than 8 GiB.
        if !(16 << 20..=4 << 30).contains(&self.journal.max_bytes) {
            return Err(bad(
                "journal.max_bytes",
                self.journal.max_bytes,
                "must be 16777216 (16 MiB) to 4294967296 (4 GiB)",
            ));
        }
        if !(1..=3650).contains(&self.journal.max_age_days) {
            return Err(bad(
                "journal.max_age_days",
                self.journal.max_age_days,
                "must be 1 to 3650",
            ));
        }
        for policy in &self.policies {
            one_of("policies.fail_mode", &policy.fail_mode, &FailMode::WORDS)?;
            one_of("policies.mode", &policy.mode, &Mode::WORDS)?;
            one_of("policies.fallback", &policy.fallback, &FALLBACKS)?;
        }
        for step in &self.plan {
            if !(1..=3600).contains(&step.timeout) {
                return Err(bad("plan.timeout", step.timeout, "must be 1 to 3600 seconds"));
            }
        }
        Ok(())
    }
}

fn bad(key: &'static str, value: impl std::fmt::Display, problem: &str) -> ConfigError {
    ConfigError::Value {
        key,
        value: value.to_string(),
        problem: problem.to_owned(),
    }
}

fn one_of(key: &'static str, value: &str, allowed: &[&str]) -> Result<(), ConfigError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(bad(key, value, &format!("must be one of {}", allowed.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).expect("write");
        let config = Config::load(Some(&path))?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn every_key_is_optional() {
        assert_eq!(parse("").expect("empty"), Config::default());
        let bounds = Config::default().journal;
        assert_eq!((bounds.max_bytes, bounds.max_age_days), (1 << 30, 30));
        let journal = parse("[journal]\nmax_age_days = 7").expect("good").journal;
        assert_eq!((journal.max_bytes, journal.max_age_days), (1 << 30, 7));
        let config = parse("lease_seconds = 10\n[[plan]]\nplugin = \"welcome\"\nwhen = \"once\"").expect("good");
        assert_eq!((config.lease_seconds, config.plan[0].when), (10, Some(When::Once)));
    }

    #[test]
    fn who_fails_an_identity_check_is_quarantined_unless_the_operator_says_otherwise() {
        let plugins = |config: Config| -> Vec<String> { config.policies.into_iter().map(|p| p.plugin).collect() };
        assert_eq!(plugins(Config::default()), ["quarantine-untrusted", "egress-guard"]);
        let own = parse("[[policies]]\nplugin = \"egress-guard\"").expect("good");
        assert_eq!(plugins(own), ["egress-guard"]);
    }

    #[test]
    fn an_engine_elsewhere_is_named_by_address_and_transport() {
        let engine = parse("[engine]\ntransport = \"tcp\"\nhost = \"tcp://10.0.0.2:2375\"")
            .expect("good")
            .engine;
        assert!(engine.is_elsewhere());
        assert_eq!(engine.endpoint(Path::new("/s")).to_string(), "tcp://10.0.0.2:2375");
        let here = Config::default().engine.endpoint(Path::new("/s")).to_string();
        assert_eq!(here, "unix:///s");
    }

    #[test]
    fn an_error_names_the_key() {
        for (text, named) in [
            ("stat_dir = \"/x\"", "stat_dir"),
            ("lease_seconds = \"long\"", "lease_seconds"),
            ("lease_seconds = 1", "lease_seconds"),
            ("[identity]\nleaf_seconds = 9", "identity.leaf_seconds"),
            ("state_dir = \"relative\"", "state_dir"),
            ("[journal]\nmax_bytes = 1000", "journal.max_bytes"),
            ("[journal]\nmax_bytes = 8589934592", "journal.max_bytes"),
            ("[journal]\nmax_age_days = 0", "journal.max_age_days"),
            ("[journal]\nmax_size = 1", "max_size"),
            ("libexec = \"/nowhere/at/all\"", "libexec"),
            ("[engine]\nhost = \"tcp://10.0.0.2:2375\"", "engine.host"),
            ("[engine]\nhost = \"engine:2375\"", "tcp://address:port"),
            ("[engine]\ntransport = \"carrier\"", "carrier"),
            ("[engine]\nsession_port = 80", "engine.session_port"),
            ("[engine]\npublish = \"0.0.0.0\"", "engine.publish"),
            ("label_prefix = \"A B\"", "label_prefix"),
            ("[[policies]]\nplugin = \"x\"\nfallback = \"hope\"", "policies.fallback"),
            ("[[plan]]\nplugin = \"x\"\ntimeout = 0", "plan.timeout"),
            ("[[plan]]\nplugin = \"x\"\ncolour = 0", "colour"),
            ("[project]\nforbid = [\"weather\"]", "weather"),
            ("[project]\nallow = []", "allow"),
            ("[plugins]\ntrust = \"keys.toml\"", "plugins.trust"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        let absent = Config::load(Some(Path::new("/nowhere/c.toml"))).expect_err("absent");
        assert!(absent.to_string().contains("/nowhere/c.toml"), "{absent}");
    }
}
