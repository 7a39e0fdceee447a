//! Where the programs under test are: in cargo's target folder, as `cargo xtask` fills it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What a person can do when something isn't there.
pub const SETUP: &str = "run `cargo xtask setup`";
const BUILD: &str = "run `cargo xtask test` or `cargo xtask demo`, which build it";

/// `target/debug` or `target/release`: where this program itself is, or `deps` of it.
pub fn profile_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("finding this program")?;
    let dir = exe.parent().context("this program is in a folder")?;
    let dir = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(dir.to_owned())
}

/// `target/clawker`, xtask's part of the target folder.
fn ours() -> Result<PathBuf> {
    let profile = profile_dir()?;
    Ok(profile
        .parent()
        .context("the profile's folder is in target")?
        .join("clawker"))
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.exists(), "{} is missing: {BUILD}", path.display());
    Ok(path)
}

/// The command line program.
pub fn clawker() -> Result<PathBuf> {
    existing(profile_dir()?.join("clawker"))
}

/// The control plane as it is released.
pub fn control_plane() -> Result<PathBuf> {
    existing(profile_dir()?.join("clawker-cp"))
}

/// The double of Docker's engine.
pub fn rig() -> Result<PathBuf> {
    existing(profile_dir()?.join("clawker-rig"))
}

/// The control plane with fault points.
pub fn control_plane_with_faults() -> Result<PathBuf> {
    existing(ours()?.join("test/clawker-cp"))
}

/// clawkerd and the plugins.
pub fn libexec() -> Result<PathBuf> {
    existing(ours()?.join("libexec"))
}

/// The folder with the static adversary; it is mounted into containers as a whole.
pub fn adversary_dir() -> Result<PathBuf> {
    let dir = ours()?.join("test/adversary");
    existing(dir.join(ADVERSARY))?;
    Ok(dir)
}

pub const ADVERSARY: &str = "forged-clawkerd";

/// A static busybox of this machine.
pub fn busybox() -> Result<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .map(Path::to_owned)
        .with_context(|| format!("there is no busybox: {SETUP}"))
}
