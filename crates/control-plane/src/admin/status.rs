//! What agents and the control plane are doing, for people and programs.
//!
//! The worldview is what is read: session, trust, plan, command and health are the journal's. Whether the container
//! runs and when its clawkerd was last heard is its own task's word, what is in force is containment's, and what is
//! degraded is the board's: those three also answer while the journal can't be written.

mod view;

use std::collections::BTreeMap;

use clawker_model::FullName;
use clawker_wire::admin::{AgentView, PluginEntry, PluginView, Status, Subsystem};

use super::error::Fault;
use super::plugins;
use super::resolve::Found;
use crate::agent::{AgentHandle, SessionState};
use crate::core::{Core, Degraded};

/// All agents, sorted by project and name; without `all`, those that run.
pub async fn list(core: &Core, all: bool) -> Result<Vec<AgentView>, Fault> {
    core.world.as_of(core.store.last_seq()).await;
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
        .map(|found| (found.name.clone(), view::view(core, &found)))
        .collect();
    views.sort_by(|(a, _), (b, _)| (a.project(), a.agent()).cmp(&(b.project(), b.agent())));
    Ok(views
        .into_iter()
        .map(|(_, view)| view)
        .filter(|view| all || matches!(view.status.as_str(), "running" | "paused"))
        .collect())
}

/// One agent, as of now.
pub async fn get(core: &Core, found: &Found) -> AgentView {
    core.world.as_of(core.store.last_seq()).await;
    view::view(core, found)
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
            "Docker {} (API {}, {}){}",
            engine.version,
            engine.api_version,
            engine.architecture,
            match core.config.engine.is_elsewhere() {
                true => format!(" at {}, containment reduced", core.docker.endpoint()),
                false => String::new(),
            }
        ),
        cgroup: format!("v{} {}", engine.cgroup_version, engine.cgroup_driver),
        journal_seq: core.store.last_seq(),
        agents: agents.len().try_into().unwrap_or(u32::MAX),
        sessions: agents.iter().filter(connected).count().try_into().unwrap_or(u32::MAX),
        subsystems: subsystems(core.board.snapshot()),
        // How they are doing is containment's to say, which may be what isn't well.
        plugins: plugins::entries(core, &BTreeMap::new())
            .into_iter()
            .map(plugin)
            .collect(),
    }
}

/// Every subsystem that can be degraded, and those that are.
fn subsystems(degraded: Vec<Degraded>) -> Vec<Subsystem> {
    const ALWAYS: [&str; 6] = ["agents", "containment", "engine", "journal", "sessions", "worldview"];
    let well = |name: &str| Subsystem {
        name: name.to_owned(),
        ..Subsystem::default()
    };
    let mut all: BTreeMap<String, Subsystem> = ALWAYS.map(|name| (name.to_owned(), well(name))).into();
    for degraded in degraded {
        let name = degraded.subsystem.to_owned();
        let subsystem = Subsystem {
            degraded: true,
            detail: degraded.detail,
            since_ms: degraded.since_ms,
            hint: advice(&name).to_owned(),
            name: name.clone(),
        };
        all.insert(name, subsystem);
    }
    all.into_values().collect()
}

/// What a person can do while a subsystem is degraded. All of them are retried without being asked.
fn advice(subsystem: &str) -> &'static str {
    match subsystem {
        "engine" => "see whether dockerd answers (`docker ps`); until it does, agents run on and nobody is forgotten",
        "journal" => "see whether the state folder is full or read-only (`df`); nothing is shown that isn't journaled",
        "containment" => "see `clawker why` of the agents it names; what is in force stays in force",
        "sessions" => "see `clawker ps`; clawkerd goes on connecting by itself",
        "agents" => "see `clawker events` for the agent it names; it is tried again with the next list",
        "plugins" => "see `clawker plugin doctor`; the other plugins are in use",
        "worldview" => "lists may be old; see the control plane's log",
        _ => "see the control plane's log",
    }
}

fn plugin(entry: PluginEntry) -> PluginView {
    PluginView {
        name: entry.name,
        version: entry.version,
        kind: entry.kind,
        digest: entry.digest,
        mode: entry.mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subsystem_is_named_whether_or_not_it_is_degraded() {
        let degraded = |subsystem, detail: &str| Degraded {
            subsystem,
            detail: detail.into(),
            since_ms: 7,
        };
        let shown = subsystems(vec![degraded("engine", "no answer"), degraded("x", "y")]);
        let names: Vec<_> = shown.iter().filter(|s| s.degraded).map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["engine", "x"]);
        assert_eq!(shown.len(), 7);
        assert!(shown.iter().all(|s| s.degraded != s.hint.is_empty()), "{shown:?}");
        assert_eq!(shown.iter().map(|s| s.since_ms).max(), Some(7));
    }
}
