//! `cargo xtask test`: everything that CI runs, as phases; the first that fails ends it. The tests' own closing lines
//! come last. What a failure or a Ctrl-C leaves behind is removed, what a good run leaves behind is a failure.

use std::process::Command;

use anyhow::Result;

use crate::leftovers::Traces;
use crate::project::{Project, which};
use crate::say::{say, timed};
use crate::{build, demo, run, setup};

pub fn run(project: &Project) -> Result<()> {
    timed("test", "set-up", || setup::run(project))?;
    let before = Traces::now(project)?;
    let outcome = phases(project);
    let left = before.what_came_since(project)?;
    if outcome.is_err() {
        left.remove();
        return outcome;
    }
    if !left.is_empty() {
        left.remove();
        anyhow::bail!("the tests passed, but left behind:\n  {left}");
    }
    Ok(())
}

fn phases(project: &Project) -> Result<()> {
    timed("test", "formatting", || formatting(project))?;
    timed("test", "plugins", || build::guests(project))?;
    build::clawkerd(project)?;
    build::programs_and_tests(project)?;
    timed("test", "clippy", || {
        run::ok(project.cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            // What only the scorecard builds is checked all the same.
            "--features=clawker-tests/scorecard,clawker-plugin-host/bench",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    deny(project)?;
    timed("test", "tests in documentation", || {
        run::ok(project.cargo().args(["test", "--doc", "--workspace"]))
    })?;
    guest_tests(project)?;
    // What a newcomer runs first is not to rot.
    timed("test", "the demo", || {
        demo::hand_over(project, build::Profile::Dev, "clawker-demo", None)
    })?;
    say("test", "the tests …");
    run::ok(&mut tests(project))
}

fn formatting(project: &Project) -> Result<()> {
    run::ok(project.cargo().args(["fmt", "--all", "--check"]))?;
    if project.root.join("plugins/Cargo.toml").is_file() {
        run::ok(
            project
                .cargo()
                .args(["fmt", "--all", "--check", "--manifest-path", "plugins/Cargo.toml"]),
        )?;
    }
    Ok(())
}

/// Licences, bans and sources; advisories where their database can be had.
fn deny(project: &Project) -> Result<()> {
    if which("cargo-deny").is_none() {
        say(
            "test",
            "cargo-deny isn't installed: licences, bans, sources and advisories are not checked in this run",
        );
        return Ok(());
    }
    timed("test", "licences, bans and sources", || {
        run::ok(project.cargo().args([
            "deny",
            "--workspace",
            "--offline",
            "check",
            "bans",
            "licenses",
            "sources",
        ]))
    })?;
    let advisories = timed("test", "advisories", || {
        run::status(project.cargo().args(["deny", "--workspace", "fetch", "db"]))
    })?;
    if !advisories.success() {
        say(
            "test",
            "the advisories' database can't be had: advisories are not checked in this run",
        );
        return Ok(());
    }
    run::ok(
        project
            .cargo()
            .args(["deny", "--workspace", "--offline", "check", "advisories"]),
    )
}

/// The plugins' own tests, on the host.
fn guest_tests(project: &Project) -> Result<()> {
    if !project.root.join("plugins/Cargo.toml").is_file() {
        say("test", "no plugins yet, so no tests of theirs");
        return Ok(());
    }
    timed("test", "tests of the plugins", || {
        run::ok(
            project
                .cargo()
                .args(["test", "--workspace", "--manifest-path", "plugins/Cargo.toml"])
                .arg("--target-dir")
                .arg(project.ours().join("guest-tests")),
        )
    })
}

fn tests(project: &Project) -> Command {
    let mut cargo = project.cargo();
    if which("cargo-nextest").is_some() {
        cargo.args(["nextest", "run", "--workspace", "--no-tests=pass"]);
        if std::env::var_os("CI").is_some() {
            cargo.args(["--profile", "ci"]);
        }
    } else {
        say(
            "test",
            "cargo-nextest isn't installed: using cargo test, one test binary after the other",
        );
        cargo.args(["test", "--workspace", "--all-targets"]);
    }
    cargo
}
