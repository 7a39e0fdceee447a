//! Where things are, and cargo as a child that isn't confused by the cargo that started us.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

pub struct Project {
    pub root: PathBuf,
    /// Cargo's target folder; `clawker/` in it is ours.
    pub target: PathBuf,
}

impl Project {
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("finding the repository above crates/xtask")?
            .to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir).context("reading CARGO_TARGET_DIR")?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Our part of the target folder: logs, and the companions that the programs look for.
    pub fn ours(&self) -> PathBuf {
        self.target.join("clawker")
    }

    pub fn libexec(&self) -> PathBuf {
        self.ours().join("libexec")
    }

    /// Cargo, in the root.
    pub fn cargo(&self) -> Command {
        let mut cargo = clawker_plugin_build::cargo();
        cargo.current_dir(&self.root);
        cargo
    }

    /// A program of ours, as the dev or the release profile built it.
    pub fn program(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }
}

/// A program on PATH or where root's programs are.
pub fn which(name: &str) -> Option<PathBuf> {
    clawker_plugin_build::which(name, ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"])
}
