//! PID 1 for real, without Docker: namespaces made by the test, and a tiny control plane.

mod absent;
mod doctor;
mod elsewhere;
mod execs;
mod frozen;
mod host;
mod hostile;
mod plane;
mod recorded;
mod session;
mod storm;
mod trust;
mod upgrade;

use std::time::Instant;

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};
use host::{Container, can_run, eventually};
use plane::Plane;
use session::{exec, main};

#[tokio::test]
async fn the_exit_code_is_the_commands() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    assert_eq!(session.ack.protocol, clawker_wire::PROTOCOL, "the lower of both");
    assert!(!session.ack.command_running && !session.ack.initialized);
    let started = session
        .ready(main("echo hello; cat /var/run/clawker/ready; exit 7"))
        .await;
    assert!(
        matches!(&started, Body::Started(s) if s.exec_id == "main"),
        "{started:?}"
    );
    assert_eq!(session.exited("main").await, (7, 0));
    let (code, stdout, stderr) = container.wait();
    assert_eq!(code, Some(7), "{stderr}");
    assert!(stdout.starts_with("hello\n"), "{stdout}");
}

#[tokio::test]
async fn agent_ready_twice_is_one_spawn_even_over_a_new_session() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let script = "echo spawned; trap 'exit 3' TERM; while :; do sleep 0.05; done";
    let pid = |body: Body| match body {
        Body::Started(started) => started.pid,
        other => panic!("{other:?}"),
    };
    let first = pid(session.ready(main(script)).await);
    assert_eq!(pid(session.ready(main("echo another")).await), first);
    drop(session);
    let mut session = plane.session().await;
    assert!(session.ack.command_running);
    assert_eq!(
        session.ack.execs.iter().map(|e| e.exec_id.as_str()).collect::<Vec<_>>(),
        ["main"]
    );
    assert_eq!(pid(session.ready(main(script)).await), first);
    let held = plane.heard.lock().expect("lock").clone().expect("greeted");
    assert_eq!(
        (held.held_generation, held.root_ids.len()),
        (1, 1),
        "PID 1 forgot its bundle"
    );
    container.signal(libc::SIGTERM);
    let (code, stdout, _) = container.wait();
    assert_eq!(
        (code, stdout.as_str()),
        (Some(3), "spawned\n"),
        "the signal or the one spawn is missing"
    );
}

#[tokio::test]
async fn orphans_are_reaped_from_the_first_second() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    session
        .exec("orphans", "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done")
        .await;
    assert_eq!(session.exited("orphans").await, (0, 0));
    session.drained("orphans").await;
    let zombies = || {
        let zombie = |pid: &i32| clawker_proc::procfs::stat(*pid).is_ok_and(|stat| stat.state == 'Z');
        container.processes().iter().filter(|(pid, _)| zombie(pid)).count()
    };
    eventually("only PID 1 and its half are left", || {
        (container.processes().len() == 2).then_some(())
    });
    assert_eq!(zombies(), 0);
}

#[tokio::test]
async fn an_execs_output_comes_whole_and_its_record_stays_until_acknowledged() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    // More than any ring or pipe holds: it only ends if acknowledgements free the ring.
    let script = "head -c 3000000 /dev/zero | tr '\\0' 'x'; echo oops >&2; exit 5";
    assert!(matches!(session.exec("big", script).await, Body::Started(_)));
    let (stdout, stderr) = session.io("big", 0).await.all().await;
    assert_eq!((stdout.len(), stderr.as_slice()), (3_000_000, &b"oops\n"[..]));
    assert!(stdout.iter().all(|b| *b == b'x'));
    assert_eq!(session.exited("big").await, (5, 0));
    assert!(!session.drained("big").await);
    // The same id and spec attaches and hears of the end again; another spec is a conflict.
    assert!(matches!(session.exec("big", script).await, Body::Started(_)));
    assert_eq!(session.exited("big").await, (5, 0));
    let conflict = session.exec("big", "true").await;
    assert!(
        matches!(&conflict, Body::ExecFailed(f) if f.kind == "conflict"),
        "{conflict:?}"
    );
    let ack = Command::AckExit(pb::AckExit {
        exec_id: "big".to_owned(),
    });
    assert!(matches!(session.ask(ack).await, Body::Done(_)));
    assert!(
        matches!(session.exec("big", "true").await, Body::Started(_)),
        "the id is free again"
    );
}

