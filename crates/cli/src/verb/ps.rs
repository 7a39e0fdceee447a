use clawker_wire::admin::ListAgentsRequest;

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::table::Listing;
use crate::term::Term;
use crate::text::{ago, brief, short_name};
use crate::view::{object, status};

/// List agents
///
/// Those that run, sorted by project and agent; with `--all` those that don't, too. CONTAINMENT is what is in
/// force, as read back from the kernel; SEEN is how long ago its clawkerd was heard. `inspect` tells the rest.
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
    "SEEN",
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
            brief(now, agent.last_seen_ms),
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
