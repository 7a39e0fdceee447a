//! A container with our labels that nobody looks after yet.

use clawker_docker::Inspect;
use clawker_model::event::{AdoptionRefused, AgentUntrusted, UntrustedReason};
use clawker_model::{ContainerId, RunId};

use super::rebuild;
use crate::agent::{AgentError, IN_CONTAINER};
use crate::core::Core;

/// What became of it.
pub(super) enum Adoption {
    Done,
    /// It is being made, by ourselves: the next list decides.
    Later,
    /// Nobody's, for good.
    Refused,
    /// While agents are taken over: it isn't one, for this reason, and becomes a stranger after that.
    NotTaken(String),
    Failed(AgentError),
}

/// How it may be adopted.
pub(super) enum Mode {
    /// As the agent that it says it is.
    Rebuilding,
    /// As a stranger; with the reason, if it was judged.
    Stranger(Option<String>),
}

pub(super) async fn adopt(core: &Core, container: &ContainerId, mode: Mode) -> Adoption {
    match try_adopt(core, container, mode).await {
        Ok(adoption) => adoption,
        Err(error) => Adoption::Failed(error),
    }
}

async fn try_adopt(core: &Core, container: &ContainerId, mode: Mode) -> Result<Adoption, AgentError> {
    if let Some(record) = core.store.agent_by_container(container).await? {
        core.agents.take_up(record).await?;
        return Ok(Adoption::Done);
    }
    let Some(inspect) = core.docker.inspect(container).await? else {
        return Ok(Adoption::Done);
    };
    let Some(name) = core.labels().name_in(&inspect.labels) else {
        return match mode {
            Mode::Rebuilding => nameless(core, container).await,
            Mode::Stranger(_) => Ok(Adoption::Refused),
        };
    };
    // Being created right now by ourselves: its row with the container id follows.
    let record = core.store.agent(&name).await?;
    if record.is_some_and(|record| record.container.is_none()) {
        return Ok(Adoption::Later);
    }
    let refused = match mode {
        Mode::Rebuilding => {
            return Ok(match rebuild::take_over(core, &inspect, &name).await? {
                Ok(()) => Adoption::Done,
                Err(why) => Adoption::NotTaken(why),
            });
        }
        Mode::Stranger(refused) => refused,
    };
    if core.agents.get(&name).is_some() {
        let untrusted = AgentUntrusted {
            reason: UntrustedReason::LabelMismatch,
            detail: format!("container {} bears the labels of {name}", container.short()),
            intruder: true,
        };
        // About the host: the agent itself did nothing that its containment could answer.
        core.store.append(None, untrusted).await?;
        return Ok(Adoption::Refused);
    }
    if let Some(run) = run_folder(core, &inspect) {
        rebuild::keep_contained(core, &inspect, &name, refused.is_some()).await?;
        core.agents.stranger(&name, container, &run, refused.as_deref()).await?;
    }
    Ok(Adoption::Refused)
}

async fn nameless(core: &Core, container: &ContainerId) -> Result<Adoption, AgentError> {
    let why = "its labels name no agent".to_owned();
    let refused = AdoptionRefused {
        container: container.clone(),
        why: why.clone(),
    };
    core.store.append(None, refused).await?;
    Ok(Adoption::NotTaken(why))
}

/// The run folder of ours that a container mounts read-only and no other container has.
pub(super) fn run_folder(core: &Core, inspect: &Inspect) -> Option<RunId> {
    let root = core.run_root();
    let mounted = inspect
        .mounts
        .iter()
        .find(|mount| mount.target == IN_CONTAINER && mount.read_only)?;
    let below = std::path::Path::new(&mounted.source).strip_prefix(&root).ok()?;
    let run = RunId::parse(below.to_str()?).ok()?;
    (!core.agents.run_is_taken(&run, &inspect.id)).then_some(run)
}
