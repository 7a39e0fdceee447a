//! P4: a command in an agent, from the operator's request to its exit code.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawker_tests::Host;
use tokio::task::JoinSet;

use crate::admin::Operator;
use crate::figure::{Bound, Figure};
use crate::plain::{self, Plain};
use crate::stats::Samples;
use crate::{Bench, ROUNDS, doing};

const OURS: usize = 100;
const PEERS: usize = 8;
/// Commands under way at once.
const FLIGHT: usize = 32;
/// How long each side is kept busy in a round.
const SPAN: Duration = Duration::from_secs(2);
/// Longer than what the kernel remembers of the last change to a cgroup.
const REST: Duration = Duration::from_millis(200);
const TRUE: [&str; 1] = ["/bin/true"];

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let host = bench.host()?;
    let agent = host
        .agent("exec")
        .image(bench.image()?)
        .command(["sleep", "100000"])
        .run()?;
    let peer = Plain::start(bench, "p4-peer", &["sleep", "100000"])?;
    let mut figures = latency(bench, &host, &agent.full(), &peer)?;
    figures.push(rested(bench, &host, &agent.full(), &peer)?);
    figures.push(throughput(bench, &host, &agent.full(), &peer)?);
    Ok(figures)
}

fn latency(bench: &Bench, host: &Host, agent: &str, peer: &Plain) -> Result<Vec<Figure>> {
    let mut operator = bench.runtime.block_on(Operator::connect(&host.socket()))?;
    let with_cli = plain::has_cli();
    let (mut own, mut api, mut cli) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        doing(&format!("P4, one at a time, round {round} of {ROUNDS}"))?;
        let ours = bench.runtime.block_on(async {
            let mut millis = Vec::new();
            for _ in 0..OURS {
                let began = Instant::now();
                operator.exec(agent, &TRUE).await?;
                millis.push(began.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(millis)
        })?;
        let (mut by_api, mut by_cli) = (Vec::new(), Vec::new());
        for _ in 0..PEERS {
            let began = Instant::now();
            peer.exec(&TRUE)?;
            by_api.push(began.elapsed().as_secs_f64() * 1e3);
            if with_cli {
                let began = Instant::now();
                docker_exec(peer)?;
                by_cli.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
        if round > 0 {
            own.extend(ours);
            api.extend(by_api);
            cli.extend(by_cli);
        }
    }
    let own = Samples::of(own);
    let against_api = Figure::times(
        "P4",
        "exec of a static `true`, request to exit code",
        "ms",
        own.clone(),
        ("docker exec, API", Samples::of(api)),
    )
    .bounds(|f| {
        vec![
            Bound::at_most("p50", f.value, 2.0, "ms"),
            Bound::at_most("p99", f.own.p99(), 8.0, "ms"),
            Bound::times(f.ratio, 15.0),
        ]
    })
    .note("an operator's gRPC client to the control plane, its session, clawkerd, and back; journaled");
    let mut figures = vec![against_api];
    if with_cli {
        let peer = ("docker exec, CLI", Samples::of(cli));
        let figure = Figure::times("P4", "the same, against the command line", "ms", own, peer)
            .bounds(|f| vec![Bound::times(f.ratio, 30.0)])
            .note("ours has no program to start here either; `clawker exec` is not measured");
        figures.push(figure);
    }
    Ok(figures)
}

/// What a single exec costs that nothing came shortly before.
fn rested(bench: &Bench, host: &Host, agent: &str, peer: &Plain) -> Result<Figure> {
    let mut operator = bench.runtime.block_on(Operator::connect(&host.socket()))?;
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        doing(&format!("P4, after a rest, round {round} of {ROUNDS}"))?;
        for _ in 0..PEERS {
            std::thread::sleep(REST);
            let began = Instant::now();
            bench.runtime.block_on(operator.exec(agent, &TRUE))?;
            let ours = began.elapsed().as_secs_f64() * 1e3;
            std::thread::sleep(REST);
            let began = Instant::now();
            peer.exec(&TRUE)?;
            if round > 0 {
                own.push(ours);
                beside.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let peer = ("docker exec, API, after the same rest", Samples::of(beside));
    Ok(Figure::times(
        "P4",
        "an exec of `true` after 200 ms of rest",
        "ms",
        Samples::of(own),
        peer,
    )
    .bounds(|f| vec![Bound::at_most("p50", f.value, 2.0, "ms"), Bound::times(f.ratio, 15.0)])
    .note(
        "joining a cgroup after a rest waits for the kernel's RCU, unless cgroups are mounted with \
                 favordynmods; in quick succession it doesn't",
    ))
}

fn docker_exec(peer: &Plain) -> Result<()> {
    let status = Command::new("docker")
        .args(["exec", &peer.id, TRUE[0]])
        .stdin(Stdio::null())
        .status()
        .context("docker exec")?;
    ensure!(status.success(), "docker exec ended with {status}");
    Ok(())
}

fn throughput(bench: &Bench, host: &Host, agent: &str, peer: &Plain) -> Result<Figure> {
    let operator = bench.runtime.block_on(Operator::connect(&host.socket()))?;
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        doing(&format!("P4, {FLIGHT} in flight, round {round} of {ROUNDS}"))?;
        let ours = bench.runtime.block_on(ours_at_once(&operator, agent))?;
        let theirs = theirs_at_once(peer)?;
        if round > 0 {
            own.push(ours);
            beside.push(theirs);
        }
    }
    let peer = ("docker exec, API, as many in flight", Samples::of(beside));
    let name = "execs of `true` with 32 in flight";
    Ok(Figure::rates("P4", name, "1/s", Samples::of(own), peer)
        .bounds(|f| vec![Bound::at_least("rate", f.value, 1000.0, "1/s")])
        .note(format!(
            "{} s each a round, one sample a round; Docker's daemon, clients and both control planes share the same \
             processors",
            SPAN.as_secs()
        )))
}

async fn ours_at_once(operator: &Operator, agent: &str) -> Result<f64> {
    let began = Instant::now();
    let mut flight = JoinSet::new();
    for _ in 0..FLIGHT {
        let (mut operator, agent) = (operator.clone(), agent.to_owned());
        flight.spawn(async move {
            let mut done = 0_usize;
            while began.elapsed() < SPAN {
                operator.exec(&agent, &TRUE).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(one) = flight.join_next().await {
        done += one??;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

fn theirs_at_once(peer: &Plain) -> Result<f64> {
    let began = Instant::now();
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..FLIGHT)
            .map(|_| {
                scope.spawn(|| {
                    while began.elapsed() < SPAN {
                        peer.exec(&TRUE)?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().ok().context("a thread of the peer")??;
        }
        anyhow::Ok(())
    })?;
    Ok(done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}
