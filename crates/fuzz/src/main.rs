//! `cargo xtask fuzz`: targets over random inputs for as long as they are given, what fails kept in a file.
//!
//! The input that is being tried stands in a file too: one that kills the process, or hangs, is found there.

use std::alloc::System;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clawker_fuzz::attempt::{Failure, attempt, shrunk};
use clawker_fuzz::mutate::{Mutator, near};
use clawker_fuzz::{TARGETS, Target, corpus, target};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// An input that takes longer hangs.
const HANGS: Duration = Duration::from_secs(20);
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

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let chosen: Vec<&Target> = match args.targets.as_slice() {
        [] => TARGETS.iter().collect(),
        names => names.iter().map(|name| named(name)).collect::<Result<_>>()?,
    };
    if args.write_seeds {
        for target in &chosen {
            let written = corpus::write_seeds(target).with_context(|| format!("writing seeds of {}", target.name))?;
            println!("{:18} {written} seeds", target.name);
        }
        return Ok(ExitCode::SUCCESS);
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
    let each = Duration::from_secs(args.seconds) / u32::try_from(chosen.len()).unwrap_or(1).max(1);
    let mut failed = 0;
    for target in chosen {
        failed += u32::from(!run(target, seed, each, &args.keep)?);
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
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
fn run(target: &Target, seed: u64, time: Duration, keep: &Path) -> Result<bool> {
    let folder = keep.join(target.name);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let running = folder.join("running");
    let tried = File::create(&running).with_context(|| format!("making {}", running.display()))?;
    let pool = corpus::pool(target).with_context(|| format!("reading the corpus of {}", target.name))?;
    let (mut runs, mut read) = (0u64, 0u64);
    let mut one = |input: &[u8]| -> Result<bool, Found> {
        tried
            .write_all_at(input, 0)
            .and_then(|()| tried.set_len(input.len() as u64))
            .map_err(Found::Broken)?;
        TRIED.fetch_add(1, Ordering::Relaxed);
        let was_read = attempt(target, input, Some(allocated)).map_err(|_| Found::Fault(input.to_vec()))?;
        runs += 1;
        read += u64::from(was_read);
        Ok(was_read)
    };
    let began = Instant::now();
    let mut hunt = || -> Result<(), Found> {
        for seed in &pool {
            near(seed, |input| one(input).map(drop))?;
        }
        let mut mutator = Mutator::new(seed, pool.clone());
        while began.elapsed() < time {
            let input = mutator.make();
            if one(&input)? {
                mutator.learn(input);
            }
        }
        Ok(())
    };
    let outcome = hunt();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:18} {runs} inputs in {seconds:.1} s, {read} of them were read",
        target.name
    );
    std::fs::remove_file(&running).with_context(|| format!("removing {}", running.display()))?;
    match outcome {
        Ok(()) => Ok(true),
        Err(Found::Broken(error)) => Err(error).with_context(|| format!("writing {}", running.display())),
        Err(Found::Fault(input)) => {
            kept(target, &input, &folder)?;
            Ok(false)
        }
    }
}

/// What ends a hunt early.
enum Found {
    Fault(Vec<u8>),
    Broken(std::io::Error),
}

fn kept(target: &Target, input: &[u8], folder: &Path) -> Result<()> {
    let input = shrunk(target, input, Some(allocated));
    let why = match attempt(target, &input, Some(allocated)) {
        Err(failure) => failure,
        Ok(_) => Failure::Panicked("once; the same input didn't fail again".to_owned()),
    };
    let name = format!("fault-{:016x}", fastrand::u64(..));
    let file = folder.join(name);
    std::fs::write(&file, &input).with_context(|| format!("writing {}", file.display()))?;
    println!("{:18} {why}", target.name);
    println!(
        "{:18} kept: cargo xtask fuzz {} --replay {}",
        "",
        target.name,
        file.display()
    );
    Ok(())
}

fn replay(target: &Target, file: &Path) -> Result<ExitCode> {
    let input = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    ensure!(input.len() <= 64 << 20, "{} is too long to be an input", file.display());
    TRIED.fetch_add(1, Ordering::Relaxed);
    match attempt(target, &input, Some(allocated)) {
        Ok(read) => {
            println!(
                "{}: it holds; {}",
                target.name,
                if read { "it was read" } else { "it was refused" }
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            println!("{}: {failure}", target.name);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Ends the process when an input hangs; it stands in the file `running` then.
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
