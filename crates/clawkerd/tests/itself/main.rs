//! What the program says of itself, asked of the program.

use std::process::{Command, Output};

use serde_json::Value;

fn clawkerd(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clawkerd"))
        .args(args)
        .env_clear()
        .output()
        .expect("clawkerd starts")
}

#[test]
fn the_version_is_one_line_for_a_person_and_one_for_a_program() {
    let person = clawkerd(&["--version"]);
    assert!(person.status.success());
    assert_eq!(
        String::from_utf8_lossy(&person.stdout),
        format!("{}\n", clawkerd::BUILD)
    );

    let program = clawkerd(&["--version", "--json"]);
    assert!(program.status.success());
    let line = String::from_utf8(program.stdout).expect("text");
    assert_eq!(line.lines().count(), 1, "{line}");
    let read: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(read["build"], clawkerd::BUILD);
    assert_eq!(read["protocol"]["newest"], clawker_wire::PROTOCOL);
    assert_eq!(read["wires"]["halves"], clawkerd::halves::VERSION);
}

#[test]
fn what_nobody_can_read_is_no_success() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("full");
    let status = Command::new(env!("CARGO_BIN_EXE_clawkerd"))
        .args(["--version", "--json"])
        .stdout(full)
        .stderr(std::process::Stdio::null())
        .status()
        .expect("clawkerd starts");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn the_doctor_finds_every_call_of_this_kernel_and_exits_by_what_is_required() {
    let program = clawkerd(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&program.stdout).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    // What these tests, and clawkerd itself, can't be without on any machine.
    for call in [
        "own-program",
        "signalfd",
        "pidfd",
        "memfd",
        "socketpair",
        "undumpable",
        "openat2",
    ] {
        let row = rows.iter().find(|row| row["name"] == call).expect("a row");
        assert_eq!(row["verdict"], "ok", "{row}");
    }
    let lacks = |row: &&Value| row["verdict"] == "missing" && row["required"] == true;
    assert_eq!(report["runs"], rows.iter().find(lacks).is_none());
    assert_eq!(program.status.code(), Some(i32::from(report["runs"] == false)));

    let person = clawkerd(&["doctor"]);
    assert_eq!(person.status.code(), program.status.code());
    let text = String::from_utf8(person.stdout).expect("text");
    for row in rows {
        let name = row["name"].as_str().expect("a name");
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}:\n{text}");
    }
}

#[test]
fn a_user_is_told_what_root_would_have() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root becomes another user");
        return;
    }
    // Where that user can read it.
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let program = dir.path().join("clawkerd");
    std::fs::copy(env!("CARGO_BIN_EXE_clawkerd"), &program).expect("copied");
    let output = Command::new(&program)
        .args(["doctor"])
        .uid(65_534)
        .gid(65_534)
        .output()
        .expect("clawkerd starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.ends_with("clawkerd can't run here: capabilities missing.\n"),
        "{text}"
    );
}
