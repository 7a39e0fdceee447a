//! The network axis: locked means locked, at every layer, on every interface, in every life.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clawker_tests::wait::{PATIENCE, until_true};
use clawker_tests::{Agent, Host, Listener, ran};

/// Runs a program of this machine inside the agent's network namespace, as root of the machine.
fn in_netns(agent: &Agent<'_>, argv: &[&str]) -> Result<ran::Ran> {
    let net = format!("--net=/proc/{}/ns/net", agent.init_pid()?);
    ran::run(Command::new("nsenter").arg(net).args(argv), PATIENCE)
}

#[test]
fn lock_and_release_with_read_back() -> Result<()> {
    let host = Host::start()?;
    let listener = host.listener("l")?;
    let agent = host.agent("a").run()?;
    ensure!(agent.tries_to_reach(&listener)?, "an open network should be open");
    agent.exec(["httpd", "-p", "127.0.0.1:8081", "-h", "/etc"])?.ok()?;
    let loopback = ["timeout", "2", "wget", "-q", "-O", "-", "http://127.0.0.1:8081/passwd"];
    agent.exec(loopback)?.ok()?;

    let locked = agent.contain("lock-network")?;
    ensure!(locked["in_force"] == "locked", "{locked}");
    ensure!(
        locked["read_back"].as_str().is_some_and(|read| read.contains("eth0")),
        "{locked}"
    );
    ensure!(!agent.tries_to_reach(&listener)?, "it got out");
    ensure!(agent.exec(loopback)?.code != 0, "loopback is open");
    let why = host.cli(["why", &agent.short()])?.ok()?.stdout;
    ensure!(why.contains("a test") && why.contains("operator"), "{why}");
    let released = agent.release()?;
    ensure!(released["in_force"] == "open", "{released}");
    ensure!(agent.tries_to_reach(&listener)?, "released, and still locked");
    Ok(())
}

#[test]
fn nobody_gets_into_a_locked_agent() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script("httpd -f -p 8080 -h /etc").run()?;
    let inspected = agent.inspect()?;
    let ip = inspected["NetworkSettings"]["Networks"][host.network()]["IPAddress"]
        .as_str()
        .context("its address")?;
    let probe = host.agent("probe").run()?;
    let url = format!("http://{ip}:8080/passwd");
    let reads_passwd = || probe.fetches(&url);
    until_true("the server in the agent", PATIENCE, reads_passwd)?;
    agent.contain("lock-network")?;
    ensure!(!reads_passwd()?, "somebody got in");
    Ok(())
}

/// Each attempt is over before a second SYN, which would be a second denial.
#[test]
fn egress_rules_hold_from_the_first_moment() -> Result<()> {
    let host = Host::start()?;
    let (a, b) = (host.listener("a")?, host.listener("b")?);
    let script = format!(
        "for to in {} {}; do if timeout 0.8 wget -q -O /dev/null http://$to/; then echo \"$to yes\"; else echo \"$to no\"; fi; done",
        b.address(),
        a.address()
    );
    let ran = host.agent("a").egress(&[&a]).script(&script).run_to_end()?.ok()?;
    ensure!(
        ran.stdout == format!("{} no\n{} yes\n", b.address(), a.address()),
        "{ran:?}"
    );
    Ok(())
}

#[test]
fn a_rule_of_the_agent_itself_is_not_released() -> Result<()> {
    let host = Host::start()?;
    let (a, b) = (host.listener("a")?, host.listener("b")?);
    let agent = host.agent("a").egress(&[&a]).run()?;
    agent.contain("lock-network")?;
    ensure!(!agent.tries_to_reach(&a)?);
    agent.release()?;
    ensure!(agent.tries_to_reach(&a)?, "its own rule should be back");
    ensure!(!agent.tries_to_reach(&b)?, "a release opened more than it had closed");
    Ok(())
}

#[test]
fn an_operator_restricts_a_running_agent() -> Result<()> {
    let host = Host::start()?;
    let (a, b) = (host.listener("a")?, host.listener("b")?);
    let agent = host.agent("a").run()?;
    let done = agent.contain_with("restrict-egress", &["--allow", &a.address()])?;
    ensure!(done["in_force"] == "restricted", "{done}");
    ensure!(agent.tries_to_reach(&a)?);
    ensure!(!agent.tries_to_reach(&b)?);
    Ok(())
}

