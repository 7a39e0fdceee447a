//! Who is believed: the init of the container with an identity of this host, and nobody else.

use anyhow::{Context, Result, ensure};
use clawker_tests::Host;
use clawker_tests::forged::Forged;
use clawker_tests::wait::{PATIENCE, until, until_true};

#[test]
fn a_forged_agent_gets_nothing_but_containment() -> Result<()> {
    let host = Host::start()?;
    let listener = host.listener("l")?;
    let forged = Forged::start(&host, "f", &listener)?;
    let agent = &forged.agent;
    host.expect_event("AgentUntrusted", |row| {
        row.agent == agent.full() && row.body["reason"] == "chain_invalid"
    })?;
    agent.expect("trust", |view| {
        view["trust"] == "chain_invalid" && view["session"] == "connected"
    })?;
    ensure!(forged.reaches()?.1, "the control: it should reach its target");

    // No exec, by no way.
    agent.exec(["true"])?.failed(1, "made by this control plane")?;
    let done = agent.contain("lock-network")?;
    ensure!(done["in_force"] == "locked", "{done}");
    let (before, _) = forged.reaches()?;
    until_true("its attempts to fail", PATIENCE, || {
        let (count, reached) = forged.reaches()?;
        Ok(count >= before + 2 && !reached)
    })?;
    agent.release()?;
    until_true("its attempts to succeed again", PATIENCE, || Ok(forged.reaches()?.1))?;

    let kinds = forged.kinds_sent()?;
    ensure!(
        kinds.iter().all(|kind| kind == "hello" || kind == "lease"),
        "it was sent {kinds:?}"
    );
    ensure!(forged.bundles()? == 0, "it was given an identity");
    let registered: Vec<_> = forged
        .said()?
        .into_iter()
        .filter(|said| !said["registered"].is_null())
        .collect();
    ensure!(
        !registered.is_empty() && registered.iter().all(|said| said["registered"] == false),
        "{registered:?}"
    );
    let rows = host
        .events()
        .into_iter()
        .filter(|row| row.kind == "RegistryRowWritten" && row.agent == agent.full());
    ensure!(rows.count() == 0, "it is in the registry");
    agent.contain("kill")?;
    until_true("its end", PATIENCE, || {
        Ok(host
            .docker
            .inspect(&forged.container)?
            .is_some_and(|inspect| inspect["State"]["Running"] == false))
    })
}

#[test]
fn containment_of_a_forged_agent_outlives_the_control_plane() -> Result<()> {
    let mut host = Host::start()?;
    let listener = host.listener("l")?;
    let forged = Forged::start(&host, "f", &listener)?;
    forged.agent.expect("trust", |view| view["trust"] == "chain_invalid")?;
    forged.agent.contain("lock-network")?;
    host.kill_control_plane()?;
    host.restart_control_plane()?;
    let forged = Forged::existing(&host, "f")?;
    forged.agent.expect_containment("locked")?;
    let (before, _) = forged.reaches()?;
    let (_, reached) = until("more attempts", PATIENCE, || {
        let now = forged.reaches()?;
        Ok((now.0 >= before + 3).then_some(now))
    })?;
    ensure!(!reached, "a restart has opened its network");
    Ok(())
}

/// Our labels and a run folder of somebody else's agent.
#[test]
fn a_run_folder_belongs_to_one_container() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    let run = agent.inspect()?["Mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|mount| mount["Destination"] == "/.clawker-run")
        .and_then(|mount| mount["Source"].as_str().map(str::to_owned))
        .context("the run folder's mount")?;
    let name = format!("clawker.{}.b", host.project());
    let label = |key: &str| format!("{}.{key}", host.prefix());
    let adversary = clawker_tests::bins::adversary_dir()?;
    let body = serde_json::json!({
        "Image": host.busybox()?, "Hostname": name, "User": "0:0",
        "Entrypoint": ["/.clawker/forged-clawkerd", "init"], "Cmd": [name, "192.0.2.1:9"],
        "Labels": {label("managed"): "true", label("purpose"): "agent", label("project"): host.project(), label("agent"): "b"},
        "HostConfig": {"NetworkMode": host.network(), "Mounts": [
            {"Type": "bind", "Source": adversary, "Target": "/.clawker", "ReadOnly": true},
            {"Type": "bind", "Source": run, "Target": "/.clawker-run", "ReadOnly": true},
        ]},
    });
    let container = host.docker.create(&name, &body)?;
    host.docker.start(&container)?;
    let mismatch = host.expect_event("AgentUntrusted", |row| row.body["reason"] == "peer_mismatch")?;
    ensure!(mismatch.agent == agent.full(), "{mismatch:?}");
    let said = host.docker.logs(&container)?;
    ensure!(!said.contains("\"preamble\""), "a stranger got an answer: {said}");
    agent.expect_session()
}

/// Same container, same cgroup, even the same program: only PID 1 is PID 1.
#[test]
fn second_process_registering() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").adversary()?.run()?;
    agent.expect_session()?;
    let tried = agent
        .exec_as_root(["/adversary/forged-clawkerd", "connect"])?
        .ok()?
        .objects()?;
    ensure!(
        tried[0]["session"].is_null() && tried[0]["why"].is_string(),
        "it got a session: {tried:?}"
    );
    ensure!(tried[1]["registered"] == false, "{tried:?}");
    host.expect_event("AgentUntrusted", |row| row.body["reason"] == "peer_mismatch")?;
    // The agent itself suffers nothing by what another process tries.
    agent.expect_session()?;
    agent.exec(["true"])?.ok()?;
    let second = agent.exec_as_root(["/.clawker/clawkerd", "init", "--", "sh"])?;
    ensure!(second.code == 78, "{second:?}");
    Ok(())
}

/// An agent's own user can't even open the sockets.
#[test]
fn sockets_are_roots() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").adversary()?.run()?;
    let tried = agent.exec(["/adversary/forged-clawkerd", "connect"])?.ok()?.objects()?;
    ensure!(
        tried[0]["why"]
            .as_str()
            .is_some_and(|why| why.contains("Permission denied")),
        "{tried:?}"
    );
    Ok(())
}

/// A socket that an agent can replace leads the control plane wherever the agent likes.
#[test]
fn symlinked_socket() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    for attempt in [
        "rm /.clawker-run/session.sock",
        "ln -s /etc/passwd /.clawker-run/x",
        "mv /.clawker-run/session.sock /.clawker-run/y",
        "echo x >/.clawker-run/z",
        "chmod 777 /.clawker-run",
        "mount -o remount,rw /.clawker-run",
        "mount -t tmpfs none /.clawker-run",
        "umount /.clawker-run",
        "rm /.clawker/clawkerd",
        "cp /bin/busybox /.clawker/clawkerd",
    ] {
        let ran = agent.exec_as_root(["sh", "-c", attempt])?;
        let refused = [
            "Read-only file system",
            "permission denied",
            "Operation not permitted",
            "can't create",
        ];
        ensure!(
            ran.code != 0 && refused.iter().any(|why| ran.stderr.contains(why)),
            "{attempt}: {ran:?}"
        );
    }
    agent.expect_session()
}

/// `docker exec` by somebody with the engine's socket is journaled.
#[test]
fn an_engines_exec_is_journaled() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    host.docker.exec(&agent.container()?, &["true"])?;
    let row = host.expect_event("ExecStarted", |row| row.body["by"] == "docker")?;
    ensure!(
        row.agent == agent.full() && row.body["argv"].to_string().contains("true"),
        "{row:?}"
    );
    Ok(())
}
