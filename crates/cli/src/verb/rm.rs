use clawker_wire::admin::RemoveAgentRequest;

use super::{did, each};
use crate::client::Client;
use crate::error::CommandError;
use crate::term::Term;

/// Remove agents: their containers, identities and secrets
///
/// The journal keeps what they did. An agent that runs is refused without `--force`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker rm web.scout
  clawker ps -aq | xargs clawker rm --force")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
    /// Kill it first if it runs
    #[arg(long, short)]
    force: bool,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let force = args.force;
    each(term, args.agents, async |term, agent| {
        let request = RemoveAgentRequest {
            agent: agent.clone(),
            force,
        };
        client.rpc.remove_agent(request).await?;
        did(term, &agent, "removed").await
    })
    .await
}
