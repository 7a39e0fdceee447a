//! The double of Docker's engine: the real control plane takes its agents for what they are, and is tried by it as no
//! real engine can be.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clawker_tests::host::Setup;
use clawker_tests::rig::proxy::{Mode, Proxy};
use clawker_tests::rig::{self, Rig};
use clawker_tests::wait::{PATIENCE, throughout, until_true};
use clawker_tests::{Agent, Docker, Host};

const PREFIX: &str = "clawker-e2e-rig-";

fn sleeper<'h>(host: &'h Host, name: &str) -> Result<Agent<'h>> {
    let agent = host.agent(name).image(rig::IMAGE).command(["sleep", "100000"]).run()?;
    agent.expect_session()?;
    Ok(agent)
}

#[test]
fn agents_of_a_rig_are_attested_and_contained_by_the_real_code() -> Result<()> {
    let rig = Rig::start(PREFIX)?;
    let host = Setup::test()?.engine(&rig.docker).start()?;
    let agent = sleeper(&host, "a")?;
    host.expect_event("AgentRegistered", |row| {
        row.agent == agent.full() && row.body["ok"] == true
    })?;
    agent.exec(["true"])?.ok()?;
    agent.contain("lock-network")?;
    host.expect_locked("a")?;
    agent.contain("freeze")?;
    agent.expect_containment("frozen")?;
    agent.release()?;
    host.cli(["restart", &agent.short()])?.ok()?;
    agent.expect_session()?;
    host.cli(["rm", "--force", &agent.short()])?.ok()?;
    ensure!(rig.docker.all_containers()?.is_empty(), "the container is still there");
    Ok(())
}

#[test]
fn what_happens_while_docker_answers_nothing_is_known_when_it_does() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let rig = Rig::start(PREFIX)?;
    let dir = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
    let socket = dir.path().join("docker.sock");
    let proxy = {
        let _entered = runtime.enter();
        Proxy::start(&socket, &rig.docker.socket)?
    };
    let host = Setup::test()?.engine(&Docker { socket }).start()?;
    let (kept, killed, removed) = (
        sleeper(&host, "kept")?,
        sleeper(&host, "killed")?,
        sleeper(&host, "removed")?,
    );
    let containers = [kept.container()?, killed.container()?, removed.container()?];

    proxy.set(Mode::Stalling(Duration::from_millis(20)));
    rig.docker.request("POST", "/rig/burst?count=5000", None)?;
    proxy.set(Mode::Hung);
    rig.docker.kill(&containers[1])?;
    rig.docker.remove(&containers[2])?;
    // Sessions and containment aren't Docker's: they go on.
    throughout("the session of the one that was kept", Duration::from_secs(3), || {
        Ok(kept.exec(["true"])?.code == 0)
    })?;
    kept.contain("lock-network")?;
    proxy.set(Mode::Passing);

    until_true("the control plane to know", PATIENCE, || {
        let seen: BTreeMap<String, String> = host
            .ps()?
            .iter()
            .filter_map(|view| {
                Some((
                    view["container_id"].as_str()?.to_owned(),
                    view["status"].as_str()?.to_owned(),
                ))
            })
            .collect();
        let wanted = [
            (containers[0].clone(), "running".to_owned()),
            (containers[1].clone(), "exited".to_owned()),
        ];
        ensure!(seen == wanted.into(), "it has {seen:?}");
        Ok(true)
    })
    .with_context(|| host.log_tail())
}
