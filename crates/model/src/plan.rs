//! Plans: the ordered steps that prepare an agent, and the effects that a step asks for.

use serde::{Deserialize, Serialize};

use crate::PluginDigest;

/// The ordered steps that an agent goes through before its command may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub steps: Vec<Step>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The step's name on the wire and in the journal: that of its plugin, e.g. `welcome`.
    pub name: String,
    pub plugin: PluginDigest,
    /// The plugin's settings, as JSON.
    pub settings: String,
    /// The secrets of the agent that its settings name, and which it may therefore put into its effects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    pub when: When,
    pub on_failure: OnFailure,
    /// Seconds for the step in all.
    pub timeout_s: u32,
}

/// How often a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Once in a container's life.
    Once,
    /// At every start.
    Start,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The agent's command doesn't run.
    Halt,
    /// The next step runs.
    Continue,
}

/// What a step asks the control plane to do inside the container. The answer is an [`EffectResult`].
///
/// A path begins with `/`, or with `~/` for the home folder of the effect's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "effect")]
pub enum Effect {
    Exec {
        argv: Vec<String>,
        /// `NAME=value` pairs on top of the container's environment.
        env: Vec<String>,
        cwd: Option<String>,
        /// Docker's USER string; `None` is the image's user.
        user: Option<String>,
        timeout_s: u32,
        /// Standard input; without pieces there is none.
        stdin: Vec<Piece>,
    },
    WriteFile {
        /// With a `/` at its end it is a folder, and has no content.
        path: String,
        /// Permission bits, e.g. `0o644`.
        mode: u32,
        /// Docker's USER string; `None` is the image's user.
        owner: Option<String>,
        when: WriteWhen,
        content: Vec<Piece>,
    },
    ReadFile {
        path: String,
        /// A larger file is an error.
        max: u32,
        /// Whose home `~` is; `None` is the image's user.
        user: Option<String>,
    },
}

impl Effect {
    /// What goes in with it; nothing for one that only reads.
    pub fn pieces(&self) -> &[Piece] {
        match self {
            Self::Exec { stdin, .. } => stdin,
            Self::WriteFile { content, .. } => content,
            Self::ReadFile { .. } => &[],
        }
    }

    /// The first secret in it that isn't among those.
    pub fn foreign_secret(&self, granted: &[String]) -> Option<&str> {
        self.pieces().iter().find_map(|piece| match piece {
            Piece::Secret { name, .. } if !granted.contains(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

/// A part of what goes into a file or a command: bytes of the step's own, or a secret that it never sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "piece")]
pub enum Piece {
    Bytes { bytes: Vec<u8> },
    Secret { name: String, form: SecretForm },
}

impl Piece {
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes { bytes: bytes.into() }
    }
}

/// How a secret is written where a piece stands for it. A newline at its end is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretForm {
    Plain,
    /// Percent-encoded, all but RFC 3986's unreserved characters.
    Percent,
}

/// When a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteWhen {
    Always,
    IfAbsent,
    IfChanged,
}

/// What became of an effect, for the step. What is in it may be the agent's own secrets, so the journal keeps an
/// [`EffectNote`] of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum EffectResult {
    Exec {
        /// Exit code, or 128 + signal.
        code: i32,
        /// The last 64 KiB at most.
        stdout: Vec<u8>,
        stderr: Vec<u8>,
    },
    WriteFile {
        written: bool,
    },
    ReadFile {
        content: Vec<u8>,
    },
    /// The effect could not be carried out; the step may go on.
    Failed {
        code: String,
        message: String,
    },
}

/// What the journal keeps of an effect or its result: enough to tell it from another, and nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectNote {
    /// A line for people.
    pub what: String,
    /// SHA-256 of all of it, in hex.
    pub digest: String,
}

impl EffectNote {
    /// Whether it is of [`Effect::Exec`].
    pub fn is_exec(&self) -> bool {
        self.what.starts_with(EXEC)
    }
}

/// How [`EffectNote::what`] of an exec begins.
pub const EXEC: &str = "exec of ";
