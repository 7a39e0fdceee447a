//! Puts one axis of one agent in force and reads it back. Blocks in threads of its own; decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clawker_engine::containment::Force;
use clawker_model::event::{ActionApplied, ActionIntended, IdentityRevoked};
use clawker_model::{FullName, IdentityState, NetworkState, ProcessState};
use clawker_netfilter::{Netfilter, NetnsKey};
use clawker_proc::cgroup::{AgentCgroup, ContainerCgroup, Freeze};
use rustix::process::Signal;

use super::journal::Journal;
use super::{Kernel, Reach, Target, reduced};

/// Beyond this a freeze has failed, and its agent is killed.
const FREEZE: Duration = Duration::from_millis(800);
const THAW: Duration = Duration::from_secs(2);
/// How long an init may take to end by itself.
const STOP: Duration = Duration::from_secs(10);
/// How soon a kill is noticed that was asked for while a stop is under way.
const STOP_POLL: Duration = Duration::from_millis(20);
const DEATH: Duration = Duration::from_secs(5);

/// A target with its namespace in the care of netfilter, or why it isn't.
pub(super) struct Attached {
    pub(super) target: Target,
    pub(super) netns: Result<NetnsKey, String>,
    /// Somebody asks for a kill: a stop under way waits no longer.
    pub(super) hurry: AtomicBool,
}

/// What was read.
#[derive(Debug)]
pub(super) struct ReadBack {
    pub(super) text: String,
    /// Of the network: output packets dropped so far.
    pub(super) denied: Option<u64>,
}

pub(super) struct Effect {
    pub(super) agent: FullName,
    pub(super) attached: Option<Arc<Attached>>,
    pub(super) force: Force,
    /// It may be in force already: then nothing is done.
    pub(super) verify: bool,
    /// The row that led to it.
    pub(super) cause: u64,
    /// Who asked, for a revocation.
    pub(super) by: String,
}

/// The name of what is applied, as the journal has it.
pub(super) fn name(force: &Force) -> &'static str {
    match force {
        Force::Network(NetworkState::Open) => "open-network",
        Force::Network(NetworkState::Restricted { .. }) => "restrict-egress",
        Force::Network(NetworkState::Locked) => "lock-network",
        Force::Processes(ProcessState::Running) => "thaw",
        Force::Processes(ProcessState::Frozen) => "freeze",
        Force::Processes(ProcessState::Stopped) => "stop",
        Force::Processes(ProcessState::Killed) => "kill",
        Force::Identity(IdentityState::Valid) => "restore",
        Force::Identity(IdentityState::Revoked) => "revoke",
    }
}

/// Intent, effect, read-back, outcome. A failure is journaled by whoever decides what follows from it.
pub(super) async fn perform(netfilter: Netfilter, journal: Journal, effect: Effect) -> Result<ReadBack, String> {
    if effect.verify
        && let Some(attached) = effect.attached.clone()
    {
        let (netfilter, force) = (netfilter.clone(), effect.force.clone());
        let there = match &attached.target.reach {
            Reach::Engine(reduced) => reduced::look(reduced, &attached, &force).await,
            Reach::Kernel(_) => blocking(move || look(&netfilter, &attached, &force)).await,
        };
        if let Ok(there) = there {
            return Ok(there);
        }
    }
    let (axis, action) = (effect.force.axis(), name(&effect.force).to_owned());
    let intended = ActionIntended {
        axis,
        action: action.clone(),
        cause: effect.cause,
    };
    journal.note(&effect.agent, intended).await;
    let began = Instant::now();
    let read = match (&effect.force, effect.attached) {
        (Force::Identity(identity), _) => revoke(&journal, &effect.agent, *identity, effect.by).await?,
        (_, None) => return Err("its container isn't attached".to_owned()),
        (force, Some(attached)) => match &attached.target.reach {
            Reach::Engine(reduced) => reduced::apply(reduced, &attached, force).await?,
            Reach::Kernel(_) => {
                let force = force.clone();
                blocking(move || apply(&netfilter, &attached, &force)).await?
            }
        },
    };
    let micros = began.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
    let applied = ActionApplied {
        axis,
        action,
        read_back: read.text.clone(),
        micros,
    };
    journal.note(&effect.agent, applied).await;
    Ok(read)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
}

