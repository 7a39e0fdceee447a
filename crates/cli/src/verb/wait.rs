use clawker_wire::admin::AgentRef;

use super::each;
use crate::client::Client;
use crate::error::CommandError;
use crate::relay::exit_code;
use crate::term::Term;

/// Wait until agents' commands have ended, and print their exit codes
///
/// A code is still known for ten minutes after its agent was removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker wait web.scout
  code=$(clawker wait web.scout)")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    each(term, args.agents, async |term, agent| {
        let exit = client
            .rpc
            .wait_agent(AgentRef { agent: agent.clone() })
            .await?
            .into_inner();
        let code = exit_code(&exit);
        if term.settings.json {
            let signal = (exit.signal > 0).then_some(exit.signal);
            return term
                .object(&serde_json::json!({"agent": agent, "exit_code": code, "signal": signal, "oom": exit.oom}))
                .await;
        }
        term.line(&code.to_string()).await?;
        term.flush().await
    })
    .await
}
