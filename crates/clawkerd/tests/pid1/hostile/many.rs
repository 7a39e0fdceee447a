//! More execs than PID 1 keeps, and fewer descriptors than they would need.

use std::io;

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use super::{acknowledge, still_serves};
use crate::host::{Container, can_run};
use crate::plane::Plane;
use crate::session::{Session, exec};

/// docs/clawkerd.md
const MOST: usize = 1024;
/// Of a container that nobody gave more.
const SOFT: u64 = 1024;
const HARD: u64 = 8192;

fn limited(soft: u64, hard: u64) -> impl Fn() -> io::Result<()> + Send + Sync + 'static {
    move || {
        let limit = libc::rlimit {
            rlim_cur: soft,
            rlim_max: hard,
        };
        // SAFETY: the struct lives over the call.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Starts such execs, each at its end before the next, until one is refused: how many, and how it was.
async fn until_refused(session: &mut Session, script: &str, most: usize) -> (usize, pb::ExecFailed) {
    for number in 0..=most {
        let id = format!("many/{number}");
        match session.exec(&id, script).await {
            Body::Started(_) => {
                session.drained(&id).await;
            }
            Body::ExecFailed(failed) => return (number, failed),
            other => panic!("{other:?}"),
        }
    }
    panic!("{} execs and no end", most + 1);
}

#[tokio::test]
async fn as_many_ended_execs_as_is_said_are_kept_and_one_more_is_too_many() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start_prepared(plane.dir(), &[], limited(SOFT, HARD));
    let mut session = plane.session().await;
    let (kept, failed) = until_refused(&mut session, "echo said; exit 3", MOST).await;
    assert_eq!((kept, failed.kind.as_str()), (MOST, "too_many"), "{failed:?}");
    // The same again attaches, also now.
    assert!(matches!(
        session.exec("many/0", "echo said; exit 3").await,
        Body::Started(_)
    ));
    let (said, _) = session.io("many/1023", 0).await.all().await;
    assert_eq!(said, b"said\n");
    // A new half hears of them all.
    let half = container.half().expect("it lives");
    clawker_proc::signal::kill(half, libc::SIGKILL).expect("ours");
    let mut session = plane.session().await;
    assert_eq!((session.ack.execs.len(), session.ack.session_lives), (MOST, 2));
    assert!(
        session
            .ack
            .execs
            .iter()
            .all(|exec| exec.exited.as_ref().is_some_and(|exited| exited.code == 3))
    );
    // One place is one more exec.
    acknowledge(&mut session, "many/7").await;
    assert!(matches!(session.exec("one-more", "exit 4").await, Body::Started(_)));
    session.drained("one-more").await;
    let refused = session.exec("and-another", "exit 4").await;
    assert!(
        matches!(&refused, Body::ExecFailed(failed) if failed.kind == "too_many"),
        "{refused:?}"
    );
    for number in (0..MOST).filter(|number| *number != 7) {
        acknowledge(&mut session, &format!("many/{number}")).await;
    }
    acknowledge(&mut session, "one-more").await;
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn execs_begin_with_the_limits_of_the_container_and_not_with_those_of_pid_1() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start_prepared(plane.dir(), &[], limited(SOFT, HARD));
    let mut session = plane.session().await;
    session.exec("limits", "ulimit -Sn; ulimit -Hn").await;
    let (said, _) = session.io("limits", 0).await.all().await;
    assert_eq!(String::from_utf8_lossy(&said), format!("{SOFT}\n{HARD}\n"));
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn without_descriptors_for_another_exec_there_are_some_left_for_another_session() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start_prepared(plane.dir(), &[], limited(128, 128));
    let mut session = plane.session().await;
    let (kept, failed) = until_refused(&mut session, "exit 3", MOST).await;
    assert_eq!(failed.kind, "too_many", "{failed:?}");
    assert!(kept > 10, "only {kept}");
    for lives in 2..4 {
        let half = container.half().expect("it lives");
        clawker_proc::signal::kill(half, libc::SIGKILL).expect("ours");
        session = plane.session().await;
        assert_eq!((session.ack.execs.len(), session.ack.session_lives), (kept, lives));
    }
    for number in 0..kept {
        acknowledge(&mut session, &format!("many/{number}")).await;
    }
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn execs_that_run_share_the_memory_for_output_and_one_that_gets_none_is_too_many() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let mut running = 0;
    let failed = loop {
        match session.exec(&format!("runs/{running}"), "exec sleep 300").await {
            Body::Started(_) => running += 1,
            Body::ExecFailed(failed) => break failed,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failed.kind, "too_many", "{failed:?}");
    assert!((32..=MOST).contains(&running), "{running} ran at once");
    for number in 0..running {
        let exec_id = format!("runs/{number}");
        let signal = Command::Signal(pb::Signal {
            exec_id: exec_id.clone(),
            signo: 9,
        });
        session.ask(signal).await;
    }
    // What has ended holds no more than it has said.
    let mut patient = exec("another", "exit 5");
    patient.stdin = true;
    for number in 0..running {
        let state = session.exec(&format!("runs/{number}"), "exec sleep 300").await;
        assert!(matches!(state, Body::Started(_)));
        session.drained(&format!("runs/{number}")).await;
    }
    assert!(matches!(session.ask(Command::Exec(patient)).await, Body::Started(_)));
    assert_eq!(session.exited("another").await, (5, 0));
    still_serves(&container, &mut session).await;
}
