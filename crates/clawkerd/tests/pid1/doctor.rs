//! What the doctor says in a container: as its first process, beside clawkerd, and where things are missing.

use std::process::Output;

use serde_json::Value;

use crate::host::{Container, can_run, first_process, without_proc};

struct Said {
    code: Option<i32>,
    report: Value,
}

impl Said {
    fn of(output: &Output) -> Self {
        let line = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line}{}", String::from_utf8_lossy(&output.stderr)));
        Self {
            code: output.status.code(),
            report,
        }
    }

    fn rows(&self) -> impl Iterator<Item = &Value> {
        self.report["rows"].as_array().into_iter().flatten()
    }

    /// `ok: this is process 1`
    fn row(&self, name: &str) -> String {
        let row = self.rows().find(|row| row["name"] == name).expect("a row");
        let word = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", word("verdict"), word("found"))
    }

    fn missing(&self) -> Vec<&str> {
        let missing = self
            .rows()
            .filter(|row| row["verdict"] == "missing" && row["required"] == true);
        missing.filter_map(|row| row["name"].as_str()).collect()
    }
}

#[test]
fn a_containers_first_process_has_what_clawkerd_requires() {
    if !can_run() {
        return;
    }
    let said = Said::of(&first_process(&["doctor", "--json"], || Ok(())));
    assert_eq!(said.missing(), [""; 0]);
    assert_eq!((said.code, &said.report["runs"]), (Some(0), &Value::Bool(true)));
    assert_eq!(said.row("first-process"), "ok: this is process 1");
    assert_eq!(
        said.row("capabilities"),
        "ok: this process has all that is needed, 13 in all"
    );
}

#[test]
fn beside_clawkerd_it_is_process_1_that_is_judged() {
    if !can_run() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let container = Container::start(dir.path(), &[]);
    let said = Said::of(&container.exec(&["doctor", "--json"]));
    assert_eq!(said.row("first-process"), "ok: process 1 is clawkerd init");
    // Its own are all of the host's.
    assert_eq!(
        said.row("capabilities"),
        "ok: process 1 has all that is needed, 13 in all"
    );
    assert_eq!(said.code, Some(0));
    assert!(
        container.processes().len() <= 2,
        "something is left beside PID 1 and its half"
    );
}

#[test]
fn without_proc_there_are_rows_that_say_so_and_no_failure() {
    if !can_run() {
        return;
    }
    let said = Said::of(&first_process(&["doctor", "--json"], without_proc));
    assert_eq!((said.code, &said.report["runs"]), (Some(1), &Value::Bool(false)));
    let missing = said.missing();
    for name in ["proc", "own-program", "capabilities"] {
        assert!(missing.contains(&name), "{name} is not missing: {missing:?}");
    }
    assert_eq!(said.row("pidfd"), "ok: opened, polled, signalled");
    let text = first_process(&["doctor"], without_proc);
    assert_eq!(text.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&text.stdout).contains("clawkerd can't run here: proc, own-program,"));
}
