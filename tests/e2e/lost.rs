//! A journal that is lost: the agents that there are go on, and are known again.

use anyhow::{Context, Result, ensure};
use clawker_proc::cgroup::{AgentCgroup, Driver, Freeze, expected_path};
use clawker_tests::wait::{PATIENCE, until_true};
use clawker_tests::{Agent, Host, Row};
use serde_json::{Value, json};

use crate::crash::registry;
use crate::steps::project;

const ENDS: &str = "echo started; until [ -e /shared/end ]; do sleep 0.1; done; exit 7";
const STAYS: &str = "echo started; exec sleep 1000";

/// Which life of its container it is, by the engine and by the kernel.
fn life(agent: &Agent<'_>) -> Result<(Value, i32)> {
    Ok((agent.inspect()?["State"]["StartedAt"].clone(), agent.init_pid()?))
}

fn rows(host: &Host, kind: &str, agent: &str) -> Vec<Row> {
    let all = host.events().into_iter();
    all.filter(|row| row.kind == kind && (agent.is_empty() || row.agent == agent))
        .collect()
}

fn expect_rebuilt(host: &Host, adopted: u64, refused: u64) -> Result<()> {
    let row = host.expect_event("StoreRebuilt", |_| true)?;
    ensure!(row.body == json!({"adopted": adopted, "refused": refused}), "{row:?}");
    Ok(())
}

/// Four agents, each contained in another way, and a control plane that finds them and nothing else.
fn everything_is_taken_over(identity_too: bool) -> Result<()> {
    let mut host = Host::start()?;
    let (allowed, other) = (host.listener("allowed")?, host.listener("other")?);
    host.agent("runs").shared().script(ENDS).run()?;
    host.agent("locked").attempting()?.run()?.contain("lock-network")?;
    host.agent("frozen").script(STAYS).run()?.contain("freeze")?;
    host.agent("restricted").egress(&[&allowed]).script(STAYS).run()?;
    let names = ["frozen", "locked", "restricted", "runs"];
    let lives = |host: &Host| -> Result<Vec<_>> { names.iter().map(|name| life(&host.existing(name))).collect() };
    let before = lives(&host)?;

    host.kill_control_plane()?;
    host.lose_store()?;
    if identity_too {
        std::fs::remove_dir_all(host.identity_dir()).context("losing the authority")?;
    }
    host.restart_control_plane()?;
    expect_rebuilt(&host, 4, 0)?;
    for name in names {
        host.existing(name).expect_session()?;
    }
    ensure!(lives(&host)? == before, "somebody was started again");
    for kind in [
        "AgentUntrusted",
        "AdoptionRefused",
        "InitStarted",
        "InitStepStarted",
        "ActionFailed",
    ] {
        let said = rows(&host, kind, "");
        ensure!(said.is_empty(), "{said:?}");
    }

    let runs = host.existing("runs");
    runs.exec(["true"])?.ok()?;
    ensure!(runs.times_printed("started")? == 1, "its command was started again");
    runs.expect_containment("open")?;
    let ready = rows(&host, "AgentReadyFound", &runs.full());
    ensure!(ready.len() == 1, "{ready:?}");

    // Read back before anything was done about it.
    let locked = host.existing("locked");
    host.expect_locked("locked")?;
    let intended = rows(&host, "ActionIntended", &locked.full());
    ensure!(intended.is_empty(), "{intended:?}");
    let container = locked.container()?;
    ensure!(!locked.attempts(&container, &allowed)?, "the rebuild has opened it");

    let frozen = host.existing("frozen");
    frozen.expect_containment("frozen")?;
    let path = expected_path(Driver::Cgroupfs, None, &frozen.container()?);
    let cgroup = AgentCgroup::open(&path)?.context("its cgroup")?;
    ensure!(cgroup.state()? == Freeze::Frozen, "the rebuild has thawed it");

    let restricted = host.existing("restricted");
    restricted.expect_containment("restricted")?;
    ensure!(restricted.tries_to_reach(&allowed)?, "it may reach that");
    ensure!(!restricted.tries_to_reach(&other)?, "the rebuild has opened it");

    // An operator has the last word on both.
    locked.release()?;
    ensure!(locked.attempts(&container, &allowed)?, "released, and still locked");
    frozen.release()?;
    until_true("its thaw", PATIENCE, || Ok(cgroup.state()? == Freeze::Running))?;

    std::fs::write(host.shared_dir().join("end"), "")?;
    runs.expect_exited(7)?;
    ensure!(runs.wait_exit()? == 7);
    ensure!(rows(&host, "MainExited", "").len() == 1);
    drop(((runs, locked), (frozen, restricted)));
    let registered = registry(host)?;
    let mut registered: Vec<String> = registered.iter().map(|row| row.name.agent().to_string()).collect();
    registered.sort();
    ensure!(registered == names, "{registered:?}");
    Ok(())
}

