//! No control plane at a start, or none any more: what an agent does then, and what the one that comes back makes of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clawker_tests::Host;
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, throughout, until_true};

/// Writes on, as long as it runs.
const BUSY: &str = "echo started; trap 'exit 0' TERM; while :; do echo x >>/work/out; sleep 0.05; done";
/// The lease of hosts whose leases run out, and longer than that.
const LEASE: u32 = 4;
const LONGER: Duration = Duration::from_secs(7);

/// What a container has written so far; needs no control plane.
fn written(host: &Host, container: &str) -> Result<u64> {
    let inspect = host.docker.inspect(container)?.context("the container")?;
    let pid = inspect["State"]["Pid"].as_i64().unwrap_or(0);
    ensure!(pid > 0, "it doesn't run");
    Ok(std::fs::metadata(format!("/proc/{pid}/root/work/out")).map_or(0, |file| file.len()))
}

fn expect_writing(host: &Host, container: &str) -> Result<()> {
    let before = written(host, container)?;
    until_true("it to write on", PATIENCE, || Ok(written(host, container)? > before))
}

fn expect_held(host: &Host, container: &str) -> Result<()> {
    until_true("it to be held", PATIENCE, || {
        let before = written(host, container)?;
        let held = throughout("the freeze", Duration::from_millis(400), || {
            Ok(written(host, container)? == before)
        });
        Ok(held.is_ok())
    })
}

fn expect_said(host: &Host, container: &str, text: &str, times: usize) -> Result<()> {
    until_true(&format!("{text:?}, {times} times"), PATIENCE, || {
        let logs = host.docker.logs(container)?;
        ensure!(logs.matches(text).count() >= times, "it said\n{logs}");
        Ok(true)
    })
}

fn expect_ended(host: &Host, container: &str) -> Result<i64> {
    until_true("the container's end", PATIENCE, || {
        let inspect = host.docker.inspect(container)?.context("the container")?;
        Ok(inspect["State"]["Running"] == false)
    })?;
    let inspect = host.docker.inspect(container)?.context("the container")?;
    inspect["State"]["ExitCode"].as_i64().context("an exit code")
}

/// `clawker down`, whose child we are not: its end is ours to see.
fn down(host: &mut Host, agents: &str) -> Result<()> {
    let down = host.cli_in_background(["down", "--agents", agents])?;
    ensure!(host.control_plane_ended()?.success());
    down.finish(PATIENCE)?.ok().map(drop)
}

#[test]
fn a_start_without_a_control_plane_waits_for_one_and_then_goes_on() -> Result<()> {
    let mut host = Host::start()?;
    let container = host.agent("a").script(BUSY).run()?.container()?;
    host.kill_control_plane()?;
    host.docker.restart(&container, 2)?;
    expect_said(&host, &container, "waiting for the control plane", 1)?;
    ensure!(!host.docker.logs(&container)?.contains("no control plane came"));
    expect_said(&host, &container, "started", 1)?;
    let before = host.docker.logs(&container)?.matches("started").count();
    ensure!(before == 1, "the command ran without a control plane");
    host.restart_control_plane()?;
    host.existing("a").expect_session()?;
    expect_said(&host, &container, "started", 2)?;
    let untrusted = host.events().into_iter().find(|row| row.kind == "AgentUntrusted");
    ensure!(untrusted.is_none(), "{untrusted:?}");
    Ok(())
}

#[test]
fn a_start_without_a_control_plane_gives_up_at_its_deadline_and_is_started_again_by_the_next() -> Result<()> {
    let mut host = Host::start()?;
    let agent = host
        .agent("a")
        .script(BUSY)
        .option(["--on-absent", "await:4"])
        .option(["--restart", "on-failure"]);
    let container = agent.run()?.container()?;
    host.kill_control_plane()?;
    host.docker.restart(&container, 2)?;
    ensure!(expect_ended(&host, &container)? == 75);
    expect_said(&host, &container, "giving up in", 1)?;
    host.restart_control_plane()?;
    host.expect_event("RestartPlanned", |row| row.body["code"] == 75)?;
    host.existing("a").expect_session()?;
    expect_said(&host, &container, "started", 2)
}

#[test]
fn defaults_run_without_a_control_plane_and_the_next_one_says_so() -> Result<()> {
    let mut host = Host::start()?;
    let agent = host
        .agent("a")
        .script(BUSY)
        .option(["--on-absent", "defaults:2", "--unverified-network"]);
    let container = agent.run()?.container()?;
    host.kill_control_plane()?;
    host.docker.restart(&container, 2)?;
    expect_said(&host, &container, "the command runs unprepared", 1)?;
    expect_said(&host, &container, "started", 2)?;
    expect_writing(&host, &container)?;
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect("trust", |view| view["trust"] == "init_bypassed")?;
    host.expect_event("AgentUntrusted", |row| row.body["reason"] == "init_bypassed")?;
    // What began outside of `agent` is held like anything else.
    agent.contain("freeze")?;
    expect_held(&host, &container)?;
    agent.release()?;
    expect_writing(&host, &container)?;
    // An ordinary start is trusted again.
    host.cli(["restart", "--timeout", "2", &agent.short()])?.ok()?;
    agent.expect_session()
}

