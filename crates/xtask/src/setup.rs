//! `cargo xtask setup`: what demo, test and scorecard need of a machine.
//!
//! First everything that is missing is found out, then either all of it can be put right (root on Debian or Ubuntu)
//! or the exact commands are printed and nothing is changed (exit code 69). A second run finds nothing to do.

mod packages;
mod python;

use std::fs::{self, File};

use anyhow::{Context, Result};
use clawker_plugin_build::{guest_linker, sysroot};

use crate::engine::{self, api::Api};
use crate::project::{Project, which};
use crate::run;
use crate::run::unmet;
use crate::say::say;

pub fn run(project: &Project) -> Result<()> {
    let api = Api::of_this_host()?;
    let root = rustix::process::geteuid().is_root();
    let missing = packages::missing(&api, &guest_toolchain(root)?);
    if !root {
        let mut commands = packages::commands(&missing, "sudo ");
        commands.push("sudo --preserve-env=HOME,PATH cargo xtask setup".to_owned());
        return Err(refused(
            "a control plane reads other processes' namespaces and control groups, so this needs root. Run",
            &commands,
        ));
    }
    let _one_at_a_time = lock()?;
    if missing.is_empty() {
        say("setup", "every package that is needed is there");
    } else if packages::apt_serves_this_system() {
        packages::install(&missing)?;
    } else {
        return Err(refused(
            "this isn't Debian or Ubuntu, so nothing was installed. Run",
            &packages::commands(&missing, ""),
        ));
    }
    run::check()?;
    if let Some(linker) = guest_linker() {
        say("setup", format!("guests are linked by {}", linker.display()));
    }
    python::ready(project);
    run::check()?;
    engine::ready(project, &api)
}

fn refused(why: &str, commands: &[String]) -> anyhow::Error {
    unmet(format!("{why}:\n  {}\nNothing was changed.", commands.join("\n  ")))
}

/// Where the code for `wasm32-unknown-unknown` comes from.
pub enum GuestToolchain {
    /// The toolchain in use has the target.
    Target,
    /// Debian's rustc-web and its sources, which build the standard library along.
    Debian,
    /// rustup can add the target.
    Rustup,
    Nothing,
}

fn guest_toolchain(root: bool) -> Result<GuestToolchain> {
    let sysroot = sysroot()?;
    Ok(if sysroot.join("lib/rustlib/wasm32-unknown-unknown/lib").is_dir() {
        GuestToolchain::Target
    } else if packages::offered("rustc-web", root)? {
        GuestToolchain::Debian
    } else if which("rustup").is_some() {
        GuestToolchain::Rustup
    } else {
        GuestToolchain::Nothing
    })
}

/// Two set-ups at once would both install and both start an engine.
fn lock() -> Result<File> {
    let dir = "/run/clawker-xtask";
    fs::create_dir_all(dir).with_context(|| format!("making {dir}"))?;
    let file = File::create(format!("{dir}/lock")).with_context(|| format!("making {dir}/lock"))?;
    if file.try_lock().is_err() {
        say("setup", "another set-up is at work on this machine: waiting for it");
        file.lock().with_context(|| format!("locking {dir}/lock"))?;
    }
    Ok(file)
}
