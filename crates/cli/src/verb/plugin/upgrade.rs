use clawker_wire::admin::ChangePluginRequest;
use clawker_wire::admin::change_plugin_request::Version;

use super::change;
use super::install::{self, Upgrade, Wanted};
use crate::client::Client;
use crate::error::CommandError;
use crate::term::Term;

/// Put another version of a plugin in the place of an installed one
///
/// No event is dropped: what is under way ends with the version that began it. What the new one asks for beyond what was
/// granted is shown, and waits for your word. With `--trial` a policy runs beside the one in force, without consequences,
/// and takes its place after so many events that both judged alike; `clawker plugin list` shows how that goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin upgrade oom-alert-0.2.0.wasm
  clawker plugin upgrade oom-alert-0.2.0.wasm --trial 1000
  clawker plugin upgrade oom-alert --promote
  clawker plugin upgrade oom-alert --back")]
pub struct Args {
    /// What takes its place, as `clawker plugin install` has it; with `--promote`, `--back` or `--end-trial` its name
    #[arg(value_name = "PLUGIN")]
    source: String,
    /// Try it beside the version in force, which it replaces after so many events judged alike; 0 is never
    #[arg(long, value_name = "EVENTS")]
    trial: Option<u64>,
    /// Put the version on trial into force now
    #[arg(long, group = "change")]
    promote: bool,
    /// End the trial; the version in force stays
    #[arg(long, group = "change")]
    end_trial: bool,
    /// Go back to the version before
    #[arg(long, group = "change")]
    back: bool,
    #[command(flatten)]
    wanted: Wanted,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let version = match (args.promote, args.end_trial, args.back) {
        (true, ..) => Version::Trial,
        (_, true, _) => Version::EndTrial,
        (_, _, true) => Version::Previous,
        _ => {
            let upgrade = Some(Upgrade { trial: args.trial });
            return install::take(&args.source, args.wanted, upgrade, client, term).await;
        }
    };
    let request = ChangePluginRequest {
        name: args.source,
        version: version.into(),
        ..ChangePluginRequest::default()
    };
    change(request, client, term).await
}
