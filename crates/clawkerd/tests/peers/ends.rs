//! How a command's end becomes init's exit code.

use crate::bed::Bed;
use crate::inits::{Init, Start, Streams};
use crate::known::Facts;
use crate::matrix::{name, signals};

/// Those whose default action isn't to end a process.
const HARMLESS: [i32; 7] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// Every exit code, death by every signal that can be one, and commands that can't be executed.
pub fn codes(init: Init) -> Facts {
    let mut facts = Facts::new();
    let start = Start::of(init, Streams::Pipes);
    for code in 0..=255 {
        let ended = Bed::witness(start, &["exit", &code.to_string()]).ended();
        facts.insert(("exit".to_owned(), code.to_string()), ended.code.to_string());
    }
    let deadly = signals()
        .chain([libc::SIGKILL])
        .filter(|signo| !HARMLESS.contains(signo));
    for signo in deadly {
        let ended = Bed::witness(start, &["die", &signo.to_string()]).ended();
        facts.insert(("death by".to_owned(), name(signo)), ended.code.to_string());
    }
    for (what, path) in [
        ("a program that isn't there", "/no/such/program"),
        ("a folder", "/proc"),
    ] {
        let ended = Bed::command(start, &[path]).ended();
        facts.insert(("execution of".to_owned(), what.to_owned()), ended.code.to_string());
    }
    facts
}
