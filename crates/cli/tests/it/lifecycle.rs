//! `up` and `down`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use clawker_cli::Cli;
use clawker_cli::term::Ttys;
use clawker_wire::admin::AgentView;
use rustix::process::Pid;

use crate::stage::{Outcome, Props, Stage};

/// A folder with a `clawker-cp` that is this script.
fn program(dir: &Path, script: &str) {
    let path = dir.join("clawker-cp");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

async fn up(dir: &Path, more: &[&str]) -> Outcome {
    let socket = dir.join("run/admin.sock");
    let (socket, state) = (socket.to_str().expect("UTF-8"), dir.join("state"));
    let state = state.to_str().expect("UTF-8");
    let line = ["clawker", "--socket", socket, "up", "--state-dir", state]
        .into_iter()
        .chain(more.iter().copied());
    let props = Props {
        program_dir: Some(dir.to_owned()),
        ..Props::default()
    };
    let mut seen = props.run(Cli::try_parse_from(line).expect("good"), socket).await;
    seen.err = seen.err.replace(dir.to_str().expect("UTF-8"), "DIR");
    seen
}

#[tokio::test]
async fn a_control_plane_that_ends_at_once_is_shown_with_its_log_and_exit_code() {
    let dir = tempfile::tempdir().expect("a folder");
    program(
        dir.path(),
        "echo \"flags: $*\"; printf 'state is \\033[31mlocked\\n' >&2; exit 73",
    );
    let seen = up(dir.path(), &["--config", "/c.toml", "--label-prefix", "dev.try"]).await;
    assert_eq!(seen.code, 73);
    insta::assert_snapshot!(seen.err, @r#"
    clawker: starting the control plane
      flags: --admin-socket SOCKET --config /c.toml --state-dir DIR/state --label-prefix dev.try
      state is [31mlocked
    error: the control plane ended with exit code 73
    hint: all of its log: DIR/state/control-plane.log
    "#);
    let log = std::fs::metadata(dir.path().join("state/control-plane.log")).expect("a log");
    assert_eq!(log.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::metadata(dir.path().join("state"))
            .expect("state")
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    // A second attempt shows its own lines only.
    program(dir.path(), "echo second; exit 78");
    let seen = up(dir.path(), &[]).await;
    assert_eq!(seen.code, 78);
    assert!(
        seen.err.contains("  second\n") && !seen.err.contains("flags"),
        "{}",
        seen.err
    );
}

#[tokio::test]
async fn a_control_plane_that_never_answers_is_told_to_end() {
    let dir = tempfile::tempdir().expect("a folder");
    program(dir.path(), "echo waiting; exec sleep 600");
    let seen = up(dir.path(), &["--timeout", "1"]).await;
    assert_eq!(seen.code, 75);
    insta::assert_snapshot!(seen.err, @r#"
    clawker: starting the control plane
      waiting
    error: the control plane has not answered in 1 s; it was told to end
    hint: all of its log: DIR/state/control-plane.log; more time: --timeout
    "#);
}

#[tokio::test]
async fn up_waits_until_it_answers_and_leaves_it_running() {
    let mut stage = Stage::empty();
    let dir = stage.dir.path().to_owned();
    program(&dir, "echo $$ > \"$4/started\"; exec sleep 600");
    stage.fake.with(|scene| scene.status.version = "0.1.0".into());
    let (socket, state) = (stage.socket(), dir.join("state"));
    let line = ["clawker", "--json", "--socket"].into_iter().map(Into::into);
    let line = line.chain([
        socket.clone().into_os_string(),
        "up".into(),
        "--state-dir".into(),
        state.clone().into(),
    ]);
    let props = Props {
        program_dir: Some(dir),
        ..Props::default()
    };
    let shown = socket.display().to_string();
    let run = props.run(Cli::try_parse_from(line).expect("good"), &shown);
    let serve = async {
        while !state.join("started").exists() {
            tokio::task::yield_now().await;
        }
        stage.serve();
    };
    let (seen, ()) = tokio::join!(run, serve);
    assert_eq!(seen.code, 0, "{}", seen.err);
    let result: serde_json::Value = serde_json::from_slice(&seen.stdout).expect("an object");
    assert_eq!((&result["state"], &result["version"]), (&"up".into(), &"0.1.0".into()));
    let pid = i32::try_from(result["pid"].as_i64().expect("a pid"))
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid");
    // Of a session of its own: the end of our terminal is not its end.
    assert_eq!(rustix::process::getsid(Some(pid)).expect("it runs"), pid);
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let seen = up(dir.path(), &[]).await;
    assert_eq!(seen.code, 69);
    assert!(
        seen.err
            .starts_with("error: `clawker-cp` is neither beside clawker nor in PATH\n"),
        "{}",
        seen.err
    );
    assert!(!dir.path().join("state").exists(), "something was made");
}

#[tokio::test]
async fn already_up() {
    let stage = Stage::new();
    stage.fake.with(|scene| scene.status.version = "0.1.0".into());
    let seen = stage.run(&["up"], Props::default()).await;
    assert_eq!(
        (seen.code, seen.err.as_str()),
        (0, "clawker 0.1.0 is already up on SOCKET\n")
    );
}

#[tokio::test]
async fn down_has_to_be_told_what_becomes_of_agents() {
    let stage = Stage::new();
    let seen = stage.run(&["down"], Props::default()).await;
    assert_eq!(seen.code, 2);
    insta::assert_snapshot!(seen.err, @r#"
    error: what shall become of the agents?
    hint: clawker down --agents stop, --agents leave or --agents freeze
    "#);
    assert!(stage.fake.with(|scene| scene.asked.is_empty()));
}

#[tokio::test]
async fn down_asks_on_a_terminal() {
    let stage = Stage::new();
    stage.fake.with(|scene| scene.agents = vec![AgentView::default(); 2]);
    let tty = Ttys {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let props = Props {
        stdin: Some(b"what?\nf\n".to_vec()),
        tty,
        ..Props::default()
    };
    let socket = stage.socket();
    let fake = stage.fake.clone();
    // Once it is asked to shut down, its socket is gone.
    let gone = async {
        while !fake.with(|scene| scene.asked.iter().any(|asked| asked.starts_with("shutdown"))) {
            tokio::task::yield_now().await;
        }
        std::fs::remove_file(&socket).expect("removed");
    };
    let (seen, ()) = tokio::join!(stage.run(&["down"], props), gone);
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(seen.err.matches("2 agents running. [s]top").count(), 2);
    assert!(
        seen.err.contains("clawker.demo.deaf had no session to be told on"),
        "{}",
        seen.err
    );
    assert_eq!(
        stage.fake.with(|scene| scene.asked.clone()),
        ["list all=false", "shutdown freeze"]
    );
}

#[tokio::test]
async fn already_down() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("admin.sock");
    let socket = socket.to_str().expect("UTF-8");
    let cli = Cli::try_parse_from(["clawker", "--socket", socket, "down", "--agents", "leave"]).expect("good");
    let seen = Props::default().run(cli, socket).await;
    assert_eq!(
        (seen.code, seen.err.as_str()),
        (0, "The control plane on SOCKET is already down.\n")
    );
}
