//! The verbs of authors, on projects and components in a folder.

use std::path::PathBuf;

use crate::guests;
use crate::stage::{Outcome, Props, Stage};

async fn run(stage: &Stage, line: &[&str]) -> Outcome {
    stage.run(line, Props::default()).await
}

/// A path in the stage's folder, as text.
fn at(stage: &Stage, name: &str) -> String {
    stage.dir.path().join(name).display().to_string()
}

fn write(stage: &Stage, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = PathBuf::from(at(stage, name));
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes it");
    std::fs::write(&path, content).expect("writes");
    path.display().to_string()
}

/// A policy that locks on the second kill within its window of a minute.
fn locks(stage: &Stage) -> String {
    let bytes = guests::counts(("locks", "1"), "ContainerOom", 2, "lock-network");
    write(stage, "locks.wasm", bytes)
}

const CASE: &str = "name = \"the second kill locks\"\n[[event]]\nkind = \"ContainerOom\"\nexpect = []\n\
                    [[event]]\nkind = \"ContainerOom\"\nexpect = [\"lock-network\"]\n";

#[tokio::test]
async fn a_new_project_is_written_once() {
    let stage = Stage::empty();
    let dir = at(&stage, "p");
    let line = ["plugin", "new", "oom-alert", "--kind", "policy", "--dir", &dir];
    let made = run(&stage, &line).await;
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out().contains("p/cases/first.toml\n"), "{}", made.out());
    assert!(made.err.contains("clawker plugin test"), "{}", made.err);
    let again = run(&stage, &line).await;
    assert_eq!(again.code, 1);
    assert!(
        again.err.contains("isn't empty: name another folder with `--dir`"),
        "{}",
        again.err
    );
}

#[tokio::test]
async fn what_is_no_project_or_no_component_is_told_what_to_do() {
    let stage = Stage::empty();
    let dir = at(&stage, "");
    let none = run(&stage, &["plugin", "build", &dir]).await;
    assert_eq!(none.code, 66);
    assert!(none.err.contains("`clawker plugin new NAME` makes one"), "{}", none.err);
    write(&stage, "plugin.toml", "[plugin]\n");
    let bad = run(&stage, &["plugin", "build", &dir]).await;
    assert_eq!(bad.code, 78, "{}", bad.err);
    let file = write(&stage, "x.wasm", b"\0asm\x01\0\0\0");
    write(&stage, "cases/a.toml", CASE);
    let module = run(&stage, &["plugin", "test", &file]).await;
    assert_eq!(module.code, 1);
    assert!(module.err.contains("not a component"), "{}", module.err);
}

#[tokio::test]
async fn cases_are_shown_and_a_failed_one_is_exit_code_1() {
    let stage = Stage::empty();
    let file = locks(&stage);
    write(&stage, "cases/a.toml", CASE);
    let good = run(&stage, &["plugin", "test", &file]).await;
    assert_eq!(good.code, 0, "{}{}", good.out(), good.err);
    assert!(good.out().starts_with("ok  the second kill locks\n"), "{}", good.out());
    assert!(good.out().contains("Actions seen: lock-network\n"), "{}", good.out());
    write(&stage, "cases/b.toml", CASE.replace("lock-network", "freeze"));
    let bad = run(&stage, &["plugin", "test", &file, "--json"]).await;
    assert_eq!(bad.code, 1);
    let objects: Vec<serde_json::Value> = bad
        .out()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(objects.len(), 2);
    let failure = objects[1]["failures"][0].as_str().expect("a failure");
    assert!(failure.contains("expected freeze, it said lock-network"), "{failure}");
}

#[tokio::test]
async fn a_measurement_names_what_a_bare_call_costs() {
    let stage = Stage::empty();
    let (file, case) = (locks(&stage), write(&stage, "a.toml", CASE));
    let measured = run(&stage, &["plugin", "bench", &file, "--case", &case, "--calls", "4"]).await;
    assert_eq!(measured.code, 0, "{}", measured.err);
    assert!(measured.out().starts_with("calls       4\n"), "{}", measured.out());
    assert!(measured.out().contains("bare"), "{}", measured.out());
}

