use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use clawker_model::exit;
use serde_json::Value;

use super::up::{PROGRAM, absolute, find};
use crate::error::{CommandError, Kind};
use crate::term::Term;
use crate::text::{count, plain, rfc3339};

/// Put a backup in the place of the state of a control plane that doesn't run
///
/// The backup is unpacked beside it, checked against its manifest, opened and audited first; only then is what is there
/// moved into a folder of its own, and the backup into place. Agents that run aren't touched: the next `clawker up` finds
/// and attests them anew. It is `clawker-cp restore` that does it, because only the control plane's program opens a
/// journal.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker down --agents leave && clawker restore --force /var/backups/clawker.tar && clawker up
  clawker restore --state-dir /tmp/try clawker.tar")]
pub struct Args {
    /// What `clawker backup` wrote
    file: PathBuf,
    /// The configuration that says where the state is; without it /etc/clawker/control-plane.toml, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the control plane keeps its state [default: /var/lib/clawker]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Move a state that is there aside
    #[arg(long)]
    force: bool,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let program = find(term).ok_or_else(|| {
        CommandError::new(
            Kind::Code(exit::UNAVAILABLE),
            format!("`{PROGRAM}` is neither beside clawker nor in PATH"),
        )
        .hint("install both programs into one folder")
    })?;
    let mut flags: Vec<OsString> = Vec::new();
    for (flag, path) in [("--config", &args.config), ("--state-dir", &args.state_dir)] {
        if let Some(path) = path {
            flags.extend([flag.into(), absolute(path, term)?.into()]);
        }
    }
    flags.push("restore".into());
    if args.force {
        flags.push("--force".into());
    }
    flags.extend(["--".into(), absolute(&args.file, term)?.into()]);
    let output = tokio::process::Command::new(&program)
        .args(flags)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| CommandError::io(format_args!("starting {}", program.display()), &error))?;
    if !output.status.success() {
        return Err(refused(&String::from_utf8_lossy(&output.stderr), output.status.code()));
    }
    let restored: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| CommandError::new(Kind::Failed, format!("reading what {PROGRAM} restored: {error}")))?;
    show(term, &restored).await?;
    Ok(0)
}

/// In its own words, which are on its last line.
fn refused(said: &str, code: Option<i32>) -> CommandError {
    let line = said
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it ended without a word");
    let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILED);
    CommandError::new(Kind::Code(code), line.trim_start_matches("clawker-cp: ").to_owned())
}

async fn show(term: &mut Term, restored: &Value) -> Result<(), CommandError> {
    if term.settings.json {
        return term.object(restored).await;
    }
    let text = |key: &str| plain(restored[key].as_str().unwrap_or_default()).into_owned();
    let number = |key: &str| restored[key].as_u64().unwrap_or_default();
    let line = format!(
        "{}: restored as of {}, {} in the journal",
        text("state_dir"),
        rfc3339(number("made_ms")),
        count(number("rows"), "event")
    );
    term.line(&line).await?;
    if restored["replaced"].is_string() {
        term.remark(&format!("what was there is in {}", text("replaced")))
            .await?;
    }
    term.remark("`clawker up` starts it").await
}
