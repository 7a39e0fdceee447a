//! Events: what happened, as the journal keeps it.
//!
//! Every kind is a struct. Bodies are additive: a field may be added with `#[serde(default)]`, none may
//! change its meaning, because journals and compiled plugins outlive a release. No body holds a secret.

mod reason;

use serde::{Deserialize, Serialize};

use crate::identity::RotationPhase;
use crate::plan::EffectNote;
use crate::{
    Action, AgentSpec, Axis, ContainerId, Containment, FullName, OnOrphan, PluginDigest, RunId, Start, Thumbprint,
    Verdict,
};

pub use self::reason::{InitFailure, SessionFailure, UntrustedReason};

/// A row of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Counts from 1 without gaps.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Which life of the control plane wrote it.
    pub cp_life: String,
    /// Whom it is about; `None` for the host itself.
    pub agent: Option<FullName>,
    #[serde(flatten)]
    pub event: Event,
}

/// What a policy was told beside the event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// In the order of the policy's windows.
    pub counts: Vec<WindowCount>,
    /// All that is asked for the agent now, whoever asked.
    pub containment: Containment,
}

/// A window that a policy declared, and what was counted in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowCount {
    pub kind: String,
    pub seconds: u32,
    /// Events of this agent within the window, the one being evaluated included.
    pub count: u64,
}

