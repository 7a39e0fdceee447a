//! Start, stop, restart, remove, wait.

use std::sync::Arc;

use clawker_model::event::{AgentRemoved, MainExited, Seen};
use clawker_model::{ContainerId, Event, FullName, ProcessState};
use clawker_wire::admin::start_progress::Body;
use clawker_wire::admin::{Exit, StartAgentRequest, StartProgress};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::Fault;
use super::follow::{Listener, Outcome, Reader, follow};
use super::resolve::{Found, resolve};
use super::tail::Tail;
use crate::agent::{ContainerState, end_processes, start_container};
use crate::core::{Core, now_ms};

/// From the stop signal to SIGKILL, unless the operator says otherwise.
const STOP_SECONDS: u32 = 10;
const MAX_STOP_SECONDS: u32 = 3600;
/// How long a killed container may take to end, each of three times.
const KILLED: Duration = Duration::from_secs(5);
/// How long the agent's task may take to journal an end.
const SETTLED: Duration = Duration::from_secs(20);
/// How long a removed agent's exit can be asked for.
const REMEMBERED_MS: u64 = 10 * 60 * 1000;

pub type Progress = ReceiverStream<Result<StartProgress, Status>>;

/// Starts the agent, and reports. An engine that can't start it is an error here, not on the stream.
pub async fn start(core: Arc<Core>, request: StartAgentRequest) -> Result<Progress, Fault> {
    let found = resolve(&core, &request.agent).await?;
    let container = found.made()?;
    found.own()?;
    let tail = Tail::from_now(&core.store, found.name.clone());
    let running = core
        .docker
        .inspect(&container)
        .await?
        .is_some_and(|inspect| inspect.running);
    // Read after subscribing, so that nothing falls between.
    let record = core.store.agent(&found.name).await?;
    let Some(record) = record else {
        return Err(gone(&found.name));
    };
    let reader = Reader::new(&record, container.clone(), running);

    let (out, progress) = mpsc::channel(64);
    // It has room: nothing was sent yet.
    let _ = out.try_send(say(Body::Doing(match running {
        true => "it runs already".into(),
        false => "starting the container".into(),
    })));
    if reader.ready {
        let _ = out.try_send(say(Body::Ready(Default::default())));
        if request.detach {
            return Ok(ReceiverStream::new(progress));
        }
    }
    if !running {
        start_container(&core, &found.name, &container).await?;
    }
    core.agents.hint(&found.name);
    if let Some(held) = held(&core, &found.name) {
        let _ = out.try_send(say(Body::Doing(held)));
    }
    let tasks = core.tasks.clone();
    tasks.spawn(async move {
        let listener = Listener {
            out: out.clone(),
            until_ready: request.detach,
        };
        let ended = tokio::select! {
            ended = follow(&core, tail, reader, Some(listener)) => ended,
            // Nobody listens any more; the agent goes on.
            () = out.closed() => return,
        };
        let last = match ended {
            Ok(None) => return,
            Ok(Some(Outcome::Exit(exit))) => say(Body::Exit(exit)),
            Ok(Some(Outcome::Refused(refused))) => say(Body::Refused(refused)),
            Err(fault) => Err(fault.into()),
        };
        let _ = out.send(last).await;
    });
    Ok(ReceiverStream::new(progress))
}

fn say(body: Body) -> Result<StartProgress, Status> {
    Ok(StartProgress { body: Some(body) })
}

/// Why a started agent won't run its command yet.
fn held(core: &Core, name: &FullName) -> Option<String> {
    let view = core.containment.watch(name)?;
    let asked = view.borrow().asked.clone();
    (asked.processes != ProcessState::Running).then(|| {
        format!(
            "it starts contained ({asked}); its command waits for `clawker release {name}`, see `clawker why {name}`"
        )
    })
}

fn gone(name: &FullName) -> Fault {
    Fault::missing(format!("`{name}` was removed"), "see `clawker ps --all`")
}

