use clawker_wire::admin::{GetStatusRequest, Status};

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::table::Listing;
use crate::term::Term;
use crate::text::{age, brief, count, plain};

/// Show how the control plane is
///
/// Its version and life, the engine, how many agents it holds a session with, and what is degraded: since when, why,
/// and what to do about it. What is degraded is tried again without being asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker status
  clawker status --json")]
pub struct Args {}

pub async fn run(_: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let status = answer(client.rpc.get_status(GetStatusRequest {})).await?;
    if term.settings.json {
        term.object(&object(&status)).await?;
        return Ok(0);
    }
    let up = age(term.world.now_ms().saturating_sub(status.started_ms));
    let sessions = count(status.sessions.into(), "session");
    let socket = client.socket.display().to_string();
    let facts = [
        (
            "Control plane",
            format!("clawker {}, up {up}, life {}", status.version, status.cp_life),
        ),
        ("Socket", socket),
        (
            "State",
            format!(
                "{}, {} in the journal",
                status.state_dir,
                count(status.journal_seq, "event")
            ),
        ),
        ("Engine", status.engine.clone()),
        ("Cgroups", status.cgroup.clone()),
        (
            "Agents",
            format!("{}, {sessions}", count(status.agents.into(), "agent")),
        ),
    ];
    for (what, fact) in facts {
        term.line(&format!("{what:<15}{}", plain(&fact))).await?;
    }
    if !status.subsystems.is_empty() {
        term.line("").await?;
        let now = term.world.now_ms();
        let mut listing = Listing::new(&["SUBSYSTEM", "STATE", "SINCE", "DETAIL"], &["DETAIL"]);
        for subsystem in &status.subsystems {
            let (state, since) = match subsystem.degraded {
                true => ("degraded", brief(now, subsystem.since_ms)),
                false => ("ok", String::new()),
            };
            listing.push([subsystem.name.as_str(), state, &since, subsystem.detail.as_str()]);
        }
        for line in listing.lines(term.width) {
            let line = if line.contains(" degraded") {
                term.yellow(&line)
            } else {
                line
            };
            term.line(&line).await?;
        }
        for subsystem in status.subsystems.iter().filter(|subsystem| subsystem.degraded) {
            // The table cuts what doesn't fit; here it is whole.
            term.line("").await?;
            let name = term.yellow(&plain(&subsystem.name));
            term.line(&format!("{name}: {}", plain(&subsystem.detail))).await?;
            if !subsystem.hint.is_empty() {
                term.line(&format!("  → {}", plain(&subsystem.hint))).await?;
            }
        }
    }
    if !status.plugins.is_empty() {
        term.line("").await?;
        let mut listing = Listing::new(&["PLUGIN", "VERSION", "KIND", "MODE", "DIGEST"], &[]);
        for plugin in &status.plugins {
            let digest: String = plugin.digest.chars().take(12).collect();
            listing.push([&plugin.name, &plugin.version, &plugin.kind, &plugin.mode, &digest]);
        }
        term.lines(listing.lines(term.width)).await?;
    }
    Ok(0)
}

fn object(status: &Status) -> serde_json::Value {
    let subsystems: Vec<_> = status
        .subsystems
        .iter()
        .map(|s| {
            serde_json::json!({
                "name": s.name, "degraded": s.degraded, "detail": s.detail, "since_ms": s.since_ms, "hint": s.hint,
            })
        })
        .collect();
    let plugins: Vec<_> = status
        .plugins
        .iter()
        .map(|p| {
            serde_json::json!({
                "name": p.name, "version": p.version, "kind": p.kind, "mode": p.mode, "digest": p.digest,
            })
        })
        .collect();
    serde_json::json!({
        "version": status.version,
        "cp_life": status.cp_life,
        "started_ms": status.started_ms,
        "state_dir": status.state_dir,
        "engine": status.engine,
        "cgroup": status.cgroup,
        "journal_seq": status.journal_seq,
        "agents": status.agents,
        "sessions": status.sessions,
        "subsystems": subsystems,
        "plugins": plugins,
    })
}
