//! A JavaScript project into a component: componentize-js takes a snapshot of an engine that has read `app.js`.
//!
//! Node runs the project's own `sdk/build.mjs`, which finds componentize-js as Node finds any package. The engine's
//! features are off, so the component imports nothing of WASI.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::error::{place, read_bytes};
use crate::project::PluginToml;
use crate::tool::{on_path, run};

/// Below `node_modules`.
const PACKAGE: &str = "@bytecodealliance/componentize-js";

/// The component of the project in `dir`.
pub fn build(dir: &Path, said: &PluginToml, quiet: bool) -> Result<Vec<u8>, Error> {
    let (name, version) = said.named()?;
    for file in ["app.js", "sdk/build.mjs", "wit/policy.wit"] {
        if !dir.join(file).exists() {
            let dir = dir.to_owned();
            return Err(Error::NoProject { dir, file });
        }
    }
    let dir = dir.canonicalize().map_err(Error::io("finding", dir))?;
    let node = tools(&dir)?;
    let built = dir.join("build");
    std::fs::create_dir_all(&built).map_err(Error::io("making", &built))?;
    // What cargo tells a Rust plugin by its environment.
    let module = format!("export const NAME = '{name}';\nexport const VERSION = '{version}';\n");
    place(&built.join("about.js"), module.as_bytes())?;
    let mut command = Command::new(node);
    command.current_dir(&dir).arg("sdk/build.mjs");
    run(&mut command, "node sdk/build.mjs", quiet)?;
    read_bytes(
        &built.join("app.wasm"),
        clawker_plugin_host::limits::MAX_COMPONENT as u64,
    )
}

/// Node, if the project could be built with it.
pub fn tools(dir: &Path) -> Result<PathBuf, Error> {
    let node = on_path("node").ok_or_else(|| {
        Error::Project("Node isn't here, and a JavaScript plugin is built by it: install Node 20 or newer".into())
    })?;
    let packages = dir.ancestors().map(|folder| folder.join("node_modules").join(PACKAGE));
    match packages.into_iter().any(|package| package.is_dir()) {
        true => Ok(node),
        false => Err(Error::Project(format!(
            "{PACKAGE} isn't here: `cd {} && npm install`",
            dir.display()
        ))),
    }
}
