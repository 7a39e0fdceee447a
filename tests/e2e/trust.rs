//! Who is believed: the init of the container with an identity of this host, and nobody else.

use anyhow::{Result, ensure};
use clawker_tests::Host;
use clawker_tests::forged::Forged;
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, until, until_true};

/// An operator whose policies do nothing about it: what is held back is held back all the same.
#[test]
fn a_forged_agent_gets_nothing_but_containment() -> Result<()> {
    let host = Setup::test()?.config("policies = []\n").start()?;
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
    let answers = forged.answers()?;
    ensure!(
        !answers.is_empty() && answers.iter().all(|(_, got, _)| !got),
        "{answers:?}"
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

#[test]
fn clawkerd_that_is_not_pid_1_says_so() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    let second = agent.exec_as_root(["/.clawker/clawkerd", "init", "--", "sh"])?;
    ensure!(second.code == 78, "{second:?}");
    agent.expect_session()
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
