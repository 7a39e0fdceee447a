//! `forged-clawkerd`: stands in clawkerd's place with an identity that isn't its own, and plays what an agent may try.
//!
//! ```text
//! init NAME ADDR [DIR]   PID 1 of a stranger: connects, speaks the preamble, serves the session, accepts everything,
//!                        prints what it got; shows what is in DIR, else a leaf of another authority
//! init --… -- SCRIPT     PID 1 of an agent whose clawkerd was replaced: honest but for what the script says; without
//!                        one it becomes the real clawkerd
//! connect [DIR]    another process: connects to the sockets in DIR and says what became of it
//! nested           the same, as PID 1 of a pid namespace of its own
//! crowd            400 connections that say nothing
//! as-pid PID DIR   the same, as a process with a number that was somebody else's
//! steal SECONDS    opens the memory of every other process, again and again, and says whether one could be opened
//! lookup USER      asks the C library for a user, as clawkerd must never do
//! frame IFACE      sends a raw frame
//! ```
//! Output is one JSON object a line. It holds no secret and keeps no promise.

mod asks;
mod attacks;
mod flood;
mod identity;
mod preamble;
mod script;
mod serve;
mod session;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use preamble::RUN;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&serde_json::json!({"error": format!("{error:#}")}));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["init", settings @ .., "--", script] if script.starts_with('{') && all_settings(settings) => {
            serve::compromised(script)
        }
        ["init", first, ..] if first.starts_with("--") => honest(),
        ["init", name, target] => serve::stranger(name, target, None),
        ["init", name, target, shows] => serve::stranger(name, target, Some(shows)),
        ["connect"] => attacks::connect(Path::new(RUN)),
        ["connect", dir] => attacks::connect(Path::new(dir)),
        ["nested"] => attacks::nested(),
        ["crowd"] => flood::crowd(),
        ["as-pid", pid, dir] => attacks::as_pid(pid.parse()?, Path::new(dir)),
        ["steal", seconds] => attacks::steal(seconds.parse()?),
        ["lookup", user] => attacks::lookup(user),
        ["frame", interface] => attacks::frame(interface),
        _ => bail!(
            "usage: forged-clawkerd init NAME ADDR:PORT [DIR] | init -- SCRIPT | connect [DIR] | nested | crowd | as-pid PID DIR | steal SECONDS | lookup USER | frame IFACE"
        ),
    }
}

fn all_settings(words: &[&str]) -> bool {
    words.iter().all(|word| word.starts_with("--"))
}

/// Becomes the real clawkerd, which lies beside it on a compromised host: this agent has no script.
fn honest() -> Result<()> {
    use std::os::unix::process::CommandExt;
    let own = std::env::current_exe()?;
    let args = std::env::args_os().skip(1);
    Err(std::process::Command::new(own.with_extension("real"))
        .args(args)
        .exec()
        .into())
}

/// Prints a line; whoever closed our output doesn't want it.
fn say(line: &serde_json::Value) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
