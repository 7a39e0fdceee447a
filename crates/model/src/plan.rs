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
    /// The step's name on the wire and in the journal, e.g. `welcome`.
    pub name: String,
    pub plugin: PluginDigest,
    /// The plugin's settings, as JSON.
    pub settings: String,
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
    },
    WriteFile {
        path: String,
        /// Permission bits, e.g. `0o644`.
        mode: u32,
        /// Docker's USER string; `None` is the image's user.
        owner: Option<String>,
        when: WriteWhen,
        content: Vec<u8>,
    },
    ReadFile {
        path: String,
        max: u32,
    },
}

/// When a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteWhen {
    Always,
    IfAbsent,
    IfChanged,
}

/// What became of an effect. Recorded in the journal, and handed to the step when it is called again.
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
