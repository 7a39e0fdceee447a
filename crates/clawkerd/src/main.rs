//! `clawkerd init … -- CMD…` as PID 1; `clawkerd session` is started by that; `clawkerd doctor [--json]` and
//! `clawkerd --version [--json]` for whoever asks.

use std::convert::Infallible;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clawkerd::cli::{self, Invocation};
use clawkerd::{doctor, init, session, version};

#[cfg(debug_assertions)]
#[global_allocator]
static ALLOCATOR: clawkerd::counting::Counting = clawkerd::counting::Counting;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Version { json: false }) => say::<Infallible>(Ok(version::text())),
        Ok(Invocation::Version { json: true }) => say(version::json()),
        Ok(Invocation::Doctor { json }) => {
            let report = doctor::examine();
            let said = say(if json { report.json() } else { Ok(report.text()) });
            if report.runs { said } else { ExitCode::FAILURE }
        }
        Ok(Invocation::Trial(trial)) => say(trial.run()),
        Ok(Invocation::Init(options)) => ExitCode::from(init::run(options)),
        Ok(Invocation::Session { wire }) => ExitCode::from(session::run(wire)),
        Err(error) => {
            eprintln!("clawkerd: {error}");
            ExitCode::from(cli::MISCONFIGURED)
        }
    }
}

/// For whoever asked; one that has left hears nothing, and that is not a success.
fn say<E: Display>(text: Result<String, E>) -> ExitCode {
    let error = match text.map(|text| writeln!(std::io::stdout(), "{text}")) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let _ = writeln!(std::io::stderr(), "clawkerd: {error}");
    ExitCode::FAILURE
}
