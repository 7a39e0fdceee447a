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
