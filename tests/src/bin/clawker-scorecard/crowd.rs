//! P10 with many agents: what the control plane takes with 200 and 1,000 sessions, beside a bare client of as many.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bare::Bare;
use crate::figure::{Bound, Figure};
use crate::scale::{Scale, pss};
use crate::stats::{Samples, short};
use crate::wire::cpu;
use crate::{Bench, ROUNDS, doing};

const CROWDS: [usize; 2] = [200, 1000];
const LOOK: Duration = Duration::from_millis(500);
/// Longer than the 15 s between two relists.
const IDLE: Duration = Duration::from_secs(16);
/// After the last event the engine is asked each second for so long.
const SETTLED: Duration = Duration::from_secs(11);
const BASE_MIB: f64 = 60.0;

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let scale = Scale::start(bench, |_| Ok(None))?;
    let bare = bench.runtime.block_on(async { Bare::start() })?;
    let mut figures = Vec::new();
    let mut there = 0;
    for crowd in CROWDS {
        doing(&format!("P10, {crowd} agents"))?;
        scale.run(bench, (there..crowd).map(|n| format!("a{n}")))?;
        there = crowd;
        figures.push(sessions(&scale, &bare, crowd)?);
        if crowd == CROWDS[0] {
            figures.push(idle(&scale, crowd)?);
        }
    }
    Ok(figures)
}

fn sessions(scale: &Scale, bare: &Bare, crowd: usize) -> Result<Figure> {
    let control_plane = scale.control_plane_pid()?;
    // None at all, to be taken off.
    let mut empty = bare.client_process(0)?;
    let mut full = bare.client_process(crowd)?;
    let (empty_pid, full_pid) = (i32::try_from(empty.id())?, i32::try_from(full.id())?);
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        std::thread::sleep(LOOK);
        own.push(pss(&[control_plane])?);
        beside.push((pss(&[full_pid])? - pss(&[empty_pid])?) / crowd as f64 * 1024.0);
    }
    for child in [&mut empty, &mut full] {
        drop(child.stdin.take());
        child.wait()?;
    }
    let own = Samples::of(own);
    let each = Samples::of(beside);
    let peer = each.p50();
    let limit = BASE_MIB + 1.3 * peer / 1024.0 * crowd as f64;
    let name = match crowd {
        200 => "control plane with 200 sessions, policies in process",
        _ => "control plane with 1,000 sessions, policies in process",
    };
    let mut figure = Figure::times(
        "P10",
        name,
        "MiB PSS",
        own,
        ("a bare tonic client's session, KiB", each),
    );
    // Of different things: only the bound relates them.
    figure.ratio = f64::NAN;
    let beyond = (figure.value - BASE_MIB) / crowd as f64 * 1024.0;
    Ok(figure
        .bounds(|f| vec![Bound::at_most("PSS", f.value, (limit * 10.0).round() / 10.0, "MiB")])
        .note(format!(
            "the limit is {BASE_MIB} MiB and 1.3 of the peer's {} KiB a session; {} KiB a session beyond {BASE_MIB} MiB",
            short(peer),
            short(beyond)
        )))
}

fn idle(scale: &Scale, crowd: usize) -> Result<Figure> {
    let (control_plane, engine) = (scale.control_plane_pid()?, scale.rig.pid()?);
    std::thread::sleep(SETTLED);
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        doing(&format!("P10, {crowd} agents idle, round {round} of {ROUNDS}"))?;
        let (began, ours, theirs) = (Instant::now(), cpu(control_plane)?, cpu(engine)?);
        std::thread::sleep(IDLE);
        let percent = |seconds: f64| seconds / began.elapsed().as_secs_f64() * 100.0;
        own.push(percent(cpu(control_plane)? - ours));
        beside.push(percent(cpu(engine)? - theirs));
    }
    let peer = ("what it causes in the engine's double", Samples::of(beside));
    let figure = Figure::times(
        "P10",
        "idle control plane with 200 agents",
        "% of a core",
        Samples::of(own),
        peer,
    );
    let both = figure.value + figure.peer_value;
    Ok(figure
        .bounds(|_| vec![Bound::at_most("with what it causes in the engine", both, 1.0, "%")])
        .note("the engine is the rig, not dockerd: a list of Docker's costs more, see the figure with ten agents"))
}