/// Ends the agent's container; one that doesn't run is fine.
pub async fn stop(core: &Core, found: &Found, timeout: Option<u32>) -> Result<(), Fault> {
    let container = found.made()?;
    let seconds = timeout.unwrap_or(STOP_SECONDS);
    if seconds > MAX_STOP_SECONDS {
        return Err(Fault::usage(
            format!("a timeout of {seconds} s, the limit is {MAX_STOP_SECONDS}"),
            "give fewer",
        ));
    }
    if !runs(core, &container).await? {
        return Ok(());
    }
    // A frozen process takes no signal, and on cgroup v1 keeps its container alive.
    if frozen(core, &found.name) {
        end_processes(core, &found.name, &container).await;
    }
    let signalled = seconds > 0 && signal(core, &container, "SIGTERM").await?;
    let mut ended = signalled && ends_within(core, &container, Duration::from_secs(seconds.into())).await?;
    for _ in 0..3 {
        if ended {
            break;
        }
        end_processes(core, &found.name, &container).await;
        signal(core, &container, "SIGKILL").await?;
        ended = ends_within(core, &container, KILLED).await?;
    }
    if !ended {
        return Err(Fault::state(
            format!("`{}` still runs after SIGKILL", found.name),
            "see `clawker status`; a process in the kernel's hands ends when its device answers",
        ));
    }
    core.agents.hint(&found.name);
    // A start that came before this end was seen would hide it. Of a stranger's no end is journaled.
    if let (Some(handle), Some(_)) = (&found.handle, &found.record) {
        let mut status = handle.watch();
        let settled = status.wait_for(|status| status.state == ContainerState::Exited);
        if tokio::time::timeout(SETTLED, settled).await.is_err() {
            tracing::warn!(agent = %found.name, "its end wasn't journaled in time");
        }
    }
    Ok(())
}

/// Stops and starts again. What is contained starts contained.
pub async fn restart(core: &Core, found: &Found, timeout: Option<u32>) -> Result<(), Fault> {
    let container = found.made()?;
    found.own()?;
    let _hold = found.handle.as_ref().map(|handle| handle.hold_removal());
    stop(core, found, timeout).await?;
    start_container(core, &found.name, &container).await?;
    core.agents.hint(&found.name);
    Ok(())
}

/// Removes container, run folder, secrets and definition. The journal keeps what happened.
pub async fn remove(core: &Core, found: &Found, force: bool) -> Result<(), Fault> {
    let Some(container) = found.container() else {
        return remove_unmade(core, found).await;
    };
    if runs(core, &container).await? {
        if !force {
            return Err(Fault::state(
                format!("`{}` runs", found.name),
                format!("`clawker stop {0}` first, or `clawker rm --force {0}`", found.name),
            ));
        }
        end_processes(core, &found.name, &container).await;
    }
    core.docker.remove(&container, true).await?;
    // Whoever saw Docker's own event may have been here first.
    core.agents.gone(&container, Seen::Own).await;
    Ok(())
}

/// An agent whose making was cut short: perhaps there is a container, perhaps not.
async fn remove_unmade(core: &Core, found: &Found) -> Result<(), Fault> {
    let Some(record) = &found.record else { return Ok(()) };
    let label = format!("{}.run={}", core.config.label_prefix, record.run);
    for container in core.docker.list(&label).await? {
        core.docker.remove(&container.id, true).await?;
        super::secrets::discard(&core.secrets_dir(&container.id)).await;
    }
    note_removed(core, &found.name, None).await;
    core.agents.discard_run(&record.run).await;
    Ok(())
}

/// The container is gone whatever the journal says: a journal that can't be written is degraded, not an error here.
async fn note_removed(core: &Core, name: &FullName, container: Option<ContainerId>) {
    if let Err(error) = core.store.append_synced(Some(name), AgentRemoved { container }).await {
        core.board
            .degraded("journal", format!("{name} was removed: {error}"))
            .await;
    }
}

async fn runs(core: &Core, container: &ContainerId) -> Result<bool, Fault> {
    Ok(core
        .docker
        .inspect(container)
        .await?
        .is_some_and(|inspect| inspect.running))
}

