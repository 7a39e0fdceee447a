//! `run` and `start --attach`: streams, signals, exit codes and cut connections.

use std::collections::HashMap;
use std::sync::Arc;

use clawker_cli::term::{Signal, Ttys};
use clawker_wire::admin::*;
use insta::assert_snapshot;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::fake::{Say, Script};
use crate::stage::{Props, Stage};

fn progress(body: start_progress::Body) -> Say<StartProgress> {
    Say::Message(StartProgress { body: Some(body) })
}

fn ready() -> Say<StartProgress> {
    progress(start_progress::Body::Ready(Ready { pid: 9 }))
}

fn exit(code: i32) -> Say<StartProgress> {
    progress(start_progress::Body::Exit(Exit {
        code,
        signal: 0,
        oom: false,
    }))
}

fn step(completed: bool) -> Say<StartProgress> {
    progress(start_progress::Body::Step(PlanProgress {
        name: "welcome".into(),
        index: 1,
        count: 2,
        completed,
    }))
}

fn output(body: attach_output::Body) -> Say<AttachOutput> {
    Say::Message(AttachOutput { body: Some(body) })
}

fn attached(tty: bool) -> Say<AttachOutput> {
    output(attach_output::Body::Attached(Attached { tty }))
}

fn stdout(bytes: &'static [u8]) -> Say<AttachOutput> {
    output(attach_output::Body::Stdout(bytes.into()))
}

fn stage(start: Script<StartProgress>, attach: Script<AttachOutput>) -> Stage {
    let stage = Stage::new();
    stage.fake.with(|scene| {
        scene.start = vec![start];
        scene.attach = vec![attach];
    });
    stage
}

fn heard(stage: &Stage) -> Arc<Semaphore> {
    stage.fake.with(|scene| scene.heard.0.clone())
}

async fn word(heard: &Semaphore) {
    heard.acquire().await.expect("never closed").forget();
}

