//! `clawker plugin`: the verbs of authors. They ask no control plane.

mod bench;
mod build;
mod inspect;
mod new;
mod replay;
mod sign;
mod test;
mod verify;

use clawker_plugin_kit::Error;

use crate::error::{CommandError, Kind};
use crate::term::Term;

/// Make plugins: a new project, a build, tests and replays in the sandbox
///
/// A plugin is a WebAssembly component: a policy watches what happens to agents, a step prepares an agent before its
/// command may run. It has no power but what it imports. These verbs need no control plane.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    disable_help_subcommand = true
)]
#[command(after_help = "\
Examples:
  clawker plugin new oom-alert --kind policy
  clawker plugin build oom-alert
  clawker plugin test oom-alert
  clawker plugin replay oom-alert/oom-alert.wasm --journal events.jsonl")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    New(new::Args),
    Build(build::Args),
    Test(test::Args),
    Inspect(inspect::Args),
    Sign(sign::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Replay(replay::Args),
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    match args.verb {
        Verb::New(args) => new::run(args, term).await,
        Verb::Build(args) => build::run(args, term).await,
        Verb::Test(args) => test::run(args, term).await,
        Verb::Inspect(args) => inspect::run(args, term).await,
        Verb::Sign(args) => sign::run(args, term).await,
        Verb::Verify(args) => verify::run(args, term).await,
        Verb::Bench(args) => bench::run(args, term).await,
        Verb::Replay(args) => replay::run(args, term).await,
    }
}

/// Where this machine's development key is.
fn development_key() -> Result<std::path::PathBuf, CommandError> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(std::path::PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let config = config.ok_or_else(|| {
        CommandError::usage("there is no development key without a home folder").hint("name a key with `--key`")
    })?;
    Ok(config.join("clawker/plugin-dev.key"))
}

/// Does what blocks away from the terminal's loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, CommandError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(CommandError::from),
        Err(error) => Err(CommandError::new(Kind::Failed, error)),
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Io { doing, error } => CommandError::io(doing, error),
            Error::NoProject { .. } => CommandError::new(Kind::NoInput, error.to_string()),
            Error::Malformed { .. } | Error::Project(_) => {
                CommandError::new(Kind::Code(clawker_model::exit::MISCONFIGURED), error.to_string())
            }
            Error::Build(clawker_plugin_kit::BuildError::NoToolchain) => {
                CommandError::new(Kind::Code(clawker_model::exit::UNAVAILABLE), error.to_string())
            }
            _ => CommandError::new(Kind::Failed, error.to_string()),
        }
    }
}
