use clawker_wire::admin::ChangePluginRequest;

use super::{Usage, change, settings};
use crate::client::Client;
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
    #[command(flatten)]
    usage: Usage,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let request = ChangePluginRequest {
        name: args.name,
        enabled: Some(true),
        mode: args.usage.mode,
        fallback: args.usage.fallback,
        fail_mode: args.usage.fail_mode,
        settings: settings(args.usage.settings).await?,
        ..ChangePluginRequest::default()
    };
    change(request, client, term).await
}
