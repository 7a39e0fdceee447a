//! P1 and P2: from an event to a network that is locked, to processes that are frozen, read back.

use std::time::{Duration, Instant};

use anyhow::Result;
use clawker_tests::wait;
use tokio::runtime::Runtime;

use crate::figure::{Bound, Figure};
use crate::plain::{Consumer, Plain};
use crate::rig::{Rig, is_frozen, is_locked, move_into_agent_cgroup};
use crate::stats::Samples;
use crate::{Bench, ROUNDS, doing};

/// Of ours in a round; the peer costs a hundred times as much.
const OURS: usize = 60;
const PEERS: usize = 5;
/// Processes besides the init, in both containers.
const PROCESSES: usize = 8;

const SLEEPERS: &str = "i=0; while [ $i -lt 8 ]; do sleep 100000 & i=$((i+1)); done; wait";

pub fn lock(bench: &Bench) -> Result<Vec<Figure>> {
    let agent = Plain::start(bench, "p1-ours", &["sleep", "100000"])?;
    let peer = Plain::start(bench, "p1-peer", &["sleep", "100000"])?;
    let mut consumer = Consumer::of(&peer)?;
    let rig = bench.runtime.block_on(Rig::watch(&agent))?;
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        doing(&format!("P1, round {round} of {ROUNDS}"))?;
        let ours = bench.runtime.block_on(async {
            let mut micros = Vec::new();
            for _ in 0..OURS {
                micros.push(rig.event(is_locked).await? / 1e3);
                rig.release().await?;
            }
            anyhow::Ok(micros)
        })?;
        let mut theirs = Vec::new();
        for _ in 0..PEERS {
            let began = consumer.event(&peer)?;
            peer.network_verb("disconnect")?;
            theirs.push(millis(began));
            peer.network_verb("connect")?;
        }
        // The first round warms both sides up.
        if round > 0 {
            own.extend(ours);
            beside.extend(theirs);
        }
    }
    let (policy, kernel) = bench.runtime.block_on(rig.parts("lock-network"))?;
    let row = bench.runtime.block_on(rig.row())?;
    end(&bench.runtime, rig);
    let peer = ("docker events consumer + network disconnect", Samples::of(beside));
    let figure = Figure::times(
        "P1",
        "event to network locked and read back, policy in process",
        "ms",
        Samples::of(own),
        peer,
    )
    .bounds(|f| {
        vec![
            Bound::at_most("p50", f.value, 1.0, "ms"),
            Bound::at_most("p99", f.own.p99(), 5.0, "ms"),
            Bound::times(f.ratio, 30.0),
        ]
    })
    .note(format!(
        "of which policy {policy} µs and kernel with read-back {kernel} µs (medians); the rest is ways between tasks \
         and five rows of the journal, {row:.0} µs each when nothing else happens, the last one behind the read-back"
    ));
    Ok(vec![figure])
}

pub fn freeze(bench: &Bench) -> Result<Vec<Figure>> {
    let agent = Plain::start(bench, "p2-ours", &["sh", "-c", SLEEPERS])?;
    let peer = Plain::start(bench, "p2-peer", &["sh", "-c", SLEEPERS])?;
    for plain in [&agent, &peer] {
        wait::until_true("the container's processes", wait::PATIENCE, || {
            Ok(clawker_tests::agent::processes_of(&plain.id)?.len() == PROCESSES + 1)
        })?;
    }
    let moved = move_into_agent_cgroup(&agent)?;
    let mut consumer = Consumer::of(&peer)?;
    let rig = bench.runtime.block_on(Rig::watch(&agent))?;
    // The policy freezes whom it has locked before.
    bench.runtime.block_on(async {
        rig.event(is_locked).await?;
        rig.release().await
    })?;
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        doing(&format!("P2, round {round} of {ROUNDS}"))?;
        let ours = bench.runtime.block_on(async {
            let mut micros = Vec::new();
            for _ in 0..OURS {
                // So that the freeze is all that is left to do.
                rig.lock().await?;
                micros.push(rig.event(is_frozen).await? / 1e3);
                rig.release().await?;
            }
            anyhow::Ok(micros)
        })?;
        let mut theirs = Vec::new();
        for _ in 0..PEERS {
            let began = consumer.event(&peer)?;
            peer.post("pause")?;
            theirs.push(millis(began));
            peer.post("unpause")?;
        }
        if round > 0 {
            own.extend(ours);
            beside.extend(theirs);
        }
    }
    let (policy, kernel) = bench.runtime.block_on(rig.parts("freeze"))?;
    end(&bench.runtime, rig);
    let peer = ("docker events consumer + pause", Samples::of(beside));
    let figure = Figure::times(
        "P2",
        "event to processes frozen and read back",
        "ms",
        Samples::of(own),
        peer,
    )
    .bounds(|f| vec![Bound::at_most("p50", f.value, 0.6, "ms"), Bound::times(f.ratio, 20.0)])
    .note(format!(
        "{moved} sleeping processes; of which policy {policy} µs and kernel with read-back {kernel} µs (medians)"
    ));
    Ok(vec![figure])
}

fn end(runtime: &Runtime, rig: Rig) {
    // Nobody waits longer for a task that doesn't end: the process does.
    let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), rig.end()).await });
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
