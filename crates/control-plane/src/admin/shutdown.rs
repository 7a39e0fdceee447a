//! The end of the control plane, with what the operator wants of the agents.
//!
//! `stop` ends them; `leave` takes the limit off their leases, so that they go on without anybody; `freeze` holds
//! them where they are until somebody releases them.

use std::sync::Arc;

use clawker_model::Action;
use clawker_model::event::ControlPlaneStopping;
use tokio::task::JoinSet;

use super::error::Fault;
use super::lifecycle;
use super::resolve::resolve;
use super::restarts;
use super::socket::Peer;
use crate::agent::{AgentHandle, ContainerState, lease};
use crate::core::Core;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stop,
    Leave,
    Freeze,
}

impl Fate {
    pub fn parse(word: &str) -> Result<Self, Fault> {
        match word {
            "stop" => Ok(Fate::Stop),
            "leave" => Ok(Fate::Leave),
            "freeze" => Ok(Fate::Freeze),
            other => {
                let other: String = other.chars().take(40).collect();
                Err(Fault::usage(
                    format!("agents can't be told to `{other}`"),
                    "`--agents` is one of stop, leave, freeze",
                ))
            }
        }
    }
}

/// Sees to the agents, then ends everything, and names those that had no session to be told on. When an agent can't be
/// seen to, nothing is ended.
pub async fn shut_down(core: Arc<Core>, fate: Fate, word: &str, peer: Peer) -> Result<Vec<String>, Fault> {
    if fate != Fate::Stop {
        // First of all, so that no renewal on its way takes it back.
        core.leases.promise(lease::FOR_EVER);
    }
    let mut work = JoinSet::new();
    let running = |agent: &AgentHandle| agent.status().state == ContainerState::Running;
    for agent in core.agents.list().into_iter().filter(running) {
        let core = core.clone();
        work.spawn(async move {
            let name = agent.name.clone();
            match see_to(&core, agent, fate, peer).await {
                Ok(told) => Ok((!told).then(|| name.to_string())),
                Err(fault) => Err(format!("{name}: {fault}")),
            }
        });
    }
    let (mut failed, mut untold) = (Vec::new(), Vec::new());
    while let Some(done) = work.join_next().await {
        match done {
            Ok(Ok(name)) => untold.extend(name),
            Ok(Err(why)) => failed.push(why),
            Err(error) => failed.push(error.to_string()),
        }
    }
    if !failed.is_empty() {
        core.leases.withdraw();
        failed.sort();
        return Err(Fault::state(
            format!(
                "the control plane goes on, because not every agent could be told to {word}: {}",
                failed.join("; ")
            ),
            "see `clawker ps`, or end it with `clawker down --agents leave`",
        ));
    }
    if let Err(error) = core
        .store
        .append_synced(
            None,
            ControlPlaneStopping {
                agents: word.to_owned(),
            },
        )
        .await
    {
        tracing::warn!(%error, "journal");
    }
    core.shutdown.cancel();
    untold.sort();
    Ok(untold)
}

/// Whether it could be told.
async fn see_to(core: &Core, agent: AgentHandle, fate: Fate, peer: Peer) -> Result<bool, Fault> {
    match fate {
        Fate::Stop => {
            let found = resolve(core, &agent.name.to_string()).await?;
            restarts::end(core, &found, peer, "down --agents stop").await?;
            lifecycle::stop(core, &found, None).await?;
            Ok(true)
        }
        Fate::Leave => lease_for_ever(&agent).await,
        Fate::Freeze => {
            let by = peer.operator();
            core.containment
                .contain(&agent.name, Action::Freeze, &by, "clawker down --agents freeze")
                .await?;
            lease_for_ever(&agent).await
        }
    }
}

/// An agent without a session can't be told, and would get no word later either: its own default rules.
async fn lease_for_ever(agent: &AgentHandle) -> Result<bool, Fault> {
    let Some(session) = agent.session() else {
        return Ok(false);
    };
    session.lease(lease::FOR_EVER).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_can_be_told_three_things() {
        assert_eq!(Fate::parse("leave"), Ok(Fate::Leave));
        for bad in ["", "kill", "Stop"] {
            assert_eq!(Fate::parse(bad).expect_err("refused").exit, 2, "{bad:?}");
        }
    }
}