#[tokio::test]
async fn a_replay_with_a_flip_is_exit_code_1_unless_it_may_be() {
    let stage = Stage::empty();
    let file = locks(&stage);
    let zeros = "0".repeat(64);
    let decided = format!(
        "{{\"policy\":\"guard\",\"digest\":\"{zeros}\",\"seq\":2,\"verdicts\":[],\"unavailable\":null,\"fuel\":1,\
         \"micros\":1,\"state_before\":\"\",\"state_after\":\"\"}}"
    );
    let row = |seq, kind, body: &str| {
        format!(
            "{{\"seq\":{seq},\"at_ms\":{seq}000,\"kind\":\"{kind}\",\"agent\":\"clawker.a\",\"body\":{body},\
             \"cursor\":\"c\"}}\n"
        )
    };
    let oom = format!("{{\"container\":\"{zeros}\"}}");
    let journal = [
        row(1, "ContainerOom", &oom),
        row(2, "ContainerOom", &oom),
        row(3, "PolicyDecided", &decided),
        row(4, "FromTheFuture", "{}"),
    ];
    let journal = write(&stage, "j.jsonl", journal.concat());
    let line = ["plugin", "replay", &file, "--journal", &journal];
    let other = run(&stage, &line).await;
    assert_eq!(other.code, 0, "{}", other.err);
    assert!(
        other.err.contains("decisions of guard; `--policy` chooses one"),
        "{}",
        other.err
    );
    let line = [line.as_slice(), &["--policy", "guard"]].concat();
    let flipped = run(&stage, &line).await;
    assert_eq!(flipped.code, 1);
    let out = flipped.out();
    assert!(
        out.contains("2      ContainerOom  a      nothing  lock-network  because\n"),
        "{out}"
    );
    assert!(
        out.contains("3 rows, asked about 2, 1 of them decided by `guard` before: 1 flip\n"),
        "{out}"
    );
    assert!(flipped.err.contains("1 row of kinds"), "{}", flipped.err);
    let allowed = run(&stage, &[line.as_slice(), &["--allow-flips", "--json"]].concat()).await;
    assert_eq!(allowed.code, 0);
    let summary: serde_json::Value = serde_json::from_str(&allowed.out()).expect("JSON");
    assert_eq!(
        (&summary["flips"][0]["seq"], &summary["unknown"]),
        (&2.into(), &1.into())
    );
}

#[tokio::test]
async fn a_plugin_is_described_in_words_and_for_programs() {
    let stage = Stage::empty();
    let file = locks(&stage);
    let said = run(&stage, &["plugin", "inspect", &file]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let out = said.out();
    assert!(out.starts_with("locks 1, a policy: it watches"), "{out}");
    assert!(
        out.contains("  - have an agent's network restricted or locked"),
        "{out}"
    );
    assert!(
        out.contains("told how many there were of: ContainerOom within 1 minute."),
        "{out}"
    );
    assert!(!out.contains("run any command"), "{out}");
    let object = run(&stage, &["plugin", "inspect", &file, "--json"]).await;
    let object: serde_json::Value = serde_json::from_str(&object.out()).expect("JSON");
    assert_eq!(
        (&object["kind"], &object["windows"][0]["seconds"]),
        (&"policy".into(), &60.into())
    );
    assert_eq!(object["imports"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn a_signature_is_made_beside_the_component_and_checked() {
    let stage = Stage::empty();
    let (file, key) = (locks(&stage), at(&stage, "release.key"));
    clawker_plugin_package::SecretKey::make(key.as_ref(), "alice").expect("a key");
    let signed = run(&stage, &["plugin", "sign", &file, "--key", &key]).await;
    assert_eq!(signed.code, 0, "{}", signed.err);
    let out = signed.out();
    let [beside, public] = out.lines().collect::<Vec<_>>()[..] else {
        panic!("{out}")
    };
    assert_eq!(beside, format!("{file}.sig"));
    assert!(public.ends_with(" alice"), "{public}");

    let good = run(&stage, &["plugin", "verify", &file, "--key", public]).await;
    assert_eq!(good.code, 0, "{}", good.err);
    assert!(good.out().contains("is signed by the key"), "{}", good.out());
    let line = write(&stage, "alice.pub", format!("{public}\n"));
    assert_eq!(run(&stage, &["plugin", "verify", &file, "--key", &line]).await.code, 0);

    let bob = clawker_plugin_package::SecretKey::make(at(&stage, "bob.key").as_ref(), "bob").expect("a key");
    let foreign = run(&stage, &["plugin", "verify", &file, "--key", &bob.public().to_string()]).await;
    assert_eq!(foreign.code, 1);
    assert!(foreign.err.contains("not by"), "{}", foreign.err);

    let mut changed = std::fs::read(&file).expect("the component");
    changed.extend_from_slice(&[0, 2, 1, b'x']);
    std::fs::write(&file, changed).expect("changed");
    let changed = run(&stage, &["plugin", "verify", &file, "--key", public]).await;
    assert_eq!(changed.code, 1);
    assert!(changed.err.contains("for another component"), "{}", changed.err);
    std::fs::remove_file(beside).expect("removed");
    let unsigned = run(&stage, &["plugin", "verify", &file, "--key", public]).await;
    assert!(unsigned.err.contains(".sig"), "{}", unsigned.err);
}

#[tokio::test]
async fn what_is_no_plugin_is_not_signed() {
    let stage = Stage::empty();
    let (file, key) = (write(&stage, "x.wasm", b"\0asm\x01\0\0\0"), at(&stage, "a.key"));
    clawker_plugin_package::SecretKey::make(key.as_ref(), "alice").expect("a key");
    let refused = run(&stage, &["plugin", "sign", &file, "--key", &key]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("core WebAssembly module"), "{}", refused.err);
    assert!(!PathBuf::from(format!("{file}.sig")).exists());
}
