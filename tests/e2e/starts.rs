//! The lives of a container: stop and start, Docker's own restart, and what holds from one to the next.

use anyhow::{Result, ensure};
use clawker_tests::Host;
use clawker_tests::wait::{PATIENCE, until_true};

const COUNTS: &str = "echo started; trap 'echo stopping; exit 0' TERM; while :; do sleep 0.1; done";

#[test]
fn stop_and_start() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script(COUNTS).run()?;
    agent.expect_log("started")?;
    host.cli(["stop", &agent.short()])?.ok()?;
    agent.expect_exited(0)?;
    ensure!(
        agent.times_printed("stopping")? == 1,
        "the command was not asked to stop"
    );
    host.cli(["start", &agent.short()])?.ok()?;
    agent.expect_session()?;
    until_true("a second start", PATIENCE, || Ok(agent.times_printed("started")? == 2))?;
    let view = agent.view()?;
    ensure!(view["start"] == 2 && view["trust"] == "trusted", "{view}");
    let untrusted = host.events().into_iter().find(|row| row.kind == "AgentUntrusted");
    ensure!(untrusted.is_none(), "{untrusted:?}");
    Ok(())
}

/// An identity that is read once and gone would leave the second start without one.
#[test]
fn docker_restart() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script(COUNTS).run()?;
    agent.expect_log("started")?;
    let container = agent.container()?;
    for start in 2..=3 {
        host.docker.restart(&container, 5)?;
        agent.expect("start", |view| view["start"] == start && view["trust"] == "trusted")?;
        until_true("its command to run again", PATIENCE, || {
            Ok(agent.times_printed("started")? == start)
        })?;
    }
    // The welcome step is one of each start.
    let greeting = agent.exec(["cat", "/etc/clawker-welcome"])?.ok()?.stdout;
    ensure!(greeting.contains("this is start 3"), "{greeting}");
    let row = host
        .events()
        .into_iter()
        .find(|row| row.kind == "AgentUntrusted" || row.kind == "SessionFailed");
    ensure!(row.is_none(), "{row:?}");
    Ok(())
}

/// At accept Docker's list still says `created` or `exited`; an agent must not be taken for an impostor for that.
#[test]
fn attestation_before_the_relist() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script(COUNTS).run()?;
    let container = agent.container()?;
    for start in 2..=6 {
        host.docker.stop(&container, 5)?;
        host.docker.start(&container)?;
        host.expect_event("AgentReadySent", |row| row.body["start"] == start)?;
    }
    let bad = host
        .events()
        .into_iter()
        .find(|row| ["AgentUntrusted", "SessionFailed"].contains(&row.kind.as_str()));
    ensure!(bad.is_none(), "{bad:?}");
    let registered = host
        .events()
        .iter()
        .filter(|row| row.kind == "AgentRegistered" && row.body["ok"] == true)
        .count();
    ensure!(registered == 6, "{registered} registrations for 6 starts");
    Ok(())
}

#[test]
fn clawker_restart_keeps_what_was_written() -> Result<()> {
    let host = Host::start()?;
    let agent = host
        .agent("a")
        .script("cat /work/kept 2>/dev/null; while :; do sleep 0.1; done")
        .run()?;
    agent.exec(["sh", "-c", "echo kept >/work/kept"])?.ok()?;
    host.cli(["restart", "--timeout", "1", &agent.short()])?.ok()?;
    agent.expect_log("kept")
}

#[test]
fn an_agent_that_ends_while_no_control_plane_runs() -> Result<()> {
    let mut host = Host::start()?;
    let agent = host
        .agent("a")
        .shared()
        .script("until [ -e /shared/end ]; do sleep 0.1; done; exit 7")
        .run()?;
    let container = agent.container()?;
    host.kill_control_plane()?;
    std::fs::write(host.shared_dir().join("end"), "")?;
    until_true("the container's end", PATIENCE, || {
        Ok(host
            .docker
            .inspect(&container)?
            .is_some_and(|inspect| inspect["State"]["Running"] == false))
    })?;
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect_exited(7)?;
    ensure!(agent.wait_exit()? == 7);
    Ok(())
}

#[test]
fn a_container_removed_behind_our_back_is_forgotten() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    host.docker.remove(&agent.container()?)?;
    host.expect_event("AgentRemoved", |row| row.agent == agent.full())?;
    ensure!(host.ps()?.is_empty());
    until_true("its run folder to be gone", PATIENCE, || {
        Ok(std::fs::read_dir(host.state_dir().join("run"))?.count() == 0)
    })?;
    // The name is free again, and one row is in the registry: the new one's.
    let again = host.agent("a").run()?;
    again.expect_session()?;
    let rows = crate::crash::registry(host)?;
    ensure!(rows.len() == 1, "{rows:?}");
    Ok(())
}
