//! `cargo xtask fuzz`: targets over random inputs for as long as they are given.

use std::alloc::System;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clawker_fuzz::attempt::attempt;
use clawker_fuzz::hunt::Hunt;
use clawker_fuzz::{TARGETS, Target, corpus, target};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// An input that takes longer hangs.
const HANGS: Duration = Duration::from_secs(20);
/// Longest file that is replayed.
const MAX_REPLAY: usize = 64 * 1024 * 1024;
/// Inputs that were tried, for the watch.
static TRIED: AtomicU64 = AtomicU64::new(0);

#[derive(Parser)]
#[command(name = "clawker-fuzz", about = "Fuzz clawker's parsers")]
struct Args {
    /// Targets; without any, all of them
    targets: Vec<String>,
    /// How long, for all targets together
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What a run printed, to have the same inputs again
    #[arg(long)]
    seed: Option<u64>,
    /// Where failing inputs are kept
    #[arg(long, default_value = "target/clawker/fuzz")]
    keep: PathBuf,
    /// Try this file on the one target, and nothing else
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Write the targets' own seeds into fuzz/corpus, for libFuzzer, and nothing else
    #[arg(long, conflicts_with = "replay")]
    write_seeds: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every target held.
fn run(args: &Args) -> Result<bool> {
    let chosen: Vec<&Target> = match args.targets.as_slice() {
        [] => TARGETS.iter().collect(),
        names => names.iter().map(|name| named(name)).collect::<Result<_>>()?,
    };
    if args.write_seeds {
        for target in &chosen {
            let written = corpus::write_seeds(target).with_context(|| format!("writing seeds of {}", target.name))?;
            println!("{:18} {written} seeds", target.name);
        }
        return Ok(true);
    }
    std::thread::spawn(watch);
    if let Some(file) = &args.replay {
        let [target] = chosen.as_slice() else {
            anyhow::bail!("a file is replayed on one target");
        };
        return replay(target, file);
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let hunt = Hunt {
        seed,
        time: Duration::from_secs(args.seconds) / u32::try_from(chosen.len()).unwrap_or(1).max(1),
        keep: &args.keep,
        meter: Some(allocated),
        tried: &TRIED,
    };
    let mut held = true;
    for target in chosen {
        held &= hunted(target, &hunt)?;
    }
    Ok(held)
}

fn named(name: &str) -> Result<&'static Target> {
    let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    target(name).with_context(|| format!("there is no target `{name}`; there are {}", all.join(", ")))
}

/// By this thread and the watch, which allocates nothing.
fn allocated() -> u64 {
    u64::try_from(ALLOCATOR.stats().bytes_allocated).unwrap_or(u64::MAX)
}

/// Whether the target held for its time.
fn hunted(target: &Target, hunt: &Hunt<'_>) -> Result<bool> {
    let began = Instant::now();
    let hunted = hunt
        .of(target)
        .with_context(|| format!("fuzzing {} in {}", target.name, hunt.keep.display()))?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:18} {} inputs in {seconds:.1} s, {} of them were read",
        target.name, hunted.runs, hunted.read
    );
    if let Some(found) = &hunted.found {
        println!("{:18} {}", "", found.failure);
        println!(
            "{:18} kept: cargo xtask fuzz {} --replay {}",
            "",
            target.name,
            found.file.display()
        );
    }
    Ok(hunted.found.is_none())
}

fn replay(target: &Target, file: &Path) -> Result<bool> {
    let input = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    ensure!(
        input.len() <= MAX_REPLAY,
        "{} is too long to be an input",
        file.display()
    );
    TRIED.fetch_add(1, Ordering::Relaxed);
    let outcome = attempt(target, &input, Some(allocated));
    let said = match &outcome {
        Ok(true) => "it holds, and was read".to_owned(),
        Ok(false) => "it holds, and was refused".to_owned(),
        Err(failure) => failure.to_string(),
    };
    println!("{}: {said}", target.name);
    Ok(outcome.is_ok())
}

/// Ends the process when an input hangs; it stands in the file of the one that is being tried.
fn watch() {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let tried = TRIED.load(Ordering::Relaxed);
        if tried != last {
            (last, since) = (tried, Instant::now());
        } else if tried != 0 && since.elapsed() > HANGS {
            eprintln!("an input takes more than {} s", HANGS.as_secs());
            std::process::abort();
        }
    }
}
