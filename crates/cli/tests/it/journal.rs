//! `events --cursor`, `audit`, `backup` and `restore`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use clawker_cli::Cli;
use clawker_wire::admin::*;
use insta::assert_snapshot;

use crate::fake::Say;
use crate::stage::{Props, Stage};

fn row(seq: u64) -> Say<EventRow> {
    Say::Message(EventRow {
        seq,
        kind: "LeaseLost".into(),
        body: "{}".into(),
        cursor: format!("j/{seq}/h"),
        ..EventRow::default()
    })
}

fn resync() -> Say<EventRow> {
    Say::Message(EventRow {
        resync: Some(Resync {
            reason: "dropped".into(),
            from: "j/40/h".into(),
            detail: "the rows after that number are older than the journal keeps them".into(),
        }),
        ..EventRow::default()
    })
}

#[tokio::test]
async fn events_go_on_from_a_cursor_and_say_when_they_cannot() {
    let stage = Stage::new();
    let rows = || vec![resync(), row(41)];
    stage.fake.with(|scene| scene.events = vec![rows(), rows()]);
    let seen = stage.run(&["events", "--cursor", "j/3/h"], Props::default()).await;
    assert_eq!(seen.out().lines().count(), 1, "{}", seen.out());
    assert_eq!(
        seen.err,
        "clawker: the rows after that number are older than the journal keeps them; beginning anew with all that it has\n"
    );
    let seen = stage
        .run(&["events", "--json", "--cursor", "j/3/h"], Props::default())
        .await;
    assert_snapshot!(seen.out(), @r#"
    {"resync":{"detail":"the rows after that number are older than the journal keeps them","from":"j/40/h","reason":"dropped"}}
    {"agent":"","at_ms":0,"body":{},"cursor":"j/41/h","kind":"LeaseLost","seq":41}
    "#);
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert_eq!(asked[1], "events after=None since=None \"\" cursor=j/3/h");
    assert!(Cli::try_parse_from(["clawker", "events", "--cursor", "c", "--since", "1h"]).is_err());
}

/// What breaks goes on by cursor, so that another journal is noticed.
#[tokio::test]
async fn followed_events_go_on_by_cursor() {
    let stage = Stage::new();
    let enough = tonic::Status::permission_denied("enough");
    stage
        .fake
        .with(|scene| scene.events = vec![vec![row(7)], vec![resync()], vec![Say::Fail(enough)]]);
    stage
        .run(&["events", "--follow", "--since", "1h"], Props::default())
        .await;
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert_eq!(
        asked[1..],
        [
            "events after=None since=None \"\" cursor=j/7/h",
            "events after=None since=None \"\" cursor=j/40/h"
        ]
    );
}

fn head(seq: u64) -> SignedHead {
    SignedHead {
        journal: "j".into(),
        seq,
        hash: "h".into(),
        key: "k".into(),
        signature: "s".into(),
        at_ms: 5,
    }
}

#[tokio::test]
async fn a_head_is_printed_and_read_again_from_a_file_or_an_export() {
    let stage = Stage::new();
    stage.fake.with(|scene| {
        scene.head = head(12);
        scene.audit.sound = true;
    });
    let seen = stage.run(&["audit", "head"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"{"journal":"j","seq":12,"hash":"h","at_ms":5,"key":"k","signature":"s"}"#);
    let kept = stage.dir.path().join("head.json");
    std::fs::write(&kept, seen.stdout).expect("written");
    let export = stage.dir.path().join("journal.jsonl");
    let line =
        |seq| format!(r#"{{"head":{{"journal":"j","seq":{seq},"hash":"h","at_ms":5,"key":"k","signature":"s"}}}}"#);
    std::fs::write(
        &export,
        format!("{{\"seq\":1,\"hash\":\"x\"}}\n{}\n{}\n", line(3), line(20)),
    )
    .expect("written");

    let (kept, export) = (kept.to_str().expect("UTF-8"), export.to_str().expect("UTF-8"));
    let seen = stage
        .run(&["audit", "verify", "--head", kept, "--head", export], Props::default())
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        stage.fake.with(|scene| scene.heads.clone()),
        [head(20), head(12), head(3)]
    );

    let none = stage.dir.path().join("none.json");
    std::fs::write(&none, "{}\n").expect("written");
    let seen = stage
        .run(
            &["audit", "verify", "--head", none.to_str().expect("UTF-8")],
            Props::default(),
        )
        .await;
    assert_eq!(seen.code, 66);
    assert!(seen.err.contains("none.json has no signed head"), "{}", seen.err);
}

#[tokio::test]
async fn an_audit_says_what_was_checked_or_what_was_found() {
    let stage = Stage::new();
    let sound = AuditReport {
        sound: true,
        journal: "0f".into(),
        key: "9c".into(),
        from: 100,
        last: 1234,
        heads: 7,
        too_old: 1,
        ..AuditReport::default()
    };
    stage.fake.with(|scene| scene.audit = sound);
    let seen = stage.run(&["audit", "verify"], Props::default()).await;
    assert_snapshot!(seen.out(), @r"
    1134 rows up to 1234 and 7 heads are what was written
    journal 0f, host key 9c
    ");
    assert_eq!((seen.code, seen.err.lines().count()), (0, 1), "{}", seen.err);
    stage.fake.with(|scene| {
        scene.audit.sound = false;
        scene.audit.found = 2;
        scene.audit.findings = vec![AuditFinding {
            seq: 5,
            text: "row 5: the row is missing".into(),
        }];
    });
    let seen = stage.run(&["audit", "verify"], Props::default()).await;
    assert_eq!((seen.code, seen.out().as_str()), (1, "row 5: the row is missing\n"));
    assert!(
        seen.err
            .contains("error: the journal isn't what was written: 2 findings"),
        "{}",
        seen.err
    );
    let seen = stage.run(&["audit", "verify", "--json"], Props::default()).await;
    assert_eq!(seen.code, 1);
    assert!(
        seen.out().contains(r#""found":2"#) && seen.out().contains(r#""sound":false"#),
        "{}",
        seen.out()
    );
}

#[tokio::test]
async fn an_export_is_passed_on_line_by_line() {
    let stage = Stage::new();
    let lines = vec![r#"{"seq":1}"#.to_owned(), r#"{"head":{}}"#.to_owned()];
    stage.fake.with(|scene| scene.export = lines);
    let seen = stage
        .run(&["audit", "export", "--cursor", "j/0/h"], Props::default())
        .await;
    assert_eq!(seen.out(), "{\"seq\":1}\n{\"head\":{}}\n");
    assert_eq!(stage.fake.with(|scene| scene.asked.clone()), ["audit export \"j/0/h\""]);
}

fn piece(bytes: &[u8]) -> Say<BackupPiece> {
    Say::Message(BackupPiece {
        bytes: bytes.to_vec().into(),
    })
}

#[tokio::test]
async fn a_backup_is_private_whole_and_replaces_nothing() {
    let stage = Stage::new();
    let file = stage.dir.path().join("b.tar");
    let name = file.to_str().expect("UTF-8");
    let cut = Say::Fail(tonic::Status::unavailable("stopping"));
    stage.fake.with(|scene| scene.backup = vec![piece(b"abc"), cut]);
    let seen = stage.run(&["backup", name], Props::default()).await;
    assert!(seen.code != 0 && !file.exists(), "half a backup is none: {}", seen.err);

    stage
        .fake
        .with(|scene| scene.backup = vec![piece(b"abc"), piece(b"def")]);
    let seen = stage.run(&["backup", name], Props::default()).await;
    assert_eq!((seen.code, seen.out()), (0, format!("{name}\n")), "{}", seen.err);
    assert_eq!(std::fs::read(&file).expect("a backup"), b"abcdef");
    assert_eq!(
        std::fs::metadata(&file).expect("metadata").permissions().mode() & 0o777,
        0o600
    );

    stage.fake.with(|scene| scene.backup = vec![piece(b"x")]);
    let seen = stage.run(&["backup", name], Props::default()).await;
    assert_eq!(seen.code, 73);
    assert_eq!(std::fs::read(&file).expect("a backup"), b"abcdef");
}

async fn restore(dir: &Path, script: &str, more: &[&str]) -> crate::stage::Outcome {
    let program = dir.join("clawker-cp");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let line = ["clawker", "restore"].into_iter().chain(more.iter().copied());
    let props = Props {
        program_dir: Some(dir.to_owned()),
        cwd: "/where".into(),
        ..Props::default()
    };
    props.run(Cli::try_parse_from(line).expect("good"), "SOCKET").await
}

#[tokio::test]
async fn restore_is_the_control_planes_own_program_and_its_word_counts() {
    let dir = tempfile::tempdir().expect("a folder");
    let flags = dir.path().join("flags");
    let good = format!(
        r#"echo "$*" > {}; echo '{{"state_dir":"/s","journal":"j","rows":3,"made_ms":0,"replaced":"/s/replaced-1"}}'"#,
        flags.display()
    );
    let seen = restore(dir.path(), &good, &["--force", "--state-dir", "/s", "b.tar"]).await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(
        std::fs::read_to_string(&flags).expect("flags"),
        "--state-dir /s restore --force -- /where/b.tar\n"
    );
    assert_eq!(
        seen.out(),
        "/s: restored as of 1970-01-01T00:00:00.000Z, 3 events in the journal\n"
    );
    assert_eq!(seen.err, "what was there is in /s/replaced-1\n`clawker up` starts it\n");

    let bad = "echo noise >&2; echo 'clawker-cp: /s: there is a state already' >&2; exit 73";
    let seen = restore(dir.path(), bad, &["b.tar"]).await;
    assert_eq!(
        (seen.code, seen.err.as_str()),
        (73, "error: /s: there is a state already\n")
    );
}