#[tokio::test]
async fn what_cannot_be_executed_says_why() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let stage = |argv: &str, user: &str, cwd: &str| pb::Exec {
        exec_id: format!("{argv}{user}{cwd}"),
        stages: vec![pb::Stage {
            argv: vec![argv.to_owned()],
            user: user.to_owned(),
            env: Vec::new(),
            cwd: cwd.to_owned(),
        }],
        ..pb::Exec::default()
    };
    let none = pb::Exec {
        exec_id: "none".to_owned(),
        ..pb::Exec::default()
    };
    for (exec, kind) in [
        (stage("no-such-command", "", ""), "not_found"),
        (stage("/etc/passwd", "", ""), "not_executable"),
        (stage("true", "no-such-user", ""), "bad_user"),
        (stage("true", "", "/no/such/dir"), "bad_cwd"),
        (none, "unsupported"),
    ] {
        let answer = session.ask(Command::Exec(exec)).await;
        assert!(
            matches!(&answer, Body::ExecFailed(f) if f.kind == kind),
            "{answer:?} instead of {kind}"
        );
    }
    let missing = pb::Main {
        argv: vec!["no-such-command".to_owned()],
        ..pb::Main::default()
    };
    assert!(matches!(session.ready(missing).await, Body::ExecFailed(_)));
    assert_eq!(container.wait().0, Some(127));
}

#[tokio::test]
async fn a_user_without_rights_has_none() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let mut main =
        main("id -u; id -g; grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status; ls /proc/self/fd");
    main.user = "1234:4321".to_owned();
    session.ready(main).await;
    session.exited("main").await;
    let (code, stdout, stderr) = container.wait();
    assert_eq!(code, Some(0), "{stderr}");
    let words: Vec<&str> = stdout.split_whitespace().collect();
    let none = "0000000000000000";
    let expected = [
        "1234",
        "4321",
        "CapInh:",
        none,
        "CapPrm:",
        none,
        "CapEff:",
        none,
        "CapBnd:",
        none,
        "CapAmb:",
        none,
        "NoNewPrivs:",
        "1",
        "0",
        "1",
        "2",
        "3",
    ];
    assert_eq!(words, expected, "or a descriptor of PID 1's came along");
}

#[tokio::test]
async fn nobody_reads_pid_1_or_its_half() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    // Root, with every capability that a container's root has: of PID 1, of the session half, and as a control of a
    // process of its own.
    let script = "sleep 30 & for p in 1 2 $!; do \
                  for f in environ mem maps; do head -c 1 /proc/$p/$f >/dev/null 2>/tmp/err; \
                  grep -q 'denied\\|permitted' /tmp/err || echo read $p/$f; done; \
                  readlink /proc/$p/fd/1 >/dev/null && echo followed $p; done | sed s/$!/own/; kill $!; \
                  grep CapBnd /proc/self/status"
        .replace("/tmp/err", "/run/err");
    session.ready(main(&script)).await;
    session.exited("main").await;
    let (_, stdout, stderr) = container.wait();
    let seen: Vec<&str> = stdout.lines().filter(|line| !line.starts_with("CapBnd")).collect();
    assert_eq!(
        seen,
        ["read own/environ", "read own/mem", "read own/maps", "followed own"],
        "{stderr}"
    );
    let bounding = stdout
        .split_whitespace()
        .last()
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .expect("a mask");
    assert_eq!(bounding & (1 << 19 | 1 << 8), 0, "SYS_PTRACE or SETPCAP is left");
    assert_ne!(bounding, 0, "root lost everything");
}

#[tokio::test]
async fn a_killed_half_is_replaced_while_an_exec_goes_on() {
    replaced(libc::SIGKILL).await;
}

