use std::io::BufReader;
use std::path::PathBuf;

use clawker_plugin_kit::replay::{self, Flip, Journal, Summary};
use clawker_plugin_kit::{Error, Sandbox, sandbox};

use super::blocking;
use crate::error::CommandError;
use crate::table::Listing;
use crate::term::Term;
use crate::text::{count, short_name};

/// Play recorded events to a policy, and show where it decides otherwise
///
/// The events are those of `clawker events --json`. What the journal says a policy of the same name decided is held
/// against what this one says; windows are counted, and containment is followed, from the recorded rows alone. Nothing
/// is done to any agent.
///
/// Exit code 1 when a decision differs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker events --json --since 7d > week.jsonl
  clawker plugin replay oom-alert.wasm --journal week.jsonl
  clawker plugin replay guard.wasm --journal week.jsonl --policy egress-guard --settings '{\"threshold\":3}'")]
pub struct Args {
    /// The component
    file: PathBuf,
    /// Lines of `clawker events --json`
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// Whose recorded decisions it is held against; the plugin's own name by default
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// The settings to play it with, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// End with 0 even if decisions differ
    #[arg(long)]
    allow_flips: bool,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let allowed = args.allow_flips;
    let (policy, summary, others) = blocking(move || {
        let sandbox = Sandbox::load(&sandbox::read(&args.file)?)?;
        let name = args.journal.display().to_string();
        let file = std::fs::File::open(&args.journal).map_err(|error| Error::Io {
            doing: format!("reading {name}"),
            error,
        })?;
        let journal = Journal::read(BufReader::new(file), &name)?;
        let policy = args.policy.unwrap_or_else(|| sandbox.plugin.name.clone());
        let summary = replay::run(&sandbox, &args.settings, &journal, &policy)?;
        Ok((policy, summary, replay::policies(&journal)))
    })
    .await?;
    if term.settings.json {
        term.object(&summary).await?;
    } else {
        show(&policy, &summary, &others, term).await?;
    }
    let flipped = !summary.flips.is_empty() && !allowed;
    Ok(if flipped { clawker_model::exit::FAILED } else { 0 })
}

async fn show(policy: &str, summary: &Summary, others: &[String], term: &mut Term) -> Result<(), CommandError> {
    if !summary.flips.is_empty() {
        let mut table = Listing::new(&["EVENT", "KIND", "AGENT", "WAS", "IS", "BECAUSE"], &["BECAUSE"]);
        let said = |actions: &[String]| match actions {
            [] => "nothing".to_owned(),
            actions => actions.join(", "),
        };
        for Flip {
            seq,
            kind,
            agent,
            was,
            is,
            reasons,
        } in &summary.flips
        {
            table.push([
                seq.to_string(),
                kind.clone(),
                short_name(agent).into_owned(),
                said(was),
                said(is),
                reasons.join("; "),
            ]);
        }
        term.lines(table.lines(term.width)).await?;
    }
    let rows = count(summary.rows, "row");
    let flips = count(summary.flips.len() as u64, "flip");
    term.line(&format!(
        "{rows}, asked about {}, {} of them decided by `{policy}` before: {flips}",
        summary.asked, summary.recorded
    ))
    .await?;
    let actions: Vec<String> = summary
        .actions
        .iter()
        .map(|(action, times)| format!("{action} {times}"))
        .collect();
    if !actions.is_empty() {
        term.line(&format!("Verdicts: {}", actions.join(", "))).await?;
    }
    for (why, times) in &summary.unavailable {
        let times = count(*times, "call");
        term.line(&format!("{times} without an answer: {}", crate::text::plain(why)))
            .await?;
    }
    term.line(&format!(
        "Cost: {} fuel, p50 {} µs, p99 {} µs a call",
        summary.fuel, summary.p50_micros, summary.p99_micros
    ))
    .await?;
    if summary.unknown > 0 {
        let unknown = count(summary.unknown, "row");
        term.remark(&format!(
            "clawker: {unknown} of kinds that this clawker doesn't know were left out"
        ))
        .await?;
    }
    if summary.recorded == 0 && !others.is_empty() {
        let others = others.join(", ");
        term.remark(&format!(
            "clawker: the journal has decisions of {others}; `--policy` chooses one"
        ))
        .await?;
    }
    Ok(())
}
