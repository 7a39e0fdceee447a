//! Execs of generation 2: pipelines, whole trees, those that nobody is attached to, and what PID 1 allocates for them.

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use crate::host::{Container, can_run, eventually};
use crate::plane::Plane;
use crate::session::{Session, exec, main};

fn stage(script: &str) -> pb::Stage {
    pb::Stage {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..pb::Stage::default()
    }
}

fn pipeline(id: &str, scripts: &[&str]) -> pb::Exec {
    pb::Exec {
        exec_id: id.to_owned(),
        stages: scripts.iter().map(|script| stage(script)).collect(),
        ..pb::Exec::default()
    }
}

async fn signalled(session: &mut Session, id: &str, signo: u32) -> pb::Signalled {
    let signal = Command::Signal(pb::Signal {
        exec_id: id.to_owned(),
        signo,
    });
    match session.ask(signal).await {
        Body::Signalled(signalled) => signalled,
        other => panic!("{other:?} instead of Signalled"),
    }
}

#[tokio::test]
async fn a_pipeline_is_one_exec_whose_stages_all_say_how_they_ended() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let mut three = pipeline(
        "three",
        &[
            "cat; exit 3",
            "tr a-z A-Z; echo said >&2; exit 4",
            "cat; wc -c /dev/null; exit 5",
        ],
    );
    three.stdin = true;
    let started = session.ask(Command::Exec(three)).await;
    assert!(matches!(started, Body::Started(_)), "{started:?}");
    let mut io = session.io("three", 0).await;
    let data = pb::Data {
        stream: pb::Stream::Stdin as i32,
        offset: 0,
        bytes: b"typed\n"[..].into(),
    };
    io.send(pb::io_frame::Body::Data(data)).await;
    io.send(pb::io_frame::Body::StdinEof(pb::StdinEof {})).await;
    let (stdout, stderr) = io.all().await;
    assert_eq!(String::from_utf8_lossy(&stdout), "TYPED\n0 /dev/null\n");
    assert_eq!(stderr, b"said\n");
    let mut ends = [None; 3];
    let code = loop {
        match session.next().await {
            (0, Body::StageExit(end)) => ends[end.stage as usize] = Some((end.code, end.signal)),
            (0, Body::Exited(exited)) => break exited.code,
            (0, Body::Drained(_)) => panic!("drained before it had ended"),
            _ => {}
        }
    };
    assert_eq!((ends, code), ([Some((3, 0)), Some((4, 0)), Some((5, 0))], 5));
}

#[tokio::test]
async fn a_stage_that_cannot_be_executed_is_named_and_leaves_no_other() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let mut broken = pipeline("broken", &["sleep 300", "", "sleep 300"]);
    broken.stages[1].argv = vec!["no-such-command".to_owned()];
    let answer = session.ask(Command::Exec(broken)).await;
    assert!(
        matches!(&answer, Body::ExecFailed(f) if f.kind == "not_found" && f.stage == 1 && f.errno == libc::ENOENT),
        "{answer:?}"
    );
    eventually("only PID 1 and its half are left", || {
        (container.processes().len() == 2).then_some(())
    });
    let mut nobody = pipeline("nobody", &["true", "true"]);
    nobody.stages[1].user = "no-such-user".to_owned();
    let answer = session.ask(Command::Exec(nobody)).await;
    assert!(
        matches!(&answer, Body::ExecFailed(f) if f.kind == "bad_user" && f.stage == 1),
        "{answer:?}"
    );
    let mut on_terminal = pipeline("tty", &["true", "true"]);
    on_terminal.tty = Some(pb::Tty { rows: 1, cols: 1 });
    for exec in [pipeline("many", &["true"; 17]), on_terminal] {
        let answer = session.ask(Command::Exec(exec)).await;
        assert!(
            matches!(&answer, Body::ExecFailed(f) if f.kind == "unsupported"),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_signal_finds_those_that_left_session_group_and_parent_and_nobody_elses() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    session.ready(main("sleep 301")).await;
    // A daemon by the book: forked, a session of its own, forked again, its parents gone.
    let daemon = "setsid sh -c '(setsid sleep 302 >/dev/null 2>&1 &)'; exit 0";
    session.exec("daemon", daemon).await;
    assert_eq!(session.exited("daemon").await, (0, 0));
    assert!(!session.drained("daemon").await);
    let running = |wanted: &str| {
        let line = |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let processes = container.processes();
        processes
            .iter()
            .filter(|(pid, _)| line(pid) == format!("sleep\0{wanted}\0").as_bytes())
            .count()
    };
    eventually("both sleep", || {
        ((running("301"), running("302")) == (1, 1)).then_some(())
    });
    let reached = signalled(&mut session, "daemon", 9).await;
    assert_eq!((reached.processes, reached.strays.len()), (1, 0));
    eventually("the daemon is gone", || (running("302") == 0).then_some(()));
    assert_eq!(running("301"), 1, "the agent's own command was hit");
    assert_eq!(signalled(&mut session, "daemon", 9).await.processes, 0);
}

#[tokio::test]
async fn one_that_takes_its_mark_off_is_named_and_left_alone() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let hides = "setsid sh -c 'prlimit --pid $$ --locks=0 && (setsid sleep 303 >/dev/null 2>&1 &)'; exit 0";
    session.exec("hides", hides).await;
    assert_eq!(session.exited("hides").await, (0, 0));
    let sleeps = |pid: i32| std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n");
    eventually("it sleeps", || {
        container.processes().iter().any(|(pid, _)| sleeps(*pid)).then_some(())
    });
    let reached = signalled(&mut session, "hides", 9).await;
    let named: Vec<&str> = reached.strays.iter().map(|stray| stray.name.as_str()).collect();
    assert_eq!((reached.processes, named), (0, vec!["sleep"]));
    assert_eq!(container.processes().len(), 3, "it was signalled");
}

