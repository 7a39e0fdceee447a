//! P10: what it costs to stand by. Memory is PSS, which counts a page that several share in equal parts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawker_proc::procfs;
use clawker_tests::agent::processes_of;
use clawker_tests::{Agent, Host, wait};

use crate::figure::{Bound, Figure};
use crate::scale::pss;
use crate::stats::Samples;
use crate::{Bench, ROUNDS, doing};

/// Agents at once; the target's 200 and 1,000 need another machine.
const AGENTS: usize = 10;
/// Between two looks, and how long idleness is watched in a round: longer than the 15 s between two relists.
const LOOK: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(16);

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let host = bench.host()?;
    let mut agents = vec![sleeper(bench, &host, 0)?];
    doing("P10, one agent")?;
    let mut figures = vec![clawkerd(&agents, "clawkerd, both halves, one session, one agent")?];
    doing(&format!("P10, {AGENTS} agents"))?;
    for n in 1..AGENTS {
        agents.push(sleeper(bench, &host, n)?);
    }
    figures.push(clawkerd(
        &agents,
        "clawkerd, both halves, ten agents that share its pages",
    )?);
    figures.push(control_plane(&host, &agents)?);
    figures.push(idle(&host)?);
    Ok(figures)
}

fn sleeper<'h>(bench: &Bench, host: &'h Host, n: usize) -> Result<Agent<'h>> {
    let agent = host
        .agent(&format!("idle{n}"))
        .image(bench.image()?)
        .command(["sleep", "100000"])
        .run()?;
    agent.expect_session()?;
    Ok(agent)
}

/// Both halves of an agent's clawkerd.
fn halves(container: &str, init: i32) -> Result<Vec<i32>> {
    let session = wait::until("a session half", wait::PATIENCE, || {
        let all = processes_of(container)?;
        Ok(all
            .iter()
            .find(|p| p.command.starts_with("clawkerd session "))
            .map(|p| p.pid))
    })?;
    Ok(vec![init, session])
}

fn clawkerd(agents: &[Agent<'_>], name: &'static str) -> Result<Figure> {
    let mut pids = Vec::new();
    for agent in agents {
        let init = agent.init_pid()?;
        let shim = procfs::stat(init)?.ppid;
        pids.push((halves(&agent.container()?, init)?, shim));
    }
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        std::thread::sleep(LOOK);
        for (halves, shim) in &pids {
            own.push(pss(halves)?);
            beside.push(pss(&[*shim])?);
        }
    }
    let peer = ("containerd-shim of the same container", Samples::of(beside));
    Ok(Figure::times("P10", name, "MiB PSS", Samples::of(own), peer)
        .bounds(|f| vec![Bound::at_most("PSS", f.value, 2.0, "MiB")])
        .note("idle, no exec"))
}

fn control_plane(host: &Host, agents: &[Agent<'_>]) -> Result<Figure> {
    let pid = host.control_plane_pid()?;
    let mut shims = BTreeSet::new();
    for agent in agents {
        shims.insert(procfs::stat(agent.init_pid()?)?.ppid);
    }
    let shims: Vec<i32> = shims.into_iter().collect();
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        std::thread::sleep(LOOK);
        own.push(pss(&[pid])?);
        beside.push(pss(&shims)?);
    }
    // 60 MiB, and 1.3 times the 54 KiB that a bare client of a session was seen to take.
    let limit = 60.0 + 1.3 * 54.0 / 1024.0 * agents.len() as f64;
    let peer = ("the containerd-shims of the same containers", Samples::of(beside));
    Ok(Figure::times(
        "P10",
        "control plane with ten sessions, policies in process",
        "MiB PSS",
        Samples::of(own),
        peer,
    )
    .bounds(|f| vec![Bound::at_most("PSS", f.value, (limit * 10.0).round() / 10.0, "MiB")])
    .note("the target is of 1,000 sessions; a bare tonic client was not measured beside it"))
}

fn idle(host: &Host) -> Result<Figure> {
    let pid = host.control_plane_pid()?;
    let daemons: Vec<i32> = procfs::all()?
        .into_iter()
        .filter(|process| process.comm == "dockerd" || process.comm == "containerd")
        .map(|process| process.pid)
        .collect();
    ensure!(!daemons.is_empty(), "no process is called dockerd");
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        doing(&format!("P10, idle, round {round} of {ROUNDS}"))?;
        let (began, ours, theirs) = (Instant::now(), cpu(&[pid])?, cpu(&daemons)?);
        std::thread::sleep(IDLE);
        let percent = |seconds: f64| seconds / began.elapsed().as_secs_f64() * 100.0;
        own.push(percent(cpu(&[pid])? - ours));
        beside.push(percent(cpu(&daemons)? - theirs));
    }
    let peer = (
        "dockerd and containerd meanwhile, whoever makes them work",
        Samples::of(beside),
    );
    let figure = Figure::times(
        "P10",
        "idle control plane with ten agents",
        "% of a core",
        Samples::of(own),
        peer,
    );
    let both = figure.value + figure.peer_value;
    Ok(figure.bounds(|_| vec![Bound::at_most("with what it causes in Docker", both, 1.0, "%")]).note(
        "the target is of 200 agents; what other users of the engine cause is in the peer's figure, so the sum is an \
         upper bound",
    ))
}

/// Seconds of processor time since their start.
fn cpu(pids: &[i32]) -> Result<f64> {
    // SAFETY: sysconf reads a constant of the kernel.
    let tick = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let mut ticks = 0.0;
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("stat of {pid}"))?;
        // Fields 14 and 15 of proc(5), counted behind the name, which may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        for field in fields.get(11..13).context("utime and stime")? {
            ticks += field.parse::<f64>()?;
        }
    }
    Ok(ticks / tick)
}
