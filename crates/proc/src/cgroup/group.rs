//! One cgroup in the hierarchy that freezes: its processes, its freezer, its end.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Version, root, version};
use crate::pidfd::PidFd;

const POLL: Duration = Duration::from_millis(1);
/// Rounds of signal, thaw, look; each waits for a few milliseconds at most.
const KILL_ROUNDS: u32 = 500;

/// What the kernel says of a freezer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    Running,
    Freezing,
    Frozen,
}

/// The child `agent` of a container's cgroup, with every process of the user's.
#[derive(Debug, Clone)]
pub struct AgentCgroup(Group);

/// A container's cgroup with `agent` in it: PID 1 and all.
#[derive(Debug, Clone)]
pub struct ContainerCgroup {
    container: Group,
    agent: Option<Group>,
}

#[derive(Debug, Clone)]
struct Group {
    version: Version,
    path: PathBuf,
}

impl AgentCgroup {
    /// Makes `agent` below the container's path if it is missing. The container's own cgroup must exist.
    pub fn create(expected: &str) -> io::Result<Self> {
        let container = Group::of(expected)?;
        let path = container.path.join("agent");
        match fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(crate::attempting(format_args!("making cgroup {}", path.display()))(e))
            }
            _ => Ok(Self(Group { path, ..container })),
        }
    }

    /// `None` if it isn't there.
    pub fn open(expected: &str) -> io::Result<Option<Self>> {
        let container = Group::of(expected)?;
        let path = container.path.join("agent");
        Ok(path.is_dir().then_some(Self(Group { path, ..container })))
    }

    /// Write-only; whoever writes `0` to it moves itself in.
    pub fn procs_fd(&self) -> io::Result<OwnedFd> {
        self.0.write_only("cgroup.procs")
    }

    /// Write-only: `FROZEN` and `THAWED` on v1, `1` and `0` on v2.
    pub fn freeze_fd(&self) -> io::Result<OwnedFd> {
        self.0.write_only(self.0.freeze_file())
    }

    pub fn pids(&self) -> io::Result<Vec<i32>> {
        self.0.pids()
    }

    pub fn state(&self) -> io::Result<Freeze> {
        self.0.state()
    }

    /// Freezes and waits for the kernel's own word that all is frozen; `TimedOut` if it isn't by the deadline.
    pub fn freeze(&self, deadline: Duration) -> io::Result<()> {
        self.0.set_frozen(true, deadline)
    }

    pub fn thaw(&self, deadline: Duration) -> io::Result<()> {
        self.0.set_frozen(false, deadline)
    }

    /// SIGKILL to every process, thawed so that it can die, until none is left. How many were signalled.
    pub fn kill_all(&self) -> io::Result<usize> {
        kill_groups(std::slice::from_ref(&self.0))
    }
}

impl ContainerCgroup {
    /// `None` if it isn't there.
    pub fn open(expected: &str) -> io::Result<Option<Self>> {
        let container = Group::of(expected)?;
        if !container.path.is_dir() {
            return Ok(None);
        }
        let agent = AgentCgroup::open(expected)?.map(|agent| agent.0);
        Ok(Some(Self { container, agent }))
    }

    pub fn pids(&self) -> io::Result<Vec<i32>> {
        let mut pids = self.container.pids()?;
        if let Some(agent) = &self.agent {
            pids.extend(agent.pids()?);
        }
        Ok(pids)
    }

    pub fn state(&self) -> io::Result<Freeze> {
        self.container.state()
    }

    /// The whole container, PID 1 too: its session stops answering.
    pub fn freeze(&self, deadline: Duration) -> io::Result<()> {
        self.container.set_frozen(true, deadline)
    }

    /// The container's own freezer; `agent`'s stays as it is.
    pub fn thaw(&self, deadline: Duration) -> io::Result<()> {
        self.container.set_frozen(false, deadline)
    }

    /// SIGKILL to every process of the container and of `agent`, both thawed, until none is left.
    pub fn kill_all(&self) -> io::Result<usize> {
        let mut groups = vec![self.container.clone()];
        groups.extend(self.agent.clone());
        kill_groups(&groups)
    }
}

