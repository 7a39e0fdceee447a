//! `cargo xtask fuzz`: the long form of the test `fuzz`, from a beginning of its own.

use anyhow::Result;

use crate::project::Project;
use crate::{run, setup};

pub fn run(project: &Project, target: Option<&str>, seconds: u32) -> Result<()> {
    setup::run(project)?;
    let test = "every_parser_answers_whatever_it_is_given";
    run::ok(
        project
            .cargo()
            .args([
                "test",
                "--workspace",
                "--test",
                "fuzz",
                "--",
                test,
                "--exact",
                "--nocapture",
            ])
            .env("CLAWKER_FUZZ_TARGET", target.unwrap_or_default())
            .env("CLAWKER_FUZZ_SECONDS", seconds.to_string()),
    )
}
