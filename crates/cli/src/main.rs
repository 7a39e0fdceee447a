//! `clawker`: parses the command line and hands it to the library, which does the rest.

use std::process::ExitCode;

use clap::Parser;
use clawker_cli::{Cli, Term};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut term = Term::system(&cli.globals);
    // One thread: a command is one loop over its streams, and the blocking pool does files and terminals.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: starting the async runtime: {error}");
            return ExitCode::from(clawker_model::exit::FAILED);
        }
    };
    let code = runtime.block_on(clawker_cli::main(cli, &mut term));
    // A read of the terminal may still be under way; nobody waits for it.
    runtime.shutdown_background();
    ExitCode::from(code)
}
