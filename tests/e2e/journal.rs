//! The journal on a real host: verified, put back in time, and restored under a running agent.

use anyhow::{Context, Result, ensure};
use clawker_tests::Host;
use clawker_tests::ran::Ran;
use serde_json::Value;

fn audit(host: &Host, more: &[&str]) -> Result<Ran> {
    host.cli(["audit", "verify", "--json"].iter().chain(more))
}

#[test]
fn the_journal_proves_itself_and_comes_back_from_a_backup() -> Result<()> {
    let mut host = Host::start()?;
    let dir = tempfile::tempdir()?;
    let file = |name: &str| Ok::<_, anyhow::Error>(dir.path().join(name).to_str().context("UTF-8")?.to_owned());
    let (early, late, head) = (file("early.tar")?, file("late.tar")?, file("head.json")?);
    let state = host.state_dir().to_str().context("UTF-8")?.to_owned();
    let restore = |host: &Host, more: &[&str]| host.cli(["restore", "--state-dir", &state].iter().chain(more));

    let init = host.agent("a").run()?.init_pid()?;
    host.cli(["backup", &early])?.ok()?;
    host.existing("a").contain("lock-network")?;
    std::fs::write(&head, host.cli(["audit", "head"])?.ok()?.stdout)?;
    host.cli(["backup", &late])?.ok()?;
    let report = audit(&host, &["--head", &head])?.ok()?.objects()?.remove(0);
    ensure!(
        report["sound"] == true && report["last"].as_u64() > Some(10),
        "{report}"
    );
    let exported = host.cli(["audit", "export"])?.ok()?.objects()?;
    let rows = exported.iter().filter(|line| line["head"] == Value::Null).count();
    ensure!(
        exported.len() > rows && exported[rows - 1]["seq"] == rows,
        "{rows} rows, {} lines",
        exported.len()
    );

    // Somebody puts the host back to before the lock. The head that was kept tells it.
    restore(&host, &["--force", &early])?.failed(73, "clawker down")?;
    host.stop_control_plane()?;
    restore(&host, &["--force", &early])?.ok()?;
    host.restart_control_plane()?;
    host.existing("a").expect_session()?;
    audit(&host, &["--head", &head])?.failed(1, "isn't what was written")?;

    host.stop_control_plane()?;
    restore(&host, &[&late])?.failed(73, "--force")?;
    restore(&host, &["--force", &late])?.ok()?;
    host.restart_control_plane()?;
    // The agent never noticed, and is contained as the backup has it.
    host.existing("a").expect_session()?;
    host.expect_locked("a")?;
    ensure!(host.existing("a").init_pid()? == init, "the agent was started again");
    let report = audit(&host, &["--head", &head])?.ok()?.objects()?.remove(0);
    ensure!(report["sound"] == true, "{report}");
    Ok(())
}
