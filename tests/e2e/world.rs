//! What the control plane holds of containers, and what the engine has: events that are lost, containers that go
//! without a word, and those that come where they don't belong.

use anyhow::{Result, ensure};
use clawker_tests::events::Row;
use clawker_tests::{Host, ran};
use serde_json::json;

use crate::crash::registry;

const STAYS: &str = "echo started; exec sleep 600";

/// Kinds of rows that tell of an agent's end, in order.
fn farewell(rows: &[Row], agent: &str) -> Vec<(String, String)> {
    const KINDS: [&str; 3] = ["ContainerDestroyed", "RegistryRowEvicted", "AgentRemoved"];
    let told = rows
        .iter()
        .filter(|row| row.agent == agent && KINDS.contains(&row.kind.as_str()));
    told.map(|row| {
        (
            row.kind.clone(),
            row.body["seen"].as_str().unwrap_or_default().to_owned(),
        )
    })
    .collect()
}

fn said(seen: &str) -> Vec<(String, String)> {
    let row = |kind: &str, seen: &str| (kind.to_owned(), seen.to_owned());
    vec![
        row("ContainerDestroyed", seen),
        row("RegistryRowEvicted", ""),
        row("AgentRemoved", ""),
    ]
}

#[test]
fn a_container_that_somebody_removes_takes_its_rows_along() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script(STAYS).run()?;
    agent.expect_session()?;
    let (name, container) = (agent.full(), agent.container()?);
    host.docker.remove(&container)?;
    host.expect_event("AgentRemoved", |row| row.agent == name)?;
    let rows = farewell(&host.events(), &name);
    ensure!(rows == said("event"), "{rows:?}");
    ensure!(host.ps()?.is_empty(), "it is still listed");
    let rows = registry(host)?;
    ensure!(rows.is_empty(), "{rows:?}");
    Ok(())
}

/// Nobody was there to hear Docker's event.
#[test]
fn a_container_that_goes_while_the_control_plane_is_away() -> Result<()> {
    let mut host = Host::start()?;
    let agent = host.agent("gone").script(STAYS).run()?;
    agent.expect_session()?;
    let (name, container) = (agent.full(), agent.container()?);
    let stays = host.agent("stays").script(STAYS).run()?;
    stays.expect_session()?;
    let kept = stays.full();
    host.kill_control_plane()?;
    host.docker.remove(&container)?;
    host.restart_control_plane()?;
    host.expect_event("AgentRemoved", |row| row.agent == name)?;
    host.existing("stays").expect_session()?;
    let events = host.events();
    let rows = farewell(&events, &name);
    ensure!(rows == said("relist"), "{rows:?}");
    ensure!(farewell(&events, &kept).is_empty());
    let rows = registry(host)?;
    ensure!(rows.len() == 1 && rows[0].name.to_string() == kept, "{rows:?}");
    Ok(())
}

/// A stopped container can be started again: it keeps its row.
#[test]
fn stop_and_kill_evict_nobody() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script(STAYS).run()?;
    agent.expect_session()?;
    let container = agent.container()?;
    host.docker.stop(&container, 1)?;
    host.expect_event("ContainerDied", |row| row.body["start"] == 1)?;
    host.docker.start(&container)?;
    host.expect_event("AgentReadySent", |row| row.body["start"] == 2)?;
    host.docker.kill(&container)?;
    host.expect_event("ContainerDied", |row| row.body["start"] == 2)?;
    ensure!(farewell(&host.events(), &agent.full()).is_empty());
    // Each start was said once, by whomever it was noticed.
    let started: Vec<_> = host
        .events()
        .into_iter()
        .filter(|row| row.kind == "ContainerStarted")
        .collect();
    let after: Vec<_> = started.iter().map(|row| row.body["after"].clone()).collect();
    ensure!(after == [json!(0), json!(1)], "{started:?}");
    let rows = registry(host)?;
    ensure!(rows.len() == 1, "{rows:?}");
    Ok(())
}

/// Whoever joins an agent's network is neither attested nor held by its freezer.
#[test]
fn a_foreign_container_in_an_agents_network() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script(STAYS).run()?;
    agent.expect_session()?;
    let container = agent.container()?;
    let body = json!({
        "Image": host.busybox()?, "Cmd": ["sleep", "600"], "Labels": {format!("{}.test", host.prefix()): "true"},
        "HostConfig": {"NetworkMode": format!("container:{container}")},
    });
    let foreign = host.docker.create(&format!("{}-foreign", host.project()), &body)?;
    host.docker.start(&foreign)?;
    let shared = host.expect_event("NetnsShared", |row| row.body["foreign"] == foreign.as_str());
    let locked = agent.expect_containment("locked");
    host.docker.remove(&foreign)?;
    ensure!(shared?.agent == agent.full());
    locked?;
    host.expect_event("ThresholdCrossed", |row| row.body["what"] == "alert")?;
    let why = host.cli(["why", &agent.short()])?.ok()?.stdout;
    ensure!(
        why.contains("rule of the host (netns)") && why.contains("NetnsShared"),
        "{why}"
    );
    // It is an operator's to undo.
    agent.release()?;
    agent.expect_containment("open")
}

/// Docker's pause holds clawkerd too: that is no fault of the session's.
#[test]
fn a_paused_container_is_frozen_and_not_broken() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script(STAYS).run()?;
    agent.expect_session()?;
    let container = agent.container()?;
    host.docker.pause(&container)?;
    let frozen = agent.expect("a frozen session", |view| {
        view["session"] == "frozen" && view["status"] == "paused"
    });
    host.docker.unpause(&container)?;
    frozen?;
    agent.expect_session()
}

#[test]
fn inspect_tells_of_one_agent_what_ps_tells_of_all() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").script(STAYS).run()?;
    agent.expect_session()?;
    let shown: serde_json::Value =
        serde_json::from_str(&host.cli(["inspect", &agent.short(), "--json"])?.ok()?.stdout)?;
    ensure!(shown["name"] == agent.full().as_str(), "{shown}");
    for (field, value) in [
        ("session", json!("connected")),
        ("trust", json!("trusted")),
        ("registered", json!(true)),
        ("plan", json!("done")),
        ("command_state", json!("running")),
        ("containment", json!("open")),
        ("status", json!("running")),
        ("intruder", json!(null)),
    ] {
        ensure!(shown[field] == value, "`{field}` of {shown}");
    }
    let people: ran::Ran = host.cli(["inspect", &agent.short()])?.ok()?;
    ensure!(people.stdout.contains("registered, generation 1"), "{people:?}");
    Ok(())
}