macro_rules! events {
    ($($(#[$doc:meta])* $kind:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {
        /// Everything that can happen, tagged `kind` with its `body`.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "body")]
        pub enum Event {
            $($(#[$doc])* $kind($kind),)*
        }

        impl Event {
            /// Every kind, in the order of their definition.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($kind)),*];

            pub fn kind(&self) -> &'static str {
                match self {
                    $(Event::$kind(_) => stringify!($kind),)*
                }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $kind {
                $($(#[$field_meta])* pub $field: $type,)*
            }

            impl From<$kind> for Event {
                fn from(body: $kind) -> Self {
                    Event::$kind(body)
                }
            }
        )*
    };
}

events! {
    /// A control plane began its life.
    ControlPlaneStarted { version: String, boot_id: String, }
    /// A control plane is about to end, with agents left as they are.
    ControlPlaneStopping { agents: String, }
    /// An agent's definition exists and its run folder is made; its container is about to be.
    AgentCreating { spec: Box<AgentSpec>, run: RunId, }
    /// The container was made.
    AgentCreated { container: ContainerId, run: RunId, }
    /// The container could not be made.
    AgentCreateFailed { message: String, }
    /// The container is gone, and all that was kept of it.
    AgentRemoved { container: Option<ContainerId>, }
    /// The journal is new. Containers of agents that there are already are taken over, until StoreRebuilt.
    RebuildBegun {}
    /// A container that the journal didn't know was taken over: it is as create makes it from `spec`.
    AgentAdopted {
        spec: Box<AgentSpec>,
        run: RunId,
        container: ContainerId,
        /// The life of its init that ran then, counted anew; `None` if it didn't run.
        start: Option<Start>,
        pid: u32,
        /// What the kernel had in force, or the strictest that nobody can say it hadn't.
        causes: Vec<Cause>,
    }
    /// A container with our labels isn't as create would have made it: it can be contained, and gets nothing else.
    AdoptionRefused { container: ContainerId, why: String, }
    /// An adopted start was prepared before the journal was lost, as its clawkerd says: no step runs again in it.
    AgentReadyFound { container: ContainerId, start: u64, why: String, }
    /// Every container that there was has been dealt with. From now on nobody is taken over.
    StoreRebuilt { adopted: u32, refused: u32, }
    /// A life of the container's init was seen for the first time.
    StartBegan { container: ContainerId, start: Start, pid: u32, }
    /// An identity bundle is about to be handed to PID 1; `join` is the hash of its token on an engine elsewhere.
    BundleIssued { container: ContainerId, start: u64, generation: u64, thumbprint: Thumbprint, key_hash: String,
        #[serde(default, skip_serializing_if = "Option::is_none")] join: Option<String>, }
    /// A connection was accepted on an agent's session socket.
    SessionConnecting { address: String, }
    /// The peer is attested, TLS is up and Hello was answered.
    SessionConnected {
        address: String,
        attempts: u32,
        peer_cn: String,
        thumbprint: Option<Thumbprint>,
        start: u64,
        init_life: String,
    }
    /// No session came about in a minute; the control plane goes on listening.
    SessionFailed { address: String, reason: SessionFailure, attempts: u32, }
    SessionBroken { address: String, reason: String, }
    /// The registration handshake ended.
    AgentRegistered { container: ContainerId, start: u64, ok: bool, reason: Option<UntrustedReason>, }
    /// The registry row of an agent as it is from now on.
    RegistryRowWritten {
        row: RegistryRow,
        /// SHA-256 of the single-use token that was spent on it, in hex; it is burnt in the same transaction.
        #[serde(default)]
        token: Option<String>,
    }
    /// A registry row is gone.
    RegistryRowEvicted { container: ContainerId, why: String, }
    /// An identity check failed. The session stays open for containment.
    AgentUntrusted {
        reason: UntrustedReason,
        detail: String,
        /// It was somebody else who failed it: a second process on the agent's socket, a container with its labels.
        /// The agent's own session is judged as before.
        #[serde(default)]
        intruder: bool,
    }
    /// The peer of the session is who it says. Said once until that changes.
    AgentTrusted { container: ContainerId, start: u64, }
    InitStarted { container: ContainerId, start: u64, steps: u32, }
    InitStepStarted { name: String, index: u32, count: u32, key: String, }
    /// A step asked for its `n`th effect, which is about to be carried out.
    InitEffectIntended { key: String, n: u32, effect: EffectNote, }
    /// What came of it.
    InitEffectDone { key: String, n: u32, result: EffectNote, }
    InitStepCompleted { name: String, index: u32, key: String, duration_ms: u64, message: String, }
    /// `detail` holds code, message and the end of stderr, as far as there are any.
    InitStepFailed {
        name: String,
        index: u32,
        key: String,
        start: u64,
        reason: InitFailure,
        detail: String,
        duration_ms: u64,
    }
    InitCompleted { container: ContainerId, start: u64, duration_ms: u64, }
    InitFailed { container: ContainerId, start: u64, step: String, reason: InitFailure, detail: String, }
    /// AgentReady is about to be sent.
    AgentReadyIntended { container: ContainerId, start: u64, }
    /// clawkerd says that the command runs.
    AgentReadySent { container: ContainerId, start: u64, pid: u32, }
    /// It has ended (`end` is Docker's word for when) and will be started again, for the `restarts`th time.
    RestartPlanned { container: ContainerId, end: String, code: i64, restarts: u32, delay_ms: u64, due_ms: u64, }
    /// It isn't started again by itself any more: an operator stopped it, or the control plane (`host`) gave it up.
    RestartsEnded { container: ContainerId, by: String, why: String, }
    /// An operator started it: what was before doesn't count.
    RestartsBegun { container: ContainerId, by: String, }
    /// The agent's command ended.
    MainExited { container: ContainerId, start: u64, code: i32, signal: Option<i32>, oom: bool, }
    ReapDegraded { reason: String, }
    /// The container runs; whether its init is who it should be, StartBegan says.
    ContainerStarted {
        container: ContainerId,
        /// How many starts were numbered before this one.
        #[serde(default)]
        after: u64,
    }
    /// The container doesn't run any more.
    ContainerDied {
        container: ContainerId,
        exit_code: i64,
        /// Which start ended; 0 for one that was never attested.
        #[serde(default)]
        start: u64,
    }
    /// Everything in the container is held by its own freezer, clawkerd too. It isn't how clawker freezes an agent.
    ContainerPaused { container: ContainerId, }
    ContainerUnpaused { container: ContainerId, }
    ContainerOom { container: ContainerId, }
    ContainerDestroyed {
        container: ContainerId,
        #[serde(default)]
        seen: Seen,
    }
    ContainerHealth { container: ContainerId, healthy: bool, detail: String, }
    ContainerNetworkConnected { container: ContainerId, network: String, }
    NetnsShared { container: ContainerId, foreign: ContainerId, }
    ExecStarted {
        exec: String,
        argv: Vec<String>,
        by: String,
        /// Which PID 1 was asked; empty for one that the engine started.
        #[serde(default)]
        init_life: String,
    }
    ExecExited { exec: String, code: i32, signal: Option<i32>, #[serde(default)] oom: bool, }
    /// Packets of the agent were dropped since the last look.
    EgressDenied { count: u64, total: u64, }
    ThresholdCrossed { what: String, detail: String, }
    /// An agent was longer without us than its lease; this is what became of it meanwhile.
    LeaseLost { seconds: u32, #[serde(default)] then: OnOrphan, }
    SessionHalfStopped { lives: u32, }
    /// Its session half is of another build than this control plane's, and is about to be replaced.
    SessionHalfUpgrading { from: String, to: String, }
    /// What its session half is after that: `to`, or still the other one.
    SessionHalfUpgraded { build: String, taken: bool, }
    /// A policy was asked about `seq` and answered, or failed to.
    PolicyDecided {
        policy: String,
        digest: PluginDigest,
        seq: u64,
        verdicts: Vec<Verdict>,
        unavailable: Option<String>,
        fuel: u64,
        micros: u64,
        state_before: String,
        state_after: String,
        /// The policy's new state, as it left it.
        #[serde(default)]
        state: String,
        /// What it was told beside the event; rows of before don't say.
        #[serde(default)]
        facts: Option<Facts>,
    }
    /// A policy is asked from now on, by this code and with these settings.
    PolicyLoaded {
        policy: String,
        digest: PluginDigest,
        version: String,
        /// A JSON object.
        settings: String,
        /// `enforce`, `monitor` or `shadow`.
        mode: String,
        fallback: String,
        fail_mode: String,
    }
    /// A policy is asked no more. What it asked for stays until it is released.
    PolicyUnloaded { policy: String, digest: PluginDigest, }
    /// A cause of containment was added or withdrawn: what is asked for from now on.
    ContainmentAsked { cause: Cause, asked: Containment, }
    ActionIntended { axis: Axis, action: String, cause: u64, }
    /// It is in force, and this is what was read back.
    ActionApplied { axis: Axis, action: String, read_back: String, micros: u64, }
    ActionFailed { axis: Axis, action: String, error: String, escalate: Option<Action>, }
    Released { by: String, causes: u32, asked: Containment, }
    PluginInstalled {
        name: String,
        digest: PluginDigest,
        kind: String,
        #[serde(default)]
        version: String,
        /// The id of the key that vouches for it.
        #[serde(default)]
        key: String,
        #[serde(default)]
        source: String,
        #[serde(default)]
        grants: Vec<String>,
    }
    PluginRemoved { name: String, digest: PluginDigest, }
    /// A version on trial agreed with the one in force so often that it took its place.
    PluginPromoted { name: String, from: PluginDigest, to: PluginDigest, agreed: u64, }
    PluginQuarantined { name: String, digest: PluginDigest, why: String, }
    SubsystemDegraded { subsystem: String, detail: String, }
    SubsystemRecovered { subsystem: String, }
    /// A new leaf was signed for the agent's key. Both leaves hold until the new one is seen in a finished handshake or
    /// the old one ends.
    IdentityRotated {
        container: ContainerId,
        generation: u64,
        thumbprint: Thumbprint,
        /// The leaf that the agent showed or acknowledged last.
        #[serde(default)]
        held: Option<Thumbprint>,
        /// Seconds since the Unix epoch.
        #[serde(default)]
        not_after: i64,
    }
    /// A renewed leaf was seen in a finished handshake: the one before it holds no longer.
    IdentityConfirmed { container: ContainerId, thumbprint: Thumbprint, }
    /// A leaf that had run out, or whose root is gone, is renewed: its key is the pinned one and its holder attested.
    IdentityRecovered { container: ContainerId, start: u64, reason: UntrustedReason, count: u32, }
    /// Another container showed this one's leaf and proved its key: the key is denied for good.
    IdentityLeaked { container: ContainerId, shown_by: ContainerId, }
    /// A rotation of the host's root went on. Roots by id, the signing one first.
    AuthorityRotated { phase: RotationPhase, roots: Vec<String>, by: String, }
    IdentityRevoked { container: ContainerId, by: String, }
    OperatorCommand { by: String, command: String, detail: String, }
}

/// Who asked for containment, when and why. All causes are kept until released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// `operator:<peer>`, `policy:<name>` or `host` (e.g. the agent's own egress rule).
    pub by: String,
    pub action: Action,
    pub reason: String,
    /// Sequence number of the event that led to it; 0 for an operator.
    pub event: u64,
    pub at_ms: u64,
}

/// How it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The engine's event said so, and a look agreed.
    #[default]
    Event,
    /// Two complete lists in a row lacked it: the event was lost.
    Relist,
    /// It was done by this control plane.
    Own,
}

/// A row of the agents' registry: who proved to be whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryRow {
    pub container: ContainerId,
    pub name: FullName,
    pub start: u64,
    pub generation: u64,
    /// SHA-256 of the public key's SubjectPublicKeyInfo, in hex.
    pub key_hash: String,
    pub thumbprint: Thumbprint,
    pub previous_thumbprint: Option<Thumbprint>,
    pub registered_at_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_kind_and_body() {
        let row = Row {
            seq: 7,
            at_ms: 1,
            cp_life: "x".into(),
            agent: Some(FullName::parse("clawker.a").expect("name")),
            event: EgressDenied { count: 1, total: 2 }.into(),
        };
        let json = serde_json::to_string(&row).expect("json");
        assert_eq!(
            json,
            r#"{"seq":7,"at_ms":1,"cp_life":"x","agent":"clawker.a","kind":"EgressDenied","body":{"count":1,"total":2}}"#
        );
        assert_eq!(serde_json::from_str::<Row>(&json).expect("back"), row);
        assert_eq!(row.event.kind(), "EgressDenied");
        assert_eq!(UntrustedReason::EkuInvalid.to_string(), "eku_invalid");
    }

    #[test]
    fn the_list_of_reasons_is_whole() {
        let last = UntrustedReason::RegistryUnavailable as usize;
        assert_eq!(
            UntrustedReason::ALL.map(|reason| reason as usize).to_vec(),
            (0..=last).collect::<Vec<_>>()
        );
    }
}
