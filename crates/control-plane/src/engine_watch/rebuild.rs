//! Taking over agents whose journal is lost.
//!
//! ```text
//! the journal is new: RebuildBegun ─▶ first complete list ─▶ each container of ours ─┬▶ AgentAdopted, looked after
//!                                                                                    └▶ AdoptionRefused
//!        all of them dealt with ─▶ StoreRebuilt ─▶ those that were refused are strangers: listened to, contained
//! ```
//! What the store knows says whether a container was taken over, so a crash anywhere begins again with the rest. The
//! refused wait until the end, because one that only bears an agent's labels must not take its name.

use std::collections::{BTreeMap, BTreeSet};

use clawker_docker::{Error as DockerError, Inspect};
use clawker_engine::adopt::{self, Found};
use clawker_engine::containment::asked;
use clawker_model::event::{AdoptionRefused, AgentAdopted, Cause, ContainmentAsked, StoreRebuilt};
use clawker_model::{ContainerId, Egress, FullName, NetworkState, Start};
use clawker_proc::cgroup::{self, AgentCgroup, ContainerCgroup, Freeze};
use clawker_proc::procfs;

use super::{Watch, newcomer};
use crate::admin::container;
use crate::agent::{AgentError, open_init};
use crate::core::{Core, now_ms};
use crate::fault::fault_point;

/// A start that is counted anew.
const FIRST: u64 = 1;

/// How far it is.
#[derive(Default)]
pub(super) struct Rebuild {
    /// A complete list has said which containers there are.
    listed: bool,
    /// Some couldn't be judged: the next list offers them again.
    again: bool,
    refused: BTreeSet<ContainerId>,
}

/// Whether agents are being taken over. A store that can't say so takes over nobody.
pub(super) async fn begin(core: &Core) -> Option<Rebuild> {
    match core.store.rebuilding().await {
        Ok(rebuilding) => rebuilding.then(Rebuild::default),
        Err(error) => {
            core.board.degraded("journal", error.to_string()).await;
            None
        }
    }
}

impl Rebuild {
    pub(super) fn listed(&mut self) {
        self.listed = true;
    }

    /// Whether this container was judged already, and waits for the end.
    pub(super) fn waits(&self, container: &ContainerId) -> bool {
        self.refused.contains(container)
    }

    pub(super) fn refuse(&mut self, container: ContainerId) {
        self.refused.insert(container);
    }

    pub(super) fn try_again(&mut self) {
        self.again = true;
    }
}

impl Watch {
    /// Ends the rebuild if nothing is left of it.
    pub(super) async fn go_on_rebuilding(&mut self) {
        let idle = self.adopting.is_empty();
        let Some(rebuild) = self.rebuild.as_mut().filter(|rebuild| rebuild.listed && idle) else {
            return;
        };
        let refused = u32::try_from(rebuild.refused.len()).unwrap_or(u32::MAX);
        if !std::mem::take(&mut rebuild.again) {
            match self.end_rebuild(refused).await {
                Ok(()) => self.rebuild = None,
                Err(error) => self.core.board.degraded("journal", error.to_string()).await,
            }
        }
        // Whoever is left, and those who were refused, are offered by the next list.
        let now = self.now();
        self.cadence.gap(now);
    }

    async fn end_rebuild(&self, refused: u32) -> Result<(), AgentError> {
        let store = &self.core.store;
        let adopted = store
            .agents()
            .await?
            .iter()
            .filter(|agent| agent.adopted.is_some())
            .count();
        let adopted = u32::try_from(adopted).unwrap_or(u32::MAX);
        fault_point!("rebuild-unended");
        store.append_synced(None, StoreRebuilt { adopted, refused }).await?;
        if adopted > 0 || refused > 0 {
            tracing::warn!(
                adopted,
                refused,
                "the journal was lost: agents were taken over from their containers"
            );
        }
        Ok(())
    }
}

/// Takes the container over, if it is as create makes it; the inner error says why it isn't, for good.
pub(super) async fn take_over(
    core: &Core,
    inspect: &Inspect,
    name: &FullName,
) -> Result<Result<(), String>, AgentError> {
    let judged = judged(core, inspect, name).await?;
    let (adopted, why) = match judged {
        Ok(adopted) => (adopted, None),
        Err(why) => (None, Some(why)),
    };
    if let Some(why) = why {
        let refused = AdoptionRefused {
            container: inspect.id.clone(),
            why: why.clone(),
        };
        core.store.append(Some(name), refused).await?;
        return Ok(Err(why));
    }
    if let Some(adopted) = adopted {
        core.store.append_synced(Some(name), adopted).await?;
        fault_point!("adopted-unwatched");
        core.agents.created(name).await?;
    }
    Ok(Ok(()))
}

