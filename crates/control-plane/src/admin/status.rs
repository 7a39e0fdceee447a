//! What agents and the control plane are doing, for people and programs.

use std::collections::BTreeMap;

use clawker_model::{FullName, event::UntrustedReason};
use clawker_plugin_host::Kind;
use clawker_store::AgentRecord;
use clawker_wire::admin::{AgentView, PluginView, Status, Subsystem};

use super::contain::in_force;
use super::error::Fault;
use super::resolve::Found;
use crate::agent::{AgentHandle, AgentStatus, ContainerState, SessionState, Trust};
use crate::containment::Mode;
use crate::core::Core;

/// Longest command that a list shows.
const MAX_COMMAND: usize = 200;

/// All agents, sorted by project and name; without `all`, those that run.
pub async fn list(core: &Core, all: bool) -> Result<Vec<AgentView>, Fault> {
    let mut found: BTreeMap<FullName, Found> = BTreeMap::new();
    for record in core.store.agents().await? {
        let name = record.spec.name.clone();
        found.insert(
            name.clone(),
            Found {
                handle: core.agents.get(&name),
                record: Some(record),
                name,
            },
        );
    }
    for handle in core.agents.list() {
        let name = handle.name.clone();
        found.entry(name.clone()).or_insert(Found {
            name,
            record: None,
            handle: Some(handle),
        });
    }
    let mut views: Vec<(FullName, AgentView)> = found
        .into_values()
        .map(|found| (found.name.clone(), view(core, &found)))
        .collect();
    views.sort_by(|(a, _), (b, _)| (a.project(), a.agent()).cmp(&(b.project(), b.agent())));
    Ok(views
        .into_iter()
        .map(|(_, view)| view)
        .filter(|view| all || view.status == "running")
        .collect())
}

pub fn view(core: &Core, found: &Found) -> AgentView {
    let status = found.handle.as_ref().map(AgentHandle::status);
    let contained = core.containment.watch(&found.name).map(|view| view.borrow().clone());
    let spec = found.record.as_ref().map(|record| &record.spec);
    let has_health = spec.is_some_and(|spec| spec.health.is_some());
    AgentView {
        name: found.name.to_string(),
        project: found.name.project().map(ToString::to_string).unwrap_or_default(),
        agent: found.name.agent().to_string(),
        container_id: found.container().map(|id| id.to_string()).unwrap_or_default(),
        image: spec.map(|spec| spec.image.clone()).unwrap_or_default(),
        status: status
            .as_ref()
            .map_or("created", |status| state(status.state))
            .to_owned(),
        session: status
            .as_ref()
            .map_or("none", |status| session(status.session))
            .to_owned(),
        trust: status
            .as_ref()
            .map_or_else(|| "unknown".into(), |status| trust(status.trust)),
        plan: status.as_ref().map(|status| status.plan.clone()).unwrap_or_default(),
        containment: in_force(contained.as_ref()),
        start: status.as_ref().map_or(0, |status| status.start),
        last_seen_ms: status.as_ref().map_or(0, |status| status.last_seen_ms),
        exit_code: exit_code(status.as_ref(), found.record.as_ref()),
        init_pid: status.as_ref().map_or(0, |status| status.init_pid.unsigned_abs()),
        health: health(has_health, status.as_ref().and_then(|status| status.health)).to_owned(),
        command: spec.map(|spec| shorten(&spec.main.argv.join(" "))).unwrap_or_default(),
        owner: spec.map(|spec| spec.owner.clone()).unwrap_or_default(),
        created_ms: found.record.as_ref().map_or(0, |record| record.created_ms),
    }
}

fn state(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
    }
}

fn session(session: SessionState) -> &'static str {
    match session {
        SessionState::None => "none",
        SessionState::Connecting => "connecting",
        SessionState::Connected => "connected",
    }
}

fn trust(trust: Trust) -> String {
    match trust {
        Trust::Unknown => "unknown".into(),
        Trust::Trusted => "trusted".into(),
        Trust::Untrusted(reason) => UntrustedReason::to_string(&reason),
    }
}