#[test]
fn defaults_without_a_word_for_the_network_are_refused() -> Result<()> {
    let host = Host::start()?;
    let image = host.busybox()?;
    let ran = host.cli(["run", "-d", "--on-absent", "defaults:2", &image])?;
    ran.failed(2, "--unverified-network").map(drop)?;
    ensure!(host.ps()?.is_empty());
    Ok(())
}

#[test]
fn a_lease_that_ran_out_is_journaled_and_only_its_own_freeze_is_undone() -> Result<()> {
    let mut host = Setup::test()?.lease_seconds(LEASE).start()?;
    let free = host.agent("free").script(BUSY).run()?.container()?;
    let frozen = host.agent("frozen").script(BUSY).run()?.container()?;
    host.existing("frozen").contain("freeze")?;
    host.kill_control_plane()?;
    for container in [&free, &frozen] {
        expect_said(&host, container, "no word from the control plane", 1)?;
        expect_held(&host, container)?;
    }
    host.restart_control_plane()?;
    for name in ["free", "frozen"] {
        let full = host.existing(name).full();
        host.expect_event("LeaseLost", |row| row.agent == full && row.body["then"] == "freeze")?;
        host.existing(name).expect_session()?;
    }
    expect_writing(&host, &free)?;
    host.existing("frozen").expect_containment("frozen")?;
    expect_held(&host, &frozen)?;
    host.existing("frozen").release()?;
    expect_writing(&host, &frozen)
}

#[test]
fn an_orphan_does_what_its_creator_said() -> Result<()> {
    let mut host = Host::start()?;
    let stops = host
        .agent("stops")
        .script("trap 'echo in order; exit 3' TERM; while :; do sleep 0.1; done")
        .option(["--on-orphan", "stop:4"]);
    let stops = stops.run()?.container()?;
    let goes_on = host.agent("on").script(BUSY).option(["--on-orphan", "continue:4"]);
    let goes_on = goes_on.run()?.container()?;
    host.kill_control_plane()?;
    ensure!(expect_ended(&host, &stops)? == 3);
    expect_said(&host, &stops, "in order", 1)?;
    expect_said(&host, &goes_on, "going on without", 1)?;
    expect_writing(&host, &goes_on)?;
    host.restart_control_plane()?;
    host.existing("stops").expect_exited(3)?;
    host.existing("on").expect_session()?;
    host.expect_event("LeaseLost", |row| {
        row.body["then"] == "continue" && row.body["seconds"] == 4
    })
    .map(drop)
}

/// Nobody is there to end what a killed init waits for; whoever comes does.
#[test]
fn docker_kill_of_a_frozen_orphan() -> Result<()> {
    let mut host = Setup::test()?.lease_seconds(LEASE).start()?;
    let container = host.agent("a").script(BUSY).run()?.container()?;
    host.kill_control_plane()?;
    expect_held(&host, &container)?;
    // Docker may give up waiting and say so.
    let _ = host.docker.kill(&container);
    host.restart_control_plane()?;
    expect_ended(&host, &container)?;
    host.existing("a").expect("status", |view| view["status"] == "exited")
}

#[test]
fn docker_stop_of_a_frozen_orphan() -> Result<()> {
    let mut host = Setup::test()?.lease_seconds(LEASE).start()?;
    let container = host.agent("a").script(BUSY).run()?.container()?;
    host.kill_control_plane()?;
    expect_held(&host, &container)?;
    host.docker.stop(&container, 3)?;
    expect_ended(&host, &container).map(drop)
}

#[test]
fn down_leave_takes_the_limit_off_the_lease() -> Result<()> {
    let mut host = Setup::test()?.lease_seconds(LEASE).start()?;
    let container = host.agent("a").script(BUSY).run()?.container()?;
    down(&mut host, "leave")?;
    throughout("its supervision", LONGER, || {
        Ok(!host.docker.logs(&container)?.contains("no word"))
    })?;
    expect_writing(&host, &container)?;
    host.restart_control_plane()?;
    host.existing("a").expect_session()
}

#[test]
fn down_freeze_holds_the_agents_until_they_are_released() -> Result<()> {
    let mut host = Host::start()?;
    let container = host.agent("a").script(BUSY).run()?.container()?;
    down(&mut host, "freeze")?;
    expect_held(&host, &container)?;
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect_session()?;
    agent.expect_containment("frozen")?;
    expect_held(&host, &container)?;
    agent.release()?;
    expect_writing(&host, &container)
}

#[test]
fn a_planned_restart_gives_agents_ten_minutes() -> Result<()> {
    let mut host = Setup::test()?.lease_seconds(LEASE).start()?;
    let container = host.agent("a").script(BUSY).run()?.container()?;
    ensure!(host.stop_control_plane()?.success());
    throughout("its running", LONGER, || {
        Ok(!host.docker.logs(&container)?.contains("no word"))
    })?;
    expect_writing(&host, &container)?;
    host.restart_control_plane()?;
    host.existing("a").expect_session()?;
    let lost = host.events().into_iter().find(|row| row.kind == "LeaseLost");
    ensure!(lost.is_none(), "{lost:?}");
    Ok(())
}
