//! A control plane of another build: its agents get its session half, and go on.

use anyhow::{Result, ensure};
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, until_true};

#[test]
fn a_running_agents_session_half_is_upgraded_and_its_command_goes_on() -> Result<()> {
    let mut host = Setup::test()?.older().start()?;
    let agent = host
        .agent("a")
        .script("trap 'exit 7' TERM; echo begun; while :; do sleep 0.1; done")
        .run()?;
    agent.expect_log("begun")?;
    let init = agent.init_pid()?;
    let half = agent.session_half()?;
    host.update();
    let mark = host.mark();
    host.stop_control_plane()?;
    host.restart_control_plane()?;
    let row = host.expect_event_after(mark, "SessionHalfUpgrading", |row| row.body["from"] != row.body["to"])?;
    let old = row.body["from"].clone();
    let row = host.expect_event_after(mark, "SessionHalfUpgraded", |_| true)?;
    ensure!(row.body["taken"] == true && row.body["build"] != old, "{}", row.body);
    let agent = host.existing("a");
    until_true("another half", PATIENCE, || Ok(agent.session_half()? != half))?;
    agent.expect_session()?;
    ensure!(agent.init_pid()? == init, "PID 1 was restarted");
    ensure!(agent.exec(["echo", "still"])?.stdout == "still\n");
    ensure!(agent.times_printed("begun")? == 1, "the command was started again");
    // Once is enough: the next control plane finds its own build.
    let mark = host.mark();
    host.stop_control_plane()?;
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect_session()?;
    ensure!(agent.exec(["echo", "still"])?.stdout == "still\n");
    let again = host
        .events()
        .into_iter()
        .any(|row| row.seq > mark && row.kind == "SessionHalfUpgrading");
    ensure!(!again, "upgraded to what it is already");
    host.cli(["stop", &agent.short()])?.ok()?;
    agent.expect_exited(7)
}
