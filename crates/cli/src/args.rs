//! The command line: the global options and the list of verbs. Each verb's own arguments are in its file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::verb;

const EXIT_CODES: &str = "\
Exit codes:
  0        done
  1        failed
  2        the command line is wrong
  66       no such agent, image or file
  69       the machine lacks something that set-up installs
  73       can't be created
  75       no control plane answers
  77       not permitted
  78       a configuration is wrong
  125-127  the command could not be started, as Docker has it
  other    the agent command's own (128+n when signal n ended it)";

/// Run AI agents in containers under supervision.
///
/// `clawker up` starts the control plane of this machine; `clawker run` starts an agent under it.
#[derive(Debug, Parser)]
#[command(name = "clawker", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
#[command(
    max_term_width = 100,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs"
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The control plane's admin socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "CLAWKER_SOCKET",
        hide_env_values = true
    )]
    #[arg(default_value = "/run/clawker/admin.sock")]
    pub socket: PathBuf,
    /// Print one JSON object a line, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Don't colour; so does a NO_COLOR in the environment
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Print results only: no progress, no remarks; listings print names alone
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Up(verb::up::Args),
    Down(verb::down::Args),
    Status(verb::status::Args),
    Run(Box<verb::run::Args>),
    Apply(verb::apply::Args),
    Check(verb::check::Args),
    Ps(verb::ps::Args),
    Inspect(verb::inspect::Args),
    Start(verb::start::Args),
    Stop(verb::stop::Args),
    Restart(verb::restart::Args),
    Rm(verb::rm::Args),
    Wait(verb::wait::Args),
    Logs(verb::logs::Args),
    Exec(verb::exec::Args),
    Contain(verb::contain::Args),
    Release(verb::release::Args),
    Why(verb::why::Args),
    Events(verb::events::Args),
    Audit(verb::audit::Args),
    Backup(verb::backup::Args),
    Restore(verb::restore::Args),
    Ca(verb::ca::Args),
    Plugin(verb::plugin::Args),
}
