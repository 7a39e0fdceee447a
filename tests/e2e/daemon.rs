//! The control plane as a daemon: what it refuses to start with, and how it ends.

use anyhow::{Context, Result, ensure};
use clawker_tests::host::Setup;
use clawker_tests::wait::PATIENCE;
use clawker_tests::{Host, Ran, bins, ran};

/// Runs a control plane of this host that should not come up.
fn refused(host: &Host, args: &[&str]) -> Result<Ran> {
    ran::run(
        host.control_plane_command(&bins::control_plane()?)?.args(args),
        PATIENCE,
    )
}

#[test]
fn a_configuration_with_an_unknown_key() -> Result<()> {
    let host = Setup::test()?.config("colour = \"red\"\n").prepare()?;
    let file = host.config_file().display().to_string();
    for args in [&["--check-config"][..], &[]] {
        let ran = refused(&host, args)?.failed(78, "colour")?;
        ensure!(ran.stderr.contains(&file), "the file isn't named: {ran:?}");
    }
    ensure!(!host.state_dir().exists(), "it began before it knew");
    Ok(())
}

#[test]
fn a_configuration_with_a_wrong_type() -> Result<()> {
    let host = Setup::test()?
        .config("[[plan]]\nplugin = \"welcome\"\ntimeout = \"long\"\n")
        .prepare()?;
    refused(&host, &["--check-config"])?.failed(78, "timeout").map(drop)
}

#[test]
fn a_configuration_that_is_not_there() -> Result<()> {
    let host = Setup::test()?.prepare()?;
    refused(&host, &["--state-dir", "relative"])?.failed(78, "state_dir")?;
    std::fs::remove_file(host.config_file())?;
    refused(&host, &[])?.failed(78, "control-plane.toml").map(drop)
}

#[test]
fn a_good_configuration() -> Result<()> {
    let host = Setup::test()?.prepare()?;
    refused(&host, &["--check-config"])?.ok()?;
    ensure!(!host.state_dir().exists(), "checking makes something");
    Ok(())
}

#[test]
fn a_plugin_that_is_not_there() -> Result<()> {
    let host = Setup::test()?.config("[[plan]]\nplugin = \"absent\"\n").prepare()?;
    refused(&host, &[])?.failed(69, "absent.wasm").map(drop)
}

#[test]
fn a_second_control_plane_on_the_same_state() -> Result<()> {
    let host = Host::start()?;
    let second = host.shared_dir().join("second.sock").display().to_string();
    let ran = refused(&host, &["--admin-socket", &second])?;
    ran.failed(73, &host.state_dir().display().to_string())?;
    host.cli(["status"])?.ok().map(drop)
}

#[test]
fn no_docker() -> Result<()> {
    let host = Setup::test()?.prepare()?;
    let nowhere = host.shared_dir().join("no-docker.sock").display().to_string();
    let text = std::fs::read_to_string(host.config_file())?;
    let text: Vec<String> = text
        .lines()
        .map(|line| match line.starts_with("docker_socket") {
            true => format!("docker_socket = {nowhere:?}"),
            false => line.to_owned(),
        })
        .collect();
    std::fs::write(host.config_file(), text.join("\n"))?;
    refused(&host, &[])?.failed(69, "no-docker.sock").map(drop)
}

#[test]
fn nobody_answers() -> Result<()> {
    let host = Setup::test()?.prepare()?;
    host.cli(["ps"])?.failed(75, "clawker up").map(drop)
}

#[test]
fn sigterm_leaves_containment_in_force() -> Result<()> {
    let mut host = Host::start()?;
    let listener = host.listener("l")?;
    let agent = host.agent("a").attempting()?.run()?;
    let container = agent.container()?;
    ensure!(agent.attempts(&container, &listener)?);
    agent.contain("lock-network")?;
    let status = host.stop_control_plane()?;
    ensure!(status.success(), "{status}");
    let agent = host.existing("a");
    ensure!(!agent.attempts(&container, &listener)?, "open after a SIGTERM");
    host.restart_control_plane()?;
    host.existing("a").expect_session()?;
    let broken = host.events().into_iter().find(|row| row.kind == "SessionBroken");
    ensure!(broken.is_none(), "a planned end is no broken session: {broken:?}");
    host.expect_event("ControlPlaneStopping", |_| true).map(drop)
}

#[test]
fn down_stops_the_agents() -> Result<()> {
    let mut host = Host::start()?;
    let agent = host
        .agent("a")
        .script("trap 'exit 0' TERM; while :; do sleep 0.1; done")
        .run()?;
    let container = agent.container()?;
    // Its parent is we: `down` waits until we have seen its end.
    let down = host.cli_in_background(["down", "--agents", "stop"])?;
    ensure!(host.control_plane_ended()?.success());
    down.finish(PATIENCE)?.ok()?;
    let state = host.docker.inspect(&container)?.context("the container")?["State"].clone();
    ensure!(state["Running"] == false, "{state}");
    Ok(())
}

#[test]
fn status_says_what_there_is() -> Result<()> {
    let host = Host::start()?;
    host.agent("a").run()?.expect_session()?;
    let status = host.cli(["status", "--json"])?.ok()?.objects()?.remove(0);
    ensure!(status["agents"] == 1 && status["sessions"] == 1, "{status}");
    ensure!(
        status["state_dir"] == host.state_dir().display().to_string(),
        "{status}"
    );
    let plugins: Vec<&str> = status["plugins"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| p["name"].as_str())
        .collect();
    ensure!(
        plugins.contains(&"welcome") && plugins.contains(&"egress-guard"),
        "{status}"
    );
    Ok(())
}
