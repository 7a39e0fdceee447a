//! Verbs that do something to agents, and how failures are told.

use clap::Parser;
use clawker_cli::Cli;
use insta::assert_snapshot;
use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::stage::{Props, Stage};

async fn nobody(line: &[&str]) -> crate::stage::Outcome {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("admin.sock");
    let socket = socket.to_str().expect("UTF-8");
    let argv = ["clawker", "--socket", socket].into_iter().chain(line.iter().copied());
    Props::default()
        .run(Cli::try_parse_from(argv).expect("good"), socket)
        .await
}

#[tokio::test]
async fn no_control_plane() {
    let seen = nobody(&["ps"]).await;
    assert_eq!(seen.code, 75);
    assert_snapshot!(seen.err, @r#"
    error: no control plane answers on SOCKET
    hint: clawker up
    "#);
    let seen = nobody(&["ps", "--json"]).await;
    assert_snapshot!(seen.err, @r#"{"error":"no control plane answers on SOCKET","exit":75,"hints":["clawker up"]}"#);
}

#[tokio::test]
async fn a_socket_without_a_listener() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
    let socket = socket.to_str().expect("UTF-8");
    let cli = Cli::try_parse_from(["clawker", "--socket", socket, "status"]).expect("good");
    assert_eq!(Props::default().run(cli, socket).await.code, 75);
}

#[tokio::test]
async fn a_refusal_brings_its_exit_code_and_hint() {
    let stage = Stage::new();
    let mut refusal = Status::failed_precondition("no such image: `nope`");
    refusal
        .metadata_mut()
        .insert("clawker-exit", MetadataValue::from_static("66"));
    refusal
        .metadata_mut()
        .insert("clawker-hint", MetadataValue::from_static("docker pull nope"));
    stage.fake.with(|scene| scene.refuse = Some(refusal));
    let seen = stage.run(&["run", "nope"], Props::default()).await;
    assert_eq!(seen.code, 66);
    assert_snapshot!(seen.err, @r#"
    clawker: making an agent from nope
    error: no such image: `nope`
    hint: docker pull nope
    "#);
    let colour = Props {
        colour: true,
        ..Props::default()
    };
    let seen = stage.run(&["-q", "run", "nope"], colour).await;
    assert_snapshot!(seen.err, @r#"
    [1;31merror:[0m no such image: `nope`
    [1;36mhint:[0m docker pull nope
    "#);
}

#[tokio::test]
async fn statuses_without_metadata_have_exit_codes_too() {
    for (status, code) in [
        (Status::invalid_argument("x"), 2),
        (Status::not_found("x"), 66),
        (Status::already_exists("x"), 73),
        (Status::permission_denied("x"), 77),
        (Status::unavailable("x"), 75),
        (Status::internal("x"), 1),
        (Status::unimplemented("x"), 1),
    ] {
        let stage = Stage::new();
        stage.fake.with(|scene| scene.refuse = Some(status.clone()));
        assert_eq!(
            stage.run(&["stop", "a"], Props::default()).await.code,
            code,
            "{status:?}"
        );
    }
}

#[tokio::test]
async fn the_first_failure_counts_and_the_others_get_their_turn() {
    let stage = Stage::new();
    let seen = stage.run(&["rm", "-f", "missing", "a"], Props::default()).await;
    assert_eq!((seen.code, seen.out().as_str()), (66, "a\n"));
    assert_eq!(seen.err, "error: no agent `missing`\n");
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert_eq!(asked, ["remove missing force=true", "remove a force=true"]);
}

#[tokio::test]
async fn what_is_asked_of_agents() {
    let stage = Stage::new();
    for (line, asked, shown) in [
        (vec!["stop", "-t", "3", "a"], "stop a Some(3)", "a\n"),
        (vec!["restart", "a"], "restart a", "a\n"),
        (
            vec!["rm", "a", "--json"],
            "remove a force=false",
            "{\"agent\":\"a\",\"done\":\"removed\"}\n",
        ),
        (
            vec!["contain", "web.a", "lock-network", "--reason", "so"],
            "contain web.a lock-network [] \"so\"",
            "web.a: locked\n",
        ),
        (
            vec!["contain", "a", "restrict-egress", "--allow", "192.0.2.7:443", "-q"],
            "contain a restrict-egress [\"192.0.2.7:443\"] \"\"",
            "",
        ),
        (vec!["release", "a"], "release a", "a: open\n"),
    ] {
        let seen = stage.run(&line, Props::default()).await;
        assert_eq!((seen.code, seen.out().as_str()), (0, shown), "{line:?}: {}", seen.err);
        assert_eq!(stage.fake.with(|scene| scene.asked.pop()).as_deref(), Some(asked));
    }
    let seen = stage.run(&["contain", "a", "lock-network"], Props::default()).await;
    assert_eq!(seen.err, "read back after 0.120 ms: drop on eth0\n");
    let seen = stage.run(&["release", "a", "--json"], Props::default()).await;
    assert_eq!(
        seen.out(),
        "{\"agent\":\"a\",\"in_force\":\"open\",\"micros\":1090,\"read_back\":\"\"}\n"
    );
}

#[tokio::test]
async fn an_allowed_destination_goes_with_restricted_egress_only() {
    let seen = nobody(&["contain", "a", "freeze", "--allow", "192.0.2.7:443"]).await;
    assert_eq!(seen.code, 2);
    assert_snapshot!(seen.err, @r#"
    error: --allow goes with the action restrict-egress alone
    hint: clawker contain a restrict-egress --allow …
    "#);
}

#[tokio::test]
async fn wait_prints_the_code() {
    let stage = Stage::new();
    stage.fake.with(|scene| scene.wait.signal = 9);
    let seen = stage.run(&["wait", "a"], Props::default()).await;
    assert_eq!((seen.code, seen.out().as_str()), (0, "137\n"));
    stage.fake.with(|scene| {
        scene.wait = clawker_wire::admin::Exit {
            code: 137,
            signal: 0,
            oom: true,
        }
    });
    let seen = stage.run(&["wait", "a", "--json"], Props::default()).await;
    assert_eq!(
        seen.out(),
        "{\"agent\":\"a\",\"exit_code\":137,\"oom\":true,\"signal\":null}\n"
    );
}

#[tokio::test]
async fn it_takes_a_terminal_for_a_terminal() {
    let seen = Stage::new().run(&["run", "-it", "i"], Props::default()).await;
    assert_eq!(
        (seen.code, seen.err.as_str()),
        (2, "error: standard input is not a terminal\nhint: use -i without -t\n")
    );
}
