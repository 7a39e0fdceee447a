use clap::ValueEnum;
use clawker_model::EgressRule;
use clawker_wire::admin::{ContainRequest, ContainResponse};

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::parse;
use crate::term::Term;
use crate::text::{plain, short_name};

/// Contain an agent: its network, its processes or its identity
///
/// The action is in force, and was read back from the kernel, when the command returns. It outlives the agent's
/// restarts and the control plane; `clawker release` withdraws it. Several actions add up: the strongest one
/// counts for each of network, processes and identity.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker contain web.scout lock-network --reason 'talks to an unknown host'
  clawker contain web.scout restrict-egress --allow 192.0.2.7:443
  clawker contain web.scout freeze")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    agent: String,
    /// What to do, weakest first
    #[arg(value_enum)]
    action: Action,
    /// With restrict-egress: a destination that stays allowed (repeatable; none: nothing does)
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::destination)]
    allow: Vec<EgressRule>,
    /// Why, for `clawker why` and the journal
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Note it in the journal
    Observe,
    /// Tell the operators
    Alert,
    /// Network: only the destinations of --allow
    RestrictEgress,
    /// Network: nothing in, nothing out, loopback included
    LockNetwork,
    /// Processes: held where they are
    Freeze,
    /// Processes: ended, with time to put things in order
    Stop,
    /// Processes: ended at once
    Kill,
    /// Identity: worth nothing until released
    Revoke,
}

impl Args {
    /// What can be said without a control plane.
    pub fn check(&self) -> Result<(), CommandError> {
        if self.allow.is_empty() || self.action == Action::RestrictEgress {
            return Ok(());
        }
        Err(
            CommandError::usage("--allow goes with the action restrict-egress alone")
                .hint(format!("clawker contain {} restrict-egress --allow …", self.agent)),
        )
    }
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let action = args.action.to_possible_value().map(|value| value.get_name().to_owned());
    let request = ContainRequest {
        agent: args.agent.clone(),
        action: action.unwrap_or_default(),
        allow: args.allow.iter().map(ToString::to_string).collect(),
        reason: args.reason,
    };
    let done = answer(client.rpc.contain(request)).await?;
    report(term, &args.agent, &done).await
}

/// What is in force now.
pub async fn report(term: &mut Term, agent: &str, done: &ContainResponse) -> Result<u8, CommandError> {
    if term.settings.json {
        let object = serde_json::json!({
            "agent": agent, "in_force": done.in_force, "read_back": done.read_back, "micros": done.micros,
        });
        term.object(&object).await?;
    } else if !term.settings.quiet {
        term.line(&format!("{}: {}", short_name(agent), plain(&done.in_force)))
            .await?;
        let took = format!("{}.{:03} ms", done.micros / 1000, done.micros % 1000);
        let read_back = match done.read_back.is_empty() {
            true => format!("in force after {took}"),
            false => format!("read back after {took}: {}", plain(&done.read_back)),
        };
        term.remark(&read_back).await?;
    }
    Ok(0)
}
