//! The restart policy, which is ours and not Docker's.

use std::time::Duration;

use anyhow::{Result, ensure};
use clawker_tests::wait::{PATIENCE, throughout, until_true};
use clawker_tests::{Agent, Host};

const RUNS: &str = "echo started; trap 'exit 0' TERM; while :; do sleep 0.1; done";
const A_MOMENT: Duration = Duration::from_secs(2);

fn expect_start(agent: &Agent<'_>, number: u64) -> Result<()> {
    agent.expect("start", |view| view["status"] == "running" && view["start"] == number)?;
    until_true("its command", PATIENCE, || {
        Ok(agent.times_printed("started")? as u64 == number)
    })
}

fn stays_ended(agent: &Agent<'_>) -> Result<()> {
    agent.expect("status", |view| view["status"] == "exited")?;
    throughout("its end", A_MOMENT, || Ok(agent.view()?["status"] == "exited"))
}

#[test]
fn one_that_fails_is_started_again_as_often_as_allowed() -> Result<()> {
    let host = Host::start()?;
    let agent = host
        .agent("a")
        .script("echo started; sleep 0.2; exit 3")
        .option(["--restart", "on-failure:2"])
        .run()?;
    let given_up = host.expect_event("RestartsEnded", |row| row.body["by"] == "host")?;
    ensure!(
        given_up.body["why"]
            .as_str()
            .is_some_and(|why| why.contains("2 restarts")),
        "{given_up:?}"
    );
    stays_ended(&agent)?;
    ensure!(agent.times_printed("started")? == 3);
    let delays: Vec<u64> = host
        .events()
        .iter()
        .filter(|row| row.kind == "RestartPlanned")
        .filter_map(|row| row.body["delay_ms"].as_u64())
        .collect();
    ensure!(delays == [100, 200], "{delays:?}");
    // An operator's start begins the count anew.
    host.cli(["start", &agent.short()])?;
    until_true("three more", PATIENCE, || Ok(agent.times_printed("started")? == 6))
}

#[test]
fn one_that_ends_well_is_not_started_again_on_failure() -> Result<()> {
    let host = Host::start()?;
    let agent = host
        .agent("a")
        .script("echo started; sleep 0.2")
        .option(["--restart", "on-failure"])
        .run()?;
    stays_ended(&agent)?;
    ensure!(agent.times_printed("started")? == 1);
    Ok(())
}

/// As after a reboot: the containers are ended, and nobody has seen it.
#[test]
fn agents_that_ended_while_nobody_looked_come_back() -> Result<()> {
    let mut host = Host::start()?;
    let mut containers = Vec::new();
    for (name, policy) in [("no", "no"), ("always", "always"), ("unless", "unless-stopped")] {
        let agent = host.agent(name).script(RUNS).option(["--restart", policy]).run()?;
        containers.push(agent.container()?);
    }
    host.kill_control_plane()?;
    for container in &containers {
        host.docker.kill(container)?;
    }
    host.restart_control_plane()?;
    expect_start(&host.existing("always"), 2)?;
    expect_start(&host.existing("unless"), 2)?;
    stays_ended(&host.existing("no"))?;

    // An operator's stop ends it, for what always runs until the control plane begins anew.
    for name in ["always", "unless"] {
        host.cli(["stop", "--timeout", "3", &host.existing(name).short()])?
            .ok()?;
        stays_ended(&host.existing(name))?;
    }
    host.kill_control_plane()?;
    host.restart_control_plane()?;
    expect_start(&host.existing("always"), 3)?;
    stays_ended(&host.existing("unless"))
}

/// Planned in one life of the control plane, carried out in the next.
#[test]
fn a_restart_that_was_planned_outlives_the_control_plane() -> Result<()> {
    let mut host = Host::start()?;
    let script = "echo started; n=$(cat /work/n 2>/dev/null || echo 0); echo $((n+1)) >/work/n; \
                  [ $n -lt 5 ] && exit 1; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    host.agent("a")
        .script(script)
        .option(["--restart", "on-failure"])
        .run()?;
    host.expect_event("RestartPlanned", |row| row.body["restarts"] == 3)?;
    host.kill_control_plane()?;
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect("start", |view| view["status"] == "running" && view["start"] == 6)?;
    let planned: Vec<u64> = host
        .events()
        .iter()
        .filter(|row| row.kind == "RestartPlanned")
        .filter_map(|row| row.body["restarts"].as_u64())
        .collect();
    ensure!(planned == [1, 2, 3, 4, 5], "{planned:?}");
    Ok(())
}

#[test]
fn a_contained_agent_is_not_started_again() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script(RUNS).option(["--restart", "always"]).run()?;
    agent.contain("kill")?;
    let given_up = host.expect_event("RestartsEnded", |row| row.body["by"] == "host")?;
    ensure!(
        given_up.body["why"]
            .as_str()
            .is_some_and(|why| why.contains("contained")),
        "{given_up:?}"
    );
    stays_ended(&agent)?;
    ensure!(agent.times_printed("started")? == 1);
    Ok(())
}
