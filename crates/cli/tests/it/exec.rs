//! `exec`: streams, exit codes, and what is said again over cut connections.

use clawker_wire::admin::*;
use insta::assert_snapshot;

use crate::fake::Say;
use crate::stage::{Props, Stage};

fn said(body: exec_output::Body) -> Say<ExecOutput> {
    Say::Message(ExecOutput { body: Some(body) })
}

fn opened(stdin: u64, stdout: u64) -> exec_output::Body {
    exec_output::Body::Opened(ExecOpened {
        stdin,
        stdout,
        stderr: 0,
    })
}

#[tokio::test]
async fn exec_passes_streams_and_code() {
    let stage = Stage::new();
    stage.fake.with(|scene| {
        scene.exec = vec![vec![
            said(exec_output::Body::Started("e1".into())),
            said(opened(0, 0)),
            said(exec_output::Body::Stdout("\u{1b}[1mout".into())),
            said(exec_output::Body::Stderr("err".into())),
            said(exec_output::Body::Exit(Exit {
                code: 0,
                signal: 15,
                oom: false,
            })),
        ]];
    });
    let line = [
        "exec",
        "-u",
        "host",
        "-e",
        "A=1",
        "-w",
        "/w",
        "web.scout",
        "--",
        "ls",
        "-l",
    ];
    let seen = stage.run(&line, Props::default()).await;
    assert_eq!(
        (seen.code, seen.out().as_str(), seen.err.as_str()),
        (143, "\u{1b}[1mout", "err")
    );
    let expected = ExecStart {
        agent: "web.scout".into(),
        argv: vec!["ls".into(), "-l".into()],
        user: Some("1000:100".into()),
        env: vec!["A=1".into()],
        cwd: Some("/w".into()),
        exec_id: "operator/word".into(),
        acknowledges: true,
        ..ExecStart::default()
    };
    assert_eq!(stage.fake.with(|scene| scene.exec_started.remove(0)), expected);
}

#[tokio::test]
async fn a_cut_exec_goes_on_where_it_was() {
    let stage = Stage::new();
    let heard = stage.fake.with(|scene| scene.heard.clone());
    stage.fake.with(|scene| {
        scene.exec = vec![
            vec![
                said(exec_output::Body::Started("e1".into())),
                said(opened(0, 0)),
                said(exec_output::Body::Stdout("one".into())),
                // Its input, the end of that, and what it has.
                Say::Words(heard.0.clone(), 3),
                said(exec_output::Body::StdinTaken(2)),
            ],
            // A connection that breaks before it carries anything.
            vec![],
            vec![
                said(exec_output::Body::Started("e1".into())),
                said(opened(4, 3)),
                said(exec_output::Body::Stdout("two".into())),
                Say::Words(heard.0.clone(), 3),
                said(exec_output::Body::Stderr("three".into())),
                Say::Words(heard.0.clone(), 1),
                said(exec_output::Body::Exit(Exit {
                    code: 9,
                    signal: 0,
                    oom: true,
                })),
            ],
        ];
    });
    let props = Props {
        stdin: Some(b"input!".to_vec()),
        ..Props::default()
    };
    let line = ["exec", "-i", "--id", "mine", "--keep", "a", "cat"];
    let seen = stage.run(&line, props).await;
    assert_eq!((seen.code, seen.out().as_str()), (9, "onetwo"));
    assert_snapshot!(seen.err, @r#"
    clawker: the connection to the control plane broke; trying again, the command goes on
    clawker: attached again; nothing is lost
    threeclawker: the kernel killed the command: out of memory
    "#);
    let (started, input) = stage
        .fake
        .with(|scene| (scene.exec_started.clone(), scene.input.clone()));
    let from: Vec<(&str, u64, u64)> = started
        .iter()
        .map(|start| (start.exec_id.as_str(), start.stdout_from, start.stderr_from))
        .collect();
    assert_eq!(
        from,
        [
            ("operator/mine", 0, 0),
            ("operator/mine", 3, 0),
            ("operator/mine", 3, 0)
        ]
    );
    assert!(started.iter().all(|start| start.when_left() == WhenLeft::Keep));
    let again: Vec<&str> = input
        .iter()
        .map(String::as_str)
        .skip_while(|word| *word != "stdin t!")
        .collect();
    assert_eq!(again[..2], ["stdin t!", "eof"], "{input:?}");
    assert_eq!(input.last().map(String::as_str), Some("has 6 5"), "{input:?}");
}

#[tokio::test]
async fn a_cut_exec_is_not_taken_for_an_end() {
    let stage = Stage::new();
    stage.fake.with(|scene| {
        scene.exec = vec![vec![said(exec_output::Body::Started("e1".into()))]];
    });
    let seen = stage.run(&["exec", "a", "x"], Props::default()).await;
    assert_eq!(seen.code, 75);
    assert_snapshot!(seen.err, @r#"
    clawker: the connection to the control plane broke; trying again, the command goes on
    error: the control plane has not come back
    hint: clawker up
    hint: go on with the command, within a minute: the same line with `--id word`; agent `a`
    "#);
}
