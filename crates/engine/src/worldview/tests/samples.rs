//! Rows as the journal has them: JSON, so that a field that is added needs no change here.

use clawker_model::{FullName, Row};
use serde_json::{Value, json};

use super::Worldview;

pub const RUN: &str = "abcdefghijklmnopqrstuv";

pub fn container(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

/// Rows in order, a second apart, of the agent `clawker.a` or of the host.
pub struct Journal(pub Vec<Row>);

impl Journal {
    pub fn of(rows: &[(&str, Value)]) -> Self {
        let row = |(at, (kind, body)): (usize, &(&str, Value))| row(at as u64 + 1, "clawker.a", kind, body);
        Self(rows.iter().enumerate().map(row).collect())
    }

    pub fn world(&self) -> Worldview {
        let mut world = Worldview::default();
        self.0.iter().for_each(|row| world.apply(row));
        world
    }
}

pub fn row(seq: u64, agent: &str, kind: &str, body: &Value) -> Row {
    let agent = (!OF_THE_HOST.contains(&kind)).then(|| FullName::parse(agent).expect("a name"));
    let row = json!({"seq": seq, "at_ms": seq * 1000, "cp_life": "life", "agent": agent, "kind": kind, "body": body});
    serde_json::from_value(row).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

const OF_THE_HOST: &[&str] = &[
    "AuthorityRotated",
    "ControlPlaneStarted",
    "ControlPlaneStopping",
    "PluginInstalled",
    "PluginPromoted",
    "PluginRemoved",
    "PolicyLoaded",
    "PolicyUnloaded",
    "ReapDegraded",
    "RebuildBegun",
    "StoreRebuilt",
    "SubsystemDegraded",
    "SubsystemRecovered",
];

fn spec() -> Value {
    json!({"name": "clawker.a", "image": "i", "image_id": "sha256:1",
        "main": {"argv": ["x"], "user": "", "env": [], "cwd": "/", "no_new_privs": true, "tty": false,
            "open_stdin": false, "stop_signal": null},
        "health": null, "plan": {"steps": []}, "secrets": [], "mounts": [], "publish": [],
        "network": {"network": "default"}, "egress": {"egress": "open"}, "resources": {}, "remove": false,
        "on_orphan": "freeze", "owner": "uid:0", "unsafe_options": []})
}

/// A body of every kind, about the nth container and start. A kind without one fails the properties.
pub fn body(kind: &str, c: u8, n: u64) -> Value {
    let (other, digest, c) = (container(99), "d".repeat(64), container(c));
    let ended = json!({"network": {"state": "locked"}, "processes": "frozen", "identity": "valid"});
    match kind {
        "ControlPlaneStarted" => json!({"version": "1", "boot_id": "b"}),
        "ControlPlaneStopping" => json!({"agents": "leased"}),
        "AgentCreating" => json!({"run": RUN, "spec": spec()}),
        "AgentAdopted" => json!({"run": RUN, "spec": spec(), "container": c, "pid": 7, "causes": [],
            "start": {"number": n, "boot_id": "b", "init_start_time": n}}),
        "AdoptionRefused" => json!({"container": c, "why": "w"}),
        "AgentReadyFound" => json!({"container": c, "start": n, "why": "w"}),
        "RebuildBegun" => json!({}),
        "StoreRebuilt" => json!({"adopted": 1, "refused": 0}),
        "AgentCreated" => json!({"container": c, "run": RUN}),
        "AgentCreateFailed" => json!({"message": "m"}),
        "AgentRemoved" => json!({"container": c}),
        "StartBegan" => json!({"container": c, "pid": 7, "start": {"number": n, "boot_id": "b", "init_start_time": n}}),
        "BundleIssued" | "IdentityRotated" => {
            json!({"container": c, "start": n, "generation": n, "thumbprint": digest, "key_hash": "k"})
        }
        "IdentityConfirmed" => json!({"container": c, "thumbprint": digest}),
        "IdentityRecovered" => json!({"container": c, "start": n, "reason": "cert_expired", "count": 1}),
        "IdentityLeaked" => json!({"container": c, "shown_by": other}),
        "AuthorityRotated" => json!({"phase": "introduced", "roots": [], "by": "operator"}),
        "SessionConnecting" => json!({"address": "unix:x"}),
        "SessionConnected" => json!({"address": "unix:x", "attempts": n, "peer_cn": "clawker.a", "thumbprint": digest,
            "start": n, "init_life": "i"}),
        "SessionFailed" => json!({"address": "unix:x", "reason": "connect_total_timeout", "attempts": n}),
        "SessionBroken" => json!({"address": "unix:x", "reason": "eof"}),
        "AgentRegistered" => json!({"container": c, "start": n, "ok": n.is_multiple_of(2), "reason": null}),
        "RegistryRowWritten" => json!({"row": {"container": c, "name": "clawker.a", "start": n, "generation": n,
            "key_hash": "k", "thumbprint": digest, "previous_thumbprint": null, "registered_at_ms": 1}}),
        "RegistryRowEvicted" => json!({"container": c, "why": "destroyed"}),
        "AgentUntrusted" => json!({"reason": "peer_mismatch", "detail": "d", "intruder": n.is_multiple_of(2)}),
        "AgentTrusted" | "AgentReadyIntended" => json!({"container": c, "start": n}),
        "InitStarted" => json!({"container": c, "start": n, "steps": 3}),
        "InitStepStarted" => json!({"name": "git", "index": n, "count": 3, "key": "k"}),
        "InitEffectIntended" => json!({"key": "k", "n": n, "effect": {"what": "read-file /x", "digest": "d"}}),
        "InitEffectDone" => json!({"key": "k", "n": n, "result": {"what": "written", "digest": "d"}}),
        "InitStepCompleted" => json!({"name": "git", "index": n, "key": "k", "duration_ms": 1, "message": ""}),
        "InitStepFailed" => {
            json!({"name": "git", "index": n, "key": "k", "start": n, "reason": "timeout", "detail": "d",
            "duration_ms": 1})
        }
        "InitCompleted" => json!({"container": c, "start": n, "duration_ms": 1}),
        "InitFailed" => json!({"container": c, "start": n, "step": "git", "reason": "timeout", "detail": "d"}),
        "AgentReadySent" => json!({"container": c, "start": n, "pid": 9}),
        "MainExited" => json!({"container": c, "start": n, "code": 1, "signal": null, "oom": false}),
        "ReapDegraded" => json!({"reason": "r"}),
        "ContainerStarted" => json!({"container": c, "after": n}),
        "ContainerDied" => json!({"container": c, "exit_code": 1, "start": n}),
        "ContainerPaused" | "ContainerUnpaused" | "ContainerOom" => json!({"container": c}),
        "ContainerDestroyed" => json!({"container": c, "seen": "relist"}),
        "ContainerHealth" => json!({"container": c, "healthy": n.is_multiple_of(2), "detail": "d"}),
        "ContainerNetworkConnected" => json!({"container": c, "network": "web"}),
        "NetnsShared" => json!({"container": c, "foreign": other}),
        "ExecStarted" => json!({"exec": "e", "argv": [], "by": "docker", "init_life": ""}),
        "ExecExited" => json!({"exec": "e", "code": 0, "signal": null, "oom": false}),
        "EgressDenied" => json!({"count": 1, "total": n}),
        "ThresholdCrossed" => json!({"what": "alert", "detail": "d"}),
        "RestartPlanned" => json!({"container": c, "end": "e", "code": 1, "restarts": 1, "delay_ms": 1, "due_ms": 1}),
        "RestartsEnded" => json!({"container": c, "by": "host", "why": "w"}),
        "RestartsBegun" => json!({"container": c, "by": "operator:uid:0"}),
        "LeaseLost" => json!({"seconds": 1}),
        "SessionHalfStopped" => json!({"lives": 1}),
        "SessionHalfUpgrading" => json!({"from": "clawkerd 0", "to": "clawkerd 1"}),
        "SessionHalfUpgraded" => json!({"build": "clawkerd 1", "taken": true}),
        "PolicyDecided" => json!({"policy": "p", "digest": digest, "seq": 1, "verdicts": [], "unavailable": null,
            "fuel": 1, "micros": 1, "state_before": "", "state_after": ""}),
        "ContainmentAsked" => json!({"asked": ended, "cause": {"by": "host", "action": {"action": "freeze"},
            "reason": "r", "event": 1, "at_ms": 1}}),
        "ActionIntended" => json!({"axis": "network", "action": "lock-network", "cause": 1}),
        "ActionApplied" => json!({"axis": "network", "action": "lock-network", "read_back": "drop", "micros": 1}),
        "ActionFailed" => json!({"axis": "processes", "action": "freeze", "error": "e", "escalate": null}),
        "Released" => json!({"by": "operator", "causes": 1,
            "asked": {"network": {"state": "open"}, "processes": "running", "identity": "valid"}}),
        "PluginInstalled" => json!({"name": "p", "digest": digest, "kind": "policy"}),
        "PluginRemoved" => json!({"name": "p", "digest": digest}),
        "PluginPromoted" => json!({"name": "p", "from": digest, "to": "e".repeat(64), "agreed": 1}),
        "PolicyLoaded" => json!({"policy": "p", "digest": digest, "version": "1", "settings": "{}", "mode": "enforce",
            "fallback": "lock-network", "fail_mode": "closed"}),
        "PolicyUnloaded" => json!({"policy": "p", "digest": digest}),
        "PluginQuarantined" => json!({"name": "p", "digest": digest, "why": "w"}),
        "SubsystemDegraded" => json!({"subsystem": "engine", "detail": format!("{n}")}),
        "SubsystemRecovered" => json!({"subsystem": "engine"}),
        "IdentityRevoked" => json!({"container": c, "by": "operator"}),
        "OperatorCommand" => json!({"by": "operator", "command": "x", "detail": ""}),
        other => panic!("say in samples.rs what the body of `{other}` looks like, and in apply.rs what it changes"),
    }
}
