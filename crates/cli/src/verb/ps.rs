use clawker_wire::admin::{AgentView, ListAgentsRequest};

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::table::Listing;
use crate::term::Term;
use crate::text::{ago, short_name};

/// List agents
///
/// Those that run, sorted by project and agent; with `--all` those that don't, too. CONTAINMENT is what is in
/// force, as read back from the kernel.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker ps
  clawker ps --all --json
  clawker ps -aq | xargs clawker rm")]
pub struct Args {
    /// Also those that don't run
    #[arg(long, short)]
    all: bool,
}

const TITLES: &[&str] = &[
    "AGENT",
    "STATUS",
    "CONTAINMENT",
    "SESSION",
    "TRUST",
    "PLAN",
    "CREATED",
    "IMAGE",
    "COMMAND",
];

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let agents = answer(client.rpc.list_agents(ListAgentsRequest { all: args.all }))
        .await?
        .agents;
    if term.settings.json {
        for agent in &agents {
            term.object(&object(agent)).await?;
        }
        return Ok(0);
    }
    if term.settings.quiet {
        for agent in &agents {
            term.line(&short_name(&agent.name)).await?;
        }
        return Ok(0);
    }
    let now = term.world.now_ms();
    let mut listing = Listing::new(TITLES, &["PLAN", "IMAGE", "COMMAND"]);
    for agent in &agents {
        listing.push([
            short_name(&agent.name).into_owned(),
            status(agent),
            agent.containment.clone(),
            agent.session.clone(),
            agent.trust.clone(),
            agent.plan.clone(),
            ago(now, agent.created_ms),
            agent.image.clone(),
            agent.command.clone(),
        ]);
    }
    term.lines(listing.lines(term.width)).await?;
    if agents.is_empty() && !args.all {
        term.remark("No agent runs. Those that don't: `clawker ps --all`.")
            .await?;
    }
    Ok(0)
}

fn status(agent: &AgentView) -> String {
    match (agent.status.as_str(), agent.exit_code, agent.health.as_str()) {
        ("exited", Some(code), _) => format!("exited ({code})"),
        ("running", _, health @ ("healthy" | "unhealthy")) => format!("running ({health})"),
        (status, _, _) => status.to_owned(),
    }
}

fn object(agent: &AgentView) -> serde_json::Value {
    serde_json::json!({
        "name": agent.name,
        "project": agent.project,
        "agent": agent.agent,
        "container_id": agent.container_id,
        "image": agent.image,
        "command": agent.command,
        "status": agent.status,
        "exit_code": agent.exit_code,
        "health": agent.health,
        "session": agent.session,
        "trust": agent.trust,
        "plan": agent.plan,
        "containment": agent.containment,
        "start": agent.start,
        "init_pid": agent.init_pid,
        "owner": agent.owner,
        "created_ms": agent.created_ms,
        "last_seen_ms": agent.last_seen_ms,
    })
}
