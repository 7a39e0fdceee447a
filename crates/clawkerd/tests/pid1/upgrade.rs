//! Another session half in the place of the first, while execs and the command go on.

use std::os::fd::OwnedFd;

use clawker_identity::digest;
use clawker_proc::memfd;
use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use crate::host::{Container, can_run, eventually};
use crate::plane::Plane;
use crate::session::{Session, exec, main};

/// The program under another version's name.
fn another_build() -> Vec<u8> {
    let (from, to) = (
        clawkerd::BUILD.as_bytes(),
        clawkerd::BUILD.replace("clawkerd 0", "clawkerd 9"),
    );
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_clawkerd")).expect("built");
    let mut at = 0;
    let mut replaced = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from) {
        at += found;
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        replaced += 1;
    }
    assert!(replaced > 0, "the program doesn't hold its name");
    bytes
}

fn sealed(bytes: &[u8]) -> OwnedFd {
    memfd::executable("half", bytes).expect("memfd")
}

async fn upgrade(session: &mut Session, digest: &[u8]) -> Body {
    let digest = digest.to_vec().into();
    session.ask(Command::Upgrade(pb::Upgrade { digest })).await
}

#[tokio::test]
async fn a_new_half_takes_over_and_the_command_and_the_execs_know_nothing_of_it() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    session
        .ready(main("trap 'exit 21' TERM; while :; do sleep 0.05; done"))
        .await;
    let mut work = exec("work", "seq 1 100000; read line; echo \"got $line\"; exit 22");
    work.stdin = true;
    session.ask(Command::Exec(work)).await;
    session.exec("over", "exit 23").await;
    assert_eq!(session.exited("over").await, (23, 0));
    let first = eventually("a half is there", || container.half());
    let another = another_build();
    *plane.half.lock().expect("lock") = Some(sealed(&another));
    assert!(matches!(upgrade(&mut session, &digest(&another)).await, Body::Done(_)));

    let mut session = plane.session().await;
    assert!(session.ack.build.starts_with("clawkerd 9"), "{}", session.ack.build);
    assert_eq!(session.ack.session_lives, 2);
    assert!(session.ack.command_running);
    let mut ids: Vec<&str> = session.ack.execs.iter().map(|exec| exec.exec_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["main", "over", "work"]);
    let over = session
        .ack
        .execs
        .iter()
        .find(|exec| exec.exec_id == "over")
        .expect("kept");
    assert_eq!(over.exited.as_ref().map(|exited| exited.code), Some(23));
    assert_ne!(container.half(), Some(first));
    let mut io = session.io("work", 0).await;
    let data = pb::Data {
        stream: pb::Stream::Stdin as i32,
        offset: 0,
        bytes: b"typed\n"[..].into(),
    };
    io.send(pb::io_frame::Body::Data(data)).await;
    let (stdout, _) = io.all().await;
    let expected: String = (1..=100_000)
        .map(|line| format!("{line}\n"))
        .chain(["got typed\n".to_owned()])
        .collect();
    assert!(
        stdout == expected.as_bytes(),
        "{} of {} bytes",
        stdout.len(),
        expected.len()
    );
    assert_eq!(session.exited("work").await, (22, 0));

    // It is what is started again, too.
    let half = eventually("a half is there", || container.half());
    clawker_proc::signal::kill(half, libc::SIGKILL).expect("ours");
    let session = plane.session().await;
    assert!(session.ack.build.starts_with("clawkerd 9"), "{}", session.ack.build);
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait().0, Some(21));
}

#[tokio::test]
async fn only_the_announced_half_is_started() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let refused = upgrade(&mut session, b"short").await;
    assert!(
        matches!(&refused, Body::Failed(f) if f.code == "bad_request"),
        "{refused:?}"
    );
    *plane.half.lock().expect("lock") = Some(sealed(b"not the one"));
    upgrade(&mut session, &digest(b"the one")).await;
    let mut session = plane.session().await;
    container.expect_said("is not the announced one");
    assert_eq!(
        (session.ack.build.as_str(), session.ack.session_lives),
        (clawkerd::BUILD, 1)
    );
    assert!(matches!(session.exec("still", "exit 4").await, Body::Started(_)));
    assert_eq!(session.exited("still").await, (4, 0));
}

#[tokio::test]
async fn a_half_that_never_serves_is_given_up_for_the_first_one() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    session.ready(main("sleep 300")).await;
    let useless = b"#!/bin/false\n";
    *plane.half.lock().expect("lock") = Some(sealed(useless));
    upgrade(&mut session, &digest(useless)).await;
    drop(session);
    // Each of its lives ends before it has answered the handshake.
    let mut tries = 0;
    while plane.connected().await.is_err() {
        tries += 1;
        assert!(tries < 10, "it is started for ever");
    }
    container.expect_said("going back to the first one");
    let session = plane.session().await;
    assert_eq!(session.ack.build, clawkerd::BUILD);
    assert!(session.ack.command_running);
}
