//! What the projection says about agents, in the shape in which the control plane asks for it.

use std::path::PathBuf;
use std::time::Duration;

use clawker_model::event::{Cause, InitFailure, RegistryRow};
use clawker_model::{AgentSpec, ContainerId, EffectNote, Row, RunId, Start, Thumbprint};
use serde::{Deserialize, Serialize};

use crate::Cursor;

/// An agent as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    pub spec: AgentSpec,
    pub run: RunId,
    /// `None` until the container is made.
    pub container: Option<ContainerId>,
    pub created_ms: u64,
    /// The latest start that was seen.
    pub start: Option<Start>,
    /// The init's pid in that start, 0 before the first.
    pub start_pid: u32,
    /// The generation issued last, 0 before the first.
    pub generation: u64,
    /// The bundle issued last.
    pub issued: Option<Issued>,
    /// In the order in which they were asked for.
    pub causes: Vec<Cause>,
    /// The latest start for which AgentReady was intended.
    pub ready_start: Option<u64>,
    /// The latest start in which clawkerd said that the command runs.
    pub sent_start: Option<u64>,
    /// How the command ended last.
    pub exit: Option<Exit>,
    /// `None` if it was never to be started again since an operator started it.
    pub restarts: Option<Restarts>,
    /// The start that ran when the agent was taken over after the journal was lost, 0 if none did; `None` for one that
    /// was created.
    pub adopted: Option<u64>,
    pub init: InitProgress,
}

/// What the restart policy has done since an operator started the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// The end, in Docker's words, that was decided on last; empty if none was.
    pub end: String,
    pub restarts: u32,
    pub delay_ms: u64,
    /// When it is, or was, to be started again.
    pub due_ms: u64,
    /// Who ended this; nothing is started again then.
    pub over: Option<String>,
}

/// The identity bundle that was issued last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    pub start: u64,
    pub generation: u64,
    pub thumbprint: Thumbprint,
    /// SHA-256 of the public key's SubjectPublicKeyInfo, in hex.
    pub key_hash: String,
    /// How many were issued in this start.
    pub count: u32,
    /// How often a leaf that had run out was renewed in this start.
    #[serde(default)]
    pub recovered: u32,
    /// Its key is denied for good.
    #[serde(default)]
    pub revoked: bool,
    /// SHA-256 of its join token, on an engine elsewhere.
    #[serde(default)]
    pub join: Option<String>,
}

/// How the agent's command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub start: u64,
    pub code: i32,
    pub signal: Option<i32>,
    pub oom: bool,
    pub at_ms: u64,
}

/// How far the plan came; `start` says in which life of the init.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "init")]
pub enum InitProgress {
    #[default]
    NotStarted,
    Running {
        start: u64,
        steps: u32,
        /// The step that was begun last.
        step: Option<String>,
    },
    Completed {
        start: u64,
        duration_ms: u64,
    },
    Failed {
        start: u64,
        step: String,
        reason: InitFailure,
        detail: String,
    },
}

/// An effect that a step asked for; without a result it was intended and may or may not have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectRecord {
    pub n: u32,
    pub effect: EffectNote,
    pub result: Option<EffectNote>,
    /// How often it was begun.
    pub tries: u32,
}

/// How a step ended under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepEnd {
    Completed,
    Failed(StepFailure),
}

/// Why a step failed; another start tries it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    pub start: u64,
    pub reason: InitFailure,
    pub detail: String,
}

/// A registry row found by a leaf's thumbprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryMatch {
    pub row: RegistryRow,
    pub matched: Matched,
}

/// Which of a registry row's thumbprints it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    Current,
    Previous,
}

/// A row with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub row: Row,
    pub cursor: Cursor,
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Why `state.db` was made anew; `None` if it was not.
    pub rebuilt: Option<Rebuilt>,
    /// Rows that were applied to `state.db`.
    pub replayed: u64,
    pub last_seq: u64,
    /// The journal has no row and never had one.
    pub begun: bool,
    /// A signed head says that the journal had rows up to here, and it doesn't: somebody cut it.
    pub cut: Option<u64>,
    /// The host key was missing and another one signed before: what that signed is now a stranger's.
    pub key_lost: bool,
    pub took: Duration,
}

/// Why the projection was deleted and rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rebuilt {
    #[error("state.db was missing")]
    Missing,
    #[error("state.db was damaged: {0}")]
    Corrupt(String),
    #[error("state.db had an older schema ({found}, this version has {known})")]
    OtherSchema { found: i64, known: i64 },
    /// A newer clawker's: it may know more of it than we, so it is put aside.
    #[error("state.db was a newer clawker's (schema {found}, this version has {known}) and is kept as {}", kept.display())]
    Newer { found: i64, known: i64, kept: PathBuf },
    /// Rows that it lacks are dropped, and what they added up to is in the checkpoint.
    #[error("state.db had applied row {applied}, and the journal begins after row {from}")]
    Behind { applied: u64, from: u64 },
    /// The journal lost its end (a power cut takes rows that weren't synced), or is another one.
    #[error("state.db had applied row {applied}, which the journal (last row {last}) doesn't have like that")]
    Ahead { applied: u64, last: u64 },
}

/// The first row at which the chain doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    pub seq: u64,
    pub why: Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the row is missing")]
    Missing,
    #[error("the row is not what was written")]
    Changed,
    #[error("the row doesn't follow the one before it")]
    Unchained,
}
