use clawker_wire::admin::{AgentRef, WhyCause, WhyResponse};
use serde_json::Value;

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::term::Term;
use crate::text::{ago, outline, plain, short_name};

/// Tell why an agent is contained
///
/// What is in force, then each cause, newest first: the event, who decided upon it, and what was done.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker why web.scout
  clawker why --json web.scout")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    agent: String,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let why = answer(client.rpc.why(AgentRef { agent: args.agent })).await?;
    if term.settings.json {
        term.object(&object(&why)).await?;
        return Ok(0);
    }
    let now = term.world.now_ms();
    let in_force = plain(&why.in_force).into_owned();
    let state = if why.causes.is_empty() {
        in_force
    } else {
        term.yellow(&in_force)
    };
    let name = term.bold(&short_name(&why.agent));
    term.line(&format!("{name} is {state}")).await?;
    if why.causes.is_empty() {
        return term.line("Nothing contains it.").await.map(|()| 0);
    }
    for cause in &why.causes {
        term.line("").await?;
        term.lines(story(cause, now)).await?;
    }
    if !why.hint.is_empty() {
        term.line("").await?;
        term.line(&format!("To undo it: {}", plain(&why.hint))).await?;
    }
    Ok(0)
}

/// One cause: event, then who, then what.
fn story(cause: &WhyCause, now: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let when = ago(now, cause.at_ms);
    if let Some(event) = event(&cause.event) {
        lines.push(format!("  {event}"));
        lines.push(format!("  → {}, {when}", who(&cause.by)));
    } else {
        lines.push(format!("  {}, {when}", who(&cause.by)));
    }
    if !cause.reason.is_empty() {
        lines.push(format!("    “{}”", plain(&cause.reason)));
    }
    lines.push(format!("  → {}", plain(&cause.action)));
    lines
}

fn who(by: &str) -> String {
    let by = plain(by);
    match by.split_once(':') {
        Some(("policy", name)) => format!("policy {name}"),
        Some(("operator", peer)) => format!("operator {}", peer.replace(':', " ")),
        Some(("host", part)) => format!("rule of the host ({part})"),
        _ if by == "host" => "rule of the host".to_owned(),
        _ => by.into_owned(),
    }
}

/// `EgressDenied (event 41): count 1, total 2`
fn event(json: &str) -> Option<String> {
    if json.is_empty() {
        return None;
    }
    let Ok(Value::Object(row)) = serde_json::from_str(json) else {
        return Some(plain(json).into_owned());
    };
    let kind = plain(row.get("kind").and_then(Value::as_str).unwrap_or("event")).into_owned();
    let seq = row
        .get("seq")
        .and_then(Value::as_u64)
        .map(|seq| format!(" (event {seq})"))
        .unwrap_or_default();
    let body = row.get("body").map(outline).filter(|body| !body.is_empty());
    Some(format!(
        "{kind}{seq}{}",
        body.map(|body| format!(": {body}")).unwrap_or_default()
    ))
}

fn object(why: &WhyResponse) -> Value {
    let causes: Vec<Value> = why
        .causes
        .iter()
        .map(|cause| {
            let event = match serde_json::from_str(&cause.event) {
                Ok(event) => event,
                Err(_) if cause.event.is_empty() => Value::Null,
                Err(_) => Value::String(cause.event.clone()),
            };
            serde_json::json!({
                "by": cause.by, "action": cause.action, "reason": cause.reason, "event": event, "at_ms": cause.at_ms,
            })
        })
        .collect();
    serde_json::json!({"agent": why.agent, "in_force": why.in_force, "causes": causes, "hint": why.hint})
}
