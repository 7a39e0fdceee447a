//! Attestation: is the peer of a connection the init of this container, by the kernel's own word?
//!
//! ```text
//! accept ─▶ SO_PEERCRED pid ─▶ inspect ─┬ not running, pid 0, no answer ─▶ ask again, 30 s at most ─▶ NotYet
//!                                       └ running: pidfd of State.Pid
//!              ─▶ same pid? last NSpid 1? cgroup equal? pidfd alive after all that? ─▶ Init | Mismatch
//! ```
//! A start's init is asked of Docker once; while its pidfd lives, a reconnect asks nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use clawker_docker::{Docker, Inspect};
use clawker_model::ContainerId;
use clawker_proc::pidfd::PidFd;
use clawker_proc::{cgroup, peer, procfs};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// How long a connection waits for Docker to say that the container runs.
const NOT_YET: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(25);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(1);

/// One life of a container's init, attested.
#[derive(Debug)]
pub struct Init {
    pub pid: i32,
    pub pidfd: Arc<PidFd>,
    pub boot_id: String,
    pub start_time: u64,
    pub netns: OwnedFd,
}

/// Why a connection isn't attested.
#[derive(Debug, thiserror::Error)]
pub enum Unattested {
    /// Nothing is published of it.
    #[error("{0}")]
    NotYet(String),
    /// A live process that isn't this container's init: `peer_mismatch`.
    #[error("{0}")]
    Mismatch(String),
}

/// An attested connection's init, and what Docker said of the container if it had to be asked.
pub struct Attested {
    pub init: Arc<Init>,
    pub inspect: Option<Inspect>,
}

/// Attests the peer of `stream` as the init of `container`.
pub async fn attest(
    docker: &Docker,
    container: &ContainerId,
    cgroup_path: &str,
    stream: &UnixStream,
    known: Option<Arc<Init>>,
) -> Result<Attested, Unattested> {
    let peer = peer::credentials(stream.as_fd()).map_err(|error| Unattested::NotYet(format!("peer: {error}")))?;
    // pid 0: the peer is outside our pid namespace, as when the control plane runs in a container.
    if peer.pid <= 0 {
        return Err(Unattested::Mismatch(
            "the peer's process can't be seen from here".into(),
        ));
    }
    if let Some(init) = known.filter(|init| init.pidfd.is_alive().unwrap_or(false)) {
        check(&init, peer.pid, cgroup_path, stream)?;
        return Ok(Attested { init, inspect: None });
    }

    let inspect = running(docker, container).await?;
    let init = Arc::new(open(inspect.pid)?);
    check(&init, peer.pid, cgroup_path, stream)?;
    Ok(Attested {
        init,
        inspect: Some(inspect),
    })
}

/// Asks Docker until the container runs.
async fn running(docker: &Docker, container: &ContainerId) -> Result<Inspect, Unattested> {
    let deadline = Instant::now() + NOT_YET;
    let mut pause = ASK_AGAIN;
    loop {
        let why = match docker.inspect(container).await {
            Ok(Some(inspect)) if inspect.running && inspect.pid > 0 => return Ok(inspect),
            Ok(Some(inspect)) => format!("the container is {}", inspect.status),
            Ok(None) => "the container doesn't exist".to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() + pause > deadline {
            return Err(Unattested::NotYet(why));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ASK_AGAIN_MAX);
    }
}

/// Opens what identifies the init `pid`; the pidfd first, so that the rest is known to be of that process.
pub fn open(pid: i32) -> Result<Init, Unattested> {
    let gone = |error: std::io::Error| Unattested::NotYet(format!("init {pid}: {error}"));
    let pidfd = Arc::new(PidFd::open(pid).map_err(gone)?);
    let boot_id = procfs::boot_id().map_err(gone)?;
    let start_time = procfs::start_time(pid).map_err(gone)?;
    let netns = procfs::open_netns(pid).map_err(gone)?;
    Ok(Init {
        pid,
        pidfd,
        boot_id,
        start_time,
        netns,
    })
}

fn check(init: &Init, peer: i32, cgroup_path: &str, stream: &UnixStream) -> Result<(), Unattested> {
    let gone = |error: std::io::Error| Unattested::NotYet(format!("init {}: {error}", init.pid));
    if peer != init.pid {
        return Err(Unattested::Mismatch(format!(
            "process {peer} connected, the container's init is {}",
            init.pid
        )));
    }
    if procfs::ns_pids(init.pid).map_err(gone)?.last() != Some(&1) {
        return Err(Unattested::Mismatch(format!(
            "process {peer} isn't pid 1 of its namespace"
        )));
    }
    let cgroups = procfs::cgroups(init.pid).map_err(gone)?;
    if !cgroup::in_container(&cgroups, cgroup_path) {
        return Err(Unattested::Mismatch(format!(
            "process {peer} isn't in the cgroup {cgroup_path}"
        )));
    }
    // Where the kernel has it, the descriptor speaks of the process that connected, not of a number.
    if let Some(connected) = peer::pidfd(stream.as_fd()).map_err(gone)?
        && !connected.is_alive().map_err(gone)?
    {
        return Err(Unattested::NotYet("the process that connected has ended".into()));
    }
    if !init.pidfd.is_alive().map_err(gone)? {
        return Err(Unattested::NotYet("the init has ended".into()));
    }
    Ok(())
}
