//! What is built, in an order that compiles a shared crate once for each kind of output.
//!
//! ```text
//! guests ──► libexec/plugins/{*.wasm, digests} ──► the control plane reads the digests when it is compiled
//! clawkerd (static, own profile) ──► libexec/agent/clawkerd
//! for the scorecard: a clock for its containers (static) ──► test/score-clock, the programs in the release profile
//! for demo and tests: the adversary in clawkerd's place (static, same profile) ──► test/adversary/
//! for tests: the control plane with fault points ──► test/clawker-cp
//! host programs and tests: builds of the whole workspace, all with the same features
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clawker_plugin_build::{host_triple, sysroot};

use crate::project::{Project, which};
use crate::{plugins, run, say};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    pub fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// What a build covers that leaves tests out. Naming examples, of which there are hardly any, makes cargo choose the
/// features that tests need, so that demo and test share every crate that isn't ours.
const PROGRAMS: [&str; 4] = ["build", "--workspace", "--bins", "--examples"];

/// Everything that the demo needs: the guests, clawkerd and the programs.
pub fn programs(project: &Project) -> Result<()> {
    clawkerd(project)?;
    adversary(project)?;
    host_programs(project)
}

/// The programs alone, for what starts no agents.
pub fn host_programs(project: &Project) -> Result<()> {
    guests(project)?;
    say::timed("build", "the programs", || run::ok(project.cargo().args(PROGRAMS)))
}

/// Everything that the scorecard needs: programs as people would run them, and those that measure them, which nothing
/// else builds.
pub fn measured(project: &Project) -> Result<()> {
    guests(project)?;
    clawkerd(project)?;
    say::timed("build", "the clock of measured containers, static", || {
        let built = static_program(project, "clawker-tests", "score-clock")?;
        install(&built, &project.ours().join("test/score-clock"))
    })?;
    say::timed("build", "the programs, in the release profile", || {
        run::ok(project.cargo().args(PROGRAMS).args([
            "--release",
            "--features",
            "clawker-tests/scorecard,clawker-plugin-host/bench",
        ]))
    })
}

/// What a single test needs to be run by hand.
pub fn everything(project: &Project) -> Result<()> {
    guests(project)?;
    clawkerd(project)?;
    programs_and_tests(project)
}

/// Programs and tests of the whole workspace, in the dev profile.
pub fn programs_and_tests(project: &Project) -> Result<()> {
    adversary(project)?;
    say::timed("build", "the control plane with fault points", || {
        run::ok(
            project
                .cargo()
                .args(PROGRAMS)
                .args(["--features", "clawker-control-plane/faults"]),
        )?;
        install(
            &project.program(Profile::Dev.folder(), "clawker-cp"),
            &project.ours().join("test/clawker-cp"),
        )
    })?;
    // Last, because it puts the programs without fault points back into their place.
    say::timed("build", "the programs and their tests", || {
        run::ok(project.cargo().args(["build", "--workspace", "--all-targets"]))
    })
}

/// The plugins of this repository, as components with their digests.
pub fn guests(project: &Project) -> Result<()> {
    plugins::build(project)
}

/// clawkerd, static, renamed into place: a container that has the folder mounted sees the old file or the new one.
/// A copy keeps its symbols, for a test to read; what is installed has none.
pub fn clawkerd(project: &Project) -> Result<()> {
    say::timed("build", "clawkerd, static", || {
        let built = static_program(project, "clawkerd", "clawkerd")?;
        let symbols = project.ours().join("test/clawkerd.symbols");
        install(&built, &symbols)?;
        let stripped = project.ours().join("test/clawkerd.stripped");
        run::output(strip()?.arg(&symbols).arg(&stripped))?;
        install(&stripped, &project.libexec().join("agent/clawkerd"))
    })
}

/// The test crate's stand-in for clawkerd, which demo and tests put into a container as an attacker would.
fn adversary(project: &Project) -> Result<()> {
    say::timed("build", "the adversary, static", || {
        let built = static_program(project, "clawker-tests", "forged-clawkerd")?;
        install(&built, &project.ours().join("test/adversary/forged-clawkerd"))
    })
}

fn static_program(project: &Project, package: &str, name: &str) -> Result<PathBuf> {
    let triple = host_triple()?;
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase().replace('-', "_"));
    // `--target` is what keeps the flags away from build scripts and macros, which can't be static.
    run::ok(
        project
            .cargo()
            .args([
                "build",
                "--package",
                package,
                "--bin",
                name,
                "--profile",
                "clawkerd",
                "--target",
                &triple,
            ])
            .env(variable, "-C target-feature=+crt-static")
            .env("CARGO_PROFILE_CLAWKERD_STRIP", "none"),
    )?;
    Ok(project.target.join(&triple).join("clawkerd").join(name))
}

/// The C toolchain's objcopy, which came with the linker, else the Rust toolchain's own.
fn strip() -> Result<Command> {
    let mut command = match which("objcopy") {
        Some(program) => Command::new(program),
        None => {
            let sysroot = sysroot()?;
            let mut own = Command::new(
                sysroot
                    .join("lib/rustlib")
                    .join(host_triple()?)
                    .join("bin/rust-objcopy"),
            );
            own.env("LD_LIBRARY_PATH", sysroot.join("lib"));
            own
        }
    };
    command.arg("--strip-all");
    Ok(command)
}

fn install(from: &Path, to: &Path) -> Result<()> {
    let dir = to.parent().context("a file to install has a folder")?;
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let beside = to.with_added_extension("new");
    // Not `std::fs::copy` alone: a program that runs can't be written to, only replaced.
    std::fs::copy(from, &beside).with_context(|| format!("writing {}", beside.display()))?;
    std::fs::rename(&beside, to).with_context(|| format!("renaming into {}", to.display()))
}
