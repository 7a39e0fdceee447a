use std::time::Duration;

use clawker_wire::admin::{EventRow, Resync, WatchEventsRequest};
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{CommandError, Kind, is_cut};
use crate::parse::Since;
use crate::term::Term;
use crate::text::{cut, outline, plain, rfc3339, short_name};

/// Show the journal: what happened, what was decided, what was done
///
/// Times are UTC. With `--follow` it goes on with new events, and after a restart of the control plane from where
/// it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker events --since 10m
  clawker events --follow --agent web.scout
  clawker events --since 2026-01-31T08:00:00Z --json
  clawker events --since 1041        (after event 1041)
  clawker events --json --cursor 0f…/1041/9c…    (after the event that had this cursor)")]
pub struct Args {
    /// Go on with new events
    #[arg(long, short)]
    follow: bool,
    /// From when: so long ago, an RFC 3339 time, or after an event's number
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// After the event with this `cursor`, as `--json` shows it; says so if the journal is another one by now
    #[arg(long, value_name = "CURSOR", default_value = "", hide_default_value = true)]
    #[arg(conflicts_with = "since")]
    cursor: String,
    /// Only those of this agent
    #[arg(long, value_name = "AGENT", default_value = "", hide_default_value = true)]
    agent: String,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let mut request = WatchEventsRequest {
        follow: args.follow,
        after_seq: None,
        since_ms: None,
        agent: args.agent,
        cursor: args.cursor,
    };
    match args.since {
        Some(Since::Seq(seq)) => request.after_seq = Some(seq),
        Some(Since::At(at)) => request.since_ms = Some(at),
        Some(Since::Ago(ago)) => {
            let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            request.since_ms = Some(term.world.now_ms().saturating_sub(ago));
        }
        None => {}
    }
    loop {
        match watch(client, term, &mut request).await {
            Ok(()) => return Ok(0),
            Err(Ended::Cut) if request.follow => {
                term.note(
                    "reconnecting",
                    "clawker: the connection to the control plane broke; trying again",
                )
                .await?;
                reconnect(client, term).await?;
            }
            Err(Ended::Cut) => {
                return Err(CommandError::new(
                    Kind::NoControlPlane,
                    "the connection to the control plane broke",
                ));
            }
            Err(Ended::Failed(error)) => return Err(error),
        }
    }
}

enum Ended {
    Cut,
    Failed(CommandError),
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        if is_cut(&status) {
            Ended::Cut
        } else {
            Ended::Failed(status.into())
        }
    }
}

impl From<CommandError> for Ended {
    fn from(error: CommandError) -> Self {
        Ended::Failed(error)
    }
}

/// Until the stream ends; `request` is then what asks for the rest.
async fn watch(client: &mut Client, term: &mut Term, request: &mut WatchEventsRequest) -> Result<(), Ended> {
    let mut rows = client.rpc.watch_events(request.clone()).await?.into_inner();
    while let Some(row) = rows.message().await? {
        if let Some(resync) = &row.resync {
            request.cursor.clone_from(&resync.from);
            say(term, resync).await?;
        } else {
            request.cursor.clone_from(&row.cursor);
            show(term, &row).await?;
        }
        // A control plane of an older version gives no cursors.
        request.after_seq = Some(row.seq).filter(|_| request.cursor.is_empty());
        request.since_ms = None;
        if request.follow {
            term.flush().await?;
        }
    }
    // A stream of new events has no end of its own.
    if request.follow { Err(Ended::Cut) } else { Ok(()) }
}

async fn reconnect(client: &mut Client, term: &Term) -> Result<(), CommandError> {
    let deadline = Instant::now() + term.settings.reconnect_for;
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        match Client::connect(&client.socket).await {
            Ok(anew) => {
                *client = anew;
                return Ok(());
            }
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => {}
        }
    }
}

/// That what follows doesn't follow what was seen before.
async fn say(term: &mut Term, resync: &Resync) -> Result<(), CommandError> {
    if term.settings.json {
        let object = serde_json::json!({
            "resync": {"reason": resync.reason, "from": resync.from, "detail": resync.detail},
        });
        return term.object(&object).await;
    }
    let text = format!(
        "clawker: {}; beginning anew with all that it has",
        plain(&resync.detail)
    );
    term.remark(&text).await
}

async fn show(term: &mut Term, row: &EventRow) -> Result<(), CommandError> {
    let body: Value = serde_json::from_str(&row.body).unwrap_or_else(|_| Value::String(row.body.clone()));
    if term.settings.json {
        let mut object = serde_json::json!({
            "seq": row.seq, "at_ms": row.at_ms, "kind": row.kind, "agent": row.agent, "body": body,
        });
        if !row.cursor.is_empty() {
            object["cursor"] = row.cursor.clone().into();
        }
        return term.object(&object).await;
    }
    let agent = if row.agent.is_empty() {
        "-".into()
    } else {
        short_name(&row.agent)
    };
    let line = format!(
        "{:>6}  {}  {agent:<16}  {:<18}  {}",
        row.seq,
        rfc3339(row.at_ms),
        plain(&row.kind),
        outline(&body)
    );
    term.line(&cut(line.trim_end(), term.width)).await
}
