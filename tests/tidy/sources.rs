//! Rules about source text: how long a file is, what it may not say.

use crate::workspace::{Source, expect_none, root, sources};

/// A file is about 150 lines; this is where it has to be split.
const MAX_LINES: usize = 400;

/// Spelled in two halves, so that this file passes its own rule.
const UNFINISHED: [&str; 3] = [
    concat!("#[ign", "ore"),
    concat!("tod", "o!("),
    concat!("unimpl", "emented!("),
];

/// What the engine would need to read a clock, do I/O, spawn or chance.
const IMPURE: [&str; 10] = [
    "Instant",
    "SystemTime",
    "tokio",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::io",
    "println!",
];

fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    let in_src = source.path.contains("/src/") && !source.path.contains("/src/gen/");
    (in_src && lines > MAX_LINES).then(|| format!("{} has {lines} lines", source.path))
}

fn with(source: &Source, words: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for word in words.iter().filter(|word| code.contains(**word)) {
            wrong.push(format!("{}:{}: {word}", source.path, number + 1));
        }
    }
    wrong
}

fn source(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn files_are_short_enough_to_read() {
    let long = "\n".repeat(MAX_LINES + 1);
    assert!(too_long(&source("crates/a/src/b.rs", &long)).is_some());
    assert!(too_long(&source("crates/a/src/gen/b.rs", &long)).is_none());
    let wrong: Vec<String> = sources(&["crates", "plugins", "tests"], ".rs")
        .iter()
        .filter_map(too_long)
        .collect();
    expect_none(&format!("more than {MAX_LINES} lines"), &wrong);
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    for word in UNFINISHED {
        assert_eq!(with(&source("a.rs", &format!("    {word}]")), &UNFINISHED).len(), 1);
    }
    let all = sources(&["crates", "plugins", "tests"], ".rs");
    let wrong: Vec<String> = all.iter().flat_map(|source| with(source, &UNFINISHED)).collect();
    expect_none("unfinished, or a test that never runs", &wrong);
}

#[test]
fn the_engine_reads_no_clock_and_does_no_io() {
    assert_eq!(with(&source("a.rs", "use std::time::Instant;"), &IMPURE).len(), 1);
    assert_eq!(with(&source("a.rs", "// Instant is given"), &IMPURE).len(), 0);
    let wrong: Vec<String> = sources(&["crates/engine/src"], ".rs")
        .iter()
        .flat_map(|source| with(source, &IMPURE))
        .collect();
    expect_none("the engine only decides", &wrong);
}

/// A crate's manifest that doesn't take part in the workspace's lints and licence.
fn outside_the_workspace(source: &Source) -> Vec<String> {
    let lints = source.text.contains("[lints]\nworkspace = true");
    let licence = source.text.contains("license.workspace = true");
    let mut wrong = Vec::new();
    if !lints {
        wrong.push(format!("{} doesn't take the workspace's lints", source.path));
    }
    if !licence {
        wrong.push(format!("{} doesn't take the workspace's licence", source.path));
    }
    wrong
}

#[test]
fn every_crate_has_the_lints_and_the_licence_of_the_workspace() {
    assert_eq!(outside_the_workspace(&source("Cargo.toml", "[package]\n")).len(), 2);
    let manifests = sources(&["crates", "tests"], "Cargo.toml");
    let wrong: Vec<String> = manifests.iter().flat_map(outside_the_workspace).collect();
    expect_none("a crate of its own rules", &wrong);
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        assert!(root().join(licence).is_file(), "{licence} is missing");
    }
}
