//! `forged-clawkerd`: stands in clawkerd's place with a leaf of another authority, and plays what an agent may try.
//!
//! ```text
//! init NAME ADDR   PID 1: connects, speaks the preamble, serves the session, accepts everything, prints what it got
//! connect          a second process: connects to both sockets and says what became of it
//! steal SECONDS    opens the memory of every other process, again and again, and says whether one could be opened
//! lookup USER      asks the C library for a user, as clawkerd must never do
//! frame IFACE      sends a raw frame
//! ```
//! Output is one JSON object a line. It holds no secret and keeps no promise.

mod attacks;
mod preamble;
mod serve;
mod session;

use std::process::ExitCode;

use anyhow::{Result, bail};

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
        ["init", name, target] => serve::init(name, target),
        ["connect"] => attacks::connect(),
        ["steal", seconds] => attacks::steal(seconds.parse()?),
        ["lookup", user] => attacks::lookup(user),
        ["frame", interface] => attacks::frame(interface),
        _ => bail!("usage: forged-clawkerd init NAME ADDR:PORT | connect | steal SECONDS | lookup USER | frame IFACE"),
    }
}

/// Prints a line; whoever closed our output doesn't want it.
fn say(line: &serde_json::Value) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
