use std::path::{Path, PathBuf};

use clawker_plugin_kit::{Sandbox, build, sign};

use super::{blocking, existing_key};
use crate::error::CommandError;
use crate::term::Term;
use crate::text::plain;

/// Build a plugin project into a component
///
/// Compiles it for WebAssembly and makes a component of it. The same sources and the same compiler give the same bytes
/// wherever the project lies. What comes out is loaded once, in the sandbox that a control plane has, so that a
/// component which no host would take is refused here. It is signed with this machine's development key, if there is one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin build
  clawker plugin build oom-alert --out dist/oom-alert.wasm
  clawker plugin build --locked --json")]
pub struct Args {
    /// The project
    #[arg(value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// Where the component goes; by default it is the plugin's name with `.wasm`, in the project
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Refuse to change Cargo.lock
    #[arg(long)]
    locked: bool,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let options = build::Options {
        locked: args.locked,
        quiet: term.settings.quiet || term.settings.json,
    };
    let (dir, out, own) = (args.dir, args.out, existing_key(term));
    let built = blocking(move || {
        let built = build::project(&dir, options)?;
        let sandbox = Sandbox::load(&built.bytes)?;
        let file = out.unwrap_or_else(|| dir.join(format!("{}.wasm", built.name)));
        let file = file.strip_prefix(".").map(Path::to_owned).unwrap_or(file);
        build::write(&file, &built.bytes)?;
        if let Some(own) = own {
            sign::write(&file, &sandbox.plugin, &sign::secret_key(&own)?)?;
        }
        Ok((file, sandbox, built))
    });
    let (file, sandbox, built) = built.await?;
    let plugin = &sandbox.plugin;
    if term.settings.json {
        let object = serde_json::json!({
            "file": file, "digest": format!("sha256:{}", plugin.digest), "bytes": built.bytes.len(),
            "name": plugin.name, "version": plugin.version, "kind": plugin.kind, "imports": plugin.imports,
        });
        term.object(&object).await?;
        return Ok(0);
    }
    term.line(&plain(&file.display().to_string())).await?;
    term.remark(&format!(
        "clawker: {} {}, {} bytes, sha256:{}",
        plain(&plugin.name),
        plain(&plugin.version),
        built.bytes.len(),
        plugin.digest
    ))
    .await?;
    Ok(0)
}
