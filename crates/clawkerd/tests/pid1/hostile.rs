//! Input that nobody means well by: what is asked for is absurd, the agent's processes are hostile, the connection is
//! cut. Each gets a typed answer, PID 1 lives and serves on, and its memory stays where it was.

mod arguments;
mod bombs;
mod cuts;
mod floods;
mod many;
mod paths;

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use crate::host::Container;
use crate::session::{Session, exec};

/// More than PID 1 ever needs: 16 MiB of output that it keeps for its execs, and itself in a debug build.
const INIT_MOST_KIB: u64 = 32 * 1024;
/// The same of the session half, with a message of 4 MiB in more than one shape.
const HALF_MOST_KIB: u64 = 96 * 1024;

/// What stands behind a name in `/proc/<pid>/status`, in KiB.
fn status_kib(pid: i32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).expect("a number");
    number.parse().expect("a number")
}

/// PID 1 and its half live, have never needed more memory than a fixed amount, and serve: an exec starts, ends with
/// its code and is forgotten.
async fn still_serves(container: &Container, session: &mut Session) {
    let half = container.half().expect("the half lives");
    let most = (status_kib(container.init, "VmHWM"), status_kib(half, "VmHWM"));
    assert!(most.0 < INIT_MOST_KIB, "PID 1 needed {} KiB", most.0);
    assert!(most.1 < HALF_MOST_KIB, "the half needed {} KiB", most.1);
    let id = "still-serves";
    let started = session.exec(id, "exit 7").await;
    assert!(matches!(started, Body::Started(_)), "{started:?}");
    assert_eq!(session.exited(id).await, (7, 0));
    session.drained(id).await;
    acknowledge(session, id).await;
}

async fn acknowledge(session: &mut Session, id: &str) {
    let ack = Command::AckExit(pb::AckExit { exec_id: id.to_owned() });
    let answer = session.ask(ack).await;
    assert!(matches!(answer, Body::Done(_)), "{answer:?}");
}

/// An exec whose only stage has these arguments.
fn with_argv(id: &str, argv: impl IntoIterator<Item = impl Into<String>>) -> pb::Exec {
    let mut exec = exec(id, "");
    exec.stages[0].argv = argv.into_iter().map(Into::into).collect();
    exec
}

/// Kind and errno of the refusal that this has to be.
async fn refused(session: &mut Session, exec: pb::Exec) -> (String, i32) {
    match session.ask(Command::Exec(exec)).await {
        Body::ExecFailed(failed) => (failed.kind, failed.errno),
        other => panic!("{other:?} instead of ExecFailed"),
    }
}

/// Bytes of all memory that a process holds by descriptors.
fn memfd_bytes(pid: i32) -> u64 {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
    let paths = folder.flatten().map(|entry| entry.path());
    let is_ring = |to: &std::path::Path| to.to_string_lossy().starts_with("/memfd:clawker-ring");
    let memfds = paths.filter(|path| std::fs::read_link(path).is_ok_and(|to| is_ring(&to)));
    memfds
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|meta| meta.len())
        .sum()
}
