use clawker_wire::admin::RemovePluginRequest;

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::term::Term;
use crate::text::plain;

/// Remove an installed plugin from this host
///
/// What its policy asked for stays in force until it is released.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin remove oom-alert")]
pub struct Args {
    /// Its name
    #[arg(value_name = "PLUGIN")]
    name: String,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let name = args.name.clone();
    answer(client.rpc.remove_plugin(RemovePluginRequest { name })).await?;
    if term.settings.json {
        term.object(&serde_json::json!({"name": args.name, "removed": true}))
            .await?;
    } else {
        term.line(&plain(&format!("{} is removed", args.name))).await?;
    }
    Ok(0)
}