/// The journal is what a revocation is in force by: every connection asks for it.
async fn revoke(journal: &Journal, agent: &FullName, identity: IdentityState, by: String) -> Result<ReadBack, String> {
    let text = match identity {
        IdentityState::Valid => "identity: not revoked".to_owned(),
        IdentityState::Revoked => {
            let record = journal.store.agent(agent).await.map_err(|error| error.to_string())?;
            let container = record
                .and_then(|record| record.container)
                .ok_or("it has no container")?;
            let row = journal
                .store
                .append_synced(Some(agent), IdentityRevoked { container, by })
                .await;
            format!(
                "identity: revoked in row {}",
                row.map_err(|error| error.to_string())?.seq
            )
        }
    };
    Ok(ReadBack { text, denied: None })
}

/// Whether `force` is there already.
pub(super) fn look(netfilter: &Netfilter, attached: &Attached, force: &Force) -> Result<ReadBack, String> {
    match force {
        Force::Network(state) => {
            let key = attached.netns.as_ref().map_err(Clone::clone)?;
            let read = netfilter.verify(key, state).map_err(|error| error.to_string())?;
            Ok(ReadBack {
                text: read.summary,
                denied: Some(read.denied),
            })
        }
        Force::Processes(state) => {
            let frozen = state_of(kernel(attached)?).map_err(|error| error.to_string())?;
            match (state, frozen) {
                (ProcessState::Running, Freeze::Running) => Ok(processes("running".to_owned())),
                (ProcessState::Frozen, Freeze::Frozen) => Ok(processes("frozen".to_owned())),
                (_, frozen) => Err(format!("processes are {frozen:?}")),
            }
        }
        Force::Identity(_) => Err("nothing to look at".to_owned()),
    }
}

/// What the kernel has of it, for what only the kernel can do.
fn kernel(attached: &Attached) -> Result<&Kernel, String> {
    match &attached.target.reach {
        Reach::Kernel(kernel) => Ok(kernel),
        Reach::Engine(_) => Err("its engine is elsewhere".to_owned()),
    }
}

fn apply(netfilter: &Netfilter, attached: &Attached, force: &Force) -> Result<ReadBack, String> {
    let target = kernel(attached)?;
    match force {
        Force::Network(state) => {
            let key = attached.netns.as_ref().map_err(Clone::clone)?;
            let read = netfilter.apply(key, state).map_err(|error| error.to_string())?;
            Ok(ReadBack {
                text: read.summary,
                denied: Some(read.denied),
            })
        }
        Force::Processes(ProcessState::Running) => freezer(target, false),
        Force::Processes(ProcessState::Frozen) => freezer(target, true),
        Force::Processes(ProcessState::Stopped) => stop(target, &attached.hurry),
        Force::Processes(ProcessState::Killed) => kill(target),
        Force::Identity(_) => Err("an identity isn't the kernel's".to_owned()),
    }
}

/// What of `target` is frozen: `agent`, or all of it if its init isn't ours.
fn state_of(target: &Kernel) -> std::io::Result<Freeze> {
    if !target.init_is_ours {
        return match ContainerCgroup::open(&target.cgroup)? {
            Some(cgroup) => cgroup.state(),
            None => Ok(Freeze::Running),
        };
    }
    match AgentCgroup::open(&target.cgroup)? {
        Some(cgroup) => cgroup.state(),
        None => Ok(Freeze::Running),
    }
}

