//! Processes that aren't the container's init, on both sockets: the kernel says so, before anything else is looked at.
//! The container whose sockets they are is locked, whoever it was that came.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clawker_tests::forged::{Forged, Unlike};
use clawker_tests::wait::{PATIENCE, until_true};
use clawker_tests::{Agent, Host, Ran, bins, ran};
use serde_json::{Value, json};

use super::{expect_quarantined, expect_untrusted, rows, said};

/// What both attempts of the adversary's `connect` came to: nothing.
fn expect_refused(tried: &[Value]) -> Result<()> {
    ensure!(tried.len() == 2, "{tried:?}");
    ensure!(
        tried[0]["session"].is_null() && tried[0]["why"].is_string(),
        "{tried:?}"
    );
    ensure!(tried[1]["registered"] == false, "{tried:?}");
    Ok(())
}

/// The honest agent is locked, and neither loses its session nor its trust by what somebody else did.
fn expect_only_locked(host: &Host, agent: &Agent<'_>) -> Result<()> {
    expect_untrusted(host, agent, "peer_mismatch")?;
    expect_quarantined(host, agent)?;
    agent.expect_session()?;
    agent.exec(["true"])?.ok()?;
    ensure!(
        rows(host, agent, "RegistryRowWritten").len() == 1,
        "another row was written"
    );
    ensure!(
        rows(host, agent, "BundleIssued").len() == 1,
        "another identity was issued"
    );
    Ok(())
}

/// Every attempt on each socket is a row: there were as many as `sockets`.
fn expect_mismatches(host: &Host, agent: &Agent<'_>, sockets: usize) -> Result<()> {
    until_true("each connection to be journaled", PATIENCE, || {
        Ok(rows(host, agent, "AgentUntrusted").len() == sockets)
    })
}

/// The adversary as a process of this machine, root like the control plane itself.
fn connects_from_the_host(run: &Path) -> Result<Ran> {
    let adversary = bins::adversary_dir()?.join(bins::ADVERSARY);
    // A path that fits into a socket's address, as the container's own does.
    ran::run(
        Command::new(adversary).current_dir(run).args(["connect", "."]),
        PATIENCE,
    )
}

#[test]
fn second_process_registering() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").adversary()?.run()?;
    agent.expect_session()?;
    let tried = agent.exec_as_root(["/adversary/forged-clawkerd", "connect"])?.ok()?;
    expect_refused(&tried.objects()?)?;
    expect_mismatches(&host, &agent, 2)?;
    expect_only_locked(&host, &agent)
}

/// The last of its NSpids is 1, as an init's is.
#[test]
fn pid_1_of_a_namespace_inside_of_the_container() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").adversary()?.run()?;
    agent.expect_session()?;
    // An agent may not make namespaces, so root of this machine enters its container and makes one there.
    let pid = agent.init_pid()?.to_string();
    let tried = ran::run(
        Command::new("nsenter")
            .args(["--target", &pid, "--mount", "--pid", "--"])
            .args(["/adversary/forged-clawkerd", "nested"]),
        PATIENCE,
    )?;
    expect_refused(&tried.ok()?.objects()?)?;
    expect_mismatches(&host, &agent, 2)?;
    expect_only_locked(&host, &agent)
}

#[test]
fn process_of_the_host_on_both_sockets() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    agent.expect_session()?;
    expect_refused(&connects_from_the_host(&agent.run_folder()?)?.ok()?.objects()?)?;
    expect_mismatches(&host, &agent, 2)?;
    expect_only_locked(&host, &agent)
}

/// Init of its own container, with the agent's run folder mounted.
#[test]
fn init_of_another_container_with_the_agents_run_folder() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    agent.expect_session()?;
    let run = agent.run_folder()?;
    let unlike = Unlike {
        run: run.file_name().and_then(|name| name.to_str()).map(str::to_owned),
        ..Unlike::default()
    };
    let forged = Forged::create(&host, "f", "192.0.2.1:9", &unlike)?;
    host.docker.start(&forged.container)?;
    expect_only_locked(&host, &agent)?;
    let said = forged.said()?;
    ensure!(
        said.iter().all(|said| said["preamble"].is_null()),
        "it got an answer: {said:?}"
    );
    ensure!(host.ps()?.len() == 1, "somebody listens to it");
    Ok(())
}

/// The same network doesn't make it the same agent, and whoever shares a network shares its lock.
#[test]
fn stranger_in_the_agents_network_namespace() -> Result<()> {
    let host = Host::start()?;
    let target = host.reachable()?;
    let agent = host.agent("a").run()?;
    agent.expect_session()?;
    let unlike = Unlike {
        network_of: Some(agent.container()?),
        ..Unlike::default()
    };
    let forged = Forged::create(&host, "f", &target.address(), &unlike)?;
    host.docker.start(&forged.container)?;
    expect_untrusted(&host, &forged.agent, "chain_invalid")?;
    forged.agent.expect_containment("locked")?;
    host.expect_event("NetnsShared", |row| row.agent == agent.full())?;
    agent.expect_containment("locked")?;
    let (before, _) = forged.reaches()?;
    until_true("its attempts to fail", PATIENCE, || {
        let (count, reached) = forged.reaches()?;
        Ok(count > before + 4 && !reached)
    })?;
    ensure!(forged.bundles()? == 0, "it was given an identity");
    agent.expect_session()
}

