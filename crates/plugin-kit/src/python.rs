//! A Python project into a component: componentize-py takes a snapshot of an interpreter that has loaded `app.py`.
//!
//! What it makes holds its own interpreter and no import of WASI: those are stubs that trap. Two builds of the same sources
//! differ, because the interpreter draws random numbers while the snapshot is taken; the digest says which build it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;
use crate::error::place;
use crate::project::{About, PluginToml};

/// The version that templates name and that was tried.
pub const COMPONENTIZE_PY: &str = "0.25.1";
const TOOL: &str = "componentize-py";

/// The component of the project in `dir`.
pub fn build(dir: &Path, said: &PluginToml, quiet: bool) -> Result<Vec<u8>, Error> {
    let (name, version) = about(&said.plugin)?;
    for file in ["app.py", "clawker_plugin.py", "wit"] {
        if !dir.join(file).exists() {
            return Err(Error::NoProject {
                dir: dir.to_owned(),
                file: if file == "wit" { "wit/" } else { "app.py" },
            });
        }
    }
    let tool = find(dir).ok_or_else(|| Error::NoPython { dir: dir.to_owned() })?;
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
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        // Results are our stdout's.
        .stdout(if quiet { Stdio::null() } else { std::io::stderr().into() });
    let ended = command.status().map_err(|error| Error::Io {
        doing: format!("starting {TOOL}"),
        error,
    })?;
    if !ended.success() {
        return Err(Error::Cargo {
            what: TOOL.to_owned(),
            how: ended.to_string(),
        });
    }
    std::fs::read(&out).map_err(Error::io("reading", &out))
}

fn about(about: &About) -> Result<(&str, &str), Error> {
    let said = about.name.as_deref().zip(about.version.as_deref());
    let (name, version) =
        said.ok_or_else(|| Error::Project("plugin.toml: a Python plugin has its `name` and `version` there".into()))?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+".contains(&b));
    match plain(name) && plain(version) {
        true => Ok((name, version)),
        false => Err(Error::Project(
            "plugin.toml: `name` and `version` are of letters, digits, `-`, `.` and `+`".into(),
        )),
    }
}

/// The project's own, that of the virtual environment in force, or one on the path.
fn find(dir: &Path) -> Option<PathBuf> {
    let own = [
        Some(dir.join(".venv")),
        std::env::var_os("VIRTUAL_ENV").map(PathBuf::from),
    ];
    let own = own.into_iter().flatten().map(|venv| venv.join("bin").join(TOOL));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let anywhere = std::env::split_paths(&path)
        .map(|folder| folder.join(TOOL))
        .collect::<Vec<_>>();
    let found = own.chain(anywhere).find(|tool| tool.is_file())?;
    std::path::absolute(found).ok()
}
