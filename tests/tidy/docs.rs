//! Documents say what is so: commands that exist, crates that are there, tests that hold a decision.

use std::collections::BTreeSet;
use std::process::Command;

use crate::workspace::{expect_none, program, root, sources};

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The commands in a document's code blocks: `cargo xtask demo`, `clawker run --rm … -- true`.
fn commands(markdown: &str) -> Vec<Vec<String>> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            continue;
        }
        let line = line
            .trim()
            .trim_start_matches("$ ")
            .split(" #")
            .next()
            .unwrap_or_default();
        let ours = line.starts_with("cargo xtask ") || line.starts_with("clawker ");
        if inside && ours {
            // What follows ` -- ` is the agent's command, not ours.
            let words = line.split(" -- ").next().unwrap_or_default();
            found.push(words.split_whitespace().map(str::to_owned).collect());
        }
    }
    found
}

/// What is wrong with one command, asked of the program itself.
fn unknown(command: &[String], help: impl Fn(&str, &str) -> Option<String>) -> Vec<String> {
    let (name, rest) = if command[0] == "cargo" {
        ("xtask", &command[2..])
    } else {
        ("clawker", &command[1..])
    };
    let Some(verb) = rest.first() else {
        return vec![format!("{command:?} has no verb")];
    };
    let Some(text) = help(name, verb) else {
        return vec![format!("`{name} {verb}` is not a command")];
    };
    let flags = rest[1..].iter().filter(|word| word.starts_with('-') && word.len() > 1);
    flags
        .map(|flag| flag.split('=').next().unwrap_or(flag))
        .flat_map(|flag| match flag.strip_prefix("--") {
            Some(_) => vec![flag.to_owned()],
            None => flag[1..].chars().map(|short| format!("-{short}")).collect(),
        })
        .filter(|flag| !text.split([' ', ',', '=', '[', '\n']).any(|word| word == flag))
        .map(|flag| format!("`{name} {verb}` has no {flag}"))
        .collect()
}

fn help(program_name: &str, verb: &str) -> Option<String> {
    let out = Command::new(program(program_name))
        .args([verb, "--help"])
        .output()
        .expect("starting a program of ours");
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn commands_in_the_readme_exist() {
    let example = commands("clawker outside\n```sh\n$ clawker why a   # reason\nclawker run -it x -- sh -c y\n```\n");
    assert_eq!(
        example,
        [vec!["clawker", "why", "a"], vec!["clawker", "run", "-it", "x"]]
    );
    let none = |_: &str, _: &str| None;
    assert_eq!(unknown(&example[0], none).len(), 1);
    let some = |_: &str, _: &str| Some("  -i, --interactive\n".to_owned());
    assert_eq!(unknown(&example[1], some), ["`clawker run` has no -t"]);

    let commands = commands(&document("README.md"));
    assert!(commands.len() >= 8, "the README shows {} commands", commands.len());
    let wrong: Vec<String> = commands.iter().flat_map(|command| unknown(command, help)).collect();
    expect_none("commands in README.md that don't exist", &wrong);
}

#[test]
fn the_architecture_names_every_crate_and_no_other() {
    let text = document("ARCHITECTURE.md");
    let listed = |name: &str| {
        text.lines()
            .any(|line| line.trim_start().starts_with(&format!("{name}/")))
    };
    let crates: BTreeSet<String> = std::fs::read_dir(root().join("crates"))
        .expect("crates/")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let wrong: Vec<String> = crates.iter().filter(|name| !listed(name)).cloned().collect();
    assert!(!listed("no-such-crate"));
    expect_none("crates that ARCHITECTURE.md doesn't list", &wrong);
}

/// Tests that a document says hold something: test `name`, e2e `name`.
fn named_tests(text: &str) -> BTreeSet<String> {
    let after = |marker: &'static str| text.split(marker).skip(1).filter_map(|rest| rest.split('`').next());
    after("test `").chain(after("e2e `")).map(str::to_owned).collect()
}

/// Tests in the last column of a table's rows: whatever is spelled as a function of more than one word.
fn tests_in_table(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let columns = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    let words = columns.flat_map(|column| column.split('`').skip(1).step_by(2));
    let is_test = |word: &&str| word.contains('_') && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    words.filter(is_test).map(str::to_owned).collect()
}

/// The document's names of tests that nobody has written.
fn untested(named: BTreeSet<String>) -> Vec<String> {
    let there: String = sources(&["crates", "tests", "plugins"], ".rs")
        .into_iter()
        .map(|source| source.text)
        .collect();
    let missing = |name: &String| !there.contains(&format!("fn {name}("));
    named.into_iter().filter(missing).collect()
}

#[test]
fn tests_that_hold_a_promise_exist() {
    assert_eq!(
        tests_in_table("| a | b |\n|---|---|\n| `x_y` | `a_b`, unit tests of `c`, e2e `d_e` |\nand `f_g`\n"),
        ["a_b", "d_e"].map(str::to_owned).into()
    );
    assert_eq!(untested(["no_such".to_owned() + "_test"].into()).len(), 1);
    for (path, least) in [
        ("docs/clawkerd.md", 30),
        ("docs/plugins/sandbox.md", 10),
        ("docs/plugins/trust.md", 8),
        ("docs/plugins/sources.md", 20),
    ] {
        let text = document(path);
        let promises = text.split("\n## ").find(|section| section.starts_with("Promises"));
        let named = tests_in_table(promises.expect("a section of promises"));
        assert!(named.len() > least, "{path}: only {} tests are named", named.len());
        expect_none(&format!("{path} names tests that don't exist"), &untested(named));
    }
}

#[test]
fn tests_that_hold_a_decision_exist() {
    assert_eq!(
        named_tests("so it is (test `a_b`, e2e `c`)"),
        ["a_b", "c"].map(str::to_owned).into()
    );
    let named = named_tests(&document("docs/decisions.md"));
    expect_none("docs/decisions.md names tests that don't exist", &untested(named));
}

/// Links to files of the project that aren't there.
fn dead_links(folder: &str, text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !root().join(folder).join(target).exists())
        .map(str::to_owned)
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    assert_eq!(
        dead_links("", "[a](README.md) [b](no/such.md) [c](https://example.org)"),
        ["no/such.md"]
    );
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        expect_none(&format!("dead links in {name}"), &dead_links("", &document(name)));
    }
    for source in sources(&["docs"], ".md") {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        expect_none(
            &format!("dead links in {}", source.path),
            &dead_links(folder, &source.text),
        );
    }
}
