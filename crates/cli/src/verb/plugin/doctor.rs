use clawker_wire::admin::{CheckPluginsRequest, PluginCheck};

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::term::Term;
use crate::text::plain;

/// Check that the installed plugins are whole, trusted and in use
///
/// Holds each component against its digest and its signature, its key against the trusted ones, and says which plugins
/// aren't in use and why. Changes nothing. The exit code is 1 if something isn't well.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin doctor
  clawker plugin doctor --json")]
pub struct Args {}

pub async fn run(_: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let checks = answer(client.rpc.check_plugins(CheckPluginsRequest {})).await?.checks;
    let well = checks.iter().all(|check| check.pass);
    for PluginCheck { what, pass, detail } in &checks {
        if term.settings.json {
            let object = serde_json::json!({"check": what, "pass": pass, "detail": detail});
            term.object(&object).await?;
        } else if *pass {
            term.line(&format!("ok   {}", plain(what))).await?;
        } else {
            let bad = term.red("bad");
            term.line(&format!("{bad}  {}: {}", plain(what), plain(detail))).await?;
        }
    }
    Ok(if well { 0 } else { clawker_model::exit::FAILED })
}
