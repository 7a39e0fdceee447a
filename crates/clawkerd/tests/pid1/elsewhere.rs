//! A control plane elsewhere: the join file, the port, and what PID 1 does without a cgroup of the control plane's.

use std::io::{Read, Write};

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use crate::host::{Container, can_run, eventually};
use crate::plane::Plane;
use crate::session::main;

fn joined(plane: &Plane) -> Container {
    Container::start(plane.dir(), &[&format!("--join={}", plane.join_file().display())])
}

#[tokio::test]
async fn a_joined_agent_is_dialled_and_registers_within_its_session() {
    if !can_run() {
        return;
    }
    let plane = Plane::elsewhere();
    let container = joined(&plane);
    let mut session = plane.session().await;
    assert!(!plane.join_file().exists(), "it was to be gone before anything else");
    let heard = plane.heard.lock().expect("lock").clone().expect("a preamble");
    assert_eq!((heard.held_generation, heard.root_ids.len()), (1, 1));
    let required = pb::RegisterRequired { token: "t".to_owned() };
    let Body::RegisterDone(done) = session.ask(Command::RegisterRequired(required)).await else {
        panic!("not RegisterDone");
    };
    let proof = done.proof.expect("a proof");
    let said = (proof.agent.as_str(), proof.token.as_str(), proof.join.as_str());
    assert_eq!(said, ("test", "t", "the join token"));

    // What is put there once it has joined is nobody's.
    std::fs::write(plane.join_file(), b"late").expect("put");
    session.ready(main("exit 7")).await;
    assert_eq!(session.exited("main").await, (7, 0));
    assert_eq!(container.wait().0, Some(7));
    assert!(!plane.join_file().exists(), "the command could have read it");
}

#[tokio::test]
async fn a_connection_that_never_shows_whose_it_is_costs_the_session_nothing() {
    if !can_run() {
        return;
    }
    let plane = Plane::elsewhere();
    let container = joined(&plane);
    let mut session = plane.session().await;
    let mut strangers: Vec<_> = (0..20).map(|_| plane.dial()).collect();
    for stranger in strangers.iter_mut().skip(10) {
        let mut greeting = [0; 4];
        stranger.read_exact(&mut greeting).expect("a preamble like anybody's");
        // It may have been thrown out already.
        let _ = stranger.write_all(b"GET / HTTP/1.1\r\n\r\n");
    }
    assert!(matches!(session.exec("x", "exit 3").await, Body::Started(_)));
    assert_eq!(session.exited("x").await, (3, 0));
    drop(strangers);
    // Nor do those that are left keep the control plane's next connection out; the one before ends then.
    let mut next = plane.session().await;
    assert!(matches!(next.exec("y", "exit 4").await, Body::Started(_)));
    assert_eq!(next.exited("y").await, (4, 0));
    drop(container);
}

#[tokio::test]
async fn without_a_freezer_a_lease_that_runs_out_stops_the_agent_until_the_next() {
    if !can_run() {
        return;
    }
    let plane = Plane::elsewhere();
    let container = joined(&plane);
    let mut session = plane.session_with(Some(pb::Lease { seconds: 2 })).await;
    session.ready(main("while :; do sleep 0.05; done")).await;
    let states = || -> Vec<char> {
        let others = container.processes().into_iter().map(|(pid, _)| pid);
        let others = others.filter(|pid| *pid != container.init && Some(*pid) != container.half());
        others
            .filter_map(|pid| clawker_proc::procfs::stat(pid).ok().map(|stat| stat.state))
            .collect()
    };
    drop(session);
    eventually("all of it is stopped", || {
        let states = states();
        (!states.is_empty() && states.iter().all(|state| *state == 'T')).then_some(())
    });
    let mut session = plane.session().await;
    assert!(session.ack.lease_frozen && session.ack.command_running);
    session.ask(Command::Lease(pb::Lease { seconds: 0 })).await;
    eventually("it runs again", || (!states().contains(&'T')).then_some(()));
    drop(container);
}