#[test]
fn agents_are_taken_over_without_a_restart() -> Result<()> {
    everything_is_taken_over(false)
}

#[test]
fn agents_are_taken_over_by_a_new_authority() -> Result<()> {
    everything_is_taken_over(true)
}

/// The labels of an agent, on a container that shows it more of the host than create would.
#[test]
fn a_container_that_is_not_as_create_makes_it_is_not_taken_over() -> Result<()> {
    let mut host = Host::start()?;
    let agent = host.agent("a").script(STAYS).run()?;
    let (name, original) = (agent.full(), agent.inspect()?);
    host.kill_control_plane()?;

    let made = host.existing("made").full();
    let run = "byhand0000000000000000";
    std::fs::create_dir(host.state_dir().join("run").join(run))?;
    let prefix = host.prefix();
    let mut labels = original["Config"]["Labels"].clone();
    labels[format!("{prefix}.agent")] = json!("made");
    labels[format!("{prefix}.run")] = json!(run);
    let spec = labels[format!("{prefix}.spec")].as_str().context("its definition")?;
    labels[format!("{prefix}.spec")] = json!(spec.replace(&name, &made));
    let mut configuration = original["HostConfig"].clone();
    let mounts = configuration["Mounts"].as_array_mut().context("its mounts")?;
    let own = mounts.iter_mut().find(|mount| mount["Target"] == "/.clawker-run");
    own.context("its run folder")?["Source"] = json!(host.state_dir().join("run").join(run));
    configuration["Binds"] = json!(["/etc:/of-the-host"]);
    let mut body = original["Config"].clone();
    body["Hostname"] = json!(made);
    body["Labels"] = labels;
    body["HostConfig"] = configuration;
    let container = host.docker.create(&made, &body)?;
    host.docker.start(&container)?;

    host.lose_store()?;
    host.restart_control_plane()?;
    let difference = r#"HostConfig.Binds is ["/etc:/of-the-host"] instead of nothing"#;
    let refused = host.expect_event("AdoptionRefused", |_| true)?;
    let why = refused.body["why"].as_str().unwrap_or_default();
    ensure!(refused.agent == made && why.contains(difference), "{refused:?}");
    expect_rebuilt(&host, 1, 1)?;
    let untrusted = host.expect_event("AgentUntrusted", |row| row.agent == made)?;
    ensure!(untrusted.body["reason"] == "register_failed", "{untrusted:?}");
    ensure!(
        untrusted.body["detail"].to_string().contains("of-the-host"),
        "{untrusted:?}"
    );
    let by_hand = host.existing("made");
    by_hand.expect("trust", |view| view["trust"] == "register_failed")?;
    by_hand.exec(["true"])?.failed(1, "made by this control plane")?;
    host.existing("a").expect_session()?;
    let issued = rows(&host, "BundleIssued", "");
    ensure!(issued.len() == 1 && issued[0].agent == name, "{issued:?}");
    // It can be contained like anybody.
    let done = by_hand.contain("lock-network")?;
    ensure!(done["in_force"] == "locked", "{done}");
    Ok(())
}

