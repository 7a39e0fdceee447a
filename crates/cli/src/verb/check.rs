use std::path::PathBuf;

use super::apply::{DEFAULT, load};
use crate::error::CommandError;
use crate::project::summary;
use crate::term::Term;
use crate::text::plain;

/// Check a project's file and say what it means
///
/// Asks nobody: a control plane may still refuse what its host forbids, and settings that a step's plugin doesn't take.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker check
  clawker check -f deploy/clawker.yaml scout")]
pub struct Args {
    /// The project's file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT)]
    file: PathBuf,
    /// Only these agents of it
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let wanted = load(&args.file, &args.agents, term).await?;
    for agent in &wanted {
        let lines = summary::lines(agent);
        if term.settings.json {
            let object = serde_json::json!({"agent": agent.name, "says": lines});
            term.object(&object).await?;
            continue;
        }
        let lines: Vec<String> = lines.iter().map(|line| plain(line).into_owned()).collect();
        term.lines(lines).await?;
    }
    Ok(0)
}
