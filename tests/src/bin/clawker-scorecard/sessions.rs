//! P5: sessions established, of agents that the registry knows and of new ones, beside a bare hello.
//!
//! ```text
//! control plane stopped (SIGSTOP) ─▶ 32 clawkerds connect, and wait ─▶ CONT ─▶ … ─▶ the last one's row is told
//! ```
//! So 32 are in flight at once and no start of a process is counted. A known agent's connection was cut before; a new
//! agent's process is there and has no identity yet. New agents are asked to be frozen, which costs a session nothing
//! (its processes' state is written and read back either way) and keeps their plans, which are P6's, from running.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clawker_tests::wait;
use rustix::process::Signal;

use crate::bare::Bare;
use crate::figure::{Bound, Figure};
use crate::scale::{FLIGHT, Member, PATIENCE, Scale};
use crate::stats::{Samples, short};
use crate::wire::{Wire, cpu};
use crate::{Bench, ROUNDS, doing};

/// Batches of each side in a round.
const BATCHES: usize = 4;

/// One batch: how long until the last was established, and what it cost both ends.
struct Batch {
    per_second: f64,
    micros: f64,
}

#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    costs: Vec<f64>,
}

impl Side {
    fn take(&mut self, batch: &Batch) {
        self.rates.push(batch.per_second);
        self.costs.push(batch.micros);
    }
}

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let scale = Scale::start(bench, |_| Ok(None))?;
    let bare = bench.runtime.block_on(async { Bare::start() })?;
    let known = scale.run(bench, (0..FLIGHT).map(|n| format!("known{n}")))?;
    let (mut old, mut new, mut peer) = (Side::default(), Side::default(), Side::default());
    let mut made = 0;
    for round in 0..=ROUNDS {
        doing(&format!("P5, round {round} of {ROUNDS}"))?;
        for _ in 0..BATCHES {
            let hello = hellos(bench, &bare)?;
            let again = reconnect(bench, &scale, &known)?;
            if round > 0 {
                peer.take(&hello);
                old.take(&again);
            }
        }
        // Half as many, because each takes 32 new processes.
        for _ in 0..BATCHES / 2 {
            let members = scale.create(bench, (made..made + FLIGHT).map(|n| format!("new{n}")))?;
            made += FLIGHT;
            let batch = register(bench, &scale, &members)?;
            if round > 0 {
                new.take(&batch);
            }
            scale.remove(bench, &members)?;
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let figures = [
        (
            "known agents",
            &old,
            1.3,
            "attested, contained, preamble, hello, judged, matched with its row",
        ),
        (
            "new agents",
            &new,
            2.5,
            "the same with an inspect, a bundle, a second handshake and Register",
        ),
    ];
    let mut all = Vec::new();
    for (who, side, most, what) in figures {
        let rates = (Samples::of(side.rates.clone()), Samples::of(peer.rates.clone()));
        let costs = (Samples::of(side.costs.clone()), Samples::of(peer.costs.clone()));
        let mut rate = Figure::times(
            "P5",
            named(who, "rate"),
            "1/s",
            rates.0,
            ("bare tonic mTLS hello", rates.1),
        );
        rate.ratio = rate.value / rate.peer_value;
        all.push(
            rate.bounds(|f| vec![Bound::at_least("rate", f.value, 1000.0, "1/s")])
                .note(format!(
                    "{what}; {FLIGHT} at once to the last one's row, both ends on this machine, load {load}"
                )),
        );
        let cost = Figure::times(
            "P5",
            named(who, "cost"),
            "µs CPU",
            costs.0,
            ("bare tonic mTLS hello", costs.1),
        );
        let times = cost.value / cost.peer_value;
        all.push(
            cost.bounds(|f| vec![Bound::at_most("CPU", f.value / f.peer_value, most, "× the peer's")])
                .note(format!(
                    "{}×; control plane and both halves of clawkerd; the peer's both ends",
                    short(times)
                )),
        );
    }
    Ok(all)
}

fn named(who: &str, what: &str) -> &'static str {
    match (who, what) {
        ("known agents", "rate") => "sessions of known agents established, 32 in flight",
        ("known agents", _) => "processor time of a known agent's session, both ends",
        (_, "rate") => "sessions of new agents established and registered, 32 in flight",
        _ => "processor time of a new agent's session with its registration, both ends",
    }
}

fn hellos(bench: &Bench, bare: &Bare) -> Result<Batch> {
    let own = i32::try_from(std::process::id())?;
    let client = bare.client();
    let (began, before) = (Instant::now(), cpu(own)?);
    let open = bench.runtime.block_on(client.hellos(FLIGHT, FLIGHT))?;
    let took = began.elapsed().as_secs_f64();
    // Its end is part of ours, too.
    drop(open);
    std::thread::sleep(Duration::from_millis(50));
    Ok(Batch {
        per_second: FLIGHT as f64 / took,
        micros: (cpu(own)? - before) / FLIGHT as f64 * 1e6,
    })
}

fn reconnect(bench: &Bench, scale: &Scale, members: &[Member]) -> Result<Batch> {
    let halves = halves(scale, members)?;
    scale.signal(Signal::STOP)?;
    for [_, session] in &halves {
        let wire = wait::until("a session", PATIENCE, || Wire::of(*session))?;
        wire.cut()?;
    }
    waiting(&halves)?;
    establish(bench, scale, members, &halves, "SessionConnected")
}

fn register(bench: &Bench, scale: &Scale, members: &[Member]) -> Result<Batch> {
    let mut operator = scale.operator()?;
    for member in members {
        bench.runtime.block_on(operator.contain(&member.name, "freeze"))?;
    }
    scale.signal(Signal::STOP)?;
    scale.start_containers(bench, members)?;
    let halves = halves(scale, members)?;
    waiting(&halves)?;
    establish(bench, scale, members, &halves, "RegistryRowWritten")
}

fn halves(scale: &Scale, members: &[Member]) -> Result<Vec<[i32; 2]>> {
    members.iter().map(|member| scale.halves(member)).collect()
}

/// Waits until every PID 1 has a connection of which the control plane hasn't heard yet.
fn waiting(halves: &[[i32; 2]]) -> Result<()> {
    for [init, _] in halves {
        wait::until("PID 1 to connect", PATIENCE, || Wire::of(*init))?;
    }
    Ok(())
}

fn establish(bench: &Bench, scale: &Scale, members: &[Member], halves: &[[i32; 2]], kind: &str) -> Result<Batch> {
    let control_plane = scale.control_plane_pid()?;
    let spent = || -> Result<f64> {
        let mut all = cpu(control_plane)?;
        for pid in halves.iter().flatten() {
            all += cpu(*pid)?;
        }
        Ok(all)
    };
    let (mark, before) = (scale.rows.last(), spent()?);
    let began = Instant::now();
    scale.signal(Signal::CONT)?;
    let last = scale
        .each(bench, mark, kind, members)
        .context("sessions after the control plane went on")?;
    std::thread::sleep(Duration::from_millis(50));
    Ok(Batch {
        per_second: members.len() as f64 / last.duration_since(began).as_secs_f64(),
        micros: (spent()? - before) / members.len() as f64 * 1e6,
    })
}
