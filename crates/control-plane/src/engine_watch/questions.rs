//! What is asked of the engine: its list, and how one container is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clawker_docker::{Inspect, Summary};
use clawker_engine::reconcile::{Answer, Held, History, InitId, Known, Listed, Look, Run};
use clawker_model::{ContainerId, Start};
use clawker_proc::procfs;

use super::{Done, Watch};
use crate::agent::{AgentHandle, ContainerState};
use crate::core::Core;

/// Looks at a time; more wait for their turn.
const AT_ONCE: usize = 16;

/// Looks under way and to come, at most one of each kind for a container.
#[derive(Default)]
pub(super) struct Looks {
    flying: BTreeSet<ContainerId>,
    waiting: BTreeSet<ContainerId>,
}

impl Watch {
    pub(super) fn list(&mut self) {
        self.listing = true;
        let core = self.core.clone();
        self.work.spawn(async move {
            let known = known(&core).await;
            let answer = listed(&core, &known).await;
            Done::Listed { known, answer }
        });
    }

    /// Looks at a container; one that is being looked at is looked at again, because it may have changed since.
    pub(super) fn look(&mut self, container: ContainerId) {
        self.looks.waiting.insert(container);
        self.begin_looks();
    }

    pub(super) fn looked(&mut self, container: &ContainerId) {
        self.looks.flying.remove(container);
        self.begin_looks();
    }

    fn begin_looks(&mut self) {
        while self.looks.flying.len() < AT_ONCE {
            let Looks { flying, waiting } = &mut self.looks;
            let Some(container) = waiting.iter().find(|id| !flying.contains(*id)).cloned() else {
                return;
            };
            waiting.remove(&container);
            flying.insert(container.clone());
            let core = self.core.clone();
            self.work.spawn(async move {
                let known = looked(&core, &container).await;
                Done::Looked { container, known }
            });
        }
    }
}

/// Everybody that the control plane holds to exist. A store that doesn't answer leaves those who have a task.
async fn known(core: &Core) -> Known {
    let mut known = Known::new();
    for row in core.store.registry().await.unwrap_or_default() {
        let held = Held {
            name: row.name,
            start: row.start,
            init: None,
            running: None,
        };
        known.insert(row.container, held);
    }
    for record in core.store.agents().await.unwrap_or_default() {
        if let Some(container) = record.container {
            let held = Held {
                name: record.spec.name,
                start: record.start.as_ref().map_or(0, |start| start.number),
                init: record.start.as_ref().map(init_of),
                running: None,
            };
            known.insert(container, held);
        }
    }
    for agent in core.agents.list() {
        let status = agent.status();
        let before = known.remove(&status.container);
        known.insert(status.container, held(&agent, before));
    }
    known
}

fn init_of(start: &Start) -> InitId {
    InitId {
        boot_id: start.boot_id.clone(),
        start_time: start.init_start_time,
    }
}

/// An agent that has a task; what the store says of its start is better than nothing.
pub(super) fn held(agent: &AgentHandle, stored: Option<Held>) -> Held {
    let status = agent.status();
    Held {
        name: agent.name.clone(),
        start: stored.as_ref().map_or(status.start, |stored| stored.start),
        init: stored.and_then(|stored| stored.init),
        running: Some(status.state == ContainerState::Running),
    }
}

async fn listed(core: &Core, known: &Known) -> Answer {
    let answer = async {
        let listed = core.docker.list_all().await?;
        let containers = read(listed, &core.labels().managed());
        // Who answers is asked where it matters: somebody is missing.
        let engine = match History::must_identify(known, &containers) {
            true => Some(core.docker.identity().await?),
            false => None,
        };
        Ok::<_, clawker_docker::Error>(Answer::Complete { engine, containers })
    };
    answer
        .await
        .unwrap_or_else(|error| Answer::Failed { why: error.to_string() })
}

fn read(listed: Vec<Summary>, managed: &str) -> BTreeMap<ContainerId, Listed> {
    let target = |mode: &str| {
        let wanted = joined(mode)?;
        let named = |summary: &&Summary| summary.name == wanted || summary.id.as_str().starts_with(wanted);
        listed.iter().find(named).map(|summary| summary.id.clone())
    };
    let read = |summary: &Summary| Listed {
        run: run(&summary.state),
        ours: summary.labels.contains_key(managed),
        netns_of: target(&summary.network_mode),
    };
    listed
        .iter()
        .map(|summary| (summary.id.clone(), read(summary)))
        .collect()
}