#[tokio::test]
async fn a_fork_bombs_tree_is_killed_to_its_last_process() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    // Each lives for a moment and leaves two behind, in sessions of their own; 64 generations would be too many.
    let bomb = "f() { setsid sh -c 'sleep 0.02; [ $(ls -d /proc/[0-9]* | wc -l) -gt 200 ] || \
                { setsid sh \"$0\" & setsid sh \"$0\" & }; sleep 0.05' /run/bomb; }; f";
    let write = Command::WriteFile(pb::WriteFile {
        path: "/run/bomb".to_owned(),
        mode: 0o644,
        content: "sleep 0.01; if [ $(ls -d /proc/[0-9]* | wc -l) -lt 150 ]; then setsid sh $0 & setsid sh $0 & fi; sleep 0.05"
            .as_bytes()
            .to_vec()
            .into(),
        ..pb::WriteFile::default()
    });
    session.ask(write).await;
    session.exec("bomb", bomb).await;
    eventually("it has spread", || (container.processes().len() > 20).then_some(()));
    signalled(&mut session, "bomb", 9).await;
    eventually("all of it is gone", || (container.processes().len() == 2).then_some(()));
}

#[tokio::test]
async fn an_exec_that_nobody_is_attached_to_is_told_when_its_while_is_over() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let with = |id: &str, goodbye: pb::Goodbye| pb::Exec {
        on_disconnect: Some(pb::OnDisconnect {
            goodbye: goodbye as i32,
            after_seconds: 1,
        }),
        ..exec(id, "trap 'exit 11' HUP; echo ready; while :; do sleep 0.05; done")
    };
    session.ask(Command::Exec(with("hangup", pb::Goodbye::Hangup))).await;
    session.ask(Command::Exec(with("kill", pb::Goodbye::Kill))).await;
    session.ask(Command::Exec(with("attached", pb::Goodbye::Hangup))).await;
    session.ask(Command::Exec(exec("keep", "read line; exit 12"))).await;
    let io = session.io("attached", 0).await;
    let mut codes = std::collections::BTreeMap::new();
    while codes.len() < 3 {
        let (id, code) = session
            .event(|body| match body {
                Body::Exited(exited) => Some((exited.exec_id, exited.code)),
                _ => None,
            })
            .await;
        codes.insert(id, code);
    }
    // Its standard input is empty, so it ends by itself.
    let known = |id: &str| codes.get(id).copied();
    assert_eq!(
        (known("hangup"), known("kill"), known("keep")),
        (Some(11), Some(137), Some(12))
    );
    assert_eq!(known("attached"), None, "somebody was there");
    drop(io);
    assert_eq!(session.exited("attached").await, (11, 0));
}

#[tokio::test]
async fn a_control_plane_of_generation_1_is_answered_as_it_was() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let refused = plane.session_of(0, None).await.err().expect("nobody speaks that");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("1 to 2"), "{refused}");
    let mut session = plane.session_of(1, None).await.expect("spoken");
    assert_eq!(session.ack.protocol, 1);
    session
        .ask(Command::Exec(pipeline("two", &["true", "sleep 300"])))
        .await;
    let signal = Command::Signal(pb::Signal {
        exec_id: "two".to_owned(),
        signo: 9,
    });
    assert!(matches!(session.ask(signal).await, Body::Done(_)));
    loop {
        match session.next().await.1 {
            Body::StageExit(_) => panic!("nobody knew that then"),
            Body::Exited(exited) => break assert_eq!(exited.signal, 9),
            _ => {}
        }
    }
}

#[tokio::test]
async fn pid_1_allocates_nothing_while_it_moves_bytes_and_reaps() {
    if !can_run() || !cfg!(debug_assertions) {
        return;
    }
    let plane = Plane::new();
    let counted = plane.dir().join("allocations");
    let container = Container::start(plane.dir(), &[&format!("--count-allocations={}", counted.display())]);
    let mut session = plane.session().await;
    session.ready(main("sleep 300")).await;
    let mut echo = exec("echo", "head -c 20000000 /dev/zero; cat >&2");
    echo.stdin = true;
    session.ask(Command::Exec(echo)).await;
    let orphans = "i=0; while [ $i -lt 300 ]; do (:&) ; i=$((i+1)); done";
    session.exec("orphans", orphans).await;
    let mut io = session.io("echo", 0).await;
    for number in 0..50 {
        let data = pb::Data {
            stream: pb::Stream::Stdin as i32,
            offset: number * 1000,
            bytes: vec![b'x'; 1000].into(),
        };
        io.send(pb::io_frame::Body::Data(data)).await;
    }
    io.send(pb::io_frame::Body::StdinEof(pb::StdinEof {})).await;
    let (stdout, stderr) = io.all().await;
    assert_eq!((stdout.len(), stderr.len()), (20_000_000, 50_000));
    container.signal(libc::SIGTERM);
    container.wait();
    let text = std::fs::read_to_string(&counted).expect("written at the end");
    let mut numbers = text
        .split_whitespace()
        .map(|word| word.parse::<u64>().expect("a number"));
    let (turns, allocations) = (numbers.next().expect("turns"), numbers.next().expect("allocations"));
    assert!(turns > 300, "only {turns} turns counted");
    assert_eq!(allocations, 0, "in {turns} turns");
}
