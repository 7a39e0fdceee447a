use std::path::PathBuf;

use clawker_plugin_kit::{Sandbox, sandbox, words};

use super::blocking;
use crate::error::CommandError;
use crate::term::Term;
use crate::text::plain;

/// Say what a plugin is and what it may do
///
/// Loads the component in the sandbox and asks it what it is. What it may do is what it imports: a component that
/// imports anything else than a plugin's world has isn't loaded. Nothing of it runs but its description.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin inspect oom-alert.wasm
  clawker plugin inspect oom-alert.wasm --json")]
pub struct Args {
    /// The component
    file: PathBuf,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let sandbox = blocking(move || Sandbox::load(&sandbox::read(&args.file)?)).await?;
    let plugin = &sandbox.plugin;
    if term.settings.json {
        let schema: serde_json::Value = serde_json::from_str(&plugin.settings_schema).unwrap_or_default();
        let object = serde_json::json!({
            "name": plugin.name, "version": plugin.version, "kind": plugin.kind,
            "digest": format!("sha256:{}", plugin.digest), "imports": plugin.imports, "may": words::may(plugin),
            "events": plugin.events, "windows": plugin.windows, "settings": schema,
        });
        term.object(&object).await?;
        return Ok(0);
    }
    let lines = words::about(plugin);
    term.lines(lines.iter().map(|line| plain(line).into_owned())).await?;
    Ok(0)
}
