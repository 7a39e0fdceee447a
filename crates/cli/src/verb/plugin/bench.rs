use std::path::PathBuf;

use clawker_plugin_kit::{Sandbox, bench, sandbox};

use super::blocking;
use crate::error::CommandError;
use crate::term::Term;

/// Measure what a policy's calls cost
///
/// Plays a case's events over and over, in turns with a policy that does nothing, so that the difference is the
/// plugin's own. Times are those of one thread of this machine; fuel is the same on every machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin bench oom-alert/oom-alert.wasm --case oom-alert/cases/first.toml
  clawker plugin bench oom-alert.wasm --case cases/first.toml --calls 50000 --json")]
pub struct Args {
    /// The component
    file: PathBuf,
    /// The case whose events are played
    #[arg(long, value_name = "FILE")]
    case: PathBuf,
    /// Calls to measure, at least
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    calls: usize,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let measured = blocking(move || {
        let sandbox = Sandbox::load(&sandbox::read(&args.file)?)?;
        bench::run(&sandbox, &args.case, args.calls)
    })
    .await?;
    if term.settings.json {
        term.object(&measured).await?;
        return Ok(0);
    }
    let micros = |ns: u64| format!("{:.1} µs", ns as f64 / 1_000.0);
    let lines = [
        format!("calls       {}", measured.calls),
        format!(
            "p50         {}  ({} bare)",
            micros(measured.p50_ns),
            micros(measured.bare_p50_ns)
        ),
        format!(
            "p99         {}  ({} bare)",
            micros(measured.p99_ns),
            micros(measured.bare_p99_ns)
        ),
        format!("throughput  {:.0} calls a second", measured.per_second),
        format!("fuel        {} at most", measured.fuel),
    ];
    term.lines(lines).await?;
    Ok(0)
}
