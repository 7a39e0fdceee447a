//! Case files: one scenario each, run in the sandbox and held against what it expects.
//!
//! ```text
//! cases/*.toml ── file::read ──► Case ── policy | step ──► Report: lines, failures ── golden ──► compared or blessed
//! ```

pub mod file;
mod golden;
mod policy;
mod step;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clawker_plugin_host::Kind;
use serde::Serialize;

use crate::{Error, Sandbox};
pub use file::{Case, MAX_CASE, MAX_CASES};
pub(crate) use policy::row;

/// How to run cases.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Write what was seen as what is right.
    pub bless: bool,
}

/// What became of a case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub name: String,
    pub file: PathBuf,
    pub lines: Vec<Line>,
    /// Empty if all was as it should be.
    pub failures: Vec<String>,
    /// What the plugin left behind, for a policy.
    pub state: String,
    pub golden: Golden,
    /// Event kinds that a policy was asked about.
    pub events: BTreeSet<String>,
    /// Names of actions that it asked for.
    pub actions: BTreeSet<String>,
}

/// One event of a policy's case, one effect or the end of a step's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Milliseconds, in the case's own time; 0 for a step.
    pub at: u64,
    /// What happened.
    pub what: String,
    /// What the plugin said to it: `freeze: the reason`.
    pub said: Vec<String>,
    /// 0 where it isn't counted.
    pub fuel: u64,
    pub micros: u64,
}

/// How a case's golden file compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Golden {
    #[default]
    None,
    Same,
    Differs,
    Written,
}

impl Report {
    /// Fuel of all calls.
    pub fn fuel(&self) -> u64 {
        self.lines.iter().map(|line| line.fuel).sum()
    }

    /// The slowest call.
    pub fn micros(&self) -> u64 {
        self.lines.iter().map(|line| line.micros).max().unwrap_or_default()
    }
}

/// The case files of a folder, sorted by name.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("listing", dir)(error)),
    };
    let mut files: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::Unusable(format!(
            "{} holds no case: put a `*.toml` there (`clawker plugin new` writes a first one)",
            dir.display()
        )));
    }
    if files.len() > MAX_CASES {
        let count = files.len();
        return Err(Error::Unusable(format!(
            "{} holds {count} cases, the limit is {MAX_CASES}",
            dir.display()
        )));
    }
    Ok(files)
}

/// Runs one case.
pub fn run(sandbox: &Sandbox, file: &Path, options: Options) -> Result<Report, Error> {
    let mut report = match (file::read(file, sandbox.plugin.kind)?, sandbox.plugin.kind) {
        (Case::Policy(case), Kind::Policy) => policy::run(sandbox, &case)?,
        (Case::Step(case), Kind::Step) => step::run(sandbox, &case)?,
        _ => return Err(Error::malformed(file, "the case is for another kind of plugin")),
    };
    report.file = file.to_owned();
    golden::compare(&mut report, options.bless)?;
    Ok(report)
}