#[tokio::test]
async fn the_exit_code_and_both_streams_pass_through() {
    let stderr = output(attach_output::Body::Stderr("oh\n".into()));
    let stage = stage(
        vec![
            progress(start_progress::Body::Doing("connecting".into())),
            step(false),
            step(true),
            ready(),
            exit(7),
        ],
        vec![attached(false), stdout(b"\x1b[31m\xffred\x07\n"), stderr],
    );
    let seen = stage
        .run(&["run", "--rm", "img", "--", "sh", "-c", "exit 7"], Props::default())
        .await;
    assert_eq!(seen.code, 7);
    assert_eq!(seen.stdout, b"\x1b[31m\xffred\x07\n");
    let mut lines: Vec<&str> = seen.err.lines().collect();
    assert!(lines.contains(&"oh"));
    lines.retain(|line| *line != "oh");
    assert_snapshot!(lines.join("\n"), @r#"
    clawker: making an agent from img
    clawker: connecting
    clawker: step 1/2 welcome begins
    clawker: step 1/2 welcome done
    "#);
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert_eq!(
        asked,
        ["create", "attach", "start clawker.web.scout detach=false"],
        "attached before the start"
    );
    let created = stage.fake.with(|scene| scene.created.take()).expect("created");
    assert_eq!(created.command, ["sh", "-c", "exit 7"]);
    assert!(created.remove && !created.stdin && !created.tty);
}

#[tokio::test]
async fn progress_for_programs() {
    let stage = stage(vec![step(true), ready(), exit(0)], vec![attached(false)]);
    let seen = stage.run(&["run", "--json", "img"], Props::default()).await;
    assert_snapshot!(seen.err, @r#"
    {"progress":"doing","text":"making an agent from img"}
    {"completed":true,"count":2,"index":1,"name":"welcome","progress":"step"}
    {"progress":"running"}
    "#);
}

#[tokio::test]
async fn options_become_the_request() {
    let stage = stage(vec![ready()], Vec::new());
    let dir = stage.dir.path();
    std::fs::write(dir.join("token"), "s3cret\n").expect("written");
    std::fs::write(dir.join("env"), "# x\nA=file\nB=file\nHOME\n").expect("written");
    std::fs::create_dir(dir.join("work")).expect("made");
    let (token, env) = (
        format!("T={}/token,as=file", dir.display()),
        format!("{}/env", dir.display()),
    );
    let line = [
        "run",
        "-d",
        "--name",
        "scout",
        "--project",
        "web",
        "-u",
        "host",
        "-e",
        "A=line",
        "-e",
        "UNSET",
        "--env-file",
        &env,
        "--secret",
        &token,
        "-v",
        "./work:/work:ro",
        "-p",
        "8080:80",
        "--network",
        "none",
        "--memory",
        "512m",
        "--cpus",
        "1.5",
        "--pids",
        "64",
        "--entrypoint",
        "/bin/x",
        "-w",
        "/work",
        "--egress",
        "192.0.2.7:443",
        "--allow-sudo",
        "--on-orphan",
        "continue:300",
        "--on-absent",
        "defaults:60",
        "--unverified-network",
        "--restart",
        "on-failure:3",
        "img",
        "--",
        "-v",
    ];
    let props = Props {
        vars: HashMap::from([("HOME".to_owned(), "/root".to_owned())]),
        cwd: dir.to_owned(),
        ..Props::default()
    };
    let seen = stage.run(&line, props).await;
    assert_eq!(
        (seen.code, seen.out().as_str()),
        (0, "clawker.web.scout\n"),
        "{}",
        seen.err
    );
    let created = stage.fake.with(|scene| scene.created.take()).expect("created");
    let work = dir.canonicalize().expect("there").join("work");
    let expected = CreateAgentRequest {
        project: "web".into(),
        agent: "scout".into(),
        image: "img".into(),
        command: vec!["-v".into()],
        entrypoint: vec!["/bin/x".into()],
        user: Some("1000:100".into()),
        env: vec!["B=file".into(), "HOME=/root".into(), "A=line".into()],
        cwd: Some("/work".into()),
        secrets: vec![Secret {
            name: "T".into(),
            as_file: true,
            step_only: false,
            content: "s3cret\n".into(),
        }],
        mounts: vec![Mount {
            source: work.display().to_string(),
            target: "/work".into(),
            read_only: true,
        }],
        publish: vec!["8080:80".into()],
        network: "none".into(),
        egress: vec!["192.0.2.7:443".into()],
        memory: Some(512 << 20),
        nano_cpus: Some(1_500_000_000),
        pids: Some(64),
        allow_sudo: true,
        on_orphan: "continue:300".into(),
        on_absent: "defaults:60".into(),
        unverified_network: true,
        restart: "on-failure:3".into(),
        ..CreateAgentRequest::default()
    };
    assert_eq!(created, expected);
    assert!(!seen.err.contains("s3cret"));
}

#[tokio::test]
async fn bad_files_are_named() {
    let stage = stage(Vec::new(), Vec::new());
    let dir = stage.dir.path().display().to_string();
    std::fs::write(format!("{dir}/large"), vec![b'x'; 256 * 1024 + 1]).expect("written");
    std::fs::write(format!("{dir}/env"), "A=1\n=2\n").expect("written");
    for (option, value, code, named) in [
        (
            "--secret",
            format!("T={dir}/none"),
            66,
            "reading secret DIR/none: No such file",
        ),
        (
            "--secret",
            format!("T={dir}/large"),
            2,
            "reading secret DIR/large: larger than 256 KiB",
        ),
        (
            "--env-file",
            format!("{dir}/env"),
            2,
            "env file DIR/env, line 2: not an environment variable",
        ),
        ("--volume", "a/b:/c".to_owned(), 2, "volume `a/b` is neither"),
        ("--volume", "./none:/c".to_owned(), 66, "DIR/./none: No such file"),
    ] {
        let props = Props {
            cwd: dir.clone().into(),
            ..Props::default()
        };
        let seen = stage.run(&["run", option, &value, "img"], props).await;
        let err = seen.err.replace(&dir, "DIR");
        assert!(seen.code == code && err.contains(named), "{}: {err}", seen.code);
    }
    assert!(stage.fake.with(|scene| scene.asked.is_empty()), "nothing was made");
}

#[tokio::test]
async fn a_refused_agent_has_its_exit_code() {
    let refused = Refused {
        reason: "untrusted: register_failed".into(),
        hint: "clawker why web.scout".into(),
        exit: 77,
    };
    let stage = stage(
        vec![progress(start_progress::Body::Refused(refused))],
        vec![attached(false)],
    );
    let seen = stage.run(&["-q", "run", "img"], Props::default()).await;
    assert_eq!(seen.code, 77);
    assert_snapshot!(seen.err, @r#"
    error: untrusted: register_failed
    hint: clawker why web.scout
    "#);
}

#[tokio::test]
async fn stdin_reaches_the_command_and_ends() {
    let stage = Stage::new();
    let done = heard(&stage);
    // The words are: agent, stdin, eof.
    let verdict = vec![ready(), Say::Words(done, 3), exit(0)];
    stage.fake.with(|scene| {
        scene.start = vec![verdict];
        scene.attach = vec![vec![attached(false)]];
    });
    // The stream of output has to be open while input is awaited.
    stage
        .fake
        .with(|scene| scene.attach[0].push(Say::Until(Arc::new(Notify::new()))));
    let props = Props {
        stdin: Some(b"hi\n".to_vec()),
        ..Props::default()
    };
    let run = stage.run(&["run", "-i", "img"], props);
    let seen = run.await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        stage.fake.with(|scene| scene.input.clone()),
        ["agent clawker.web.scout", "stdin hi\n", "eof"]
    );
}

/// Without a terminal of its own the command gets our signals.
#[tokio::test]
async fn signals_are_forwarded() {
    let (send, signals) = mpsc::channel(8);
    let stage = Stage::new();
    let words = heard(&stage);
    let told = Arc::new(Notify::new());
    stage.fake.with(|scene| {
        scene.start = vec![vec![ready(), Say::Until(told.clone()), exit(143)]];
        scene.attach = vec![vec![attached(false), Say::Until(Arc::new(Notify::new()))]];
    });
    let props = Props {
        signals: Some(signals),
        ..Props::default()
    };
    let stderr = props.stderr.clone();
    let run = stage.run(&["--json", "run", "img"], props);
    let send = async {
        // `agent` is heard at attach; the signal is meant for the command, once it runs.
        word(&words).await;
        while !stderr.contains(r#"{"progress":"running"}"#) {
            tokio::task::yield_now().await;
        }
        send.send(Signal::Number(15)).await.expect("sent");
        word(&words).await;
        told.notify_one();
    };
    let (seen, ()) = tokio::join!(run, send);
    assert_eq!(seen.code, 143, "{}", seen.err);
    assert_eq!(
        stage.fake.with(|scene| scene.input.clone()),
        ["agent clawker.web.scout", "signal 15"]
    );
}

/// A command that takes no notice of Ctrl-C doesn't keep us.
#[tokio::test]
async fn the_third_interrupt_leaves() {
    let (send, signals) = mpsc::channel(8);
    let never = Arc::new(Notify::new());
    let stage = stage(
        vec![ready(), Say::Until(never.clone())],
        vec![attached(false), Say::Until(never)],
    );
    let props = Props {
        signals: Some(signals),
        ..Props::default()
    };
    let stderr = props.stderr.clone();
    let send = async {
        while !stderr.contains(r#"{"progress":"running"}"#) {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            send.send(Signal::Number(2)).await.expect("sent");
        }
    };
    let (seen, ()) = tokio::join!(stage.run(&["--json", "run", "img"], props), send);
    assert_eq!(seen.code, 130);
    assert!(
        seen.err.contains("left by signal 2; `web.scout` goes on"),
        "{}",
        seen.err
    );
}

#[tokio::test]
async fn an_interrupt_before_anything_was_made() {
    let (send, signals) = mpsc::channel(8);
    send.try_send(Signal::Number(2)).expect("room");
    let stage = stage(Vec::new(), Vec::new());
    stage
        .fake
        .with(|scene| scene.hold_create = Some(Arc::new(Notify::new())));
    let props = Props {
        signals: Some(signals),
        ..Props::default()
    };
    let seen = stage.run(&["-q", "run", "img"], props).await;
    assert_eq!(seen.code, 130);
    assert_snapshot!(seen.err, @r#"
    error: interrupted
    hint: see what was made: `clawker ps -a`
    "#);
}

/// An agent that is still being prepared is stopped: nobody would wait for it.
#[tokio::test]
async fn an_interrupt_before_the_command_runs_stops_the_agent() {
    let stage = Stage::new();
    let never = Arc::new(Notify::new());
    stage.fake.with(|scene| {
        scene.start = vec![vec![step(false), Say::Until(never.clone())]];
        scene.attach = vec![vec![attached(false), Say::Until(never.clone())]];
    });
    let (send, signals) = mpsc::channel(8);
    let interrupt = async {
        while stage
            .fake
            .with(|scene| !scene.start.is_empty() || scene.asked.len() < 3)
        {
            tokio::task::yield_now().await;
        }
        send.send(Signal::Number(2)).await.expect("sent");
    };
    let run = stage.run(
        &["run", "img"],
        Props {
            signals: Some(signals),
            ..Props::default()
        },
    );
    let (seen, ()) = tokio::join!(run, interrupt);
    assert_eq!(seen.code, 130, "{}", seen.err);
    assert_eq!(
        stage.fake.with(|scene| scene.asked.pop()).as_deref(),
        Some("stop clawker.web.scout None")
    );
}

/// What could not be started isn't left behind with `--rm`.
#[tokio::test]
async fn an_agent_that_cannot_be_started_is_removed_if_asked() {
    let stage = stage(Vec::new(), vec![attached(false), Say::Until(Arc::new(Notify::new()))]);
    let mut refusal = tonic::Status::failed_precondition("no such program");
    refusal
        .metadata_mut()
        .insert("clawker-exit", tonic::metadata::MetadataValue::from_static("125"));
    stage.fake.with(|scene| scene.refuse_start = Some(refusal));
    let seen = stage.run(&["-q", "run", "--rm", "img"], Props::default()).await;
    assert_eq!(
        (seen.code, seen.err.as_str()),
        (125, "error: no such program\n"),
        "{}",
        seen.err
    );
    let asked = stage.fake.with(|scene| scene.asked.pop());
    assert_eq!(asked.as_deref(), Some("remove clawker.web.scout force=true"));
}

/// The terminal is raw while the command runs, told its size, and restored in the end.
#[tokio::test]
async fn a_terminal_is_raw_and_restored() {
    let tty = Ttys {
        stdin: true,
        stdout: true,
        stderr: false,
    };
    for (end, code) in [(exit(3), 3), (Say::Fail(tonic::Status::not_found("gone")), 66)] {
        let stage = Stage::new();
        let sized = heard(&stage);
        stage.fake.with(|scene| {
            scene.start = vec![vec![ready(), Say::Words(sized, 3), end]];
            scene.attach = vec![vec![attached(true), Say::Until(Arc::new(Notify::new()))]];
        });
        let props = Props {
            tty,
            ..Props::default()
        };
        let raw = props.raw.clone();
        let seen = stage.run(&["run", "-it", "img"], props).await;
        assert_eq!(seen.code, code, "{}", seen.err);
        assert_eq!(*raw.lock().expect("raw"), (1, 1));
        let words = stage.fake.with(|scene| scene.input.clone());
        assert_eq!(words[..2], ["agent clawker.web.scout", "resize 24x80"]);
    }
}

/// The stream breaks, and so does its verdict: attached again, and the code is still found out.
#[tokio::test]
async fn a_cut_connection_is_attached_again() {
    let mut stopping = tonic::Status::unavailable("the control plane is stopping");
    stopping
        .metadata_mut()
        .insert("clawker-exit", tonic::metadata::MetadataValue::from_static("75"));
    let stage = stage(
        vec![ready(), Say::Fail(stopping)],
        vec![attached(false), Say::Until(Arc::new(Notify::new()))],
    );
    stage.fake.with(|scene| {
        scene.attach.push(vec![attached(false), stdout(b"after\n")]);
        scene.wait = Exit {
            code: 5,
            signal: 0,
            oom: true,
        };
    });
    let seen = stage.run(&["run", "img"], Props::default()).await;
    assert_eq!((seen.code, seen.out().as_str()), (5, "after\n"));
    assert_snapshot!(seen.err, @r#"
    clawker: making an agent from img
    clawker: the connection to the control plane broke; the agent goes on; trying again
    clawker: attached again; output in between is in `clawker logs web.scout`
    clawker: the kernel killed the command: out of memory (see --memory)
    "#);
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert_eq!(
        asked[2..],
        [
            "start clawker.web.scout detach=false",
            "attach",
            "wait clawker.web.scout"
        ]
    );
}

#[tokio::test]
async fn a_control_plane_that_stays_away_is_exit_75() {
    let stage = Stage::new();
    let socket = stage.socket();
    let gone = Arc::new(Notify::new());
    stage.fake.with(|scene| {
        scene.start = vec![vec![
            ready(),
            Say::Until(gone.clone()),
            Say::Fail(tonic::Status::unavailable("x")),
        ]];
        scene.attach = vec![vec![attached(false), Say::Until(Arc::new(Notify::new()))]];
    });
    let vanish = async {
        while stage
            .fake
            .with(|scene| !scene.start.is_empty() || scene.asked.len() < 3)
        {
            tokio::task::yield_now().await;
        }
        std::fs::remove_file(&socket).expect("removed");
        gone.notify_one();
    };
    let (seen, ()) = tokio::join!(stage.run(&["run", "img"], Props::default()), vanish);
    assert_eq!(seen.code, 75);
    assert_snapshot!(seen.err, @r#"
    clawker: making an agent from img
    clawker: the connection to the control plane broke; the agent goes on; trying again
    error: the control plane has not come back
    hint: clawker up
    hint: the agent goes on: `clawker logs web.scout`, `clawker wait web.scout`
    "#);
}

/// `clawker run … | head -1` ends as it would without clawker.
#[tokio::test]
async fn a_command_whose_output_nobody_reads_gets_sigpipe() {
    let stage = Stage::new();
    let words = heard(&stage);
    stage.fake.with(|scene| {
        // The words are: agent, signal.
        scene.start = vec![vec![ready(), Say::Words(words, 2), exit(141)]];
        scene.attach = vec![vec![
            attached(false),
            stdout(b"y\n"),
            Say::Until(Arc::new(Notify::new())),
        ]];
    });
    let props = Props {
        closed: true,
        ..Props::default()
    };
    let seen = stage.run(&["-q", "run", "img"], props).await;
    assert_eq!((seen.code, seen.err.as_str()), (141, ""));
    let words = stage.fake.with(|scene| scene.input.clone());
    assert_eq!(words, ["agent clawker.web.scout", "signal 13"]);
}

/// A listing says nothing about it.
#[tokio::test]
async fn a_listing_that_nobody_reads_ends_silently() {
    let stage = Stage::new();
    let props = Props {
        closed: true,
        ..Props::default()
    };
    let seen = stage.run(&["ps"], props).await;
    assert_eq!((seen.code, seen.err.as_str()), (141, ""));
}

#[tokio::test]
async fn start_attach_is_for_one() {
    let stage = stage(vec![ready(), exit(7)], vec![attached(false), stdout(b"x")]);
    let seen = stage.run(&["start", "-a", "a", "b"], Props::default()).await;
    assert_eq!(
        (seen.code, seen.err.as_str()),
        (2, "error: --attach is for one agent\n")
    );
    assert_eq!(stage.run(&["start", "-a", "a"], Props::default()).await.code, 7);
}
