//! `clawker plugin`: the verbs of authors, which ask no control plane, and those of operators.

mod bench;
mod build;
mod disable;
mod doctor;
mod enable;
mod explain;
mod inspect;
mod install;
mod list;
mod new;
mod remove;
mod replay;
mod sign;
mod test;
mod upgrade;
mod verify;

use std::path::{Path, PathBuf};

use clawker_plugin_kit::Error;
use clawker_wire::admin::ChangePluginRequest;

use crate::client::{Client, answer};
use crate::error::{CommandError, Kind};
use crate::term::Term;

/// Make plugins, and install them
///
/// A plugin is a WebAssembly component: a policy watches what happens to agents, a step prepares an agent before its
/// command may run. It has no power but what it imports. Those who write one need no control plane: new, build, test,
/// inspect, sign, verify, bench, replay. The other verbs are of the plugins of this host.
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
  clawker plugin replay oom-alert/oom-alert.wasm --journal events.jsonl
  clawker plugin install oom-alert
  clawker plugin list")]
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
    Install(install::Args),
    Upgrade(upgrade::Args),
    List(list::Args),
    Explain(explain::Args),
    Enable(enable::Args),
    Disable(disable::Args),
    Remove(remove::Args),
    Doctor(doctor::Args),
}

pub async fn run(args: Args, socket: &Path, term: &mut Term) -> Result<u8, CommandError> {
    match args.verb {
        Verb::New(args) => new::run(args, term).await,
        Verb::Build(args) => build::run(args, term).await,
        Verb::Test(args) => test::run(args, term).await,
        Verb::Inspect(args) => inspect::run(args, term).await,
        Verb::Sign(args) => sign::run(args, term).await,
        Verb::Verify(args) => verify::run(args, term).await,
        Verb::Bench(args) => bench::run(args, term).await,
        Verb::Replay(args) => replay::run(args, term).await,
        verb => {
            let mut client = Client::connect(socket).await?;
            of_this_host(verb, &mut client, term).await
        }
    }
}

async fn of_this_host(verb: Verb, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    match verb {
        Verb::Install(args) => install::run(args, client, term).await,
        Verb::Upgrade(args) => upgrade::run(args, client, term).await,
        Verb::List(args) => list::run(args, client, term).await,
        Verb::Explain(args) => explain::run(args, client, term).await,
        Verb::Enable(args) => enable::run(args, client, term).await,
        Verb::Disable(args) => disable::run(args, client, term).await,
        Verb::Remove(args) => remove::run(args, client, term).await,
        Verb::Doctor(args) => doctor::run(args, client, term).await,
        _ => Ok(clawker_model::exit::FAILED),
    }
}

/// How an installed plugin is used.
#[derive(Debug, Default, clap::Args)]
struct Usage {
    /// Its settings, a file with a JSON object
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Of a policy: whether its verdicts are carried out, or journaled alone
    #[arg(long, value_name = "MODE", value_parser = ["enforce", "monitor"])]
    mode: Option<String>,
    /// Of a policy: what is done while it can't answer
    #[arg(long, value_name = "ACTION", value_parser = ["observe", "alert", "lock-network", "freeze", "stop", "kill"])]
    fallback: Option<String>,
    /// Of a policy: what becomes of an event that it can't judge: the fallback, nothing, or its last answer stands
    #[arg(long, value_name = "MODE", value_parser = ["closed", "open", "last"])]
    fail_mode: Option<String>,
}

/// Changes an installed plugin, and shows what it is then.
async fn change(request: ChangePluginRequest, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let entry = answer(client.rpc.change_plugin(request)).await?;
    list::show(&[entry], term).await
}

/// The settings in a file, as the control plane takes them.
async fn settings(file: Option<PathBuf>) -> Result<Option<String>, CommandError> {
    /// Bytes of settings.
    const MAX: u64 = 64 << 10;
    let Some(file) = file else { return Ok(None) };
    let reading = format!("reading {}", file.display());
    let len = std::fs::metadata(&file)
        .map_err(|error| CommandError::io(&reading, &error))?
        .len();
    if len > MAX {
        return Err(CommandError::usage(format!(
            "{} has {len} bytes, the limit is {MAX}",
            file.display()
        )));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| CommandError::io(&reading, &error))?;
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(CommandError::usage(format!(
            "{} is no JSON object: {error}",
            file.display()
        ))),
    }
}

/// Asks a person; without one the answer is no.
async fn ask(term: &mut Term, question: &str) -> Result<bool, CommandError> {
    if !(term.tty.stdin && term.tty.stderr) || term.settings.json {
        return Ok(false);
    }
    let answer = term.question(question).await?;
    Ok(matches!(answer.as_deref(), Some("y" | "Y" | "yes")))
}

/// Where this machine's development key is.
fn development_key(term: &Term) -> Result<PathBuf, CommandError> {
    let absolute = |name: &str| {
        term.world
            .var(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let config = config.ok_or_else(|| {
        CommandError::usage("there is no development key without a home folder").hint("name a key with `--key`")
    })?;
    Ok(config.join("clawker/plugin-dev.key"))
}

/// The development key, if it was made.
fn existing_key(term: &Term) -> Option<PathBuf> {
    development_key(term).ok().filter(|path| path.exists())
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
