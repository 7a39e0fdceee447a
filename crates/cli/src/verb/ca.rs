use clawker_wire::admin::{Authority, GetAuthorityRequest, RotateAuthorityRequest};

use crate::client::{Client, answer};
use crate::error::CommandError;
use crate::term::Term;
use crate::text::{age, count};

/// Show or rotate the host's certificate authority
///
/// Agents' identities are signed by a root of this host. A rotation replaces it in phases: the new root is trusted, then
/// it signs, then the old one is dropped. It goes on by itself as the connected agents acknowledge each phase, restarts
/// none of them, and resumes after a crash. A root is rotated by itself in the last thirty days of its year.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker ca
  clawker ca rotate")]
pub struct Args {
    #[arg(value_enum, default_value_t = What::Show)]
    what: What,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    /// The roots in force, and how far a rotation is
    Show,
    /// Begin a rotation
    Rotate,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let authority = match args.what {
        What::Show => answer(client.rpc.get_authority(GetAuthorityRequest {})).await?,
        What::Rotate => answer(client.rpc.rotate_authority(RotateAuthorityRequest {})).await?,
    };
    if term.settings.json {
        term.object(&object(&authority)).await?;
        return Ok(0);
    }
    let phase = match authority.phase.as_str() {
        "standby" => "no rotation is under way".to_owned(),
        "introduced" => "a new root is trusted, and signs once all agents know it".to_owned(),
        "switched" => "the new root signs, the old one goes once all agents have a leaf of it".to_owned(),
        other => other.to_owned(),
    };
    term.line(&format!("Rotation   {phase}")).await?;
    for root in &authority.roots {
        let id: String = root.id.chars().take(16).collect();
        let role = if root.signs { "signs" } else { "trusted" };
        let ends = root.not_after.and_then(|at| u64::try_from(at).ok()).map(|at| {
            let left = (at * 1000).saturating_sub(term.world.now_ms());
            format!(", ends in {}", age(left))
        });
        term.line(&format!("Root       {id}  {role}{}", ends.unwrap_or_default()))
            .await?;
    }
    let leaf = age(u64::from(authority.leaf_seconds) * 1000);
    term.line(&format!("Leaves     valid for {leaf}, renewed at half of it"))
        .await?;
    let connected = count(authority.agents.into(), "trusted agent");
    term.line(&format!(
        "Agents     {connected} connected, {} of them up to date",
        authority.agents_current
    ))
    .await?;
    if matches!(args.what, What::Rotate) {
        term.line("It goes on by itself; `clawker ca` shows how far it is.")
            .await?;
    }
    Ok(0)
}

fn object(authority: &Authority) -> serde_json::Value {
    let roots: Vec<_> = authority
        .roots
        .iter()
        .map(|root| serde_json::json!({"id": root.id, "signs": root.signs, "not_after": root.not_after}))
        .collect();
    serde_json::json!({
        "phase": authority.phase,
        "roots": roots,
        "leaf_seconds": authority.leaf_seconds,
        "agents": authority.agents,
        "agents_current": authority.agents_current,
    })
}
