//! `clawker-scorecard [--only ID,…] [--json] [--full]`: each figure against a peer that is measured in the same run.
//!
//! ```text
//! leftovers removed ─▶ for each figure: ours, peer, ours, peer, … ─▶ medians, spread, ratio ─▶ all removed
//! ```
//! A warm-up round of both sides is thrown away. Progress goes to stderr; stdout is one object a line, or text for
//! people. A missed target is said and is no failure: the exit code is 0 unless something couldn't be measured.

mod admin;
mod bare;
mod begin;
mod carry;
mod crowd;
mod decide;
mod exec;
mod figure;
mod footprint;
mod lifetimes;
mod outage;
mod plain;
mod react;
mod relay;
mod restart;
mod revoke;
mod rig;
mod scale;
mod sessions;
mod shims;
mod stats;
mod wire;

use std::cell::OnceCell;
use std::fs::File;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clawker_tests::host::Setup;
use clawker_tests::{Docker, Host, cleanup, image, wait};
use tokio::runtime::Runtime;

use crate::figure::Figure;

/// What labels of ours begin with.
pub const PREFIX: &str = "score.clawker";
/// Of control planes that are measured.
pub const HOST_PREFIX: &str = "score.clawker.host";
/// What names of our containers, networks, images and folders begin with.
pub const NAME: &str = "clawker-score";
/// Rounds that count, of ours and the peer each.
pub const ROUNDS: usize = 6;

/// What every measurement uses.
pub struct Bench {
    pub docker: Docker,
    pub runtime: Runtime,
    image: OnceCell<String>,
    /// The long forms of R rows.
    pub full: bool,
}

impl Bench {
    /// The image of both sides, on a real engine.
    pub fn image(&self) -> Result<&str> {
        if let Some(made) = self.image.get() {
            return Ok(made);
        }
        let made = plain::image(&self.docker)?;
        Ok(self.image.get_or_init(|| made))
    }

    /// A supervised host with the default plan and policy, in programs of its own.
    pub fn host(&self) -> Result<Host> {
        Setup::named(HOST_PREFIX, NAME, "score").start()
    }
}

type Measure = fn(&Bench) -> Result<Vec<Figure>>;

const FIGURES: [(&str, Measure); 13] = [
    ("P1", react::lock),
    ("P2", react::freeze),
    ("P4", exec::measure),
    ("P5", sessions::measure),
    ("P6", begin::measure),
    ("P7", carry::measure),
    ("P8", restart::measure),
    ("P9", decide::measure),
    ("P10", footprint::measure),
    ("P10", crowd::measure),
    ("R4", outage::measure),
    ("R6", lifetimes::measure),
    ("R7", revoke::measure),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if let (Some(first), Some(dir)) = (std::env::args().nth(1), std::env::args_os().nth(2))
        && let Some(count) = first.strip_prefix(bare::CLIENT)
    {
        // A peer in a process of its own, so that its memory is told from ours.
        return match bare::client_main(count, dir.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    match parse(&mut args).and_then(|asked| run(&asked)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
#[derive(Default)]
struct Asked {
    only: Vec<String>,
    json: bool,
    full: bool,
}

fn parse(args: impl Iterator<Item = String>) -> Result<Asked> {
    let mut asked = Asked::default();
    for arg in args {
        match arg.strip_prefix("--only=") {
            Some(ids) => asked.only.extend(ids.split(',').map(str::to_owned)),
            None if arg == "--json" => asked.json = true,
            None if arg == "--full" => asked.full = true,
            None => bail!("usage: clawker-scorecard [--only=ID,…] [--json] [--full]"),
        }
    }
    for id in &asked.only {
        let there = FIGURES.map(|(id, _)| id);
        ensure!(
            there.contains(&id.as_str()),
            "no figure `{id}`; there are {}",
            there.join(", ")
        );
    }
    Ok(asked)
}

/// Whether everything could be measured.
fn run(asked: &Asked) -> Result<bool> {
    let Asked { only, json, full } = asked;
    watch_signals()?;
    let lock = std::env::temp_dir().join(format!("{NAME}.lock"));
    let lock = File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
    ensure!(lock.try_lock().is_ok(), "another scorecard runs on this machine");
    let docker = Docker::of_this_host()?;
    remove(&docker).context("removing what an earlier scorecard left")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bench = Bench {
        docker,
        runtime,
        image: OnceCell::new(),
        full: *full,
    };
    let mut measured = true;
    for (id, measure) in FIGURES {
        if wait::interrupted() || !(only.is_empty() || only.iter().any(|one| one == id)) {
            continue;
        }
        match plain::network(&bench.docker).and_then(|()| measure(&bench)) {
            Ok(figures) => figures.iter().for_each(|figure| figure.print(*json)),
            Err(error) => {
                measured = false;
                eprintln!("{id} couldn't be measured: {error:#}");
            }
        }
    }
    remove(&bench.docker).context("removing what was made")?;
    Ok(measured && !wait::interrupted())
}

/// A line for the person who waits; an error once somebody asked us to stop.
pub fn doing(what: &str) -> Result<()> {
    ensure!(!wait::interrupted(), "interrupted");
    eprintln!("scorecard: {what}");
    Ok(())
}

fn watch_signals() -> Result<()> {
    let signals = [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ];
    let mut signals = signal_hook::iterator::Signals::new(signals).context("watching for signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            wait::interrupt();
        }
    });
    Ok(())
}

/// Removes all that any scorecard made.
fn remove(docker: &Docker) -> Result<()> {
    cleanup::remove_all(docker, HOST_PREFIX, Some(NAME))?;
    cleanup::remove_all(docker, PREFIX, None)?;
    for name in image::named(docker, NAME)? {
        docker.remove_image(&name)?;
    }
    cleanup::remove_dirs(|dir| dir.starts_with(&format!("{NAME}-")))
}
