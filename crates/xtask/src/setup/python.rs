//! componentize-py, with which a test of plugins in Python builds one. Without it that test says that it is skipped:
//! nothing else needs it, so nothing here is an error.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::project::{Project, which};
use crate::run;
use crate::say::{say, timed};

/// As plugin-kit's `python::COMPONENTIZE_PY` has it; a test compares.
const PACKAGE: &str = "componentize-py==0.25.1";

/// Makes `target/clawker/python`, a virtual environment, if it can.
pub fn ready(project: &Project) {
    let venv = project.ours().join("python");
    if venv.join("bin/componentize-py").is_file() {
        return say("setup", "componentize-py is there");
    }
    let Some(python) = which("python3") else {
        return say(
            "setup",
            "no python3 here: the test of a plugin in Python will be skipped",
        );
    };
    if let Err(error) = timed("setup", "installing componentize-py", || install(&python, &venv)) {
        say(
            "setup",
            format!("the test of a plugin in Python will be skipped ({error:#})"),
        );
    }
}

fn install(python: &Path, venv: &Path) -> Result<()> {
    // What an interrupted set-up left would pass for whole.
    if venv.exists() {
        std::fs::remove_dir_all(venv).with_context(|| format!("removing {}", venv.display()))?;
    }
    run::output(Command::new(python).args(["-m", "venv"]).arg(venv))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args([
        "--disable-pip-version-check",
        "--no-input",
        "--retries",
        "1",
        "--timeout",
        "20",
    ])
    .args(["install", "--quiet", "--only-binary", ":all:", PACKAGE]);
    run::output(&mut pip)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_projects_are_told_to_install() {
        let kit = include_str!("../../../plugin-kit/src/python.rs");
        let (_, version) = PACKAGE.split_once("==").expect("a version");
        assert!(kit.contains(&format!("COMPONENTIZE_PY: &str = \"{version}\"")));
        let readme = include_str!("../../../plugin-kit/templates/python/README.md.in");
        assert!(readme.contains(PACKAGE));
    }
}
