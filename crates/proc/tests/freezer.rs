//! The freezer for real, in a cgroup that the test makes and removes itself.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use clawker_proc::cgroup::{AgentCgroup, ContainerCgroup, Freeze, Version, version};
use clawker_proc::procfs;

const SECOND: Duration = Duration::from_secs(1);

/// A stand-in for a container's cgroup. `None`, with a printed line, where this machine has no v1 freezer to write to.
struct Container {
    expected: String,
    dir: std::path::PathBuf,
}

impl Container {
    fn new(name: &str) -> Option<Self> {
        let expected = format!("/clawker-proc-test-{name}-{}", std::process::id());
        if version().ok()? != Version::V1 {
            println!("skipped: no v1 freezer here");
            return None;
        }
        let dir = std::path::PathBuf::from("/sys/fs/cgroup/freezer").join(&expected[1..]);
        if let Err(e) = fs::create_dir(&dir) {
            println!("skipped: can't make a cgroup: {e}");
            return None;
        }
        Some(Self { expected, dir })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(Some(group)) = ContainerCgroup::open(&self.expected) {
            let _ = group.kill_all();
        }
        let deadline = Instant::now() + 5 * SECOND;
        while fs::remove_dir(self.dir.join("agent")).is_err() && self.dir.join("agent").exists() {
            assert!(Instant::now() < deadline, "agent is left");
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A process in `agent` with a child of its own.
fn busy(agent: &AgentCgroup) -> Child {
    use std::os::unix::process::CommandExt;
    let procs = std::fs::File::from(agent.procs_fd().expect("writable"));
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 300 & while :; do :; done"]);
    // SAFETY: one write to an open descriptor, async-signal-safe.
    unsafe {
        command.pre_exec(move || std::io::Write::write_all(&mut &procs, b"0"));
    }
    let child = command.spawn().expect("sh starts");
    let deadline = Instant::now() + 5 * SECOND;
    while agent.pids().expect("readable").len() < 2 {
        assert!(Instant::now() < deadline, "sh and sleep are not in agent");
        std::thread::yield_now();
    }
    child
}

/// Waits for a zombie to be reaped by us, so that `kill_all` can be judged by the child's status.
fn ended_by(child: &mut Child) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    child.wait().expect("ours").signal()
}

#[test]
fn a_frozen_agent_stands_still_and_goes_on_when_thawed() {
    let Some(container) = Container::new("freeze") else {
        return;
    };
    let agent = AgentCgroup::create(&container.expected).expect("made");
    assert!(AgentCgroup::open(&container.expected).expect("looked").is_some());
    let mut child = busy(&agent);
    let ticks = || cpu_ticks(child.id());
    assert_eq!(agent.state().expect("read"), Freeze::Running);
    agent.freeze(5 * SECOND).expect("frozen");
    assert_eq!(agent.state().expect("read"), Freeze::Frozen);
    let (before, started) = (ticks(), Instant::now());
    while started.elapsed() < Duration::from_millis(100) {
        assert_eq!(ticks(), before, "it ran while frozen");
    }
    agent.thaw(5 * SECOND).expect("thawed");
    assert_eq!(agent.state().expect("read"), Freeze::Running);
    let deadline = Instant::now() + 5 * SECOND;
    while ticks() == before {
        assert!(Instant::now() < deadline, "it did not go on");
    }
    assert!(agent.kill_all().expect("killed") >= 2);
    assert_eq!(ended_by(&mut child), Some(9));
}

#[test]
fn kill_of_a_frozen_agent_ends_every_process() {
    let Some(container) = Container::new("kill") else {
        return;
    };
    let agent = AgentCgroup::create(&container.expected).expect("made");
    let mut child = busy(&agent);
    agent.freeze(5 * SECOND).expect("frozen");
    assert!(agent.kill_all().expect("killed") >= 2);
    assert_eq!(agent.pids().expect("read"), Vec::<i32>::new());
    assert_eq!(ended_by(&mut child), Some(9));
}

#[test]
fn kill_of_a_container_ends_what_is_in_agent_too() {
    let Some(container) = Container::new("container") else {
        return;
    };
    let agent = AgentCgroup::create(&container.expected).expect("made");
    let mut child = busy(&agent);
    let whole = ContainerCgroup::open(&container.expected)
        .expect("looked")
        .expect("there");
    whole.freeze(5 * SECOND).expect("frozen");
    assert!(whole.kill_all().expect("killed") >= 2);
    assert_eq!(whole.pids().expect("read"), Vec::<i32>::new());
    assert_eq!(ended_by(&mut child), Some(9));
}

#[test]
fn a_path_that_could_leave_the_tree_is_refused() {
    for bad in ["", "/", "docker/x", "/../etc", "/docker/../..", "/docker//x", "/./x"] {
        assert!(AgentCgroup::open(bad).is_err(), "{bad:?}");
    }
}

fn cpu_ticks(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("alive");
    let stat = procfs::parse_stat(&text).expect("well-formed");
    assert_eq!(stat.pid, pid as i32);
    text.rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .skip(11)
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}