impl Group {
    fn of(expected: &str) -> io::Result<Self> {
        let parts: Vec<&str> = expected.split('/').skip(1).collect();
        let clean = expected.starts_with('/') && parts.iter().all(|part| !matches!(*part, "" | "." | ".."));
        if !clean {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{expected}` is not a container's cgroup path"),
            ));
        }
        let version = version()?;
        Ok(Self {
            version,
            path: root(version).join(&expected[1..]),
        })
    }

    fn freeze_file(&self) -> &'static str {
        match self.version {
            Version::V1 => "freezer.state",
            Version::V2 => "cgroup.freeze",
        }
    }

    fn write_only(&self, file: &str) -> io::Result<OwnedFd> {
        let path = self.path.join(file);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .map(OwnedFd::from)
            .map_err(crate::attempting(format_args!("opening {}", path.display())))
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(crate::attempting(format_args!("reading {}", path.display())))
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.path.join(file);
        write_existing(&path, value).map_err(crate::attempting(format_args!("writing {value} to {}", path.display())))
    }

    fn pids(&self) -> io::Result<Vec<i32>> {
        Ok(self
            .read("cgroup.procs")?
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| *pid > 0)
            .collect())
    }

    fn state(&self) -> io::Result<Freeze> {
        match self.version {
            Version::V1 => match self.read("freezer.state")?.trim() {
                "THAWED" => Ok(Freeze::Running),
                "FREEZING" => Ok(Freeze::Freezing),
                "FROZEN" => Ok(Freeze::Frozen),
                other => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("freezer.state is `{other}`"),
                )),
            },
            Version::V2 => {
                let asked = self.read("cgroup.freeze")?.trim() == "1";
                let events = self.read("cgroup.events")?;
                let frozen = events.lines().any(|line| line == "frozen 1");
                Ok(match (asked, frozen) {
                    (_, true) => Freeze::Frozen,
                    (true, false) => Freeze::Freezing,
                    (false, false) => Freeze::Running,
                })
            }
        }
    }

    fn ask(&self, frozen: bool) -> io::Result<()> {
        let value = match (self.version, frozen) {
            (Version::V1, true) => "FROZEN",
            (Version::V1, false) => "THAWED",
            (Version::V2, true) => "1",
            (Version::V2, false) => "0",
        };
        self.write(self.freeze_file(), value)
    }

    fn set_frozen(&self, frozen: bool, deadline: Duration) -> io::Result<()> {
        let wanted = if frozen { Freeze::Frozen } else { Freeze::Running };
        let end = Instant::now() + deadline;
        loop {
            // On v1 a group that is still FREEZING needs to be asked again to get on.
            self.ask(frozen)?;
            let state = self.state()?;
            if state == wanted {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("cgroup {} is {state:?}, asked for {wanted:?}", self.path.display()),
                ));
            }
            sleep(POLL);
        }
    }

    /// SIGKILL to all that are in it now. The pidfd is opened first and membership looked at again, so that no reused
    /// number is hit.
    fn signal_all(&self) -> io::Result<usize> {
        let held: Vec<(i32, PidFd)> = self
            .pids()?
            .into_iter()
            .filter_map(|pid| PidFd::open(pid).ok().map(|fd| (pid, fd)))
            .collect();
        let still = self.pids()?;
        Ok(held
            .iter()
            .filter(|(pid, fd)| still.contains(pid) && fd.signal(libc::SIGKILL).is_ok())
            .count())
    }
}

fn kill_groups(groups: &[Group]) -> io::Result<usize> {
    let mut signalled = 0;
    for round in 0..KILL_ROUNDS {
        let mut left = 0;
        for group in groups {
            // A group goes away with its last process when Docker cleans up: that is success.
            left += unless_gone(group.pids(), Vec::new())?.len();
            let sent = match group.version {
                Version::V2 if group.write("cgroup.kill", "1").is_ok() => 0,
                _ => unless_gone(group.signal_all(), 0)?,
            };
            signalled += if round == 0 { sent.max(left) } else { 0 };
        }
        for group in groups {
            unless_gone(group.ask(false), ())?;
        }
        if left == 0 {
            return Ok(signalled);
        }
        sleep(POLL * 2);
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "killing cgroup {}: processes are left",
            groups.first().map_or(Path::new(""), |g| &g.path).display()
        ),
    ))
}

fn unless_gone<T>(result: io::Result<T>, gone: T) -> io::Result<T> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(gone),
        Err(e) if e.to_string().contains("No such device") => Ok(gone),
        other => other,
    }
}

fn write_existing(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
