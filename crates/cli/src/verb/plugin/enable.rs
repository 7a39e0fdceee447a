use std::path::PathBuf;

use clawker_wire::admin::ChangePluginRequest;

use super::{list, settings};
use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::term::Term;

/// Use an installed plugin, or use it otherwise
///
/// A policy that was quarantined is asked again. With settings or a mode it is used with those from now on; what isn't
/// named stays as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin enable oom-alert
  clawker plugin enable oom-alert --mode monitor
  clawker plugin enable oom-alert --settings settings.json")]
pub struct Args {
    /// Its name
    #[arg(value_name = "PLUGIN")]
    name: String,
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

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let request = ChangePluginRequest {
        name: args.name,
        enabled: Some(true),
        mode: args.mode,
        fallback: args.fallback,
        fail_mode: args.fail_mode,
        settings: settings(args.settings).await?,
        ..ChangePluginRequest::default()
    };
    let entry = answer(client.rpc.change_plugin(request)).await?;
    list::show(&[entry], term).await
}
