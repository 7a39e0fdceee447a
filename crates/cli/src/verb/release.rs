use clawker_wire::admin::ReleaseRequest;

use super::contain::report;
use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::term::Term;

/// Withdraw the containment of an agent
///
/// Every cause is withdrawn, those of policies too; the egress rules that the agent was made with stay. What is
/// in force afterwards is read back from the kernel and shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker why web.scout
  clawker release web.scout")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    agent: String,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let request = ReleaseRequest {
        agent: args.agent.clone(),
    };
    let done = answer(client.rpc.release(request)).await?;
    report(term, &args.agent, &done).await
}
