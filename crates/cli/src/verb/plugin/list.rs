use clawker_wire::admin::{ListPluginsRequest, PluginEntry};

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::table::Listing;
use crate::term::Term;
use crate::text::plain;

/// List the plugins of this host
///
/// Those of this release that are in use, and those that were installed. Of a policy: how often it was asked, how often
/// it had no answer, and how long an answer takes, since it is in force.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin list
  clawker plugin list --json")]
pub struct Args {}

pub async fn run(_: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let listed = answer(client.rpc.list_plugins(ListPluginsRequest {})).await?;
    show(&listed.plugins, term).await
}

/// The plugins as a table, and below it what doesn't fit one.
pub async fn show(plugins: &[PluginEntry], term: &mut Term) -> Result<u8, CommandError> {
    if term.settings.json {
        for entry in plugins {
            term.object(&object(entry)).await?;
        }
        return Ok(0);
    }
    let titles = [
        "PLUGIN", "VERSION", "KIND", "MODE", "STATE", "CALLS", "FAILED", "P99", "SIGNER",
    ];
    let mut listing = Listing::new(&titles, &[]);
    for entry in plugins {
        let standing = entry.standing.unwrap_or_default();
        let (calls, failed) = match &entry.standing {
            Some(standing) => (standing.calls.to_string(), standing.failures.to_string()),
            None => (String::new(), String::new()),
        };
        let p99 = standing
            .p99_micros
            .map(|micros| format!("{micros} µs"))
            .unwrap_or_default();
        listing.push([
            entry.name.as_str(),
            &entry.version,
            &entry.kind,
            &entry.mode,
            state(entry),
            &calls,
            &failed,
            &p99,
            &entry.signer,
        ]);
    }
    for line in listing.lines(term.width) {
        term.line(&line).await?;
    }
    for entry in plugins {
        for line in remarks(entry) {
            let name = term.yellow(&plain(&entry.name));
            term.line(&format!("{name}: {}", plain(&line))).await?;
        }
    }
    Ok(0)
}

fn state(entry: &PluginEntry) -> &'static str {
    let standing = entry.standing.as_ref();
    if !entry.enabled {
        "disabled"
    } else if !entry.problem.is_empty() {
        "unusable"
    } else if standing.is_some_and(|standing| standing.quarantined) {
        "quarantined"
    } else if standing.is_some_and(|standing| standing.draining > 0) {
        "draining"
    } else {
        "in use"
    }
}

fn remarks(entry: &PluginEntry) -> Vec<String> {
    let mut lines = Vec::new();
    if !entry.problem.is_empty() {
        lines.push(entry.problem.clone());
    }
    if let Some(standing) = &entry.standing {
        if standing.quarantined {
            lines.push("it failed three times in a row; its fallback is done instead of asking it".to_owned());
        }
        if standing.draining > 0 {
            lines.push(format!("{} calls of the version before aren't over", standing.draining));
        }
    }
    if let Some(trial) = &entry.trial {
        let until = match trial.promote_after {
            0 => String::new(),
            events => format!(" of {events}"),
        };
        lines.push(format!(
            "{} on trial: {}{until} events judged alike, {} otherwise",
            trial.version, trial.agreed, trial.differed
        ));
        if !trial.first_difference.is_empty() {
            lines.push(format!("first difference: {}", trial.first_difference));
        }
    }
    lines
}

fn object(entry: &PluginEntry) -> serde_json::Value {
    let settings: serde_json::Value = serde_json::from_str(&entry.settings).unwrap_or_default();
    let standing = entry.standing.as_ref().map(|standing| {
        serde_json::json!({
            "quarantined": standing.quarantined, "calls": standing.calls, "failures": standing.failures,
            "fuel": standing.fuel, "p50_micros": standing.p50_micros, "p99_micros": standing.p99_micros,
            "waiting": standing.waiting, "running": standing.running, "draining": standing.draining,
        })
    });
    let trial = entry.trial.as_ref().map(|trial| {
        serde_json::json!({
            "version": trial.version, "digest": format!("sha256:{}", trial.digest),
            "promote_after": trial.promote_after, "agreed": trial.agreed, "differed": trial.differed,
            "first_difference": trial.first_difference,
        })
    });
    serde_json::json!({
        "name": entry.name, "version": entry.version, "kind": entry.kind, "digest": format!("sha256:{}", entry.digest),
        "signer": entry.signer, "key": entry.key, "source": entry.source, "grants": entry.grants, "mode": entry.mode,
        "enabled": entry.enabled, "configured": entry.configured, "settings": settings, "problem": entry.problem,
        "previous": entry.previous_version, "standing": standing, "trial": trial,
    })
}