fn freezer(target: &Kernel, frozen: bool) -> Result<ReadBack, String> {
    let act = || {
        let agent = AgentCgroup::create(&target.cgroup)?;
        if target.init_is_ours {
            if frozen {
                agent.freeze(FREEZE)?
            } else {
                agent.thaw(THAW)?
            }
            return Ok((agent.state()?, agent.pids()?.len()));
        }
        let Some(all) = ContainerCgroup::open(&target.cgroup)? else {
            return Err(std::io::Error::other("its cgroup is gone"));
        };
        if frozen {
            all.freeze(FREEZE)?
        } else {
            all.thaw(THAW)?;
            agent.thaw(THAW)?
        }
        Ok((all.state()?, all.pids()?.len()))
    };
    let (state, n) = act().map_err(|error: std::io::Error| error.to_string())?;
    let of = if target.init_is_ours {
        ""
    } else {
        ", the whole container"
    };
    match (frozen, state) {
        (true, Freeze::Frozen) => Ok(processes(format!("frozen{of}, {n} of them"))),
        (false, Freeze::Running) => Ok(processes(format!("running, {n} of them"))),
        (_, state) => Err(format!("processes are {state:?}")),
    }
}

/// Asks the init to end, as a container is asked; kills it when it doesn't.
fn stop(target: &Kernel, hurry: &AtomicBool) -> Result<ReadBack, String> {
    if !target.init_is_ours && !matches!(state_of(target), Ok(Freeze::Running)) {
        // Its init is frozen too, and would have to run to end.
        return kill(target);
    }
    // What is frozen may not run again to be stopped, and an init can't end before it.
    let frozen = AgentCgroup::open(&target.cgroup)
        .ok()
        .flatten()
        .filter(|cgroup| !matches!(cgroup.state(), Ok(Freeze::Running)));
    if let Some(cgroup) = frozen {
        cgroup.kill_all().map_err(|error| error.to_string())?;
    }
    // A signal that fails found it dead, or leaves it to the kill.
    let _ = target.init.signal(Signal::TERM.as_raw());
    let end = Instant::now() + STOP;
    while Instant::now() < end && !hurry.load(Ordering::Relaxed) {
        if target.init.wait(STOP_POLL).map_err(|error| error.to_string())? {
            return Ok(processes("stopped, the init is dead".to_owned()));
        }
    }
    kill(target)
}

/// SIGKILL to everything in the container and in `agent`, thawed so that it can die; then the init's own descriptor
/// says that it did.
fn kill(target: &Kernel) -> Result<ReadBack, String> {
    let killed = kill_container(target);
    // Whatever became of the cgroup, the init is known by a descriptor that can't be somebody else's.
    let _ = target.init.signal(Signal::KILL.as_raw());
    match target.init.wait(DEATH) {
        Ok(true) => {}
        Ok(false) => return Err(format!("init {} is alive 5 s after SIGKILL", target.init_pid)),
        Err(error) => return Err(format!("waiting for init {}: {error}", target.init_pid)),
    }
    match killed {
        Ok(n) => Ok(processes(format!("killed, {n} signalled, the init is dead"))),
        Err(error) => Err(error.to_string()),
    }
}

/// SIGKILL to everything in the container and in `agent`; how many were signalled.
fn kill_container(target: &Kernel) -> std::io::Result<usize> {
    ContainerCgroup::open(&target.cgroup)?.map_or(Ok(0), |cgroup| cgroup.kill_all())
}

/// SIGKILL to every process of the user's, so that a stop has only the init to end.
pub(super) async fn end(attached: Arc<Attached>) -> Result<(), String> {
    if let Reach::Engine(reduced) = &attached.target.reach {
        return reduced::end(reduced, &attached).await;
    }
    blocking(move || {
        let target = kernel(&attached)?;
        let ended = match target.init_is_ours {
            true => {
                AgentCgroup::open(&target.cgroup).and_then(|cgroup| cgroup.map_or(Ok(0), |cgroup| cgroup.kill_all()))
            }
            false => kill_container(target),
        };
        ended.map_err(|error| error.to_string())
    })
    .await
    .map(drop)
}

fn processes(what: String) -> ReadBack {
    ReadBack {
        text: format!("processes: {what}"),
        denied: None,
    }
}
