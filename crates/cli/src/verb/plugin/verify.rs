use std::path::PathBuf;

use clawker_plugin_kit::sign;

use super::{blocking, development_key};
use crate::error::CommandError;
use crate::term::Term;

/// Check that a plugin is signed by a key, and unchanged since
///
/// Reads the component and FILE.sig beside it; runs nothing. Without `--key` the key is this machine's development key.
/// Whose a key is, only its owner can tell you.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin verify oom-alert.wasm
  clawker plugin verify oom-alert.wasm --key alice.pub")]
pub struct Args {
    /// The component
    file: PathBuf,
    /// The public key: the line that `clawker plugin sign` prints, or a file that holds it
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The signature, if it isn't beside the component
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let own = match args.key {
        Some(_) => None,
        None => Some(development_key(term)?),
    };
    let (signature, by) = blocking(move || {
        let by = match (&args.key, own) {
            (Some(key), _) => sign::public_key(key)?,
            (None, own) => sign::secret_key(&own.unwrap_or_default())?.public(),
        };
        Ok((sign::verify(&args.file, args.signature.as_deref(), &by)?, by))
    })
    .await?;
    let (id, name, digest) = (&signature.key, &by.name, format!("sha256:{}", signature.digest));
    if term.settings.json {
        term.object(&serde_json::json!({"digest": digest, "key": id, "name": name}))
            .await?;
        return Ok(0);
    }
    term.line(&format!("{digest} is signed by the key {id} ({name})"))
        .await?;
    Ok(0)
}
