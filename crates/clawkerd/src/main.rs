//! `clawkerd init … -- CMD…` as PID 1; `clawkerd session` is started by that; `clawkerd --version [--json]`.

use std::process::ExitCode;

use clawkerd::cli::{self, Invocation};
use clawkerd::{init, session};

#[cfg(debug_assertions)]
#[global_allocator]
static ALLOCATOR: clawkerd::counting::Counting = clawkerd::counting::Counting;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Version { json }) => {
            println!("{}", cli::version(json));
            ExitCode::SUCCESS
        }
        Ok(Invocation::Init(options)) => ExitCode::from(init::run(options)),
        Ok(Invocation::Session { wire }) => ExitCode::from(session::run(wire)),
        Err(error) => {
            eprintln!("clawkerd: {error}");
            ExitCode::from(cli::MISCONFIGURED)
        }
    }
}
