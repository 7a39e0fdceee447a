//! What is built, in an order that compiles a shared crate once for each kind of output.
//!
//! ```text
//! guests ──► libexec/plugins/{*.wasm, digests} ──► the control plane reads the digests when it is compiled
//! clawkerd (static, own profile) ──► libexec/agent/clawkerd
//! host programs and tests: one `cargo build` over the whole workspace, whose features nextest then finds unchanged
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::project::Project;
use crate::{run, say};

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

/// Everything that a supervised host needs: the guests, clawkerd and the programs.
pub fn programs(project: &Project, profile: Profile) -> Result<()> {
    guests(project)?;
    clawkerd(project)?;
    say::timed("build", "the programs", || {
        let mut cargo = project.cargo();
        cargo.args(["build", "--workspace", "--exclude", "xtask", "--bins"]);
        if profile == Profile::Release {
            cargo.arg("--release");
        }
        run::ok(&mut cargo)
    })
}

/// Programs and tests of the whole workspace, in the dev profile.
pub fn programs_and_tests(project: &Project) -> Result<()> {
    say::timed("build", "the programs and their tests", || {
        run::ok(project.cargo().args(["build", "--workspace", "--all-targets"]))
    })
}

/// The plugins of this repository, as components with their digests.
pub fn guests(_project: &Project) -> Result<()> {
    say::say("build", "no plugins yet");
    Ok(())
}

/// clawkerd, static, renamed into place: a container that has the folder mounted sees the old file or the new one.
pub fn clawkerd(project: &Project) -> Result<()> {
    say::timed("build", "clawkerd, static", || {
        let triple = host_triple()?;
        let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase().replace('-', "_"));
        // `--target` is what keeps the flags away from build scripts and macros, which can't be static.
        run::ok(
            project
                .cargo()
                .args([
                    "build",
                    "--package",
                    "clawkerd",
                    "--profile",
                    "clawkerd",
                    "--target",
                    &triple,
                ])
                .env(variable, "-C target-feature=+crt-static"),
        )?;
        let built = project.target.join(&triple).join("clawkerd/clawkerd");
        install(&built, &project.libexec().join("agent/clawkerd"))
    })
}

fn install(from: &Path, to: &Path) -> Result<()> {
    let dir = to.parent().context("a file to install has a folder")?;
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let beside = to.with_extension("new");
    // Not `std::fs::copy` alone: a program that runs can't be written to, only replaced.
    std::fs::copy(from, &beside).with_context(|| format!("writing {}", beside.display()))?;
    std::fs::rename(&beside, to).with_context(|| format!("renaming into {}", to.display()))
}

/// `x86_64-unknown-linux-gnu`
pub fn host_triple() -> Result<String> {
    let version = run::output(Command::new(rustc()).arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    Ok(host.to_owned())
}

/// Where the toolchain in use keeps its libraries and its linker.
pub fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(
        run::output(Command::new(rustc()).args(["--print", "sysroot"]))?.trim(),
    ))
}

fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}
