//! `cargo xtask scorecard`: the figures are of the programs as people would run them, so it builds the release
//! profile; then it hands over to the scorecard of the test crate.

use anyhow::Result;

use crate::build::Profile;
use crate::project::Project;
use crate::{build, demo, setup};

pub fn run(project: &Project, only: &[String], json: bool, full: bool) -> Result<()> {
    setup::run(project)?;
    build::measured(project)?;
    let mut args = Vec::new();
    if !only.is_empty() {
        args.push(format!("--only={}", only.join(",")));
    }
    if json {
        args.push("--json".to_owned());
    }
    if full {
        args.push("--full".to_owned());
    }
    demo::hand_over(project, Profile::Release, "clawker-scorecard", args)
}
