use clawker_wire::admin::ChangePluginRequest;

use super::change;
use crate::client::Client;
use crate::error::CommandError;
use crate::term::Term;

/// Use an installed plugin no more, and keep it
///
/// What its policy asked for stays in force until it is released.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin disable oom-alert")]
pub struct Args {
    /// Its name
    #[arg(value_name = "PLUGIN")]
    name: String,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let request = ChangePluginRequest {
        name: args.name,
        enabled: Some(false),
        ..ChangePluginRequest::default()
    };
    change(request, client, term).await
}