#[tokio::test]
async fn a_stopped_half_is_replaced_while_an_exec_goes_on() {
    replaced(libc::SIGSTOP).await;
}

async fn replaced(signo: i32) {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; read line; echo \"got $line\"; exit 6";
    let mut exec = exec("work", script);
    exec.stdin = true;
    session.ask(Command::Exec(exec)).await;
    let half = eventually("a half is there", || container.half());
    let begun = Instant::now();
    clawker_proc::signal::kill(half, signo).expect("ours");
    let mut session = plane.session().await;
    let waited = begun.elapsed();
    assert!(waited.as_secs() < 8, "replaced after {waited:?}");
    assert_eq!(session.ack.session_lives, 2);
    assert_ne!(container.half(), Some(half));
    let lives = session
        .event(|body| match body {
            Body::SessionHalfStopped(stopped) => Some(stopped.lives),
            _ => None,
        })
        .await;
    assert_eq!(lives, 2);
    let mut io = session.io("work", 0).await;
    let data = pb::Data {
        stream: pb::Stream::Stdin as i32,
        offset: 0,
        bytes: b"typed\n"[..].into(),
    };
    io.send(pb::io_frame::Body::Data(data)).await;
    let (stdout, _) = io.all().await;
    let expected: String = (0..20000)
        .map(|i| format!("{i}\n"))
        .chain(["got typed\n".to_owned()])
        .collect();
    assert!(
        stdout == expected.as_bytes(),
        "{} of {} bytes, or others",
        stdout.len(),
        expected.len()
    );
    assert_eq!(session.exited("work").await, (6, 0));
}

#[tokio::test]
async fn the_containers_terminal_is_the_commands() {
    use std::io::{Read, Write};
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let (container, mut terminal) = Container::start_on_terminal(plane.dir());
    let mut session = plane.session().await;
    // Only a process with a controlling terminal can open /dev/tty, and only its foreground group gets ^C.
    let mut command = main("trap 'exit 9' INT; echo mine >/dev/tty; while :; do sleep 0.05; done");
    command.tty = true;
    command.open_stdin = true;
    session.ready(command).await;
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("mine") {
        let mut buf = [0; 256];
        let n = terminal.read(&mut buf).expect("open");
        seen.extend_from_slice(&buf[..n]);
    }
    terminal.write_all(b"\x03").expect("typed");
    assert_eq!(container.wait().0, Some(9));
}

#[tokio::test]
async fn a_terminal_is_one() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let mut exec = exec("tty", "test -t 0 && stty size; read line; echo \"got $line\"");
    exec.tty = Some(pb::Tty { rows: 33, cols: 99 });
    exec.stdin = true;
    session.ask(Command::Exec(exec)).await;
    let mut io = session.io("tty", 0).await;
    let data = pb::Data {
        stream: pb::Stream::Stdin as i32,
        offset: 0,
        bytes: b"typed\n"[..].into(),
    };
    io.send(pb::io_frame::Body::Data(data)).await;
    let (stdout, _) = io.all().await;
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(text.contains("33 99") && text.contains("got typed"), "{text:?}");
}

#[tokio::test]
async fn a_timeout_ends_the_whole_tree_and_a_daemon_does_not_hold_the_end() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let mut slow = exec("slow", "sleep 300 & sleep 300");
    slow.timeout = 1;
    session.ask(Command::Exec(slow)).await;
    assert_eq!(session.exited("slow").await, (137, 9));
    session.drained("slow").await;
    eventually("both sleeps are gone", || {
        (container.processes().len() == 2).then_some(())
    });
    session.exec("daemon", "sleep 300 &").await;
    assert_eq!(session.exited("daemon").await, (0, 0));
    assert!(session.drained("daemon").await, "the daemon holds the pipe");
    let signal = Command::Signal(pb::Signal {
        exec_id: "daemon".to_owned(),
        signo: 9,
    });
    assert!(matches!(session.ask(signal).await, Body::Signalled(s) if s.processes == 1));
    eventually("the daemon is gone", || {
        (container.processes().len() == 2).then_some(())
    });
}

