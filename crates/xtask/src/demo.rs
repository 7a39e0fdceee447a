//! `cargo xtask demo`: a machine that is ready, programs that are built, then the demo of the test crate.

use anyhow::Result;

use crate::project::Project;
use crate::run::Ended;
use crate::{build, run, setup};

pub fn run(project: &Project, json: bool) -> Result<()> {
    setup::run(project)?;
    build::programs(project)?;
    hand_over(
        project,
        build::Profile::Dev,
        "clawker-demo",
        json.then(|| "--json".to_owned()),
    )
}

/// Runs a program of ours in our place: its output is ours, its exit code too.
pub fn hand_over(
    project: &Project,
    profile: build::Profile,
    name: &str,
    args: impl IntoIterator<Item = String>,
) -> Result<()> {
    let program = project.program(profile.folder(), name);
    anyhow::ensure!(
        program.is_file(),
        "`{name}` is not built: no package has such a program"
    );
    let status = run::status(
        std::process::Command::new(program)
            .args(args)
            .current_dir(&project.root),
    )?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(Ended {
        code,
        why: format!("`{name}` ended with {status}"),
    }
    .into())
}
