//! Freezing and ending, on a real v1 freezer where there is one to write to.

use std::time::{Duration, Instant};

use clawker_proc::cgroup::{AgentCgroup, ContainerCgroup, Freeze, Version, version};
use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use crate::host::{Container, can_run, eventually};
use crate::plane::Plane;
use crate::session::main;

const SECOND: Duration = Duration::from_secs(1);

/// A stand-in for a container's cgroup.
pub struct Cgroup {
    expected: String,
    pub agent: AgentCgroup,
}

impl Cgroup {
    pub fn new(name: &str) -> Option<Self> {
        if !can_run() || version().ok()? != Version::V1 {
            println!("skipped: no v1 freezer here");
            return None;
        }
        let expected = format!("/clawkerd-test-{name}-{}", std::process::id());
        if let Err(e) = std::fs::create_dir(format!("/sys/fs/cgroup/freezer{expected}")) {
            println!("skipped: can't make a cgroup: {e}");
            return None;
        }
        let agent = AgentCgroup::create(&expected).expect("made");
        Some(Self { expected, agent })
    }

    pub fn plane(&self) -> Plane {
        Plane::with_cgroup(
            self.agent.procs_fd().expect("open"),
            self.agent.freeze_fd().expect("open"),
        )
    }

    pub fn state(&self) -> Freeze {
        self.agent.state().expect("readable")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Ok(Some(whole)) = ContainerCgroup::open(&self.expected) {
            let _ = whole.kill_all();
        }
        let dir = format!("/sys/fs/cgroup/freezer{}", self.expected);
        let deadline = Instant::now() + 5 * SECOND;
        while std::fs::remove_dir(format!("{dir}/agent")).is_err() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let _ = std::fs::remove_dir(dir);
    }
}

const BUSY: &str = "trap 'exit 3' TERM; while :; do :; done";

#[tokio::test]
async fn a_lease_that_runs_out_freezes_and_the_control_plane_hears_of_it() {
    let Some(cgroup) = Cgroup::new("lease") else { return };
    let plane = cgroup.plane();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session_with(Some(pb::Lease { seconds: 2 })).await;
    session.ready(main(BUSY)).await;
    assert_eq!(
        cgroup.agent.pids().expect("readable").len(),
        1,
        "main is not in its cgroup"
    );
    drop(session);
    eventually("agent is frozen", || (cgroup.state() == Freeze::Frozen).then_some(()));
    // PID 1 reports it and thaws nothing: that is the control plane's to do.
    let mut session = plane.session().await;
    assert!(session.ack.lease_frozen && session.ack.lease_lost && session.ack.command_running);
    assert_eq!(cgroup.state(), Freeze::Frozen);
    cgroup.agent.thaw(5 * SECOND).expect("thawed");
    assert!(matches!(
        session.ask(Command::Lease(pb::Lease { seconds: 60 })).await,
        Body::Done(_)
    ));
    drop(session);
    let ack = plane.session().await.ack;
    assert!(!ack.lease_frozen && !ack.lease_lost);
    assert_eq!(cgroup.state(), Freeze::Running);
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait().0, Some(3));
}

#[tokio::test]
async fn an_orphan_that_is_to_continue_does_and_the_control_plane_hears_of_it() {
    let Some(cgroup) = Cgroup::new("on") else { return };
    let plane = cgroup.plane();
    let container = Container::start(plane.dir(), &["--on-orphan=continue"]);
    let mut session = plane.session_with(Some(pb::Lease { seconds: 1 })).await;
    session.ready(main(BUSY)).await;
    drop(session);
    container.expect_said("going on without");
    let mut session = plane.session().await;
    assert!(session.ack.lease_lost && !session.ack.lease_frozen);
    assert_eq!(cgroup.state(), Freeze::Running);
    // Said until a lease comes: an answer that is lost on its way takes nothing with it.
    drop(session);
    session = plane.session().await;
    assert!(session.ack.lease_lost);
    session.ask(Command::Lease(pb::Lease { seconds: 60 })).await;
    drop(session);
    assert!(!plane.session().await.ack.lease_lost);
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait().0, Some(3));
}

#[tokio::test]
async fn sigterm_ends_a_frozen_agent() {
    let Some(cgroup) = Cgroup::new("term") else { return };
    let plane = cgroup.plane();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session_with(Some(pb::Lease { seconds: 1 })).await;
    session.ready(main(BUSY)).await;
    drop(session);
    eventually("agent is frozen", || (cgroup.state() == Freeze::Frozen).then_some(()));
    let begun = Instant::now();
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait().0, Some(137));
    assert!(begun.elapsed() < 5 * SECOND, "it took {:?}", begun.elapsed());
    assert_eq!(cgroup.state(), Freeze::Running);
}

#[tokio::test]
async fn a_spawn_into_a_frozen_agent_holds_nobody_up() {
    let Some(cgroup) = Cgroup::new("spawn") else { return };
    let plane = cgroup.plane();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    cgroup.agent.freeze(5 * SECOND).expect("frozen");
    session
        .send(Command::Exec(crate::session::exec("cold", "exit 4")))
        .await;
    // PID 1 goes on answering while the exec stands still.
    assert!(matches!(
        session.ask(Command::Lease(pb::Lease { seconds: 0 })).await,
        Body::Done(_)
    ));
    assert!(matches!(
        session.ask(Command::AgentInitialized(pb::AgentInitialized {})).await,
        Body::Done(_)
    ));
    eventually("it stands in its cgroup", || {
        (cgroup.agent.pids().expect("readable").len() == 1).then_some(())
    });
    cgroup.agent.thaw(5 * SECOND).expect("thawed");
    let mut started = false;
    loop {
        match session.next().await.1 {
            Body::Started(s) if s.exec_id == "cold" => started = true,
            Body::Exited(exited) => {
                assert_eq!((started, exited.code), (true, 4));
                break;
            }
            _ => {}
        }
    }
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait().0, Some(143));
}

#[tokio::test]
async fn an_orphan_that_is_to_stop_is_stopped() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &["--on-orphan=stop:4"]);
    // The control plane names no lease: the command line's is in force.
    let mut session = plane.session_with(None).await;
    session.ready(main(BUSY)).await;
    drop(session);
    let (code, _, stderr) = container.wait();
    assert_eq!(code, Some(3), "{stderr}");
}
