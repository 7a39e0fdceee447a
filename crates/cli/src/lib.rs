//! The commands of `clawker`, as functions over a client of the control plane and a [`Term`].
//!
//! Owns what operators see: arguments, tables, messages, exit codes. Never touches Docker, the journal, the
//! state directory or a kernel interface: every answer comes from the control plane's admin socket, but for `ca sign`
//! and `plugin`, which ask nobody. Only `term::system` knows the real terminal and the environment, so every command runs in tests too.
//!
//! ```text
//! argv ─▶ Cli ─▶ verb::<name>::run(args, client, term) ─▶ Ok(exit code)
//!                                                      └▶ CommandError{kind, error, hints} ─▶ stderr, exit code
//! ```

mod args;
pub mod client;
pub mod docs;
mod error;
pub mod parse;
mod progress;
pub mod project;
mod reconnect;
mod relay;
mod resume;
mod session;
mod table;
pub mod term;
pub mod text;
mod verb;
mod view;

pub use args::{Cli, Globals};
pub use error::{CommandError, Kind};
pub use term::Term;

use args::Verb;
use client::Client;

/// Runs a command to its end, reports its error on stderr, and returns the exit code.
pub async fn main(cli: Cli, term: &mut Term) -> u8 {
    let outcome = match run(cli, term).await {
        Ok(code) => term.flush().await.map(|()| code),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            error.report(term).await;
            error.exit_code()
        }
    }
}

/// Runs a command to its end.
pub async fn run(cli: Cli, term: &mut Term) -> Result<u8, CommandError> {
    let socket = cli.globals.socket;
    match cli.verb {
        Verb::Up(args) => verb::up::run(args, &socket, term).await,
        Verb::Down(args) => verb::down::run(args, &socket, term).await,
        Verb::Restore(args) => verb::restore::run(args, term).await,
        Verb::Check(args) => verb::check::run(args, term).await,
        Verb::Plugin(args) => verb::plugin::run(args, &socket, term).await,
        Verb::Ca(args) if args.is_offline() => verb::ca::sign(args, term).await,
        verb => {
            // What is wrong on the command line is said before what is wrong with the machine.
            if let Verb::Contain(args) = &verb {
                args.check()?;
            }
            let mut client = Client::connect(&socket).await?;
            with_client(verb, &mut client, term).await
        }
    }
}

async fn with_client(verb: Verb, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    match verb {
        Verb::Up(_) | Verb::Down(_) | Verb::Restore(_) | Verb::Check(_) | Verb::Plugin(_) => {
            Ok(clawker_model::exit::FAILED)
        }
        Verb::Apply(args) => verb::apply::run(args, client, term).await,
        Verb::Run(args) => verb::run::run(*args, client, term).await,
        Verb::Ps(args) => verb::ps::run(args, client, term).await,
        Verb::Inspect(args) => verb::inspect::run(args, client, term).await,
        Verb::Start(args) => verb::start::run(args, client, term).await,
        Verb::Stop(args) => verb::stop::run(args, client, term).await,
        Verb::Restart(args) => verb::restart::run(args, client, term).await,
        Verb::Rm(args) => verb::rm::run(args, client, term).await,
        Verb::Wait(args) => verb::wait::run(args, client, term).await,
        Verb::Logs(args) => verb::logs::run(args, client, term).await,
        Verb::Exec(args) => verb::exec::run(args, client, term).await,
        Verb::Contain(args) => verb::contain::run(args, client, term).await,
        Verb::Release(args) => verb::release::run(args, client, term).await,
        Verb::Why(args) => verb::why::run(args, client, term).await,
        Verb::Audit(args) => verb::audit::run(args, client, term).await,
        Verb::Backup(args) => verb::backup::run(args, client, term).await,
        Verb::Ca(args) => verb::ca::run(args, client, term).await,
        Verb::Events(args) => verb::events::run(args, client, term).await,
        Verb::Status(args) => verb::status::run(args, client, term).await,
    }
}
