use std::path::PathBuf;

use clawker_plugin_kit::sign;

use super::{blocking, development_key};
use crate::error::CommandError;
use crate::term::Term;
use crate::text::plain;

/// Sign a plugin, so that others can tell that it is yours
///
/// Writes FILE.sig beside the component: your key's word for exactly these bytes. Without `--key` it is the development
/// key of this machine, which is made on its first use. The public key that is printed is what others need to check it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin sign oom-alert.wasm
  clawker plugin sign oom-alert.wasm --key ~/keys/release.key")]
pub struct Args {
    /// The component
    file: PathBuf,
    /// The secret key's file, which only its owner may read
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let own = match &args.key {
        Some(_) => None,
        None => Some(development_key(term)?),
    };
    let (signed, made) = blocking(move || {
        let (key, made) = match (args.key, own) {
            (Some(key), _) => (sign::secret_key(&key)?, None),
            (None, own) => {
                let own = own.unwrap_or_default();
                let (key, made) = sign::development_key(&own)?;
                (key, made.then_some(own))
            }
        };
        Ok((sign::sign(&args.file, &key)?, made))
    })
    .await?;
    if let Some(made) = made {
        let made = made.display();
        term.remark(&format!("clawker: made a development key, {made}")).await?;
    }
    let (plugin, id) = (&signed.plugin, signed.by.id());
    if term.settings.json {
        let object = serde_json::json!({
            "name": plugin.name, "version": plugin.version, "digest": format!("sha256:{}", plugin.digest),
            "signature": signed.file, "key": id, "public_key": signed.by.to_string(),
        });
        term.object(&object).await?;
        return Ok(0);
    }
    let (name, version) = (&plugin.name, &plugin.version);
    term.remark(&format!("clawker: {name} {version} is signed with the key {id}"))
        .await?;
    term.line(&plain(&signed.file.display().to_string())).await?;
    term.line(&signed.by.to_string()).await?;
    Ok(0)
}
