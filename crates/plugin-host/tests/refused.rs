//! What `load` refuses, and how it says so.

mod guests;

use std::collections::HashSet;

use clawker_plugin_host::limits::MAX_COMPONENT;
use clawker_plugin_host::{Host, LoadError, Unavailable};
use guests::{Data, described_policy, load, policy, step, text};

fn refused(bytes: &[u8]) -> LoadError {
    match load(bytes) {
        Err(error) => error,
        Ok((_, plugin)) => panic!("{plugin:?} was accepted"),
    }
}

fn import(name: &str) -> String {
    format!(r#"(import "{name}" (instance (export "f" (func))))"#)
}

const POLICY: [&str; 2] = ["describe", "evaluate"];

#[test]
fn what_is_not_a_component() {
    assert_eq!(refused(b""), LoadError::NotWasm);
    assert_eq!(refused(b"#!/bin/sh\n"), LoadError::NotWasm);
    assert_eq!(
        refused(&wat::parse_str("(module)").expect("text")),
        LoadError::CoreModule
    );
    assert_eq!(
        refused(&vec![0; MAX_COMPONENT + 1]),
        LoadError::TooLarge { len: MAX_COMPONENT + 1 }
    );
    assert!(matches!(refused(b"\0asm\x0d\0\x01\0rubbish"), LoadError::Malformed(_)));
    let whole = policy("", "(unreachable)", Data::default());
    assert!(matches!(refused(&whole[..whole.len() / 2]), LoadError::Malformed(_)));
}

#[test]
fn imports_from_elsewhere() {
    for name in [
        "wasi:io/streams@0.2.6",
        "clawker:other/log@0.1.0",
        "example:clawker/plugin",
    ] {
        assert_eq!(
            refused(&text(&import(name), &POLICY)),
            LoadError::ForeignImport { name: name.into() }
        );
    }
    let bare = r#"(import "exec" (func))"#;
    assert_eq!(
        refused(&text(bare, &POLICY)),
        LoadError::ForeignImport { name: "exec".into() }
    );
    assert!(
        refused(&text(&import("wasi:cli/exit@0.2.6"), &POLICY))
            .to_string()
            .contains("`wasi:cli/exit@0.2.6`")
    );
}

#[test]
fn imports_that_the_world_does_not_have() {
    for name in ["clawker:plugin/exec@0.1.0", "clawker:plugin/secrets@0.1.0"] {
        let error = LoadError::ImportNotInWorld {
            name: name.into(),
            world: "policy",
        };
        assert_eq!(refused(&text(&import(name), &POLICY)), error);
    }
    let name = "clawker:plugin/log@0.2.0".to_owned();
    assert_eq!(refused(&text(&import(&name), &POLICY)), LoadError::Version { name });
}

#[test]
fn other_worlds() {
    for (exports, found) in [
        (vec![], "nothing"),
        (vec!["describe"], "`describe`"),
        (vec!["describe", "decide"], "`decide`, `describe`"),
        (vec!["describe", "evaluate", "run"], "`describe`, `evaluate`, `run`"),
    ] {
        assert_eq!(
            refused(&text("", &exports)),
            LoadError::WrongWorld { found: found.into() }
        );
    }
    // The right names with wrong types.
    assert!(matches!(refused(&text("", &POLICY)), LoadError::Compile(_)));
}

#[test]
fn digests_that_are_not_accepted() {
    let bytes = policy("", "(unreachable)", Data::default());
    let host = Host::new(HashSet::new()).expect("an engine");
    let error = host.load(&bytes).expect_err("refused");
    assert_eq!(
        error,
        LoadError::NotAccepted {
            digest: clawker_plugin_host::digest(&bytes)
        }
    );
    assert!(error.to_string().contains("cargo xtask plugins"), "{error}");
}

#[test]
fn more_memory_at_birth_than_the_limit() {
    let text = r#"(module (memory (export "memory") 2000)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable))
        (func (export "describe") (result i32) (unreachable))
        (func (export "evaluate")
            (param i32 i32 i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (unreachable)))"#;
    let error = refused(&guests::component("policy", text));
    assert_eq!(error, LoadError::Describe(Unavailable::Memory));
    // More than a place in the pool has.
    let error = refused(&guests::component("policy", &text.replace("2000", "20000")));
    assert!(
        matches!(error, LoadError::Compile(_) | LoadError::Describe(_)),
        "{error}"
    );
}

#[test]
fn descriptions_out_of_bounds() {
    for (name, windows, field) in [("Bad Name", 0, "name"), ("", 0, "name"), ("ok", 17, "list of windows")] {
        match refused(&described_policy(name, windows, "", "(unreachable)", Data::default())) {
            LoadError::Description { field: named, .. } => assert_eq!(named, field),
            other => panic!("{other}"),
        }
    }
    assert!(load(&described_policy("ok", 16, "", "(unreachable)", Data::default())).is_ok());
}

#[test]
fn effects_while_describing() {
    let text = r#"(module
        (import "clawker:plugin/read-file@0.1.0" "read" (func $read (param i32 i32 i32 i32 i32 i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 8) "/x")
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable))
        (func (export "describe") (result i32)
            (call $read (i32.const 8) (i32.const 2) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64)) (unreachable))
        (func (export "run") (param i32 i32 i32 i32 i32 i64 i32 i32 i32) (result i32) (unreachable)))"#;
    let error = refused(&guests::component("step", text));
    assert_eq!(
        error,
        LoadError::Describe(Unavailable::BadOutput("effects are for `run` alone".into()))
    );
}

#[test]
fn a_loop_while_describing() {
    let text = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable))
        (func (export "describe") (result i32) (loop (br 0)) (unreachable))
        (func (export "run") (param i32 i32 i32 i32 i32 i64 i32 i32 i32) (result i32) (unreachable)))"#;
    assert_eq!(
        refused(&guests::component("step", text)),
        LoadError::Describe(Unavailable::Fuel)
    );
}

#[test]
fn only_functions_that_are_used_are_permissions() {
    let (_, plugin) = load(&step("", "(unreachable)", Data::default())).expect("loads");
    assert!(plugin.imports.is_empty(), "{:?}", plugin.imports);
    let import = r#"(import "clawker:plugin/read-file@0.1.0" "read" (func $read (param i32 i32 i32 i32 i32 i32 i32)))"#;
    let (_, plugin) = load(&step(import, "(unreachable)", Data::default())).expect("loads");
    assert_eq!(plugin.imports, ["read-file"]);
}
