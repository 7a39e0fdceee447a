//! Identities over time: renewed, recovered after an outage, moved to another root, taken away and given anew.
//!
//! Leaves live for ten seconds here, so that a test sees several of them.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, until_true};
use clawker_tests::{Agent, Host, Ran, bins, ran};

use crate::crash::registry;

const SHORT_LEAVES: &str = "[identity]\nleaf_seconds = 10\n";

fn host() -> Result<Host> {
    Setup::test()?.config(SHORT_LEAVES).start()
}

fn count(host: &Host, kind: &str) -> usize {
    host.events().iter().filter(|row| row.kind == kind).count()
}

/// It is trusted, its command was started once, and nothing was ever held against it.
fn expect_unharmed(host: &Host, agent: &Agent<'_>) -> Result<()> {
    agent.expect("trust", |view| {
        view["trust"] == "trusted" && view["session"] == "connected"
    })?;
    agent.exec(["true"])?.ok()?;
    ensure!(agent.times_printed("started")? == 1, "its command was started again");
    for kind in ["AgentUntrusted", "InitFailed"] {
        let row = host.events().into_iter().find(|row| row.kind == kind);
        ensure!(row.is_none(), "{row:?}");
    }
    Ok(())
}

fn started(host: &Host) -> Result<Agent<'_>> {
    let agent = host.agent("a").script("echo started; exec sleep 1000").run()?;
    agent.expect_log("started")?;
    Ok(agent)
}

#[test]
fn leaves_are_renewed_over_the_session_and_one_row_stays() -> Result<()> {
    let host = host()?;
    let agent = started(&host)?;
    let mut mark = 0;
    for _renewal in 0..3 {
        let rotated = host.expect_event_after(mark, "IdentityRotated", |_| true)?;
        let leaf = rotated.body["thumbprint"].clone();
        ensure!(rotated.body["held"] != leaf, "{:?}", rotated.body);
        // The new leaf is shown in a handshake, and the old one forgotten.
        host.expect_event_after(rotated.seq, "IdentityConfirmed", |row| row.body["thumbprint"] == leaf)?;
        mark = rotated.seq;
    }
    expect_unharmed(&host, &agent)?;
    ensure!(
        count(&host, "SessionConnected") == 1,
        "a renewal needs no other connection"
    );
    ensure!(count(&host, "SessionBroken") == 0 && count(&host, "AgentRegistered") == 1);
    ensure!(count(&host, "BundleIssued") == 1, "the key stays");
    drop(agent);
    let rows = registry(host)?;
    ensure!(rows.len() == 1 && rows[0].generation == 1, "{rows:?}");
    Ok(())
}

#[test]
fn an_outage_longer_than_a_leafs_life_heals_alone() -> Result<()> {
    let mut host = host()?;
    started(&host)?;
    host.expect_event("AgentReadySent", |_| true)?;
    host.kill_control_plane()?;
    let newest = host
        .events()
        .into_iter()
        .rfind(|row| row.kind == "BundleIssued" || row.kind == "IdentityRotated")
        .context("a leaf")?;
    until_true("the end of its leaf", PATIENCE, || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        Ok(now.as_millis() > u128::from(newest.at_ms) + 11_000)
    })?;
    host.restart_control_plane()?;
    let recovered = host.expect_event("IdentityRecovered", |_| true)?;
    ensure!(
        recovered.body["reason"] == "cert_expired" && recovered.body["count"] == 1,
        "{:?}",
        recovered.body
    );
    let agent = host.existing("a");
    expect_unharmed(&host, &agent)?;
    ensure!(count(&host, "BundleIssued") == 1, "the key is the pinned one");
    Ok(())
}

#[test]
fn a_rotation_of_the_root_restarts_nobody() -> Result<()> {
    let host = host()?;
    let agent = started(&host)?;
    let before = host.cli(["ca", "--json"])?.ok()?.objects()?;
    ensure!(before[0]["phase"] == "standby", "{before:?}");
    host.cli(["ca", "rotate"])?.ok()?;
    let mut mark = 0;
    for phase in ["introduced", "switched", "standby"] {
        let row = host.expect_event_after(mark, "AuthorityRotated", |row| row.body["phase"] == phase)?;
        mark = row.seq;
    }
    let after = host.cli(["ca", "--json"])?.ok()?.objects()?;
    ensure!(after[0]["roots"][0]["id"] != before[0]["roots"][0]["id"], "{after:?}");
    ensure!(after[0]["roots"].as_array().map(Vec::len) == Some(1), "{after:?}");
    expect_unharmed(&host, &agent)?;
    ensure!(count(&host, "BundleIssued") == 1, "no new identity was needed");
    // A container of afterwards knows the new root alone.
    let late = host.agent("b").run()?;
    late.expect("trust", |view| view["trust"] == "trusted")
}

