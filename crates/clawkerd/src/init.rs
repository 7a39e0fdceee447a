//! PID 1: one thread that polls. Reaps from its first second, owns every wait, pipe and pty, and does nothing that
//! could block: no TLS, no async runtime, no name service, no lock that another process holds.
//!
//! ```text
//!              start
//!                | half forked, socket dialled                     SIGTERM: exit 143
//!                v
//!   waiting: no session yet, nothing of the user's runs ([`absence`]) --------------+
//!                | preamble answered, half hardened: connection and bundle          |
//!                v handed over                                                      |
//!   in session: execs of steps; AgentReady spawns `main`, once a start              |
//!                | main ends                                                        v
//!   ending: its end is told, what is left is killed and thawed ----------------> exit
//! ```
//!
//! Moving bytes allocates nothing, once all is as large as it gets: a PID 1 that memory has run out for goes on.
//!
//! The session half may die at any time ([`half`]) or be another program ([`upgrade`]); so may the connection die
//! ([`link`]). Both come back by themselves and neither touches a running exec. PID 1 writes the freezer for its lease only ([`lease`]), and thaws only to end.
//! What ran by the defaults before a control plane came is brought under it first ([`adopt`]).
//!
//! Without a socket that both sides can reach, because the engine is elsewhere, the connection comes the other way
//! round: a join file brings what the preamble would, and PID 1 listens ([`door`]).

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod absence;
mod adopt;
mod agent;
mod begin;
mod check;
pub(crate) mod child;
mod command;
mod descriptors;
mod door;
mod end;
mod exec;
mod execs;
mod half;
mod health;
mod keep;
mod lease;
mod link;
mod main_command;
pub(crate) mod oom;
pub(crate) mod pipes;
mod ready;
mod report;
mod requests;
mod secrets;
mod spawn;
mod supervisor;
mod terminal;
mod tree;
mod upgrade;
mod way;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clawker_model::{OnAbsent, Orphan};

use crate::cli::MISCONFIGURED;
use crate::halves::ReadySpec;

/// The lease that is taken for one when neither the control plane nor the agent's creator named any.
const DEFAULT_LEASE: Duration = Duration::from_secs(120);

/// What PID 1 is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the control plane's sockets are, mounted read-only.
    pub run_dir: PathBuf,
    pub on_absent: OnAbsent,
    pub on_orphan: Orphan,
    /// What runs when no control plane came, with [`OnAbsent::Defaults`] and only then.
    pub defaults: Option<Box<ReadySpec>>,
    /// The join file, when the control plane is elsewhere: then it dials, and PID 1 listens.
    pub join: Option<PathBuf>,
    /// Where a debug build says how often it allocated while it moved bytes.
    pub count_allocations: Option<PathBuf>,
}

impl Options {
    pub fn lease(&self) -> Duration {
        self.on_orphan
            .lease_s
            .map_or(DEFAULT_LEASE, |seconds| Duration::from_secs(u64::from(seconds)))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            run_dir: PathBuf::from("/.clawker-run"),
            on_absent: OnAbsent::default(),
            on_orphan: Orphan::default(),
            defaults: None,
            join: None,
            count_allocations: None,
        }
    }
}

/// A while from now.
fn later(now: Instant, after: Duration) -> Instant {
    now.checked_add(after).unwrap_or(now)
}

/// Runs until the agent's command has ended; the container's exit code.
pub fn run(options: Options) -> u8 {
    if std::process::id() != 1 {
        terminal::say("this is not PID 1; clawkerd init is a container's first process");
        return MISCONFIGURED;
    }
    match supervisor::Supervisor::new(options) {
        Ok(supervisor) => supervisor.run(),
        Err(error) => {
            terminal::say(&format!("can't start: {error}"));
            MISCONFIGURED
        }
    }
}
