//! Starts without a control plane.

use clawker_proc::cgroup::Freeze;
use clawker_wire::defaults;
use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use crate::frozen::Cgroup;
use crate::host::{Container, can_run, eventually};
use crate::plane::Plane;
use crate::session::main;

fn by_defaults(script: &str, seconds: u32) -> [String; 2] {
    let ready = pb::AgentReady {
        main: Some(main(script)),
        ..pb::AgentReady::default()
    };
    [
        format!("--on-absent=defaults:{seconds}"),
        format!("--defaults={}", defaults::encode(&ready).expect("small")),
    ]
}

fn start(plane: &Plane, args: &[String]) -> Container {
    Container::start(plane.dir(), &args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn it_says_that_it_waits_and_what_follows() {
    if !can_run() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let container = Container::start(dir.path(), &["--on-absent=await:4"]);
    container.expect_said("waiting for the control plane");
    let (code, stdout, stderr) = container.wait();
    assert_eq!((code, stdout.as_str()), (Some(75), ""));
    assert!(
        stderr.contains("giving up in") && stderr.contains("no control plane came"),
        "{stderr}"
    );
}

#[tokio::test]
async fn the_defaults_run_and_a_control_plane_that_comes_finds_them_running() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = start(
        &plane,
        &by_defaults("echo ran >&2; trap 'exit 3' TERM; while :; do sleep 0.05; done", 1),
    );
    container.expect_said("ran\n");
    let mut session = plane.session().await;
    assert!(
        session.ack.command_running && !session.ack.initialized,
        "{:?}",
        session.ack
    );
    // Whatever is asked now, this start has its command.
    let answer = session.ready(main("echo another")).await;
    assert!(matches!(&answer, Body::Started(s) if s.exec_id == "main"), "{answer:?}");
    container.signal(libc::SIGTERM);
    let (code, stdout, stderr) = container.wait();
    assert_eq!((code, stdout.as_str()), (Some(3), ""), "{stderr}");
}

#[tokio::test]
async fn a_control_plane_that_comes_in_time_is_obeyed_and_the_defaults_are_not() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = start(&plane, &by_defaults("echo defaults", 5));
    let mut session = plane.session().await;
    // The deadline passes while the plan runs, and nothing follows from it.
    session.exec("a-long-step", "sleep 6").await;
    assert_eq!(session.exited("a-long-step").await, (0, 0));
    session.ready(main("echo prepared")).await;
    assert_eq!(session.exited("main").await, (0, 0));
    assert_eq!(container.wait().1, "prepared\n");
}

/// What ran before there was a cgroup for it can be frozen like anything else once there is one.
#[tokio::test]
async fn what_runs_by_the_defaults_is_brought_under_the_control_plane_that_comes() {
    let Some(cgroup) = Cgroup::new("adopted") else { return };
    let plane = cgroup.plane();
    let script = "(while :; do sleep 0.01; done) & trap 'exit 3' TERM; echo ran >&2; while :; do sleep 0.01; done";
    let container = start(&plane, &by_defaults(script, 1));
    container.expect_said("ran\n");
    let mut session = plane.session().await;
    let outside = || {
        let inside = cgroup.agent.pids().expect("readable");
        let half = container.half();
        container
            .processes()
            .into_iter()
            .map(|(pid, _)| pid)
            .filter(|pid| *pid != container.init && Some(*pid) != half && !inside.contains(pid))
            .count()
    };
    eventually("all of it is in `agent`", || (outside() == 0).then_some(()));
    assert!(cgroup.agent.pids().expect("readable").len() >= 2);
    cgroup.agent.freeze(std::time::Duration::from_secs(5)).expect("frozen");
    assert_eq!(cgroup.state(), Freeze::Frozen);
    cgroup.agent.thaw(std::time::Duration::from_secs(5)).expect("thawed");
    session.ask(Command::Lease(pb::Lease { seconds: 0 })).await;
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait().0, Some(3));
}