/// Whether anything of the agent is, or is to be, frozen.
fn frozen(core: &Core, name: &FullName) -> bool {
    core.containment.watch(name).is_some_and(|view| {
        let view = view.borrow();
        let in_force = view.in_force.as_ref().map(|in_force| in_force.processes);
        view.asked.processes == ProcessState::Frozen || in_force == Some(ProcessState::Frozen)
    })
}

/// Whether there was somebody to take the signal.
async fn signal(core: &Core, container: &ContainerId, signal: &str) -> Result<bool, Fault> {
    match core.docker.kill(container, signal).await {
        Ok(()) => Ok(true),
        Err(clawker_docker::Error::NotRunning { .. } | clawker_docker::Error::NoSuchContainer { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A signal for the agent's command, which clawkerd passes on. SIGKILL is for the whole container.
pub async fn pass_signal(core: &Core, name: &FullName, container: &ContainerId, signo: u32) -> Result<(), Fault> {
    const SIGKILL: u32 = 9;
    if signo == SIGKILL {
        end_processes(core, name, container).await;
    }
    signal(core, container, &signo.to_string()).await.map(|_| ())
}

async fn ends_within(core: &Core, container: &ContainerId, limit: Duration) -> Result<bool, Fault> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(10);
    while runs(core, container).await? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(pause.min(deadline - Instant::now())).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
    Ok(true)
}

/// The exit of the agent's command, waiting for it; also of one that was removed a moment ago.
pub async fn wait(core: &Core, wanted: &str) -> Result<Exit, Fault> {
    let found = match resolve(core, wanted).await {
        Ok(found) => found,
        Err(fault) => return removed_exit(core, wanted).await?.ok_or(fault),
    };
    let container = found.made()?;
    found.own()?;
    let tail = Tail::from_now(&core.store, found.name.clone());
    let inspect = core.docker.inspect(&container).await?;
    let Some(record) = core.store.agent(&found.name).await? else {
        return removed_exit(core, wanted).await?.ok_or_else(|| gone(&found.name));
    };
    let running = inspect.is_some_and(|inspect| inspect.running);
    let last = record.start.as_ref().map(|start| start.number);
    if let Some(exit) = record.exit.as_ref().filter(|exit| !running && Some(exit.start) == last) {
        return Ok(Exit {
            code: exit.code,
            signal: exit.signal.unwrap_or_default(),
            oom: exit.oom,
        });
    }
    let mut reader = Reader::new(&record, container, running);
    if !running {
        // Its end may be about to be journaled.
        reader.floor = last.unwrap_or(1);
    }
    match follow(core, tail, reader, None).await? {
        Some(Outcome::Exit(exit)) => Ok(exit),
        Some(Outcome::Refused(refused)) => {
            let exit = u8::try_from(refused.exit).unwrap_or(clawker_model::exit::FAILED);
            Err(Fault::new(
                tonic::Code::FailedPrecondition,
                exit,
                refused.reason,
                refused.hint,
            ))
        }
        None => Err(Fault::stopping()),
    }
}

/// The latest exit of an agent that is no more, from the journal of the last ten minutes.
async fn removed_exit(core: &Core, wanted: &str) -> Result<Option<Exit>, Fault> {
    let name = FullName::parse_short(wanted).ok();
    let by_id = |exited: &MainExited| wanted.len() >= 12 && exited.container.as_str().starts_with(wanted);
    let mut tail = Tail::after(&core.store, 0, Some(now_ms().saturating_sub(REMEMBERED_MS)), None);
    let mut last = None;
    while let Some(row) = tail.next_past().await? {
        if let Event::MainExited(exited) = &row.event
            && (row.agent.is_some() && row.agent == name || by_id(exited))
        {
            last = Some(Exit {
                code: exited.code,
                signal: exited.signal.unwrap_or_default(),
                oom: exited.oom,
            });
        }
    }
    Ok(last)
}
