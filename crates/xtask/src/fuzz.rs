//! `cargo xtask fuzz`: the programs, then the one that fuzzes. An input that killed it is left in a file, which is
//! named here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build::Profile;
use crate::project::Project;
use crate::{build, demo, run};

/// As on the command line.
#[derive(clap::Args)]
pub struct Fuzz {
    /// Targets, as docs/fuzzing.md lists them; without any, all of them
    targets: Vec<String>,
    /// How long, for all targets together
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What a run printed, to have the same inputs again
    #[arg(long)]
    seed: Option<u64>,
    /// Try this file on the one target, and nothing else
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Write the targets' own seeds into fuzz/corpus, for libFuzzer, and nothing else
    #[arg(long)]
    write_seeds: bool,
}

pub fn run(project: &Project, fuzz: Fuzz) -> Result<()> {
    build::host_programs(project)?;
    let keep = project.ours().join("fuzz");
    let mut args = vec![
        format!("--keep={}", keep.display()),
        format!("--seconds={}", fuzz.seconds),
    ];
    args.extend(fuzz.seed.map(|seed| format!("--seed={seed}")));
    if let Some(file) = fuzz.replay {
        let file = std::path::absolute(&file).with_context(|| format!("looking for {}", file.display()))?;
        args.push(format!("--replay={}", file.display()));
    }
    if fuzz.write_seeds {
        args.push("--write-seeds".to_owned());
    }
    args.push("--".to_owned());
    args.extend(fuzz.targets);
    let outcome = demo::hand_over(project, Profile::Dev, "clawker-fuzz", args);
    for died in what_it_died_of(&keep, run::interrupted())? {
        let target = died.parent().and_then(Path::file_name).unwrap_or_default();
        eprintln!(
            "it died of an input: cargo xtask fuzz {} --replay {}",
            target.display(),
            died.display()
        );
    }
    outcome
}

/// Inputs that were being tried when the process ended, out of the way of the next run. One that was interrupted died
/// of nothing.
fn what_it_died_of(keep: &Path, interrupted: bool) -> Result<Vec<PathBuf>> {
    let mut died = Vec::new();
    for folder in std::fs::read_dir(keep).into_iter().flatten().flatten() {
        let running = folder.path().join("running");
        if !running.is_file() {
            continue;
        }
        let moved = folder.path().join(format!("died-{}", std::process::id()));
        if interrupted {
            std::fs::remove_file(&running).with_context(|| format!("removing {}", running.display()))?;
        } else {
            std::fs::rename(&running, &moved).with_context(|| format!("moving {}", running.display()))?;
            died.push(moved);
        }
    }
    Ok(died)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_killed_is_kept_unless_somebody_stopped_it() {
        let keep = tempfile::tempdir().expect("tempdir");
        let folder = keep.path().join("join");
        let running = folder.join("running");
        let begin = || {
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(&running, b"deadly").expect("written");
        };
        begin();
        let died = what_it_died_of(keep.path(), false).expect("looked");
        assert_eq!(died.len(), 1);
        assert_eq!(std::fs::read(&died[0]).expect("kept"), b"deadly");
        assert!(!running.exists());
        begin();
        assert!(what_it_died_of(keep.path(), true).expect("looked").is_empty());
        assert!(!running.exists());
        assert!(
            what_it_died_of(&keep.path().join("none"), false)
                .expect("looked")
                .is_empty()
        );
    }
}
