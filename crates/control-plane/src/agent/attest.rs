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
use clawker_model::{ContainerId, RunId, Start};
use clawker_proc::pidfd::PidFd;
use clawker_proc::{cgroup, peer, procfs};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::listen::IN_CONTAINER;

/// Where a container has the folder with clawkerd.
const PROGRAM: &str = "/.clawker";
/// How long a connection waits for Docker to say that the container runs.
const NOT_YET: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(25);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(1);

/// One life of a container's init, attested.
#[derive(Debug)]
pub struct Init {
    /// As the engine's host counts.
    pub pid: i32,
    pub boot_id: String,
    pub start_time: u64,
    /// What this host's kernel has of it; `None` on an engine elsewhere, where it may not be taken for one of ours.
    pub kernel: Option<Kernel>,
}

#[derive(Debug)]
pub struct Kernel {
    pub pidfd: Arc<PidFd>,
    pub netns: OwnedFd,
}

impl Init {
    /// By the kernel; of one elsewhere only its engine can say that it isn't.
    fn is_alive(&self) -> std::io::Result<bool> {
        self.kernel.as_ref().map_or(Ok(true), |kernel| kernel.pidfd.is_alive())
    }
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
    /// The same, with the container's init, which is whom containment can be applied to.
    #[error("{detail}")]
    Foreign { detail: String, init: Arc<Init> },
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
    if let Some(init) = known.filter(|init| init.is_alive().unwrap_or(false)) {
        check(&init, peer.pid, cgroup_path, stream).map_err(|why| foreign(why, &init))?;
        return Ok(Attested { init, inspect: None });
    }

    let inspect = running(docker, container).await?;
    let init = Arc::new(open(inspect.pid)?);
    check(&init, peer.pid, cgroup_path, stream).map_err(|why| foreign(why, &init))?;
    Ok(Attested {
        init,
        inspect: Some(inspect),
    })
}

fn foreign(why: Unattested, init: &Arc<Init>) -> Unattested {
    match why {
        Unattested::Mismatch(detail) => Unattested::Foreign {
            detail,
            init: init.clone(),
        },
        other => other,
    }
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
        boot_id,
        start_time,
        kernel: Some(Kernel { pidfd, netns }),
    })
}

/// Whether what the container shows at our two places is what we mounted there, and nothing over it. An image or a root
/// agent that leaves a symlink where Docker mounts something could otherwise put its own program in clawkerd's place;
/// what the kernel says is mounted doesn't follow symlinks.
pub fn mounts_intact(init: &Init, run: &RunId) -> Result<(), Unattested> {
    let mounts = procfs::mounts(init.pid).map_err(|error| Unattested::NotYet(format!("init {}: {error}", init.pid)))?;
    intact(&mounts, run).map_err(Unattested::Mismatch)
}

fn intact(mounts: &[procfs::Mount], run: &RunId) -> Result<(), String> {
    let ours: Vec<_> = mounts.iter().filter(|mount| mount.point.starts_with(PROGRAM)).collect();
    for place in [PROGRAM, IN_CONTAINER] {
        match ours
            .iter()
            .filter(|mount| mount.point == place)
            .collect::<Vec<_>>()
            .as_slice()
        {
            [mount] if mount.read_only => {}
            [_] => return Err(format!("{place} can be written to")),
            found => return Err(format!("{} mounts at {place} instead of one", found.len())),
        }
    }
    if let Some(other) = ours
        .iter()
        .find(|mount| mount.point != PROGRAM && mount.point != IN_CONTAINER)
    {
        return Err(format!("something is mounted at {}", other.point));
    }
    let shown = ours.iter().find(|mount| mount.point == IN_CONTAINER);
    if !shown.is_some_and(|mount| mount.root.ends_with(&format!("/{run}"))) {
        return Err(format!("{IN_CONTAINER} isn't this agent's run folder"));
    }
    Ok(())
}