/// SIGKILL after one of two was taken over, and before the end is a row.
#[test]
fn a_rebuild_that_is_cut_goes_on_with_the_rest() -> Result<()> {
    let mut host = Host::start()?;
    let lives = |host: &Host| -> Result<Vec<_>> { ["a", "b"].iter().map(|name| life(&host.existing(name))).collect() };
    host.agent("a").script(STAYS).run()?;
    host.agent("b").script(STAYS).run()?.contain("lock-network")?;
    let before = lives(&host)?;
    host.kill_control_plane()?;
    host.lose_store()?;
    for point in ["adopted-unwatched", "rebuild-unended"] {
        host.control_plane_dies_at(point)?;
    }
    host.restart_control_plane()?;
    expect_rebuilt(&host, 2, 0)?;
    for name in ["a", "b"] {
        let agent = host.existing(name);
        agent.expect_session()?;
        let adopted = rows(&host, "AgentAdopted", &agent.full());
        ensure!(adopted.len() == 1, "{adopted:?}");
        ensure!(agent.times_printed("started")? == 1, "its command was started again");
    }
    host.expect_locked("b")?;
    ensure!(lives(&host)? == before, "somebody was started again");
    ensure!(rows(&host, "RebuildBegun", "").len() == 1);

    // It is over: what the next life finds is nobody's.
    host.kill_control_plane()?;
    host.restart_control_plane()?;
    host.existing("a").expect_session()?;
    ensure!(rows(&host, "StoreRebuilt", "").len() == 1);
    Ok(())
}

/// Its preparation is in the container, and what noted it is gone.
#[test]
fn what_ran_once_before_the_journal_was_lost_does_not_run_again() -> Result<()> {
    let mut host = Host::start()?;
    let file = project(&host, STEPS)?;
    host.cli(["apply", "-f", &file])?.ok()?;
    host.existing("a").expect_session()?;
    host.kill_control_plane()?;
    host.lose_store()?;
    host.restart_control_plane()?;
    expect_rebuilt(&host, 1, 0)?;
    let agent = host.existing("a");
    agent.expect_session()?;
    let told = |file: &str| -> Result<String> { Ok(agent.exec(["cat", file])?.ok()?.stdout) };
    ensure!(told("/home/agent/once")? == "x\n" && told("/home/agent/starts")? == "x\n");
    host.cli(["restart", &agent.short()])?.ok()?;
    agent.expect_session()?;
    until_true("the step of each start", PATIENCE, || {
        Ok(told("/home/agent/starts")? == "x\nx\n")
    })?;
    ensure!(told("/home/agent/once")? == "x\n", "a step that runs once ran again");
    Ok(())
}

const STEPS: &str = r#"
  a:
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    steps:
      - plugin: pre-run
        settings: {script: "echo x >>~/starts"}
      - plugin: post-init
        settings: {script: "echo x >>~/once"}
"#;

/// Nobody knows whether it was stopped, nor how it was contained.
#[test]
fn an_agent_that_did_not_run_is_locked_and_stays_down() -> Result<()> {
    let mut host = Host::start()?;
    let listener = host.listener("l")?;
    let agent = host.agent("a").option(["--restart", "always"]).attempting()?.run()?;
    let container = agent.container()?;
    host.cli(["stop", &agent.short()])?.ok()?;
    agent.expect("end", |view| view["status"] == "exited")?;
    host.kill_control_plane()?;
    host.lose_store()?;
    host.restart_control_plane()?;
    expect_rebuilt(&host, 1, 0)?;
    let agent = host.existing("a");
    agent.expect("state", |view| {
        view["status"] == "exited" && view["containment_asked"] == "locked"
    })?;
    host.cli(["start", &agent.short()])?.ok()?;
    agent.expect_session()?;
    host.expect_locked("a")?;
    let started = rows(&host, "StartBegan", "");
    ensure!(started.len() == 1, "{started:?}");
    agent.release()?;
    ensure!(agent.attempts(&container, &listener)?);
    Ok(())
}
