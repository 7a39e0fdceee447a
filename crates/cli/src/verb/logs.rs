use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clawker_wire::admin::{LogChunk, LogsRequest};
use tokio::io::AsyncWriteExt;

use crate::client::Client;
use crate::error::CommandError;
use crate::term::{Term, output_error};

/// Show what an agent's command has written
///
/// Its stdout goes to stdout, its stderr to stderr, byte for byte. The newest 30 MiB are kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker logs web.scout
  clawker logs --follow --tail 20 web.scout
  clawker logs --timestamps web.scout 2>/dev/null | less")]
pub struct Args {
    /// `agent`, `project.agent`, the full name, a container id or the beginning of one
    agent: String,
    /// Go on with what it writes
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<u32>,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let request = LogsRequest {
        agent: args.agent,
        follow: args.follow,
        tail: args.tail,
        timestamps: args.timestamps,
    };
    let mut chunks = client.rpc.logs(request).await?.into_inner();
    while let Some(chunk) = chunks.message().await? {
        show(term, &chunk).await.map_err(|error| output_error(&error))?;
    }
    Ok(0)
}

async fn show(term: &mut Term, chunk: &LogChunk) -> std::io::Result<()> {
    if term.settings.json {
        let stream = if chunk.stderr { "stderr" } else { "stdout" };
        let object = match std::str::from_utf8(&chunk.bytes) {
            Ok(text) => serde_json::json!({"stream": stream, "text": text}),
            Err(_) => serde_json::json!({"stream": stream, "base64": BASE64_STANDARD.encode(&chunk.bytes)}),
        };
        let line = format!("{}\n", crate::text::plain_json(&object.to_string()));
        term.stdout.write_all(line.as_bytes()).await?;
        return term.stdout.flush().await;
    }
    let stream = if chunk.stderr {
        &mut term.stderr
    } else {
        &mut term.stdout
    };
    stream.write_all(&chunk.bytes).await?;
    // Each chunk is shown before the next, so that both streams keep their order on a terminal.
    stream.flush().await
}