/// It sees the agent's PID 1 as its own, and isn't it.
#[test]
fn init_of_a_container_in_the_agents_pid_namespace() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    agent.expect_session()?;
    let run = agent.run_folder()?;
    let unlike = Unlike {
        run: run.file_name().and_then(|name| name.to_str()).map(str::to_owned),
        processes_of: Some(agent.container()?),
        ..Unlike::default()
    };
    let forged = Forged::create(&host, "f", "192.0.2.1:9", &unlike)?;
    host.docker.start(&forged.container)?;
    expect_only_locked(&host, &agent)?;
    ensure!(forged.said()?.iter().all(|said| said["preamble"].is_null()));
    Ok(())
}

/// A stranger in the pid namespace of an agent, with a run folder of its own: its pid isn't 1 there.
#[test]
fn stranger_whose_init_is_not_pid_1() -> Result<()> {
    let host = Host::start()?;
    let target = host.reachable()?;
    let agent = host.agent("a").run()?;
    let unlike = Unlike {
        processes_of: Some(agent.container()?),
        ..Unlike::default()
    };
    let forged = Forged::create(&host, "f", &target.address(), &unlike)?;
    host.docker.start(&forged.container)?;
    expect_untrusted(&host, &forged.agent, "peer_mismatch")?;
    expect_quarantined(&host, &forged.agent)?;
    until_true("its attempts to fail", PATIENCE, || Ok(!forged.reaches()?.1))?;
    ensure!(forged.said()?.iter().all(|said| said["preamble"].is_null()));
    agent.expect_session()
}

/// The number of a dead init says nothing about who has it now.
#[test]
fn process_with_the_pid_of_an_init_that_died() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    agent.expect_session()?;
    let (container, run, pid) = (agent.container()?, agent.run_folder()?, agent.init_pid()?);
    host.docker.kill(&container)?;
    until_true("the init's number to be free", PATIENCE, || {
        Ok(!Path::new(&format!("/proc/{pid}")).exists())
    })?;
    let adversary = bins::adversary_dir()?.join(bins::ADVERSARY);
    let reused = ran::start(
        Command::new(adversary)
            .current_dir(&run)
            .args(["as-pid", &pid.to_string(), "."]),
    )?;
    host.docker.start(&container)?;
    let row = expect_untrusted(&host, &agent, "peer_mismatch")?;
    let detail = row.body["detail"].as_str().unwrap_or_default();
    ensure!(detail.starts_with(&format!("process {pid} connected")), "{row:?}");
    expect_refused(&reused.finish(PATIENCE)?.ok()?.objects()?)?;
    expect_quarantined(&host, &agent)?;
    agent.expect_session()
}

/// A copy of an agent, made from its image and configuration by somebody with the engine's socket.
#[test]
fn clone_of_a_container_with_its_labels_and_its_run_folder() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    agent.expect_session()?;
    let original = agent.inspect()?;
    let body = json!({
        "Image": original["Config"]["Image"],
        "Hostname": original["Config"]["Hostname"],
        "User": "0:0",
        "Entrypoint": original["Config"]["Entrypoint"],
        "Cmd": original["Config"]["Cmd"],
        "Labels": original["Config"]["Labels"],
        "HostConfig": {"NetworkMode": host.network(), "Mounts": original["HostConfig"]["Mounts"], "Binds": original["HostConfig"]["Binds"]},
    });
    let clone = host.docker.create(&format!("{}-clone", agent.full()), &body)?;
    host.docker.start(&clone)?;
    // Real clawkerd, real labels, and yet not this agent's container.
    expect_untrusted(&host, &agent, "peer_mismatch")?;
    host.expect_event("AgentUntrusted", |row| row.body["reason"] == "label_mismatch")?;
    expect_only_locked(&host, &agent)?;
    ensure!(said(&host, &clone)?.is_empty(), "the clone ran something");
    Ok(())
}

/// What is mounted over clawkerd's place may be anybody's program.
#[test]
fn mount_laid_over_clawkerds_folder() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    agent.expect_session()?;
    let pid = agent.init_pid()?.to_string();
    ran::run(
        Command::new("nsenter").args(["--target", &pid, "--mount", "mount", "-t", "tmpfs", "none", "/.clawker"]),
        PATIENCE,
    )?
    .ok()?;
    // Looked at with each connection.
    let half = agent.session_half()?;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(half).context("a pid")?,
        rustix::process::Signal::KILL,
    )?;
    let row = expect_untrusted(&host, &agent, "peer_mismatch")?;
    ensure!(row.body["detail"].to_string().contains("/.clawker"), "{row:?}");
    expect_quarantined(&host, &agent)?;
    ensure!(agent.exec(["true"])?.code != 0, "it is still trusted with an exec");
    Ok(())
}
