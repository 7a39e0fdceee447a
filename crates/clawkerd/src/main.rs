//! `clawkerd init … -- CMD…` as PID 1; `clawkerd session` is started by that; `clawkerd --version [--json]`.

use std::io::Write;
use std::process::ExitCode;

use clawkerd::cli::{self, Invocation};
use clawkerd::{init, session, version};

#[cfg(debug_assertions)]
#[global_allocator]
static ALLOCATOR: clawkerd::counting::Counting = clawkerd::counting::Counting;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Version { json: false }) => say(&version::text()),
        Ok(Invocation::Version { json: true }) => match version::json() {
            Ok(line) => say(&line),
            Err(error) => {
                eprintln!("clawkerd: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(Invocation::Init(options)) => ExitCode::from(init::run(options)),
        Ok(Invocation::Session { wire }) => ExitCode::from(session::run(wire)),
        Err(error) => {
            eprintln!("clawkerd: {error}");
            ExitCode::from(cli::MISCONFIGURED)
        }
    }
}

/// For whoever asked; one that has left hears nothing, and that is not a success.
fn say(line: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "clawkerd: {error}");
            ExitCode::FAILURE
        }
    }
}
