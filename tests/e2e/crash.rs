//! SIGKILL of the control plane, at any moment and at each fault point.
//!
//! Whatever the moment: one registry row, one start of the command, the right exit code.

use anyhow::{Result, ensure};
use clawker_model::event::RegistryRow;
use clawker_store::Store;
use clawker_tests::Host;
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, until_true};

/// The end of every test here.
fn expect_one_of_each(host: Host) -> Result<()> {
    let agent = host.existing("a");
    agent.expect_exited(7)?;
    ensure!(agent.wait_exit()? == 7);
    ensure!(
        agent.times_printed("started")? == 1,
        "the command ran {} times",
        agent.times_printed("started")?
    );
    let exits = host.events().into_iter().filter(|row| row.kind == "MainExited").count();
    ensure!(exits == 1, "{exits} MainExited");
    let rows = registry(host)?;
    ensure!(rows.len() == 1, "{} registry rows: {rows:?}", rows.len());
    Ok(())
}

/// Every row of the registry; the control plane has ended then.
pub fn registry(mut host: Host) -> Result<Vec<RegistryRow>> {
    host.stop_control_plane()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(host.state_dir(), "the-test")?;
        let rows = store.registry().await;
        store.close().await;
        Ok(rows?)
    })
}

fn crash_at(point: &str) -> Result<()> {
    let mut host = Setup::test()?.prepare()?;
    host.restart_control_plane_with_fault(point)?;
    let image = host.busybox()?;
    let script = "echo started; sleep 0.3; exit 7";
    let running = host.agent("a").image(&image).script(script).run_in_background()?.1;
    let status = host.control_plane_ended()?;
    ensure!(status.code().is_none(), "{point} was not a SIGKILL: {status}");
    let cut = running.finish(PATIENCE)?;
    ensure!(cut.code != 0, "`clawker run` says that all went well: {cut:?}");
    host.restart_control_plane()?;
    expect_one_of_each(host)
}

#[test]
fn at_bundle_unwritten() -> Result<()> {
    crash_at("bundle-unwritten")
}

#[test]
fn at_hello_before_register() -> Result<()> {
    crash_at("hello-before-register")
}

#[test]
fn at_mid_plan() -> Result<()> {
    crash_at("mid-plan")
}

#[test]
fn at_effect_done_unnoted() -> Result<()> {
    crash_at("effect-done-unnoted")
}

#[test]
fn at_ready_journaled_unsent() -> Result<()> {
    crash_at("ready-journaled-unsent")
}

#[test]
fn at_ready_sent_unjournaled() -> Result<()> {
    crash_at("ready-sent-unjournaled")
}

/// The session comes back to the same start, and its command never notices.
#[test]
fn sessions_come_back() -> Result<()> {
    let mut host = Host::start()?;
    host.agent("a")
        .shared()
        .script("echo started; until [ -e /shared/end ]; do sleep 0.1; done; exit 7")
        .run()?;
    let init = host.existing("a").init_pid()?;
    for _ in 0..3 {
        host.kill_control_plane()?;
        host.restart_control_plane()?;
        host.existing("a").expect_session()?;
    }
    let agent = host.existing("a");
    ensure!(agent.init_pid()? == init && agent.view()?["start"] == 1);
    agent.exec(["true"])?.ok()?;
    let issued = host
        .events()
        .into_iter()
        .filter(|row| row.kind == "BundleIssued")
        .count();
    ensure!(issued == 1, "{issued} identities for one start");
    std::fs::write(host.shared_dir().join("end"), "")?;
    expect_one_of_each(host)
}

#[test]
fn a_lock_outlives_the_control_plane() -> Result<()> {
    let mut host = Host::start()?;
    let listener = host.listener("l")?;
    let agent = host.agent("a").attempting()?.run()?;
    let container = agent.container()?;
    ensure!(agent.attempts(&container, &listener)?);
    agent.contain("lock-network")?;
    host.kill_control_plane()?;
    ensure!(
        !host.existing("a").attempts(&container, &listener)?,
        "open while nobody looks"
    );
    host.restart_control_plane()?;
    host.existing("a").expect_session()?;
    host.expect_locked("a")?;
    ensure!(
        !host.existing("a").attempts(&container, &listener)?,
        "the new control plane opened it"
    );
    host.existing("a").release()?;
    ensure!(host.existing("a").attempts(&container, &listener)?);
    Ok(())
}

/// Whoever can't connect is known by its init all the same: what is asked of it is read back before, and without, a
/// session.
#[test]
fn a_start_that_cannot_connect_is_contained_and_read_back() -> Result<()> {
    let mut host = Host::start()?;
    let agent = host.agent("a").attempting()?.run()?;
    let container = agent.container()?;
    agent.contain("lock-network")?;
    host.docker.pause(&container)?;
    host.kill_control_plane()?;
    host.restart_control_plane()?;
    let known = host.existing("a").expect_containment("locked");
    let view = host.existing("a").view();
    host.docker.unpause(&container)?;
    known?;
    let view = view?;
    ensure!(view["session"] != "connected" && view["start"] == 1, "{view}");
    host.existing("a").expect_session()
}

/// Without its projection the control plane builds it anew from the journal.
#[test]
fn the_projection_is_rebuilt() -> Result<()> {
    let mut host = Host::start()?;
    host.agent("a").run()?.contain("lock-network")?;
    host.stop_control_plane()?;
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let path = host.state_dir().join(file);
        if path.exists() {
            std::fs::remove_file(path)?;
        }
    }
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect_session()?;
    agent.expect_containment("locked")?;
    until_true("no second registration", PATIENCE, || {
        Ok(host.events().iter().filter(|row| row.kind == "AgentRegistered").count() == 1)
    })
}
