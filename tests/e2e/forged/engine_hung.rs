//! A Docker that has stopped answering while agents register: nobody is distrusted for it, nobody is forgotten.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clawker_tests::host::Setup;
use clawker_tests::rig::proxy::{Mode, Proxy};
use clawker_tests::wait::{PATIENCE, throughout, until_true};
use clawker_tests::{Agent, Docker};

use super::rows;

/// So many real containers register at once; the scorecard's rig does it with 200 and without an engine.
const AGENTS: usize = 20;

#[test]
fn docker_hung_while_agents_register() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let engine = Docker::of_this_host()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let proxy = Proxy::start(&dir.path().join("docker.sock"), &engine.socket)?;
    drop(entered);
    let hanging = Docker {
        socket: proxy.socket.clone(),
    };
    let host = Setup::test()?.engine(&hanging).start()?;
    let known = host.agent("known").run()?;
    known.expect_session()?;
    let agents: Vec<Agent<'_>> = (0..AGENTS)
        .map(|n| host.agent(&format!("a{n}")).run())
        .collect::<Result<_>>()?;
    let containers: Vec<String> = agents.iter().map(Agent::container).collect::<Result<_>>()?;
    for container in &containers {
        engine.kill(container)?;
    }
    for agent in &agents {
        agent.expect("end", |view| view["status"] == "exited")?;
    }
    let mark = host.mark();

    proxy.set(Mode::Hung);
    for container in &containers {
        engine.start(container)?;
    }
    // Each init connects, and who it is can't be known without the engine. Whoever is known needs no engine.
    throughout("a session that needs no engine", Duration::from_secs(4), || {
        let began = Instant::now();
        known.exec(["true"])?.ok()?;
        ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let new = |kind: &str| {
            host.events()
                .iter()
                .filter(|row| row.seq > mark && row.kind == kind)
                .count()
        };
        ensure!(new("BundleIssued") == 0, "an identity for somebody who can't be known");
        Ok(new("AgentUntrusted") == 0)
    })?;

    proxy.set(Mode::Passing);
    for agent in &agents {
        agent.expect_session()?;
        until_true("its registration", PATIENCE, || {
            let after = |kind: &str| {
                rows(&host, agent, kind)
                    .into_iter()
                    .filter(|row| row.seq > mark)
                    .count()
            };
            let once = after("AgentRegistered") == 1 && after("RegistryRowWritten") == 1;
            Ok(once && after("BundleIssued") == 1)
        })?;
        ensure!(
            rows(&host, agent, "AgentUntrusted").is_empty(),
            "{} is distrusted",
            agent.name
        );
    }
    known.expect_session()
}
