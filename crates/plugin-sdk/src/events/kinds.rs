//! The table of kinds. Compared with the control plane's own by `crates/plugin-kit/tests/events.rs`.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::policy::{Event, Fault};

events! {
    /// The container was made.
    AgentCreated {
        /// Its id.
        container: String,
        /// The name of its run folder.
        run: String,
    }
    /// The container is gone, and all that was kept of it. A policy's state of the agent goes with it.
    AgentRemoved {
        /// Its id, if it ever had one.
        container: Option<String>,
    }
    /// The peer is attested, TLS is up and it answers.
    SessionConnected {
        /// `unix:<run id>`, or an address on an engine elsewhere.
        address: String,
        /// Attempts that it took.
        attempts: u32,
        /// The common name that it showed.
        peer_cn: String,
        /// SHA-256 of its leaf, in hex.
        thumbprint: Option<String>,
        /// The container's start.
        start: u64,
        /// The life of its PID 1.
        init_life: String,
    }
    /// No session came about in a minute; the control plane goes on listening.
    SessionFailed {
        /// As [`SessionConnected::address`].
        address: String,
        /// `connect_total_timeout`, `container_not_running` or `fd_ceiling`.
        reason: String,
        /// Attempts in this minute.
        attempts: u32,
    }
    /// A session ended, and no other came in its place within two seconds.
    SessionBroken {
        /// As [`SessionConnected::address`].
        address: String,
        /// For people.
        reason: String,
    }
    /// The registration handshake ended.
    AgentRegistered {
        /// The container's id.
        container: String,
        /// The container's start.
        start: u64,
        /// Whether it is registered.
        ok: bool,
        /// Why not, one of [`UNTRUSTED_REASONS`] or a later one.
        reason: Option<String>,
    }
    /// An identity check failed.
    AgentUntrusted {
        /// Why, one of [`UNTRUSTED_REASONS`] or a later one.
        reason: String,
        /// For people.
        #[serde(default)]
        detail: String,
        /// It was somebody else who failed it: a second process on the agent's socket, a container with its labels.
        #[serde(default)]
        intruder: bool,
    }
    /// The peer of the session is who it says. Said once until that changes.
    AgentTrusted {
        /// The container's id.
        container: String,
        /// The container's start.
        start: u64,
    }
    /// The plan of preparation begins.
    InitStarted {
        /// The container's id.
        container: String,
        /// The container's start.
        start: u64,
        /// Steps that there are to run.
        steps: u32,
    }
    /// A step is done.
    InitStepCompleted {
        /// The step.
        name: String,
        /// Its place in the plan, from 0.
        index: u32,
        /// Plugin digest, settings and container in one.
        key: String,
        /// Milliseconds that it took.
        duration_ms: u64,
        /// The step's own words.
        message: String,
    }
    /// A step failed.
    InitStepFailed {
        /// The step.
        name: String,
        /// Its place in the plan, from 0.
        index: u32,
        /// Plugin digest, settings and container in one.
        key: String,
        /// The container's start.
        start: u64,
        /// `exit_nonzero`, `timeout`, `start_failed`, `session_lost`, `plugin_failed` or `plugin_denied`.
        reason: String,
        /// Code, message and the end of stderr, as far as there are any.
        detail: String,
        /// Milliseconds that it took.
        duration_ms: u64,
    }
    /// The agent is prepared.
    InitCompleted {
        /// The container's id.
        container: String,
        /// The container's start.
        start: u64,
        /// Milliseconds that it took.
        duration_ms: u64,
    }
    /// The agent couldn't be prepared, and its command doesn't run.
    InitFailed {
        /// The container's id.
        container: String,
        /// The container's start.
        start: u64,
        /// The step that failed.
        step: String,
        /// As [`InitStepFailed::reason`].
        reason: String,
        /// As [`InitStepFailed::detail`].
        detail: String,
    }
    /// The agent's command runs.
    AgentReadySent {
        /// The container's id.
        container: String,
        /// The container's start.
        start: u64,
        /// The command's process in the container.
        pid: u32,
    }
    /// The agent's command ended.
    MainExited {
        /// The container's id.
        container: String,
        /// The container's start.
        start: u64,
        /// Its exit code.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// The kernel killed it for memory.
        oom: bool,
    }
    /// The agent ended and will be started again.
    RestartPlanned {
        /// The container's id.
        container: String,
        /// When it ended, in Docker's words.
        end: String,
        /// The exit code.
        code: i64,
        /// How many times this makes.
        restarts: u32,
        /// Milliseconds until then.
        delay_ms: u64,
        /// Milliseconds since the Unix epoch when it is due.
        due_ms: u64,
    }
    /// The agent isn't started again by itself any more.
    RestartsEnded {
        /// The container's id.
        container: String,
        /// Who said so: an operator, or `host`, which gave it up.
        by: String,
        /// For people.
        why: String,
    }
    /// The container runs.
    ContainerStarted {
        /// The container's id.
        container: String,
        /// How many starts were numbered before this one.
        #[serde(default)]
        after: u64,
    }
    /// The container doesn't run any more.
    ContainerDied {
        /// The container's id.
        container: String,
        /// The exit code.
        exit_code: i64,
        /// Which start ended; 0 for one that was never attested.
        #[serde(default)]
        start: u64,
    }
    /// Everything in the container is held by its own freezer. It isn't how clawker freezes an agent.
    ContainerPaused {
        /// The container's id.
        container: String,
    }
    /// It isn't any more.
    ContainerUnpaused {
        /// The container's id.
        container: String,
    }
    /// The kernel killed something in the container for memory.
    ContainerOom {
        /// The container's id.
        container: String,
    }
    /// The container is removed.
    ContainerDestroyed {
        /// The container's id.
        container: String,
        /// How that is known: `event`, `relist` or `own`.
        #[serde(default = "event")]
        seen: String,
    }
    /// The image's health check says something else than before.
    ContainerHealth {
        /// The container's id.
        container: String,
        /// Whether it is healthy.
        healthy: bool,
        /// For people.
        detail: String,
    }
    /// The container was connected to a network.
    ContainerNetworkConnected {
        /// The container's id.
        container: String,
        /// The network's name.
        network: String,
    }
    /// A container that isn't ours is in the agent's network.
    NetnsShared {
        /// The agent's container.
        container: String,
        /// The other one.
        foreign: String,
    }
    /// A command was started in the container.
    ExecStarted {
        /// The exec's id.
        exec: String,
        /// Program and arguments.
        argv: Vec<String>,
        /// Who started it.
        by: String,
        /// Which PID 1 was asked; empty for one that the engine started.
        #[serde(default)]
        init_life: String,
    }
    /// A command in the container ended.
    ExecExited {
        /// The exec's id.
        exec: String,
        /// Its exit code; 128 + signal for one that a signal ended.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// The kernel killed it for memory.
        #[serde(default)]
        oom: bool,
    }
    /// Packets of the agent were dropped since the last look.
    EgressDenied {
        /// So many since then.
        count: u64,
        /// So many in all.
        total: u64,
    }
    /// The agent was longer without its control plane than its lease.
    LeaseLost {
        /// So long.
        seconds: u32,
        /// What became of it meanwhile: `freeze`, `continue` or `stop`.
        #[serde(default = "freeze")]
        then: String,
    }
    /// clawkerd's session half stopped answering and was started anew.
    SessionHalfStopped {
        /// How many lives it had.
        lives: u32,
    }
    /// A leaf that had run out was renewed for the key that the agent has.
    IdentityRecovered {
        /// The container's id.
        container: String,
        /// The container's start.
        start: u64,
        /// One of [`UNTRUSTED_REASONS`] or a later one.
        reason: String,
        /// How many times in this start.
        count: u32,
    }
    /// Another container showed this one's leaf and proved its key: the key is denied for good.
    IdentityLeaked {
        /// The agent's container.
        container: String,
        /// The other one.
        shown_by: String,
    }
    /// An operator did something about the agent.
    OperatorCommand {
        /// Who.
        by: String,
        /// Which command.
        command: String,
        /// With what.
        detail: String,
    }
}

fn event() -> String {
    "event".into()
}

fn freeze() -> String {
    "freeze".into()
}
