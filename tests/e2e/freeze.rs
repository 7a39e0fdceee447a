//! The processes axis: frozen, stopped, killed, and out of each state again.

use std::time::Duration;

use anyhow::{Result, ensure};
use clawker_tests::wait::{PATIENCE, throughout, until_true};
use clawker_tests::{Agent, Host};

/// Writes on, as long as it runs; a child and a grandchild of it do, too.
const BUSY: &str = "loop() { while :; do echo x >>/work/$1; sleep 0.05; done; }; \
                    loop main & sh -c 'while :; do echo x >>/work/child; sleep 0.05; done' & \
                    trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn busy<'h>(host: &'h Host, name: &str) -> Result<Agent<'h>> {
    host.agent(name).script(BUSY).run()
}

/// Bytes written so far, read by the way of this machine: an exec would be frozen as well.
fn written(agent: &Agent<'_>) -> Result<u64> {
    let root = format!("/proc/{}/root/work", agent.init_pid()?);
    let size = |name: &str| std::fs::metadata(format!("{root}/{name}")).map_or(0, |file| file.len());
    Ok(size("main") + size("child"))
}

fn frozen_since(agent: &Agent<'_>) -> Result<()> {
    let before = written(agent)?;
    throughout("the freeze", Duration::from_millis(500), || {
        Ok(written(agent)? == before)
    })
}

fn expect_writing(agent: &Agent<'_>) -> Result<()> {
    let before = written(agent)?;
    until_true("it to write on", PATIENCE, || Ok(written(agent)? > before))
}

fn expect_dead(agent: &Agent<'_>) -> Result<()> {
    let container = agent.container()?;
    until_true("the container's end", PATIENCE, || {
        Ok(agent
            .host
            .docker
            .inspect(&container)?
            .is_some_and(|inspect| inspect["State"]["Running"] == false))
    })
}

#[test]
fn freeze_and_release_with_read_back() -> Result<()> {
    let host = Host::start()?;
    let agent = busy(&host, "a")?;
    expect_writing(&agent)?;
    let frozen = agent.contain("freeze")?;
    ensure!(
        frozen["in_force"]
            .as_str()
            .is_some_and(|state| state.contains("frozen")),
        "{frozen}"
    );
    ensure!(
        frozen["read_back"].as_str().is_some_and(|read| !read.is_empty()),
        "{frozen}"
    );
    frozen_since(&agent)?;
    let view = agent.view()?;
    ensure!(
        view["session"] == "connected" || view["session"] == "frozen",
        "its clawkerd must answer: {view}"
    );
    agent.release()?;
    expect_writing(&agent)
}

/// On cgroup v1 nobody dies while he is frozen.
#[test]
fn kill_of_a_frozen_agent() -> Result<()> {
    let host = Host::start()?;
    let agent = busy(&host, "a")?;
    agent.contain("freeze")?;
    agent.contain("kill")?;
    expect_dead(&agent)?;
    agent.expect("status", |view| view["status"] == "exited")
}

#[test]
fn stop_of_a_frozen_agent() -> Result<()> {
    let host = Host::start()?;
    let agent = busy(&host, "a")?;
    agent.contain("freeze")?;
    host.cli(["stop", "--timeout", "3", &agent.short()])?.ok()?;
    expect_dead(&agent)
}

/// Somebody uses Docker himself: PID 1 ends what is frozen before it leaves.
#[test]
fn docker_stop_of_a_frozen_agent() -> Result<()> {
    let host = Host::start()?;
    let agent = busy(&host, "a")?;
    agent.contain("freeze")?;
    host.docker.stop(&agent.container()?, 3)?;
    expect_dead(&agent)
}

/// Docker kills PID 1, which then waits in the kernel for its frozen children: the control plane must end those.
#[test]
fn docker_kill_of_a_frozen_agent() -> Result<()> {
    let host = Host::start()?;
    let agent = busy(&host, "a")?;
    agent.contain("freeze")?;
    let container = agent.container()?;
    // Docker may give up waiting and say so; what counts is that the container ends.
    let _ = host.docker.kill(&container);
    expect_dead(&agent)
}

#[test]
fn removal_of_a_frozen_agent() -> Result<()> {
    let host = Host::start()?;
    let agent = busy(&host, "a")?;
    agent.contain("freeze")?;
    host.cli(["rm", "--force", &agent.short()])?.ok()?;
    until_true("it to be gone", PATIENCE, || Ok(host.ps()?.is_empty()))
}

#[test]
fn a_restarted_agent_is_frozen_before_it_runs() -> Result<()> {
    let host = Host::start()?;
    let agent = host
        .agent("a")
        .script("echo started; while :; do sleep 0.1; done")
        .run()?;
    agent.expect_log("started")?;
    agent.contain("freeze")?;
    host.docker.restart(&agent.container()?, 2)?;
    agent.expect("start", |view| view["start"] == 2)?;
    agent.expect_containment("frozen")?;
    throughout("the freeze", Duration::from_secs(1), || {
        Ok(agent.times_printed("started")? == 1)
    })?;
    agent.release()?;
    until_true("its command", PATIENCE, || Ok(agent.times_printed("started")? == 2))
}

#[test]
fn a_freeze_outlives_the_control_plane() -> Result<()> {
    let mut host = Host::start()?;
    busy(&host, "a")?.contain("freeze")?;
    let init = host.existing("a").init_pid()?;
    host.kill_control_plane()?;
    let size = || std::fs::metadata(format!("/proc/{init}/root/work/main")).map_or(0, |file| file.len());
    let before = size();
    throughout("the freeze", Duration::from_secs(1), || Ok(size() == before))?;
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect_containment("frozen")?;
    frozen_since(&agent)?;
    agent.release()?;
    expect_writing(&agent)
}

#[test]
fn stop_lets_the_command_put_things_in_order() -> Result<()> {
    let host = Host::start()?;
    let agent = host
        .agent("a")
        .script("trap 'echo in order; exit 3' TERM; while :; do sleep 0.1; done")
        .run()?;
    agent.contain("stop")?;
    expect_dead(&agent)?;
    agent.expect_log("in order")?;
    agent.expect_exited(3)
}

/// The lease: without a control plane an agent is held, and the one that comes back lets it go again.
#[test]
fn an_orphan_is_frozen_and_comes_back() -> Result<()> {
    let mut host = clawker_tests::host::Setup::test()?.lease_seconds(4).start()?;
    busy(&host, "a")?;
    let init = host.existing("a").init_pid()?;
    host.kill_control_plane()?;
    let size = || std::fs::metadata(format!("/proc/{init}/root/work/main")).map_or(0, |file| file.len());
    until_true("the lease to run out", PATIENCE, || {
        let before = size();
        std::thread::sleep(Duration::from_millis(400));
        Ok(size() == before)
    })?;
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect_session()?;
    expect_writing(&agent)
}
