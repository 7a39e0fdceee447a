use std::path::PathBuf;

use clawker_plugin_kit::project::Language;
use clawker_plugin_kit::sign;
use clawker_plugin_kit::template::{self, Template};

use super::{blocking, development_key};
use crate::error::CommandError;
use crate::term::Term;
use crate::text::plain;

/// Write a new plugin project
///
/// It does something small and sensible, and has its own tests, a first case for `clawker plugin test`, and the plugin
/// SDK: nothing else of clawker's is needed to work on it. The first project makes a development key for this machine, with
/// which `clawker plugin build` signs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin new oom-alert --kind policy
  clawker plugin new motd --kind step --dir plugins/motd
  clawker plugin new failed-execs --kind policy --language python")]
pub struct Args {
    /// Its name: a-z, 0-9 and `-`
    name: String,
    /// What it is
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Kind,
    /// What it is written in
    #[arg(long, value_enum, value_name = "LANGUAGE", default_value = "rust")]
    language: Written,
    /// Where to; a folder of the plugin's name by default
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// Watches what happens to agents, and says what should be done
    Policy,
    /// Prepares an agent before its command may run
    Step,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Written {
    Rust,
    /// Policies alone; built by componentize-py
    Python,
    /// Policies alone; built by Node and componentize-js
    #[value(name = "javascript")]
    JavaScript,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let dir = args.dir.unwrap_or_else(|| PathBuf::from(&args.name));
    let template = match args.kind {
        Kind::Policy => Template::Policy,
        Kind::Step => Template::Step,
    };
    let language = match args.language {
        Written::Rust => Language::Rust,
        Written::Python => Language::Python,
        Written::JavaScript => Language::JavaScript,
    };
    let (into, name, own) = (dir.clone(), args.name, development_key(term).ok());
    let (written, made) = blocking(move || {
        let written = template::create(&into, &name, template, language)?;
        let made = match own {
            Some(own) => sign::development_key(&own)?.1.then_some(own),
            None => None,
        };
        Ok((written, made))
    })
    .await?;
    if let Some(made) = made {
        let made = made.display();
        term.remark(&format!("clawker: made a development key, {made}")).await?;
    }
    if term.settings.json {
        term.object(&serde_json::json!({"dir": dir, "files": written})).await?;
        return Ok(0);
    }
    for file in &written {
        term.line(&plain(&dir.join(file).display().to_string())).await?;
    }
    let dir = dir.display();
    term.remark(&format!(
        "clawker: next: `clawker plugin test {dir}` builds it and plays its first case"
    ))
    .await?;
    Ok(0)
}
