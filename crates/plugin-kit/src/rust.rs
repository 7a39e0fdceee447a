//! A Rust project into a component.

use std::path::Path;
use std::process::Command;

use clawker_plugin_build::{Toolchain, Work, component};

use crate::Error;
use crate::project::Package;
use crate::tool::run;

/// How to build.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Refuse to change `Cargo.lock`.
    pub locked: bool,
    /// Let cargo say nothing but errors.
    pub quiet: bool,
}

/// The component of the cargo package in `dir`. Cargo writes to our stderr while it compiles.
pub fn build(dir: &Path, package: &Package, options: Options) -> Result<Vec<u8>, Error> {
    let dir = dir.canonicalize().map_err(Error::io("finding", dir))?;
    let work = Work {
        dir,
        // Apart from what `cargo test` builds, which may be another compiler's.
        target: package.target.join("plugin"),
        root: (package.workspace.clone(), "/plugin".into()),
        package: Some(package.name.clone()),
        locked: options.locked,
        quiet: options.quiet,
    };
    Toolchain::find()?.compile(&work, cargo)?;
    Ok(component(&work.module(&package.library))?)
}

fn cargo(command: &mut Command) -> Result<(), Error> {
    let what = "cargo ".to_owned() + &command.get_args().next().unwrap_or_default().to_string_lossy();
    // What it says while it is quiet is an error.
    run(command, &what, false)
}
