use clawker_wire::admin::{ExplainDecisionRequest, Explanation};
use serde_json::Value;

use crate::client::Client;
use crate::error::CommandError;
use crate::term::Term;
use crate::text::{outline, plain};

/// Make a policy's decision again, and show what it was made of
///
/// The control plane asks the same code about the same event, with the facts, settings and state that it had then. The
/// answer must be the same, to the last unit of fuel; else the exit code is 1. The number is that of a `PolicyDecided`
/// row, which `clawker events` and `clawker why` show.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker events --json | grep PolicyDecided
  clawker plugin explain 1207
  clawker plugin explain 1207 --json")]
pub struct Args {
    /// The decision's number
    #[arg(value_name = "DECISION")]
    decision: u64,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let decision = args.decision;
    let asked = client.rpc.explain_decision(ExplainDecisionRequest { decision });
    let explained = asked.await?.into_inner();
    let code = if explained.same { 0 } else { clawker_model::exit::FAILED };
    if term.settings.json {
        term.object(&object(&explained)).await?;
        return Ok(code);
    }
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (then, event) = (json(&explained.decision), json(&explained.event));
    let body = &then["body"];
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let facts = [
        (
            "Policy",
            format!("{}, sha256:{}", word(&body["policy"]), word(&body["digest"])),
        ),
        ("Agent", word(&then["agent"])),
        (
            "Event",
            format!(
                "{} ({}): {}",
                event["seq"],
                word(&event["kind"]),
                outline(&event["body"])
            ),
        ),
        ("Counts", counts(&json(&explained.facts))),
        ("Containment", json(&explained.facts)["containment"].to_string()),
        ("Settings", explained.settings.clone()),
        ("State", shown(&explained.state)),
        ("Then", verdicts(&body["verdicts"], body["unavailable"].as_str())),
        (
            "Now",
            verdicts(
                &json(&explained.verdicts),
                Some(explained.unavailable.as_str()).filter(|why| !why.is_empty()),
            ),
        ),
        ("Fuel", format!("{} then, {} now", body["fuel"], explained.fuel)),
        ("State after", shown(&explained.state_after)),
    ];
    for (what, fact) in facts {
        term.line(&format!("{what:<13}{}", plain(&fact))).await?;
    }
    let verdict = match explained.same {
        true => "The same decision, bit for bit.".to_owned(),
        false => term.red("Another decision than then."),
    };
    term.line(&verdict).await?;
    Ok(code)
}

fn shown(state: &str) -> String {
    match state {
        "" => "none".to_owned(),
        state => state.to_owned(),
    }
}

fn counts(facts: &Value) -> String {
    let counts = facts["counts"].as_array().into_iter().flatten();
    let counts = counts.map(|count| {
        let kind = count["kind"].as_str().unwrap_or_default();
        format!("{} {kind} in {} s", count["count"], count["seconds"])
    });
    let counts = counts.collect::<Vec<_>>().join(", ");
    match counts.as_str() {
        "" => "none".to_owned(),
        _ => counts,
    }
}

fn verdicts(verdicts: &Value, unavailable: Option<&str>) -> String {
    if let Some(why) = unavailable {
        return format!("no answer: {why}");
    }
    let said = verdicts.as_array().into_iter().flatten().map(|verdict| {
        let action = verdict["action"]["action"].as_str().unwrap_or("?");
        format!("{action} (“{}”)", verdict["reason"].as_str().unwrap_or_default())
    });
    let said = said.collect::<Vec<_>>().join(", ");
    match said.as_str() {
        "" => "nothing".to_owned(),
        _ => said,
    }
}

fn object(explained: &Explanation) -> Value {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let unavailable = Some(explained.unavailable.as_str()).filter(|why| !why.is_empty());
    serde_json::json!({
        "decision": json(&explained.decision), "event": json(&explained.event), "facts": json(&explained.facts),
        "settings": json(&explained.settings), "state": explained.state, "verdicts": json(&explained.verdicts),
        "unavailable": unavailable, "fuel": explained.fuel, "state_after": explained.state_after,
        "same": explained.same,
    })
}
