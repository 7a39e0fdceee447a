//! Bad input on the live listeners, from the init of an agent that somebody has taken over. The control plane's memory
//! stays where it was, and another agent's exec is answered while it goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, until};
use clawker_tests::{Agent, Host};
use serde_json::{Value, json};

use super::said;

/// What a flood may cost at its peak, in KiB. A debug build's heap grows by some MiB for anything; what is sent here is
/// between 64 MiB and several GiB by its own word, and every cap of one agent's listeners together is below 16 MiB.
const GROWTH: u64 = 48 * 1024;
/// How long another agent's exec may take meanwhile: milliseconds, on a machine that is busy with other tests too.
const ANSWER: Duration = Duration::from_secs(10);

/// Resident now and at its peak, in KiB (proc(5)).
fn memory(host: &Host) -> Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.control_plane_pid()?))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .with_context(|| format!("no {name} in {status}"))?
            .parse()
            .context("a number")
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

fn answers(agent: &Agent<'_>) -> Result<()> {
    let began = Instant::now();
    agent.exec(["true"])?.ok()?;
    ensure!(began.elapsed() < ANSWER, "an exec took {:?}", began.elapsed());
    Ok(())
}

/// One row: plays `flood`, and is the only one who notices.
fn floods(flood: &str) -> Result<Value> {
    let host = Setup::test()?.compromised().start()?;
    let other = host.agent("other").run()?;
    other.expect_session()?;
    answers(&other)?;
    let (before, peak) = memory(&host)?;
    let script = json!({"floods": flood, "token": "guessed"});
    let (attacker, _) = host.agent("f").plays(&script).run_in_background()?;
    let over = until("the end of the flood", PATIENCE, || {
        answers(&other)?;
        let said = said(&host, &attacker.container()?)?;
        Ok(said.into_iter().find(|said| said["flooded"] == true))
    })
    .with_context(|| host.log_tail())?;
    answers(&other)?;
    other.expect_session()?;
    let (now, highest) = memory(&host)?;
    println!("{flood}: {before} KiB before, {now} after, {highest} at most; {over}");
    ensure!(
        highest < before.max(peak) + GROWTH,
        "from {before} KiB to {highest} KiB for {flood}"
    );
    // Whoever flooded can still be contained.
    attacker.contain("lock-network")?;
    attacker.expect_containment("locked")?;
    Ok(over)
}

macro_rules! floods {
    ($($(#[$doc:meta])* fn $name:ident() { $flood:literal })*) => {
        $($(#[$doc])* #[test] fn $name() -> Result<()> {
            let over = floods($flood)?;
            ensure!(over["why"].is_null(), "{over}");
            Ok(())
        })*
    };
}

floods! {
    fn connections_that_say_nothing() { "silent-connections" }
    fn preamble_of_4_gib() { "huge-preamble" }
    fn half_preambles() { "half-preambles" }
    fn descriptors_along_with_a_preamble() { "descriptors" }
    fn handshake_of_a_byte_a_second() { "slow-handshake" }
    fn bytes_that_are_not_tls() { "no-tls" }
    fn streams_reset_as_soon_as_they_are_opened() { "rapid-reset" }
    fn flood_of_settings() { "settings" }
    fn flood_of_pings() { "pings" }
    fn a_thousand_streams() { "streams" }
    fn header_block_that_never_ends() { "continuations" }
    fn message_of_4_gib() { "huge-message" }
    fn messages_that_are_none() { "malformed" }
}

/// Those who aren't even let in: 200 at once on each socket.
#[test]
fn two_hundred_foreign_connections_at_once() -> Result<()> {
    let host = Host::start()?;
    let other = host.agent("other").run()?;
    let agent = host.agent("f").adversary()?.run()?;
    for agent in [&other, &agent] {
        agent.expect_session()?;
    }
    let (before, peak) = memory(&host)?;
    let short = agent.short();
    let crowd = [
        "exec",
        "--user",
        "0",
        &short,
        "--",
        "/adversary/forged-clawkerd",
        "crowd",
    ];
    let running = host.cli_in_background(crowd)?;
    host.expect_event("AgentUntrusted", |row| row.agent == agent.full())?;
    for _ in 0..10 {
        answers(&other)?;
    }
    let over = running.finish(PATIENCE)?.ok()?.objects()?;
    ensure!(over.iter().any(|said| said["closed"] == said["open"]), "{over:?}");
    let (now, highest) = memory(&host)?;
    println!("{before} KiB before, {now} after, {highest} at most; {over:?}");
    ensure!(
        highest < before.max(peak) + GROWTH,
        "from {before} KiB to {highest} KiB"
    );
    // 400 connections are a handful of rows.
    let rows = host.events().into_iter().filter(|row| row.kind == "AgentUntrusted");
    ensure!(rows.count() <= 32, "the journal is flooded");
    other.expect_session()?;
    agent.expect_session()
}
