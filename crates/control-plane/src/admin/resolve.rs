//! Which agent an operator means: `agent`, `project.agent`, the full name, a container id or its beginning.

use std::collections::BTreeMap;

use clawker_model::{ContainerId, FullName};
use clawker_store::AgentRecord;

use super::error::Fault;
use crate::agent::AgentHandle;
use crate::core::Core;

/// Fewest digits that are taken for the beginning of a container id.
const MIN_PREFIX: usize = 4;

/// An agent that exists: in the store, or at least as a container that bears our labels.
pub struct Found {
    pub name: FullName,
    pub record: Option<AgentRecord>,
    pub handle: Option<AgentHandle>,
}

impl Found {
    pub fn container(&self) -> Option<ContainerId> {
        let of_record = self.record.as_ref().and_then(|record| record.container.clone());
        of_record.or_else(|| self.handle.as_ref().map(|handle| handle.status().container))
    }

    /// The container, for what can't be done without one.
    pub fn made(&self) -> Result<ContainerId, Fault> {
        self.container().ok_or_else(|| {
            Fault::state(
                format!("`{}` has no container: making it was interrupted", self.name),
                format!("remove it with `clawker rm {}`, then create it again", self.name),
            )
        })
    }

    /// The definition, for what only an agent of our own making has.
    pub fn own(&self) -> Result<&AgentRecord, Fault> {
        self.record.as_ref().ok_or_else(|| {
            Fault::state(
                format!(
                    "`{}` wasn't made by this control plane, it only bears its labels",
                    self.name
                ),
                format!("it can be contained (`clawker contain {}`) and removed", self.name),
            )
        })
    }
}

/// Finds the agent that `wanted` names.
pub async fn resolve(core: &Core, wanted: &str) -> Result<Found, Fault> {
    let missing = || {
        let shown: String = wanted.chars().take(80).collect();
        Fault::missing(format!("no agent `{shown}`"), "see `clawker ps --all`")
    };
    if let Ok(name) = FullName::parse_short(wanted)
        && let Some(found) = by_name(core, &name).await?
    {
        return Ok(found);
    }
    let containers = containers(core).await?;
    match by_prefix(wanted, &containers)? {
        Some(name) => by_name(core, &name).await?.ok_or_else(missing),
        None => Err(missing()),
    }
}

async fn by_name(core: &Core, name: &FullName) -> Result<Option<Found>, Fault> {
    let found = Found {
        name: name.clone(),
        record: core.store.agent(name).await?,
        handle: core.agents.get(name),
    };
    Ok((found.record.is_some() || found.handle.is_some()).then_some(found))
}

async fn containers(core: &Core) -> Result<BTreeMap<ContainerId, FullName>, Fault> {
    let records = core.store.agents().await?;
    let of_records = records
        .into_iter()
        .filter_map(|record| Some((record.container?, record.spec.name)));
    let of_handles = core
        .agents
        .list()
        .into_iter()
        .map(|handle| (handle.status().container, handle.name));
    Ok(of_handles.chain(of_records).collect())
}

fn by_prefix(prefix: &str, containers: &BTreeMap<ContainerId, FullName>) -> Result<Option<FullName>, Fault> {
    let hex = prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !hex || !(MIN_PREFIX..=64).contains(&prefix.len()) {
        return Ok(None);
    }
    let mut matching = containers
        .iter()
        .filter(|(id, _)| id.as_str().starts_with(prefix))
        .map(|(_, name)| name);
    let first = matching.next().cloned();
    match matching.count() {
        0 => Ok(first),
        others => Err(Fault::missing(
            format!("`{prefix}` is the beginning of {} container ids", others + 1),
            "give more digits, or the agent's name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_one_container_or_none() {
        let id = |text: &str| ContainerId::parse(&text.repeat(8)).expect("id");
        let name = |text: &str| FullName::parse(text).expect("name");
        let containers = BTreeMap::from([(id("abcd0001"), name("clawker.a")), (id("abcd0002"), name("clawker.b"))]);
        assert_eq!(
            by_prefix("abcd0001", &containers).expect("one"),
            Some(name("clawker.a"))
        );
        assert_eq!(
            by_prefix(id("abcd0002").as_str(), &containers).expect("whole"),
            Some(name("clawker.b"))
        );
        assert!(
            by_prefix("abcd", &containers)
                .expect_err("two")
                .message
                .contains("2 container ids")
        );
        for none in ["abc", "abce", "ABCD0001", "abcd0001x", ""] {
            assert_eq!(by_prefix(none, &containers).expect("none"), None, "{none:?}");
        }
    }
}
