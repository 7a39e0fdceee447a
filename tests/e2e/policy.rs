//! The policy plugin on real events.

use anyhow::{Result, ensure};
use clawker_tests::Host;
use clawker_tests::host::Setup;

#[test]
fn denied_twice_is_locked_and_on_a_repeat_after_release_frozen() -> Result<()> {
    let host = Host::start()?;
    let (a, b) = (host.listener("a")?, host.listener("b")?);
    let agent = host.agent("a").attempting()?.egress(&[&a]).run()?;
    let container = agent.container()?;
    ensure!(agent.attempts(&container, &a)?);
    ensure!(!agent.attempts(&container, &b)?);
    let first = host.expect_event("EgressDenied", |row| row.agent == agent.full())?;
    ensure!(first.body["count"] == 1, "{first:?}");
    ensure!(
        agent.view()?["containment"] == "restricted",
        "one denial is none too many"
    );
    ensure!(!agent.attempts(&container, &b)?);
    host.expect_locked("a")?;
    ensure!(!agent.attempts(&container, &a)?, "locked, and A answers");

    let decided = host.expect_event("PolicyDecided", |row| {
        row.agent == agent.full()
            && row.body["verdicts"]
                .as_array()
                .is_some_and(|verdicts| !verdicts.is_empty())
    })?;
    ensure!(decided.body["policy"] == "egress-guard", "{decided:?}");
    let why = host.cli(["why", &agent.short()])?.ok()?.stdout;
    ensure!(why.contains("egress-guard") && why.contains("EgressDenied"), "{why}");
    agent.release()?;
    ensure!(agent.attempts(&container, &a)?, "released, and A is still out of reach");

    ensure!(!agent.attempts(&container, &b)?);
    host.expect_event_after(decided.seq, "EgressDenied", |row| row.agent == agent.full())?;
    agent.is_told_to_try(&b)?;
    agent.expect_containment("locked, frozen")
}

/// A locked agent can't be denied anything more; what it does to the machine's memory still counts.
#[test]
fn killed_for_memory_twice_is_locked_and_on_a_repeat_frozen() -> Result<()> {
    let host = Host::start()?;
    let orders = host.shared_dir().join("go-on");
    let script = "for n in 1 2; do tail /dev/zero; echo \"killed $?\"; sleep 1; done; \
                  until [ -e /shared/go-on ]; do sleep 0.1; done; \
                  while :; do tail /dev/zero; sleep 1; done";
    let agent = host
        .agent("a")
        .option(["--memory", "32m"])
        .shared()
        .script(script)
        .run()?;
    host.expect_event("ContainerOom", |row| row.agent == agent.full())?;
    agent.expect_log("killed 137")?;
    host.expect_locked("a")?;
    ensure!(
        agent.view()?["containment"] == "locked",
        "locked is enough for a first time"
    );
    std::fs::write(orders, "")?;
    agent.expect_containment("locked, frozen")
}

#[test]
fn a_policy_that_only_monitors_does_nothing() -> Result<()> {
    let host = Setup::test()?
        .config("[[policies]]\nplugin = \"egress-guard\"\nmode = \"monitor\"\n")
        .start()?;
    let (a, b) = (host.listener("a")?, host.listener("b")?);
    let agent = host.agent("a").attempting()?.egress(&[&a]).run()?;
    let container = agent.container()?;
    let mut mark = 0;
    for _ in 0..2 {
        agent.attempts(&container, &b)?;
        mark = host
            .expect_event_after(mark, "EgressDenied", |row| row.agent == agent.full())?
            .seq;
    }
    host.expect_event("PolicyDecided", |row| {
        row.body["verdicts"].as_array().is_some_and(|all| !all.is_empty())
    })?;
    ensure!(
        agent.attempts(&container, &a)?,
        "a policy that monitors has locked the agent"
    );
    ensure!(agent.view()?["containment"] == "restricted");
    Ok(())
}