/// SIGKILL after each phase is on disk and before anything follows from it.
#[test]
fn a_rotation_resumes_where_the_control_plane_was_killed() -> Result<()> {
    let mut host = Setup::test()?.prepare()?;
    host.restart_control_plane_with_fault("authority-introduced")?;
    started(&host)?;
    // It dies before it can answer, or just after.
    host.cli(["ca", "rotate"])?;
    host.control_plane_ended()?;
    for point in ["authority-switched", "authority-retired"] {
        host.restart_control_plane_with_fault(point)?;
        host.control_plane_ended()?;
    }
    host.restart_control_plane()?;
    let agent = host.existing("a");
    expect_unharmed(&host, &agent)?;
    let authority = host.cli(["ca", "--json"])?.ok()?.objects()?;
    ensure!(authority[0]["phase"] == "standby", "{authority:?}");
    ensure!(count(&host, "BundleIssued") == 1, "nobody needed a new identity");
    Ok(())
}

/// Two rotations while the control plane holds no session with it: none of the roots that it knows is in use any more.
#[test]
fn an_agent_that_was_away_for_a_rotation_gets_a_new_bundle() -> Result<()> {
    let mut host = host()?;
    started(&host)?;
    host.kill_control_plane()?;
    let mut authority = clawker_identity::authority::Authority::open(&host.state_dir().join("ca"))?;
    authority.introduce_now()?;
    authority.switch()?;
    authority.retire()?;
    drop(authority);
    host.restart_control_plane()?;
    let agent = host.existing("a");
    expect_unharmed(&host, &agent)?;
    ensure!(count(&host, "BundleIssued") == 2, "its roots are gone");
    drop(agent);
    let rows = registry(host)?;
    ensure!(rows.len() == 1 && rows[0].generation == 2, "{rows:?}");
    Ok(())
}

#[test]
fn a_revoked_key_is_denied_for_good_and_a_release_brings_another() -> Result<()> {
    let host = host()?;
    let agent = started(&host)?;
    agent.contain("revoke")?;
    agent.expect("session", |view| view["session"] != "connected")?;
    ensure!(agent.exec(["true"])?.ok().is_err(), "a revoked agent runs something");
    let mark = host.mark();
    agent.release()?;
    let issued = host.expect_event_after(mark, "BundleIssued", |_| true)?;
    ensure!(issued.body["generation"] == 2, "{:?}", issued.body);
    agent.expect("trust", |view| {
        view["trust"] == "trusted" && view["session"] == "connected"
    })?;
    ensure!(agent.times_printed("started")? == 1, "its command was started again");
    drop(agent);
    let rows = registry(host)?;
    ensure!(rows.len() == 1 && rows[0].generation == 2, "{rows:?}");
    Ok(())
}

/// The fleet's key is nowhere near a control plane, and no agent hears of it.
#[test]
fn a_fleets_root_signs_a_hosts_and_agents_notice_nothing() -> Result<()> {
    let host = host()?;
    let agent = started(&host)?;
    let file = |name: &str| host.shared_dir().join(name);
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "the fleet");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(file("fleet.pem"), params.self_signed(&key)?.pem())?;
    std::fs::write(file("fleet.key"), key.serialize_pem())?;
    std::fs::write(file("host.csr"), host.cli(["ca", "request"])?.ok()?.stdout)?;

    // Without a control plane, and not with a key that anybody can read.
    let sign = || -> Result<Ran> {
        let mut command = Command::new(bins::clawker()?);
        command.args(["--socket", "/nowhere/admin.sock", "ca", "sign", "--fleet-key"]);
        command
            .arg(file("fleet.key"))
            .arg("--fleet-cert")
            .arg(file("fleet.pem"));
        ran::run(command.arg(file("host.csr")), PATIENCE)
    };
    std::fs::set_permissions(file("fleet.key"), std::fs::Permissions::from_mode(0o644))?;
    sign()?.failed(1, "readable by others")?;
    std::fs::set_permissions(file("fleet.key"), std::fs::Permissions::from_mode(0o600))?;
    std::fs::write(file("host.pem"), sign()?.ok()?.stdout)?;

    let before = host.cli(["ca", "--json"])?.ok()?.objects()?;
    ensure!(before[0]["roots"][0]["fleet"].is_null(), "{before:?}");
    let certificate = file("host.pem").display().to_string();
    host.cli(["ca", "install", &file("fleet.pem").display().to_string()])?
        .failed(2, "isn't of a root in force here")?;
    host.cli(["ca", "install", &certificate])?.ok()?;
    let after = host.cli(["ca", "--json"])?.ok()?.objects()?;
    ensure!(after[0]["roots"][0]["fleet"]["issuer"] == "the fleet", "{after:?}");
    ensure!(after[0]["roots"][0]["id"] == before[0]["roots"][0]["id"], "{after:?}");
    expect_unharmed(&host, &agent)?;
    ensure!(count(&host, "BundleIssued") == 1 && count(&host, "AuthorityRotated") == 0);
    Ok(())
}
