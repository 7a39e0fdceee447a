use super::{did, each};
use crate::client::Client;
use crate::error::CommandError;
use crate::progress::Progress;
use crate::session::{Foreground, detached, foreground, listen};
use crate::term::Term;

/// Start agents that exist
///
/// Returns when their commands run. With `--attach` it stays with the one agent, shows what its command writes and
/// ends with its exit code.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker start web.scout
  clawker start --attach web.scout")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
    /// Stay with it
    #[arg(long, short)]
    attach: bool,
    /// Give it our standard input; it must have been made with one
    #[arg(long, short, requires = "attach")]
    interactive: bool,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    if !args.attach {
        return each(term, args.agents, async |term, agent| {
            detached(client, term, &agent).await?;
            did(term, &agent, "started").await
        })
        .await;
    }
    let [agent] = args.agents.as_slice() else {
        return Err(CommandError::usage("--attach is for one agent"));
    };
    let mut signals = listen(term)?;
    let progress = Progress::new(term);
    let whom = Foreground {
        agent,
        stdin: args.interactive,
        remove: false,
    };
    foreground(client, term, &mut signals, whom, progress).await
}
