//! A Python project into a component: componentize-py takes a snapshot of an interpreter that has loaded `app.py`.
//!
//! What it makes holds its own interpreter and no import of WASI: those are stubs that trap. Two builds of the same sources
//! differ, because the interpreter draws random numbers while the snapshot is taken; the digest says which build it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::error::{place, read_bytes};
use crate::project::PluginToml;
use crate::tool::{on_path, run};

/// The version that templates name and that was tried.
pub const COMPONENTIZE_PY: &str = "0.25.1";
const TOOL: &str = "componentize-py";

/// The component of the project in `dir`.
pub fn build(dir: &Path, said: &PluginToml, quiet: bool) -> Result<Vec<u8>, Error> {
    let (name, version) = said.named()?;
    for file in ["app.py", "clawker_plugin.py", "wit"] {
        if !dir.join(file).exists() {
            return Err(Error::NoProject {
                dir: dir.to_owned(),
                file: if file == "wit" { "wit/" } else { "app.py" },
            });
        }
    }
    let tool = tool(dir).ok_or_else(|| Error::NoPython { dir: dir.to_owned() })?;
    let built = dir.join("build");
    std::fs::create_dir_all(&built).map_err(Error::io("making", &built))?;
    // What cargo tells a Rust plugin by its environment.
    let module = format!("NAME = {name:?}\nVERSION = {version:?}\n");
    place(&built.join("clawker_about.py"), module.as_bytes())?;
    let out = built.join("app.wasm");
    let mut command = Command::new(tool);
    command
        .current_dir(dir)
        .args(["-d", "wit", "-w", "policy", "componentize", "--stub-wasi"])
        .args(["-p", ".", "-p", "build", "app", "-o", "build/app.wasm"])
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run(&mut command, TOOL, quiet)?;
    read_bytes(&out, clawker_plugin_host::limits::MAX_COMPONENT as u64)
}

/// The project's own, that of the virtual environment in force, or one on the path.
pub fn tool(dir: &Path) -> Option<PathBuf> {
    let own = [
        Some(dir.join(".venv")),
        std::env::var_os("VIRTUAL_ENV").map(PathBuf::from),
    ];
    let own = own.into_iter().flatten().map(|venv| venv.join("bin").join(TOOL));
    let found = own.into_iter().find(|tool| tool.is_file()).or_else(|| on_path(TOOL))?;
    std::path::absolute(found).ok()
}
