use clawker_wire::admin::StopAgentRequest;

use super::{did, each};
use crate::client::Client;
use crate::error::CommandError;
use crate::term::Term;

/// End agents, with time to put their things in order
///
/// The image's stop signal goes to the agent's command; what still runs after the timeout is killed. A frozen
/// agent is killed at once. The agent stays and can be started again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker stop web.scout
  clawker stop --timeout 60 web.scout web.writer")]
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
        client.rpc.stop_agent(request).await?;
        did(term, &agent, "stopped").await
    })
    .await
}