/// The container that a network mode names, by id or by name.
fn joined(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:").filter(|wanted| !wanted.is_empty())
}

fn run(state: &str) -> Run {
    match state {
        // A container that restarts has no init for now; one that is paused has one that is held.
        "running" => Run::Up,
        "paused" => Run::Paused,
        _ => Run::Down,
    }
}

/// How the container is, and what is known of it and of the one whose network it uses.
async fn looked(core: &Arc<Core>, container: &ContainerId) -> Result<(Known, Look), String> {
    let inspect = core
        .docker
        .inspect(container)
        .await
        .map_err(|error| error.to_string())?;
    let mut known = Known::new();
    if let Some(held) = held_now(core, container).await {
        known.insert(container.clone(), held);
    }
    let Some(inspect) = inspect else {
        return Ok((known, Look::Gone));
    };
    if !inspect.running {
        let (exit_code, ever_ran) = (inspect.exit_code, inspect.status != "created");
        return Ok((known, Look::Down { exit_code, ever_ran }));
    }
    let netns_of = match joined(&inspect.network_mode) {
        Some(wanted) => agent_named(core, wanted),
        None => None,
    };
    if let Some(agent) = &netns_of
        && let Some(held) = held_now(core, agent).await
    {
        known.insert(agent.clone(), held);
    }
    let look = Look::Up {
        init: init(&inspect),
        paused: inspect.status == "paused",
        netns_of,
    };
    Ok((known, look))
}

async fn held_now(core: &Core, container: &ContainerId) -> Option<Held> {
    let agent = core.agents.by_container(container);
    let record = core.store.agent_by_container(container).await.ok().flatten();
    let stored = record.map(|record| Held {
        name: record.spec.name,
        start: record.start.as_ref().map_or(0, |start| start.number),
        init: record.start.as_ref().map(init_of),
        running: None,
    });
    match agent {
        Some(agent) => Some(held(&agent, stored)),
        None => stored,
    }
}

/// The agent's container that Docker calls so.
fn agent_named(core: &Core, wanted: &str) -> Option<ContainerId> {
    let agents = core.agents.list().into_iter();
    let mut containers = agents.map(|agent| (agent.name.to_string(), agent.status().container));
    containers
        .find(|(name, id)| name == wanted || id.as_str().starts_with(wanted))
        .map(|(_, id)| id)
}

/// Which life its init is; one that ends meanwhile has none.
fn init(inspect: &Inspect) -> Option<InitId> {
    let start_time = procfs::start_time(inspect.pid).ok().filter(|_| inspect.pid > 0)?;
    let boot_id = procfs::boot_id().ok()?;
    Some(InitId { boot_id, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(n: u8, name: &str, state: &str, network: &str, labels: &[&str]) -> Summary {
        Summary {
            id: ContainerId::parse(&format!("{n:02x}").repeat(32)).expect("id"),
            name: name.into(),
            state: state.into(),
            labels: labels
                .iter()
                .map(|key| ((*key).to_owned(), "true".to_owned()))
                .collect(),
            network_mode: network.into(),
        }
    }

    #[test]
    fn a_list_is_read_with_whoever_joins_whom() {
        let agent = ContainerId::parse(&"01".repeat(32)).expect("id");
        let listed = vec![
            summary(1, "clawker.a", "running", "clawker-net", &["x.managed"]),
            summary(2, "by-id", "running", &format!("container:{agent}"), &[]),
            summary(3, "by-name", "paused", "container:clawker.a", &["y.managed"]),
            summary(4, "by-prefix", "exited", "container:0101", &[]),
            summary(5, "nobody", "running", "container:gone", &[]),
            summary(6, "odd", "restarting", "container:", &[]),
        ];
        let read: Vec<_> = read(listed, "x.managed").into_values().collect();
        let shown: Vec<_> = read
            .iter()
            .map(|listed| (listed.run, listed.ours, listed.netns_of.is_some()))
            .collect();
        let expected = [
            (Run::Up, true, false),
            (Run::Up, false, true),
            (Run::Paused, false, true),
            (Run::Down, false, true),
            (Run::Up, false, false),
            (Run::Down, false, false),
        ];
        assert_eq!(shown, expected);
        assert_eq!(read[2].netns_of, Some(agent));
    }
}
