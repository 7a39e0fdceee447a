//! Containment on an engine elsewhere, by what Docker offers to anybody: pause, disconnect, kill. Read back by inspect.
//!
//! Weaker than the kernel's, and called so (`reduced`): a pause holds clawkerd too, a disconnected agent has no session,
//! and there is nothing between all of the network and none of it, so `restrict-egress` can't be put in force.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clawker_docker::{Docker, Error, Inspect};
use clawker_engine::containment::Force;
use clawker_model::{ContainerId, NetworkState, ProcessState};

use super::apply::{Attached, ReadBack};
use super::watch::{Finding, Subject};
use super::{Reach, Reduced};

/// How long an init may take to end by itself.
const STOP: Duration = Duration::from_secs(10);
/// How long a killed one may take.
const DEATH: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// One container of an engine elsewhere.
struct Container<'a> {
    docker: &'a Docker,
    id: &'a ContainerId,
    /// Where it belongs.
    network: Option<&'a str>,
}

impl<'a> Container<'a> {
    fn of(reduced: &'a Reduced, attached: &'a Attached) -> Self {
        Self {
            docker: &reduced.docker,
            id: &attached.target.container,
            network: reduced.network.as_deref(),
        }
    }

    async fn inspect(&self) -> Result<Inspect, String> {
        let inspect = self.docker.inspect(self.id).await.map_err(|error| error.to_string())?;
        inspect.ok_or_else(|| "the container is gone".to_owned())
    }
}

/// Whether `force` is there already.
pub(super) async fn look(reduced: &Reduced, attached: &Attached, force: &Force) -> Result<ReadBack, String> {
    let container = Container::of(reduced, attached);
    judge(&container.inspect().await?, container.network, force)
}

/// What inspect says of `force`.
fn judge(inspect: &Inspect, network: Option<&str>, force: &Force) -> Result<ReadBack, String> {
    let joined: Vec<&str> = inspect.networks.keys().map(String::as_str).collect();
    let text = match force {
        Force::Network(NetworkState::Locked) if joined.iter().all(|name| *name == "none") => {
            "network: disconnected (reduced)".to_owned()
        }
        Force::Network(NetworkState::Locked) => return Err(format!("network: connected to {}", joined.join(", "))),
        Force::Network(NetworkState::Open) => match network {
            Some(wanted) if !joined.contains(&wanted) => return Err(format!("network: not connected to {wanted}")),
            Some(wanted) => format!("network: connected to {wanted} (reduced)"),
            None => "network: none (reduced)".to_owned(),
        },
        Force::Network(NetworkState::Restricted { .. }) => {
            return Err("containment is reduced: an engine elsewhere can't restrict egress".to_owned());
        }
        Force::Processes(ProcessState::Running) if inspect.running && inspect.status != "paused" => {
            "processes: running (reduced)".to_owned()
        }
        Force::Processes(ProcessState::Frozen) if inspect.status == "paused" => {
            "processes: the container is paused (reduced)".to_owned()
        }
        Force::Processes(ProcessState::Stopped | ProcessState::Killed) if !inspect.running => {
            "processes: the container has ended (reduced)".to_owned()
        }
        Force::Processes(_) => return Err(format!("processes: the container is {}", inspect.status)),
        Force::Identity(_) => return Err("an identity isn't the engine's".to_owned()),
    };
    Ok(ReadBack { text, denied: None })
}

/// Puts it in force and reads it back.
pub(super) async fn apply(reduced: &Reduced, attached: &Attached, force: &Force) -> Result<ReadBack, String> {
    let container = Container::of(reduced, attached);
    let (docker, id) = (container.docker, container.id);
    let done: Result<(), Error> = match force {
        Force::Network(NetworkState::Open) => match container.network {
            Some(network) => docker.connect_network(network, id).await,
            None => Ok(()),
        },
        Force::Network(NetworkState::Locked) => disconnect(&container).await,
        // Nothing to do; what is read back says why.
        Force::Network(NetworkState::Restricted { .. }) | Force::Identity(_) => Ok(()),
        Force::Processes(ProcessState::Running) => docker.unpause(id).await,
        Force::Processes(ProcessState::Frozen) => docker.pause(id).await,
        Force::Processes(ProcessState::Stopped) => stop(&container, attached).await,
        Force::Processes(ProcessState::Killed) => kill(&container).await,
    };
    done.map_err(|error| error.to_string())?;
    judge(&container.inspect().await?, container.network, force)
}

/// From every network that it is in.
async fn disconnect(container: &Container<'_>) -> Result<(), Error> {
    let inspect = container.docker.inspect(container.id).await?;
    for network in inspect.iter().flat_map(|inspect| inspect.networks.keys()) {
        container.docker.disconnect_network(network, container.id).await?;
    }
    Ok(())
}

/// Asks the init to end, as a container is asked; kills it when it doesn't, or when a kill is asked for.
async fn stop(container: &Container<'_>, attached: &Attached) -> Result<(), Error> {
    let paused = |inspect: &Inspect| inspect.status == "paused";
    // What is frozen may not run again to be stopped.
    if !container
        .docker
        .inspect(container.id)
        .await?
        .as_ref()
        .is_some_and(paused)
    {
        signal(container, "SIGTERM").await?;
        let hurried = || attached.hurry.load(Ordering::Relaxed);
        if ended(container, STOP, hurried).await? {
            return Ok(());
        }
    }
    kill(container).await
}

async fn kill(container: &Container<'_>) -> Result<(), Error> {
    signal(container, "SIGKILL").await?;
    if !ended(container, Duration::from_secs(1), || false).await? {
        // A frozen one keeps its signal pending; all of it has one, so nothing runs again.
        container.docker.unpause(container.id).await.or_else(not_running)?;
        ended(container, DEATH, || false).await?;
    }
    Ok(())
}

async fn signal(container: &Container<'_>, signal: &str) -> Result<(), Error> {
    container.docker.kill(container.id, signal).await.or_else(not_running)
}

fn not_running(error: Error) -> Result<(), Error> {
    match error {
        Error::NotRunning { .. } | Error::NoSuchContainer { .. } => Ok(()),
        other => Err(other),
    }
}

/// Waits for its end; whether it came.
async fn ended(container: &Container<'_>, limit: Duration, hurried: impl Fn() -> bool) -> Result<bool, Error> {
    let until = Instant::now() + limit;
    loop {
        let inspect = container.docker.inspect(container.id).await?;
        if !inspect.is_some_and(|inspect| inspect.running) {
            return Ok(true);
        }
        if Instant::now() >= until || hurried() {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Before a stop: what is paused takes no signal but the last.
pub(super) async fn end(reduced: &Reduced, attached: &Attached) -> Result<(), String> {
    let container = Container::of(reduced, attached);
    match container.inspect().await?.status.as_str() {
        "paused" => kill(&container).await.map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}

/// Whether what ought to be in force still is.
pub(super) async fn look_at(subjects: Vec<Subject>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for subject in subjects {
        let Reach::Engine(reduced) = &subject.attached.target.reach else {
            continue;
        };
        let mut disturbed = Vec::new();
        for force in &subject.verify {
            if look(reduced, &subject.attached, force).await.is_err() {
                disturbed.push(force.axis());
            }
        }
        findings.push(Finding {
            agent: subject.agent,
            epoch: subject.epoch,
            denied: None,
            disturbed,
        });
    }
    findings
}