fn check(init: &Init, peer: i32, cgroup_path: &str, stream: &UnixStream) -> Result<(), Unattested> {
    let gone = |error: std::io::Error| Unattested::NotYet(format!("init {}: {error}", init.pid));
    if peer != init.pid {
        return Err(Unattested::Mismatch(format!(
            "process {peer} connected, the container's init is {}",
            init.pid
        )));
    }
    is_init_of(init, cgroup_path)?;
    // Where the kernel has it, the descriptor speaks of the process that connected, not of a number.
    if let Some(connected) = peer::pidfd(stream.as_fd()).map_err(gone)?
        && !connected.is_alive().map_err(gone)?
    {
        return Err(Unattested::NotYet("the process that connected has ended".into()));
    }
    is_alive(init)
}

/// Whether it is pid 1 of its namespace, in this container's cgroup.
fn is_init_of(init: &Init, cgroup_path: &str) -> Result<(), Unattested> {
    let gone = |error: std::io::Error| Unattested::NotYet(format!("init {}: {error}", init.pid));
    if procfs::ns_pids(init.pid).map_err(gone)?.last() != Some(&1) {
        let why = format!("process {} isn't pid 1 of its namespace", init.pid);
        return Err(Unattested::Mismatch(why));
    }
    let cgroups = procfs::cgroups(init.pid).map_err(gone)?;
    if !cgroup::in_container(&cgroups, cgroup_path) {
        let why = format!("process {} isn't in the cgroup {cgroup_path}", init.pid);
        return Err(Unattested::Mismatch(why));
    }
    Ok(())
}

fn is_alive(init: &Init) -> Result<(), Unattested> {
    match init.is_alive() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Unattested::NotYet("the init has ended".into())),
        Err(error) => Err(Unattested::NotYet(format!("init {}: {error}", init.pid))),
    }
}

/// The init `pid` of a start that was attested before, if it lives: the same boot, the same moment of its birth, and
/// still the init of this container. Docker isn't asked; what it would say is one number, which can be somebody else's.
pub fn again(start: &Start, pid: u32, cgroup_path: &str) -> Result<Init, Unattested> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    let init = open(pid.ok_or_else(|| Unattested::NotYet("no start was attested".into()))?)?;
    if init.boot_id != start.boot_id || init.start_time != start.init_start_time {
        return Err(Unattested::NotYet(format!("process {} is another one now", init.pid)));
    }
    is_init_of(&init, cgroup_path)?;
    is_alive(&init)?;
    Ok(init)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(root: &str, point: &str, read_only: bool) -> procfs::Mount {
        procfs::Mount {
            root: root.into(),
            point: point.into(),
            read_only,
        }
    }

    #[test]
    fn only_our_two_read_only_mounts_are_intact() {
        let run = RunId::parse("abcdefghijklmnopqrstuv").expect("id");
        let folder = format!("/state/run/{run}");
        let program = mount("/libexec/agent", "/.clawker", true);
        let good = [
            mount("/", "/", false),
            program.clone(),
            mount(&folder, "/.clawker-run", true),
        ];
        assert_eq!(intact(&good, &run), Ok(()));

        let with = |more: procfs::Mount| [&good[..], &[more]].concat();
        for (what, mounts) in [
            ("no run folder", good[..2].to_vec()),
            (
                "another over clawkerd's folder",
                with(mount("/volume", "/.clawker", true)),
            ),
            ("one below it", with(mount("/volume", "/.clawker/clawkerd", true))),
            (
                "one below the run folder",
                with(mount("/volume", "/.clawker-run/session.sock", true)),
            ),
            (
                "writable",
                vec![program.clone(), mount(&folder, "/.clawker-run", false)],
            ),
            (
                "another agent's",
                vec![program.clone(), mount("/state/run/other", "/.clawker-run", true)],
            ),
        ] {
            assert!(intact(&mounts, &run).is_err(), "{what}");
        }
    }
}