#[tokio::test]
async fn files_are_written_and_read() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let write = |when: pb::WriteWhen| {
        Command::WriteFile(pb::WriteFile {
            path: "/run/clawker-test/a/file".to_owned(),
            mode: 0o600,
            owner: "12:34".to_owned(),
            when: when as i32,
            content: b"content"[..].into(),
        })
    };
    let written = |body: Body| matches!(body, Body::FileWritten(w) if w.written);
    assert!(written(session.ask(write(pb::WriteWhen::Always)).await));
    assert!(!written(session.ask(write(pb::WriteWhen::IfAbsent)).await));
    assert!(!written(session.ask(write(pb::WriteWhen::IfChanged)).await));
    let read = |path: &str, max: u32| {
        Command::ReadFile(pb::ReadFile {
            path: path.to_owned(),
            max,
            user: String::new(),
        })
    };
    let content = session.ask(read("/run/clawker-test/a/file", 0)).await;
    assert!(
        matches!(&content, Body::FileContent(c) if c.content == b"content"[..]),
        "{content:?}"
    );
    for (path, max, code) in [
        ("/run/clawker-test/a/file", 3, "too_large"),
        ("/run/clawker-test/none", 0, "not_found"),
        ("/proc/1/environ", 0, "refused"),
        ("relative", 0, "bad_request"),
    ] {
        let answer = session.ask(read(path, max)).await;
        let refused = matches!(&answer, Body::Failed(f) if f.code == code)
            // PID 1's own files can't even be opened.
            || (path == "/proc/1/environ" && matches!(&answer, Body::Failed(_)));
        assert!(refused, "{path}: {answer:?} instead of {code}");
    }
}

#[tokio::test]
async fn a_secret_is_in_the_environment_or_in_memory_and_nowhere_else() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let secret = |name: &str, as_file: bool, content: &str| pb::Secret {
        name: name.to_owned(),
        as_file,
        content: content.as_bytes().to_vec().into(),
    };
    let mut command = main("echo $KEY; cat $FILE_FILE; stat -c '%a %u' $FILE_FILE");
    command.user = "1234".to_owned();
    let ready = pb::AgentReady {
        main: Some(command),
        secrets: vec![secret("KEY", false, "in-env\n"), secret("FILE", true, "in-file\n")],
        health: None,
    };
    session.ask(Command::AgentReady(ready)).await;
    session.exited("main").await;
    let (_, stdout, stderr) = container.wait();
    assert_eq!(stdout, "in-env\nin-file\n400 1234\n", "{stderr}");
}

#[tokio::test]
async fn health_is_told_when_it_changes() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let _container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let check = ["sh", "-c", "test ! -e /run/sick && test $(id -u) = 1234"]
        .map(str::to_owned)
        .to_vec();
    let mut command = main("sleep 300");
    command.user = "1234".to_owned();
    let ready = pb::AgentReady {
        main: Some(command),
        health: Some(pb::HealthCheck {
            argv: check,
            interval_ms: 50,
            timeout_ms: 5000,
            start_period_ms: 0,
            retries: 2,
        }),
        secrets: Vec::new(),
    };
    session.ask(Command::AgentReady(ready)).await;
    let health = |body| match body {
        Body::Health(health) => Some(health.healthy),
        _ => None,
    };
    assert!(session.event(health).await);
    session.exec("infect", "touch /run/sick").await;
    assert!(!session.event(health).await);
    session.exec("heal", "rm /run/sick").await;
    assert!(session.event(health).await);
}

#[test]
fn without_a_control_plane_sigterm_ends_it_and_a_deadline_does() {
    if !can_run() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let container = Container::start(dir.path(), &[]);
    eventually("a half is there", || container.half());
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait().0, Some(143));
    let container = Container::start(dir.path(), &["--on-absent=await:1"]);
    assert_eq!(container.wait().0, Some(75));
}

#[test]
fn init_that_is_not_pid_1_says_so() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_clawkerd"))
        .args(["init", "--", "sh"])
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}
