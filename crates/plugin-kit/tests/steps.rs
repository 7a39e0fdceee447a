//! Cases of a step, which are its effects and their answers.

#[path = "../../plugin-host/tests/guests/mod.rs"]
mod guests;

use clawker_plugin_kit::Sandbox;
use clawker_plugin_kit::cases::{self, Golden, Options, Report};

const READ: &str =
    r#"(import "clawker:plugin/read-file@0.1.0" "read" (func $read (param i32 i32 i32 i32 i32 i32 i32)))"#;

/// Reads `/a`, then `/b`, then is done, saying what it read of `/b`.
fn reads() -> Sandbox {
    let mut data = guests::Data::default();
    let (a, b) = (data.bytes(b"/a"), data.bytes(b"/b"));
    let call = |[path, len]: [u32; 2]| {
        format!(
            "(call $read (i32.const {path}) (i32.const {len}) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 256))"
        )
    };
    // The read's result is at 256: a byte that says which, then pointer and length at 260. Ours is at 512.
    let run = format!(
        "{} {}
         (i32.store (i32.const 512) (i32.const 0))
         (i32.store (i32.const 516) (i32.load (i32.const 260)))
         (i32.store (i32.const 520) (i32.load (i32.const 264)))
         (i32.const 512)",
        call(a),
        call(b)
    );
    Sandbox::load(&guests::step(READ, &run, data)).expect("loads")
}

fn run(sandbox: &Sandbox, case: &str) -> Report {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("a.toml");
    std::fs::write(&file, format!("name = \"x\"\n{case}")).expect("writes");
    cases::run(sandbox, &file, Options::default()).expect("runs")
}

fn effect(path: &str, content: &str) -> String {
    format!("[[effect]]\nasks = \"read-file\"\npath = \"{path}\"\ncontent = \"{content}\"\n")
}

#[test]
fn effects_are_answered_in_order_and_the_end_is_compared() {
    let reads = reads();
    let effects = [effect("/a", "one"), effect("/b", "two")].concat();
    let good = run(&reads, &format!("expect = {{ completed = \"two\" }}\n{effects}"));
    assert_eq!((good.failures.as_slice(), good.golden), ([].as_slice(), Golden::None));
    let what: Vec<&str> = good.lines.iter().map(|line| line.what.as_str()).collect();
    assert_eq!(
        what,
        [
            "read-file \"/a\", 9 bytes at most",
            "read-file \"/b\", 9 bytes at most",
            "completed"
        ]
    );
    assert!(
        run(&reads, &effects).failures.is_empty(),
        "without an expectation it has to complete"
    );
    let other = run(&reads, &format!("expect = {{ failed = \"two\" }}\n{effects}"));
    assert_eq!(other.failures, ["expected Failed(\"two\"); it completed: two"]);
}

#[test]
fn effects_that_the_case_does_not_have_or_has_otherwise_are_named() {
    let reads = reads();
    for (effects, says) in [
        (
            effect("/a", "one"),
            "effect 2: the case has no answer to read-file \"/b\"",
        ),
        (effect("/c", "one"), "effect 1: it asks for read-file \"/a\""),
        (
            [effect("/a", ""), effect("/b", ""), effect("/c", "")].concat(),
            "it completed without asking for the last 1 effects",
        ),
    ] {
        let failures = run(&reads, &effects).failures.concat();
        assert!(failures.contains(says), "{failures}");
    }
}

#[test]
fn a_step_with_a_case_of_a_policy_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("a.toml");
    std::fs::write(&file, "name = \"x\"\n[[event]]\nkind = \"ContainerOom\"\n").expect("writes");
    let error = cases::run(&reads(), &file, Options::default()).expect_err("another kind");
    assert!(error.to_string().contains("unknown field `event`"), "{error}");
}
