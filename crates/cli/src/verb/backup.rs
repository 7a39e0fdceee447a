use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clawker_wire::admin::BackupRequest;

use crate::client::Client;
use crate::error::{CommandError, Kind};
use crate::term::Term;

/// Write a backup of the control plane: journal, host key, authority
///
/// The control plane goes on while it is made. The file is a tar archive with a manifest and holds private keys: it is
/// made with mode 0600, and should be kept as one keeps a password. Secrets of agents aren't in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker backup /var/backups/clawker-$(date +%F).tar
  clawker backup before.tar && clawker down --agents leave")]
pub struct Args {
    /// Where to; a file that is there already is left as it is
    file: PathBuf,
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            CommandError::new(Kind::CantCreate, format!("{} is there already", args.file.display()))
                .hint("name another file, or move this one away")
        }
        _ => CommandError::io(format_args!("writing {}", args.file.display()), error),
    };
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.file);
    let mut file = made.map_err(|error| failed(&error))?;
    let mut bytes = 0;
    let written = async {
        let mut pieces = client.rpc.backup(BackupRequest {}).await?.into_inner();
        while let Some(piece) = pieces.message().await? {
            file.write_all(&piece.bytes).map_err(|error| failed(&error))?;
            bytes += piece.bytes.len();
        }
        file.sync_all().map_err(|error| failed(&error))
    };
    if let Err(error) = written.await {
        // Half a backup is none.
        let _ = std::fs::remove_file(&args.file);
        return Err(error);
    }
    if term.settings.json {
        term.object(&serde_json::json!({"file": args.file, "bytes": bytes}))
            .await?;
        return Ok(0);
    }
    term.line(&args.file.display().to_string()).await?;
    Ok(0)
}
