use clawker_wire::admin::{AgentRef, AgentView};

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::term::Term;
use crate::text::{age, ago, count, plain, short_name};
use crate::view::{object, status};

/// Show all that is known of an agent
///
/// Its container and command, its session and whether its peer is who it should be, how far its preparation came,
/// and what contains it. A reason is followed by what led to it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker inspect web.scout
  clawker inspect --json web.scout")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    agent: String,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let agent = answer(client.rpc.get_agent(AgentRef { agent: args.agent })).await?;
    if term.settings.json {
        term.object(&object(&agent)).await?;
        return Ok(0);
    }
    let now = term.world.now_ms();
    let name = term.bold(&short_name(&agent.name));
    term.line(&name).await?;
    for (what, fact) in facts(&agent, now) {
        let (what, fact) = (format!("{what:<13}"), plain(&fact).into_owned());
        let fact = if what.starts_with("Intruder") {
            term.yellow(&fact)
        } else {
            fact
        };
        term.line(&format!("  {what}{fact}")).await?;
    }
    Ok(0)
}

/// What there is to say, in the order in which it is asked for. What is unknown isn't mentioned.
fn facts(agent: &AgentView, now: u64) -> Vec<(&'static str, String)> {
    let since = |at_ms: u64| match at_ms {
        0 => String::new(),
        at_ms => format!(", for {}", age(now.saturating_sub(at_ms))),
    };
    let mut facts = vec![("Status", container(agent))];
    if !agent.health_detail.is_empty() {
        facts.push(("Health", agent.health_detail.clone()));
    }
    let mut session = format!("{}{}", agent.session, since(agent.session_since_ms));
    if agent.session_attempts > 1 {
        session.push_str(&format!(", {}", count(agent.session_attempts.into(), "attempt")));
    }
    facts.push(("Session", because(session, &agent.session_detail)));
    if !agent.session_address.is_empty() {
        facts.push(("Address", agent.session_address.clone()));
    }
    let trust = format!("{}{}", agent.trust, since(agent.trust_since_ms));
    facts.push(("Trust", because(trust, &agent.trust_detail)));
    let registry = match agent.registered {
        true => format!("registered, generation {}", agent.generation),
        false => "not registered".to_owned(),
    };
    facts.push(("Registry", registry));
    if let Some(intruder) = &agent.intruder {
        let said = format!("{}, {}", intruder.reason, ago(now, intruder.at_ms));
        facts.push(("Intruder", because(said, &intruder.detail)));
    }
    if !agent.plan.is_empty() {
        facts.push(("Plan", because(agent.plan.clone(), &agent.plan_detail)));
    }
    let command = match agent.command.as_str() {
        "" => agent.command_state.clone(),
        command => format!("{command} ({})", agent.command_state),
    };
    facts.push(("Command", command));
    facts.push(("Containment", containment(agent)));
    if let Some(ended) = &agent.ended {
        let how = match (ended.signal, ended.oom) {
            (0, false) => format!("code {}", ended.code),
            (0, true) => format!("code {}, out of memory", ended.code),
            (signal, false) => format!("signal {signal}"),
            (signal, true) => format!("signal {signal}, out of memory"),
        };
        facts.push((
            "Last exit",
            format!("{how}, start {}, {}", ended.start, ago(now, ended.at_ms)),
        ));
    }
    if agent.last_seen_ms > 0 {
        facts.push(("Last seen", ago(now, agent.last_seen_ms)));
    }
    let rest = [
        ("Image", &agent.image),
        ("Container", &agent.container_id),
        ("Owner", &agent.owner),
    ];
    facts.extend(
        rest.into_iter()
            .filter(|(_, fact)| !fact.is_empty())
            .map(|(what, fact)| (what, fact.clone())),
    );
    if agent.created_ms > 0 {
        facts.push(("Created", ago(now, agent.created_ms)));
    }
    facts
}

fn container(agent: &AgentView) -> String {
    let mut status = status(agent);
    if agent.start > 0 {
        status.push_str(&format!(", start {}", agent.start));
    }
    if agent.init_pid > 0 {
        status.push_str(&format!(", init {}", agent.init_pid));
    }
    status
}

fn containment(agent: &AgentView) -> String {
    match (agent.containment.as_str(), agent.containment_asked.as_str()) {
        ("", "") => "nothing is in force".to_owned(),
        ("", asked) => format!("nothing is in force; asked for: {asked}"),
        (in_force, asked) if asked.is_empty() || asked == in_force => in_force.to_owned(),
        (in_force, asked) => format!("{in_force}; asked for: {asked}"),
    }
}

fn because(said: String, why: &str) -> String {
    if why.is_empty() { said } else { format!("{said}: {why}") }
}
