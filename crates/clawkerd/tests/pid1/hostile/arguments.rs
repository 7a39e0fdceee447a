//! Specs of execs, and signals, that nobody should send.

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use super::{acknowledge, refused, still_serves, with_argv};
use crate::host::{Container, can_run};
use crate::plane::Plane;
use crate::session::{Session, exec};

/// Starts it and waits for its end; its output and its code.
async fn run(session: &mut Session, spec: pb::Exec) -> (String, i32) {
    let id = spec.exec_id.clone();
    let started = session.ask(Command::Exec(spec)).await;
    assert!(matches!(started, Body::Started(_)), "{started:?}");
    let (stdout, _) = session.io(&id, 0).await.all().await;
    let (code, _) = session.exited(&id).await;
    session.drained(&id).await;
    acknowledge(session, &id).await;
    (String::from_utf8_lossy(&stdout).into_owned(), code)
}

fn counting(id: &str, arguments: usize, each: &str) -> pb::Exec {
    let mut exec = exec(id, "echo $#");
    let rest = std::iter::repeat_n(each, arguments).map(str::to_owned);
    exec.stages[0].argv.extend(["sh".to_owned()].into_iter().chain(rest));
    exec
}

#[tokio::test]
async fn many_arguments_are_taken_and_too_many_or_too_long_ones_are_refused() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let ran = run(&mut session, counting("many", 10_000, "a")).await;
    assert_eq!(ran, ("10000\n".to_owned(), 0));
    let over = "x".repeat(128 * 1024);
    let mut entries = exec("entries", "true");
    entries.stages[0].env = vec!["A=1".to_owned(); 32 * 1024 + 1];
    for spec in [
        counting("too-many", 32 * 1024, "a"),
        // MAX_ARG_STRLEN, 32 pages with the zero at its end.
        counting("too-long", 1, &over),
        entries,
    ] {
        let id = spec.exec_id.clone();
        let refusal = refused(&mut session, spec).await;
        assert_eq!(refusal, ("spawn".to_owned(), libc::E2BIG), "{id}");
    }
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn an_environment_beyond_the_kernels_limit_or_the_messages_is_refused() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let with = |mib: usize| {
        let mut exec = exec("large", "true");
        let entry = |number: usize| format!("E{number}={}", "x".repeat(64 * 1024));
        exec.stages[0].env = (0..mib * 16).map(entry).collect();
        exec
    };
    // Within a message, and not within a quarter of the stack's limit (execve(2)).
    let refusal = refused(&mut session, with(3)).await;
    assert_eq!(refusal, ("spawn".to_owned(), libc::E2BIG));
    still_serves(&container, &mut session).await;
    // Beyond a message: it isn't even read, and the session ends with the reason.
    session.send(Command::Exec(with(100))).await;
    let status = loop {
        match session.try_next().await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    let mut session = plane.session().await;
    assert_eq!(session.ack.session_lives, 1, "the half died of it");
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn a_spec_that_makes_no_sense_is_refused_by_name() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let stages = |count: usize| pb::Exec {
        stages: vec![exec("", "true").stages[0].clone(); count],
        ..exec("stages", "true")
    };
    let cwd = |cwd: &str| {
        let mut exec = exec("cwd", "true");
        exec.stages[0].cwd = cwd.to_owned();
        exec
    };
    let env = |entry: &str| {
        let mut exec = exec("env", "true");
        exec.stages[0].env = vec![entry.to_owned()];
        exec
    };
    let named = |id: &str| exec(id, "true");
    for (what, spec, kind, errno) in [
        ("no stage", stages(0), "unsupported", 0),
        ("17 stages", stages(17), "unsupported", 0),
        ("no argument", with_argv("argv", [""; 0]), "not_found", libc::ENOENT),
        ("an empty name", with_argv("argv", [""]), "not_found", libc::ENOENT),
        ("a zero byte", with_argv("argv", ["tr\0ue"]), "spawn", libc::EINVAL),
        (
            "a zero byte behind",
            with_argv("argv", ["true", "a\0"]),
            "spawn",
            libc::EINVAL,
        ),
        ("a zero byte in the environment", env("A=\0"), "spawn", libc::EINVAL),
        ("a zero byte in the directory", cwd("/\0"), "bad_cwd", libc::EINVAL),
        ("a relative directory", cwd("tmp"), "bad_cwd", libc::EINVAL),
        ("no directory", cwd("/no/such"), "bad_cwd", libc::ENOENT),
        ("a file for a directory", cwd("/etc/passwd"), "bad_cwd", libc::ENOTDIR),
        (
            "a long directory",
            cwd(&format!("/{}", "x".repeat(5000))),
            "bad_cwd",
            libc::ENAMETOOLONG,
        ),
        ("no id", named(""), "bad_id", libc::EINVAL),
        ("a long id", named(&"x".repeat(10_000)), "bad_id", libc::EINVAL),
        ("a zero byte in the id", named("a\0"), "bad_id", libc::EINVAL),
        ("a line's end in the id", named("a\nb"), "bad_id", libc::EINVAL),
        ("an escape in the id", named("a\u{1b}[2J"), "bad_id", libc::EINVAL),
        ("the command's id", named("main"), "bad_id", libc::EINVAL),
    ] {
        let refusal = refused(&mut session, spec).await;
        assert_eq!((refusal.0.as_str(), refusal.1), (kind, errno), "{what}");
    }
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn a_spec_that_is_only_odd_is_taken() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let mut nameless = exec("env", "env | grep -c '^NAMELESS$'");
    nameless.stages[0].env = vec!["NAMELESS".to_owned(), "=".to_owned()];
    assert_eq!(
        run(&mut session, nameless).await.1,
        1,
        "a shell passes no entry on that has no name"
    );
    let mut patient = exec("timeout", "exit 3");
    patient.timeout = u32::MAX;
    assert_eq!(run(&mut session, patient).await.1, 3);
    for (rows, cols, seen) in [(0, 0, "0 0"), (u32::MAX, 70_000, "65535 65535")] {
        let mut on_terminal = exec("tty", "stty size");
        on_terminal.tty = Some(pb::Tty { rows, cols });
        let started = session.ask(Command::Exec(on_terminal)).await;
        assert!(matches!(started, Body::Started(_)), "{started:?}");
        let (stdout, _) = session.io("tty", 0).await.all().await;
        assert_eq!(String::from_utf8_lossy(&stdout).trim(), seen);
        session.drained("tty").await;
        acknowledge(&mut session, "tty").await;
    }
    let longest = "x".repeat(256);
    assert_eq!(run(&mut session, exec(&longest, "exit 4")).await.1, 4);
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn what_is_no_signal_or_for_no_exec_is_refused_and_one_for_an_ended_exec_reaches_nobody() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    session.exec("sleeps", "exec sleep 300").await;
    session.exec("ended", "exit 5").await;
    session.exited("ended").await;
    let signal = |exec_id: &str, signo: u32| {
        Command::Signal(pb::Signal {
            exec_id: exec_id.to_owned(),
            signo,
        })
    };
    for (id, signo, code) in [
        ("sleeps", 0, "bad_signal"),
        ("sleeps", 65, "bad_signal"),
        ("sleeps", u32::MAX, "bad_signal"),
        ("ended", 0, "bad_signal"),
        ("none", 9, "not_found"),
        ("", 9, "not_found"),
        ("main", 9, "not_found"),
    ] {
        let answer = session.ask(signal(id, signo)).await;
        let refused = matches!(&answer, Body::Failed(failed) if failed.code == code);
        assert!(refused, "{signo} to `{id}`: {answer:?} instead of {code}");
    }
    let answer = session.ask(signal("ended", 9)).await;
    assert!(
        matches!(&answer, Body::Signalled(reached) if reached.processes == 0),
        "{answer:?}"
    );
    still_serves(&container, &mut session).await;
    let answer = session.ask(signal("sleeps", 64)).await;
    assert!(
        matches!(&answer, Body::Signalled(reached) if reached.processes == 1),
        "{answer:?}"
    );
    assert_eq!(session.exited("sleeps").await, (128 + 64, 64));
}
