//! An agent as programs read it: the same object from `ps` and `inspect`, described in docs/json.md.

use clawker_wire::admin::AgentView;
use serde_json::{Value, json};

pub fn object(agent: &AgentView) -> Value {
    json!({
        "name": agent.name,
        "project": agent.project,
        "agent": agent.agent,
        "container_id": agent.container_id,
        "image": agent.image,
        "command": agent.command,
        "command_state": agent.command_state,
        "status": agent.status,
        "exit_code": agent.exit_code,
        "ended": agent.ended.as_ref().map(|ended| json!({
            "start": ended.start, "code": ended.code, "signal": ended.signal, "oom": ended.oom, "at_ms": ended.at_ms,
        })),
        "health": agent.health,
        "health_detail": agent.health_detail,
        "session": agent.session,
        "session_since_ms": agent.session_since_ms,
        "session_address": agent.session_address,
        "session_attempts": agent.session_attempts,
        "session_detail": agent.session_detail,
        "trust": agent.trust,
        "trust_since_ms": agent.trust_since_ms,
        "trust_detail": agent.trust_detail,
        "registered": agent.registered,
        "generation": agent.generation,
        "intruder": agent.intruder.as_ref().map(|intruder| json!({
            "reason": intruder.reason, "detail": intruder.detail, "at_ms": intruder.at_ms,
        })),
        "plan": agent.plan,
        "plan_detail": agent.plan_detail,
        "containment": agent.containment,
        "containment_asked": agent.containment_asked,
        "start": agent.start,
        "init_pid": agent.init_pid,
        "owner": agent.owner,
        "created_ms": agent.created_ms,
        "last_seen_ms": agent.last_seen_ms,
    })
}

/// `running (healthy)`, `exited (7)`.
pub fn status(agent: &AgentView) -> String {
    match (agent.status.as_str(), agent.exit_code, agent.health.as_str()) {
        ("exited", Some(code), _) => format!("exited ({code})"),
        ("running", _, health @ ("healthy" | "unhealthy")) => format!("running ({health})"),
        (status, _, _) => status.to_owned(),
    }
}
