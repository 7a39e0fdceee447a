//! Where the project is, its source files, and what cargo says about it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the root")
        .to_owned()
}

/// The target folder: we run as `<target>/<profile>/deps/tidy-<hash>`.
pub fn target() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own file");
    exe.ancestors()
        .nth(3)
        .expect("a test binary lies below the target folder")
        .to_owned()
}

/// A program of ours, as the build before the tests left it.
pub fn program(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own file");
    let program = exe
        .ancestors()
        .nth(2)
        .expect("a test binary lies below its profile")
        .join(name);
    assert!(
        program.is_file(),
        "{} is missing: run `cargo build --workspace` before this test",
        program.display()
    );
    program
}

/// A file's path from the root, and its text.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// Every file below `folders` whose name ends with `ending`, sorted; generated output left out.
pub fn sources(folders: &[&str], ending: &str) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name() != "target" {
                    open.push(path);
                }
            } else if path.to_string_lossy().ends_with(ending) {
                let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let path = path.strip_prefix(&root).expect("below the root").display().to_string();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no {ending} files below {folders:?}");
    found
}

/// `cargo metadata`, offline: the tests were built, so all that it needs is here.
pub fn metadata(args: &[&str]) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(args)
        .current_dir(root())
        .output()
        .expect("starting cargo metadata");
    assert!(
        out.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON")
}

/// Fails with one line for each thing that is wrong.
#[track_caller]
pub fn expect_none(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}
