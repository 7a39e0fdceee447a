use clawker_wire::admin::StopAgentRequest;

use super::{did, each};
use crate::client::Client;
use crate::error::CommandError;
use crate::term::Term;

/// Stop agents and start them again
///
/// What is contained stays contained. Returns when the agents' preparation has begun.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker restart web.scout
  clawker restart --timeout 0 web.scout")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
    /// From the stop signal to the kill
    #[arg(long, short, value_name = "SECONDS")]
    timeout: Option<u32>,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let timeout = args.timeout;
    each(term, args.agents, async |term, agent| {
        let request = StopAgentRequest {
            agent: agent.clone(),
            timeout,
        };
        client.rpc.restart_agent(request).await?;
        did(term, &agent, "restarted").await
    })
    .await
}
