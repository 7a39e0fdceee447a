//! `cargo xtask`: what a person or a CI runs in this repository. It builds with nothing but Rust, and it works the
//! rest out itself: `demo`, `test` and `scorecard` set the machine up and build what they need.
//!
//! ```text
//! setup ──► build (guests ─► clawkerd, static ─► host programs) ──► demo | scorecard | the phases of test
//! ```

mod build;
mod demo;
mod engine;
mod fuzz;
mod leftovers;
mod plugins;
mod project;
mod run;
mod say;
mod scorecard;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::project::Project;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, build, test and show clawker", version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing, start and probe a Docker engine; says what it does, changes nothing twice
    Setup,
    /// Show one supervised host end to end: three agents, one of them contained, one of them forged
    Demo {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Build what demo and tests need, without running either
    Build,
    /// Everything that CI runs
    Test,
    /// Measure clawker against its peers, in the same run
    Scorecard {
        /// Only these rows, by id
        #[arg(long, value_delimiter = ',', value_name = "ID")]
        only: Vec<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// The long forms of the rows about reliability
        #[arg(long)]
        full: bool,
    },
    /// Fuzz the parsers: random inputs for as long as you give them
    Fuzz(fuzz::Fuzz),
    /// Build the plugins of this repository into components
    Plugins,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = Project::find().and_then(|project| {
        run::watch_signals()?;
        match args.verb {
            Verb::Setup => setup::run(&project),
            Verb::Demo { json } => demo::run(&project, json),
            Verb::Build => build::everything(&project),
            Verb::Test => test::run(&project),
            Verb::Scorecard { only, json, full } => scorecard::run(&project, &only, json, full),
            Verb::Fuzz(fuzz) => fuzz::run(&project, fuzz),
            Verb::Plugins => build::guests(&project),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(run::exit_code(&error))
        }
    }
}