fn health(has_check: bool, healthy: Option<bool>) -> &'static str {
    match (has_check, healthy) {
        (false, _) => "",
        (true, None) => "unknown",
        (true, Some(true)) => "healthy",
        (true, Some(false)) => "unhealthy",
    }
}

/// Of the latest start that ended; none while it runs.
fn exit_code(status: Option<&AgentStatus>, record: Option<&AgentRecord>) -> Option<i32> {
    if status.is_some_and(|status| status.state == ContainerState::Running) {
        return None;
    }
    let of_task = status.and_then(|status| status.exit).map(|exit| exit.code);
    of_task.or_else(|| record.and_then(|record| record.exit.as_ref()).map(|exit| exit.code))
}

fn shorten(command: &str) -> String {
    let plain = command.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.take(MAX_COMMAND).collect();
    if command.chars().nth(MAX_COMMAND).is_some() {
        short.push('…');
    }
    short
}

/// The control plane itself.
pub fn status(core: &Core) -> Status {
    let agents = core.agents.list();
    let connected = |agent: &&AgentHandle| agent.status().session == SessionState::Connected;
    let engine = &core.engine;
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        cp_life: core.life.clone(),
        started_ms: core.started_ms,
        state_dir: core.config.state_dir.display().to_string(),
        engine: format!(
            "Docker {} (API {}, {})",
            engine.version, engine.api_version, engine.architecture
        ),
        cgroup: format!("v{} {}", engine.cgroup_version, engine.cgroup_driver),
        journal_seq: core.store.last_seq(),
        agents: agents.len().try_into().unwrap_or(u32::MAX),
        sessions: agents.iter().filter(connected).count().try_into().unwrap_or(u32::MAX),
        subsystems: subsystems(core.board.snapshot()),
        plugins: plugins(core),
    }
}

/// Every subsystem that can be degraded, and those that are.
fn subsystems(degraded: Vec<(String, String)>) -> Vec<Subsystem> {
    let mut all: BTreeMap<String, Option<String>> = ["agents", "containment", "engine", "journal", "sessions"]
        .map(|name| (name.to_owned(), None))
        .into();
    all.extend(degraded.into_iter().map(|(name, detail)| (name, Some(detail))));
    all.into_iter()
        .map(|(name, detail)| Subsystem {
            name,
            degraded: detail.is_some(),
            detail: detail.unwrap_or_default(),
        })
        .collect()
}

fn plugins(core: &Core) -> Vec<PluginView> {
    let mode = |name: &str| {
        let policy = core.plugins.policies.iter().find(|policy| policy.name == name);
        match policy.map(|policy| policy.mode) {
            Some(Mode::Enforce) => "enforce",
            Some(Mode::Monitor) => "monitor",
            None => "",
        }
    };
    let view = |(name, plugin): (&String, &std::sync::Arc<clawker_plugin_host::Plugin>)| PluginView {
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        kind: match plugin.kind {
            Kind::Step => "step".into(),
            Kind::Policy => "policy".into(),
        },
        digest: plugin.digest.to_string(),
        mode: mode(name).into(),
    };
    core.plugins.loaded().iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_on_one_short_line() {
        assert_eq!(shorten("a\nb\tc"), "a b c");
        let long = shorten(&"ä".repeat(MAX_COMMAND + 1));
        assert_eq!(long.chars().count(), MAX_COMMAND + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_subsystem_is_named_whether_or_not_it_is_degraded() {
        let shown = subsystems(vec![("engine".into(), "no answer".into()), ("x".into(), "y".into())]);
        let degraded: Vec<_> = shown.iter().filter(|s| s.degraded).map(|s| s.name.as_str()).collect();
        assert_eq!(degraded, ["engine", "x"]);
        assert_eq!(shown.len(), 6);
    }

    #[test]
    fn health_is_said_only_of_what_has_a_check() {
        assert_eq!(health(false, Some(true)), "");
        assert_eq!(health(true, None), "unknown");
        assert_eq!(health(true, Some(false)), "unhealthy");
    }
}