/// The row that takes it over; `None` if it is gone meanwhile.
async fn judged(
    core: &Core,
    inspect: &Inspect,
    name: &FullName,
) -> Result<Result<Option<AgentAdopted>, String>, AgentError> {
    let Some(label) = inspect.labels.get(&core.labels().spec()) else {
        return Ok(Err(
            "its labels hold no definition of it, as those have that create makes".into(),
        ));
    };
    let spec = match container::spec(label) {
        Ok(spec) => spec,
        Err(why) => return Ok(Err(format!("the definition in its labels: {why}"))),
    };
    let Some(run) = newcomer::run_folder(core, inspect) else {
        return Ok(Err("it doesn't mount a run folder of ours alone and read-only".into()));
    };
    let options = match container::options(core, &spec, &run, label.clone()) {
        Ok(options) => options,
        Err(fault) => return Ok(Err(fault.message)),
    };
    let written = match core.docker.written(&options, &core.engine).await {
        Ok(written) => written,
        Err(error @ (DockerError::Spec(_) | DockerError::NoSuchImage { .. })) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let Some(shown) = core.docker.shown(&inspect.id).await? else {
        return Ok(Ok(None));
    };
    if let Err(refusal) = adopt::judge(name, &spec, &written, &shown) {
        return Ok(Err(refusal.to_string()));
    }
    let (start, pid, found) = found(core, inspect).await?;
    let causes = adopt::causes(&found, &spec.egress, now_ms());
    Ok(Ok(Some(AgentAdopted {
        spec: Box::new(spec),
        run,
        container: inspect.id.clone(),
        start,
        pid,
        causes,
    })))
}

/// The start that runs, and how the kernel contains it. An error means that it can't be told now.
async fn found(core: &Core, inspect: &Inspect) -> Result<(Option<Start>, u32, Found), AgentError> {
    if !inspect.running {
        return Ok((None, 0, Found::Down));
    }
    let init = open_init(inspect.pid).map_err(|why| AgentError::Preparing(why.to_string()))?;
    let unread = |error: std::io::Error| AgentError::Preparing(format!("init {}: {error}", init.pid));
    let Some(kernel) = &init.kernel else {
        return Err(AgentError::Preparing("its engine is elsewhere".to_owned()));
    };
    let path = core.cgroup_path(&inspect.id);
    let cgroups = procfs::cgroups(init.pid).map_err(unread)?;
    if !cgroup::in_container(&cgroups, &path) {
        return Err(AgentError::Preparing(format!(
            "process {} isn't in the cgroup {path}",
            init.pid
        )));
    }
    let (netfilter, netns) = (core.netfilter.clone(), kernel.netns.try_clone().map_err(unread)?);
    let reading = move || -> Result<(Result<NetworkState, String>, bool), std::io::Error> {
        let network = netfilter.attach(netns, 0).and_then(|key| {
            let state = netfilter.state(&key);
            netfilter.detach(&key);
            state
        });
        // Of one whose init isn't ours the whole container is frozen.
        let agent = AgentCgroup::open(&path)?.map(|agent| agent.state()).transpose()?;
        let all = ContainerCgroup::open(&path)?.map(|all| all.state()).transpose()?;
        let frozen = [agent, all].into_iter().flatten().any(|state| state != Freeze::Running);
        Ok((network.map_err(|error| error.to_string()), frozen))
    };
    let read = tokio::task::spawn_blocking(reading)
        .await
        .map_err(|error| AgentError::Preparing(error.to_string()))?;
    let (network, frozen) = read.map_err(unread)?;
    // What was read is its: it has lived through the reading.
    if !kernel.pidfd.is_alive().map_err(unread)? {
        return Err(AgentError::Preparing(format!("init {} has ended meanwhile", init.pid)));
    }
    let start = Start {
        number: FIRST,
        boot_id: init.boot_id.clone(),
        init_start_time: init.start_time,
    };
    Ok((Some(start), init.pid.unsigned_abs(), Found::Up { network, frozen }))
}

/// Keeps in force what the kernel has in force for a container that isn't an agent of ours: that somebody begins to
/// look after it frees nobody. `rebuilt` if it was refused in a rebuild.
pub(super) async fn keep_contained(
    core: &Core,
    inspect: &Inspect,
    name: &FullName,
    rebuilt: bool,
) -> Result<(), AgentError> {
    let mut known: Vec<Cause> = core.store.causes(name).await?;
    if !known.is_empty() || (!inspect.running && !rebuilt) {
        return Ok(());
    }
    let (_, _, found) = found(core, inspect).await?;
    for cause in adopt::causes(&found, &Egress::Open, now_ms()) {
        known.push(cause.clone());
        let asked = asked(&known);
        core.store
            .append_synced(Some(name), ContainmentAsked { cause, asked })
            .await?;
    }
    Ok(())
}

/// Why containers weren't taken over, until they are looked after.
pub(super) type Reasons = BTreeMap<ContainerId, String>;