/// A lock of the interfaces that there were would leave the next one open.
#[test]
fn interface_added_later() -> Result<()> {
    let host = Host::start()?;
    let second = format!("{}-second", host.network());
    host.docker
        .create_network(&second, &format!("{}.fixture", host.prefix()))?;
    let listener = Listener::start(&host, "l2", &second)?;
    let agent = host.agent("a").run()?;
    let container = agent.container()?;
    agent.contain("lock-network")?;
    host.docker.connect_network(&second, &container)?;
    host.expect_event("ContainerNetworkConnected", |row| row.agent == agent.full())?;
    let links = agent.exec(["ls", "/sys/class/net"])?.ok()?.stdout;
    ensure!(links.contains("eth1"), "no second interface: {links}");
    ensure!(!agent.tries_to_reach(&listener)?, "the new interface is open");
    // Below IP as well, once the hook is there.
    until_true("the new interface's hook", PATIENCE, || {
        let tables = in_netns(&agent, &["nft", "list", "ruleset"])?.ok()?.stdout;
        Ok(tables.contains("eth1"))
    })?;
    let arp = in_netns(
        &agent,
        &["busybox", "arping", "-c", "1", "-w", "2", "-I", "eth1", &listener.ip],
    )?;
    ensure!(arp.code != 0, "a frame went out by the new interface: {arp:?}");
    agent.release()?;
    ensure!(agent.tries_to_reach(&listener)?, "released, and still locked");
    Ok(())
}

/// Rules about IP don't see frames: the agent has no right to send any, and the lock drops those of root too.
#[test]
fn raw_frames() -> Result<()> {
    let host = Host::start()?;
    let listener = host.listener("l")?;
    let agent = host.agent("a").adversary()?.run()?;
    let tried = agent
        .exec_as_root(["/adversary/forged-clawkerd", "frame", "eth0"])?
        .ok()?
        .stdout;
    ensure!(
        tried.contains("Operation not permitted"),
        "root in the agent may send frames: {tried}"
    );

    let arping = [
        "busybox",
        "arping",
        "-c",
        "1",
        "-w",
        "2",
        "-I",
        "eth0",
        listener.ip.as_str(),
    ];
    let open = in_netns(&agent, &arping)?;
    ensure!(open.code == 0, "the control: {open:?}");
    agent.contain("lock-network")?;
    let locked = in_netns(&agent, &arping)?;
    ensure!(locked.code != 0, "a frame went out: {locked:?}");
    Ok(())
}

/// A new network namespace has no rules: they must be there before anything of the user's runs.
#[test]
fn restarted_container_starts_contained() -> Result<()> {
    let host = Host::start()?;
    let listener = host.listener("l")?;
    let script = format!(
        "while :; do if timeout 2 wget -q -O /dev/null http://{}/; then echo reached; else echo failed; fi; sleep 0.2; done",
        listener.address()
    );
    let agent = host.agent("a").script(&script).run()?;
    agent.expect_log("reached")?;
    agent.contain("lock-network")?;
    let container = agent.container()?;
    let before = agent.logs()?.len();
    for start in 2..=3 {
        host.docker.restart(&container, 1)?;
        host.expect_event("AgentReadySent", |row| row.body["start"] == start)?;
    }
    agent.wait_for_log(PATIENCE, |logs| logs[before..].matches("failed").count() >= 2)?;
    let logs = agent.logs()?;
    // The first lines after the lock may be of an attempt that was under way.
    let after: Vec<&str> = logs[before..].lines().skip(1).collect();
    ensure!(
        !after.contains(&"reached"),
        "a restarted agent got out:\n{}",
        after.join("\n")
    );
    agent.expect_containment("locked")
}

#[test]
fn revoke_takes_the_session_and_release_gives_it_back() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    agent.contain("revoke")?;
    agent.expect("session", |view| view["session"] != "connected")?;
    agent.exec(["true"])?.failed(1, "session")?;
    agent.release()?;
    agent.expect_session()?;
    agent.exec(["true"])?.ok().map(drop)
}
