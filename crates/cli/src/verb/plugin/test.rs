use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clawker_plugin_kit::cases::{self, Golden, Report};
use clawker_plugin_kit::project::PluginToml;
use clawker_plugin_kit::{Error, Sandbox, build, sandbox};

use super::blocking;
use crate::error::CommandError;
use crate::table::Listing;
use crate::term::Term;
use crate::text::plain;

/// Play a plugin's cases in the sandbox
///
/// A case is a TOML file: for a policy events and the actions that it should ask for, for a step the effects that it
/// should ask for and their answers. A folder is built first. What a call costs is shown, and held against the case's
/// budget; `--bless` keeps all that was said beside the case as a golden file, which later runs are compared with.
///
/// Exit code 1 when a case fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker plugin test
  clawker plugin test oom-alert --bless
  clawker plugin test oom-alert.wasm --cases cases --json")]
pub struct Args {
    /// The project, or a component
    #[arg(value_name = "FOLDER|FILE", default_value = ".")]
    what: PathBuf,
    /// The folder of cases; by default `plugin.toml` says, or it is `cases` beside the component
    #[arg(long, value_name = "FOLDER")]
    cases: Option<PathBuf>,
    /// Keep what is seen as what is right
    #[arg(long)]
    bless: bool,
}

pub async fn run(args: Args, term: &mut Term) -> Result<u8, CommandError> {
    let options = build::Options {
        locked: false,
        quiet: term.settings.quiet || term.settings.json,
    };
    let (sandbox, reports) = blocking(move || {
        let (bytes, beside) = if args.what.is_dir() {
            let cases = PluginToml::read(&args.what)?.test.cases;
            (build::project(&args.what, options)?.bytes, args.what.join(cases))
        } else {
            let dir = args.what.parent().unwrap_or(Path::new(""));
            (sandbox::read(&args.what)?, dir.join("cases"))
        };
        let sandbox = Sandbox::load(&bytes)?;
        let mut reports = Vec::new();
        for file in cases::list(&args.cases.unwrap_or(beside))? {
            reports.push(cases::run(&sandbox, &file, cases::Options { bless: args.bless })?);
        }
        Ok::<_, Error>((sandbox, reports))
    })
    .await?;
    if term.settings.json {
        for report in &reports {
            term.object(report).await?;
        }
    } else {
        for report in &reports {
            show(report, term).await?;
        }
        summary(&sandbox, &reports, term).await?;
    }
    let failed = reports.iter().any(|report| !report.failures.is_empty());
    Ok(if failed { clawker_model::exit::FAILED } else { 0 })
}

async fn show(report: &Report, term: &mut Term) -> Result<(), CommandError> {
    let word = if report.failures.is_empty() {
        term.bold("ok")
    } else {
        term.red("FAILED")
    };
    let golden = match report.golden {
        Golden::None => "",
        Golden::Same => "  (as the golden file has it)",
        Golden::Differs => "  (not as the golden file has it)",
        Golden::Written => "  (golden file written)",
    };
    term.line(&format!("{word}  {}{golden}", plain(&report.name))).await?;
    if term.settings.quiet && report.failures.is_empty() {
        return Ok(());
    }
    let mut table = Listing::new(&["   MS", "WHAT", "FUEL", "MICROS", "SAID"], &["WHAT", "SAID"]);
    for line in &report.lines {
        let count = |number: u64| match number {
            0 => String::new(),
            number => number.to_string(),
        };
        let said = line.said.join("; ");
        table.push([
            format!("   {}", line.at),
            line.what.clone(),
            count(line.fuel),
            count(line.micros),
            said,
        ]);
    }
    term.lines(table.lines(term.width)).await?;
    for failure in &report.failures {
        let failure = plain(failure).into_owned();
        term.line(&format!("   {} {failure}", term.red("-"))).await?;
    }
    Ok(())
}

async fn summary(sandbox: &Sandbox, reports: &[Report], term: &mut Term) -> Result<(), CommandError> {
    let plugin = &sandbox.plugin;
    let failed = reports.iter().filter(|report| !report.failures.is_empty()).count();
    let cases = crate::text::count(reports.len() as u64, "case");
    // Nobody counts what a step's turns take.
    let slowest = match reports.iter().map(Report::micros).max().unwrap_or_default() {
        0 => String::new(),
        micros => format!(", the slowest call took {micros} µs"),
    };
    term.line(&format!("{}: {cases}, {failed} failed{slowest}", plain(&plugin.name)))
        .await?;
    let all = |of: fn(&Report) -> &BTreeSet<String>| -> BTreeSet<String> {
        reports.iter().flat_map(|report| of(report).iter().cloned()).collect()
    };
    let actions: Vec<String> = all(|report| &report.actions).into_iter().collect();
    if !actions.is_empty() {
        term.line(&format!("Actions seen: {}", actions.join(", "))).await?;
    }
    let asked = all(|report| &report.events);
    let never: Vec<&String> = plugin.events.iter().filter(|kind| !asked.contains(*kind)).collect();
    if !never.is_empty() {
        let never: Vec<_> = never.iter().map(|kind| plain(kind)).collect();
        term.line(&format!("No case has: {}", never.join(", "))).await?;
    }
    Ok(())
}
