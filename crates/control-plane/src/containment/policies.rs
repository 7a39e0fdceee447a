//! Policies as the task sees them: what each wants, who answers for it, and what becomes of a failure.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use clawker_model::event::PolicyLoaded;
use clawker_model::{Action, PluginDigest, Row};
use clawker_plugin_host::{Facts, Plugin, PolicyCall, PolicyHost, PolicyReply, Unavailable, Window, is_offered};

/// A policy plugin as it is configured.
#[derive(Debug, Clone)]
pub struct Policy {
    /// One for each policy that is asked: a version on trial has the name of the one in force with [`SHADOW`].
    pub name: String,
    pub plugin: Arc<Plugin>,
    /// A JSON object.
    pub settings: String,
    /// What is done while it can't answer.
    pub fallback: Action,
    pub fail_mode: FailMode,
    pub mode: Mode,
}

/// What the name of a policy on trial ends with. No plugin's name holds the sign.
pub const SHADOW: &str = "@shadow";

/// What becomes of an event that a policy couldn't judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// The fallback action.
    Closed,
    /// Nothing.
    Open,
    /// What it asked last stands.
    Last,
}

impl FailMode {
    pub const WORDS: [&str; 3] = ["closed", "open", "last"];

    /// Of one of [`Self::WORDS`]. Anything else is the safe one.
    pub fn of(word: &str) -> Self {
        match word {
            "open" => Self::Open,
            "last" => Self::Last,
            _ => Self::Closed,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Last => "last",
        }
    }
}

/// Whether verdicts have consequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    /// They are journaled, and that is all.
    Monitor,
    /// They are journaled and held against those of the policy in force, which this one takes the place of after so many
    /// events that both judged alike; never with 0.
    Shadow {
        promote_after: u64,
    },
}

impl Mode {
    /// Those that an operator chooses from; a trial is begun otherwise.
    pub const WORDS: [&str; 2] = ["enforce", "monitor"];

    /// Of one of [`Self::WORDS`]. Anything else is the safe one.
    pub fn of(word: &str) -> Self {
        match word {
            "monitor" => Self::Monitor,
            _ => Self::Enforce,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
            Self::Shadow { .. } => "shadow",
        }
    }
}

/// What may be done while a policy can't answer.
pub const FALLBACKS: [&str; 6] = ["observe", "alert", "lock-network", "freeze", "stop", "kill"];

/// Of one of [`FALLBACKS`]. Anything else is the safe one.
pub fn fallback(word: &str) -> Action {
    match word {
        "observe" => Action::Observe,
        "alert" => Action::Alert,
        "freeze" => Action::Freeze,
        "stop" => Action::Stop,
        "kill" => Action::Kill,
        _ => Action::LockNetwork,
    }
}

/// Whoever answers for a policy. Blocks.
pub(super) trait Judge: Send + Sync {
    fn judge(&self, row: &Row, facts: Facts, state: String) -> Result<PolicyReply, Unavailable>;
}

/// A policy as it was at one time: another version of it, or other settings, are another rule in its place.
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) digest: PluginDigest,
    pub(super) version: String,
    pub(super) settings: String,
    pub(super) events: HashSet<String>,
    pub(super) windows: Vec<Window>,
    pub(super) fallback: Action,
    pub(super) fail_mode: FailMode,
    pub(super) mode: Mode,
    pub(super) judge: Arc<dyn Judge>,
    /// Evaluations under way.
    pub(super) running: AtomicU32,
}

impl Rule {
    pub(super) fn new(policy: Policy, host: Arc<dyn PolicyHost>) -> Self {
        Self {
            name: policy.name,
            digest: policy.plugin.digest.clone(),
            version: policy.plugin.version.clone(),
            settings: policy.settings.clone(),
            events: policy.plugin.events.iter().cloned().collect(),
            windows: policy.plugin.windows.clone(),
            fallback: policy.fallback,
            fail_mode: policy.fail_mode,
            mode: policy.mode,
            judge: Arc::new(Loaded {
                host,
                plugin: policy.plugin,
                settings: policy.settings,
            }),
            running: AtomicU32::new(0),
        }
    }

    pub(super) fn wants(&self, kind: &str) -> bool {
        self.events.contains(kind) && is_offered(kind)
    }

    /// In the name of which it asks.
    pub(super) fn by(&self) -> String {
        format!("policy:{}", self.name)
    }

    pub(super) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// For the journal.
    pub(super) fn loaded(&self) -> PolicyLoaded {
        PolicyLoaded {
            policy: self.name.clone(),
            digest: self.digest.clone(),
            version: self.version.clone(),
            settings: self.settings.clone(),
            mode: self.mode.word().to_owned(),
            fallback: self.fallback.name().to_owned(),
            fail_mode: self.fail_mode.word().to_owned(),
        }
    }

    /// Whether another rule says the same, so that it needs no replacing.
    pub(super) fn is_as(&self, other: &Rule) -> bool {
        self.digest == other.digest
            && self.settings == other.settings
            && (self.fallback.name(), self.fail_mode, self.mode) == (other.fallback.name(), other.fail_mode, other.mode)
    }
}

struct Loaded {
    host: Arc<dyn PolicyHost>,
    plugin: Arc<Plugin>,
    settings: String,
}

impl Judge for Loaded {
    fn judge(&self, row: &Row, facts: Facts, state: String) -> Result<PolicyReply, Unavailable> {
        let call = PolicyCall {
            plugin: self.plugin.clone(),
            settings: self.settings.clone(),
            row,
            facts,
            state,
        };
        self.host.evaluate(&call)
    }
}
