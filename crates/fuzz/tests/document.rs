//! docs/fuzzing.md and libFuzzer's front list the targets that there are.

use std::path::Path;

use clawker_fuzz::TARGETS;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_document_lists_every_target_and_no_other() {
    let text = file("docs/fuzzing.md");
    let listed: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<String> = TARGETS
        .iter()
        .map(|target| format!("| `{}` | {} |", target.name, target.about))
        .collect();
    assert_eq!(listed, rows, "the table is to be:\n{}\n", rows.join("\n"));
}

#[test]
fn libfuzzers_front_has_every_target_and_no_other() {
    let manifest = file("fuzz/Cargo.toml");
    let bins = manifest.split("[[bin]]\n").skip(1);
    let names: Vec<&str> = bins
        .filter_map(|bin| bin.lines().next()?.strip_prefix("name = \"")?.strip_suffix('"'))
        .collect();
    let targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, targets);
}
