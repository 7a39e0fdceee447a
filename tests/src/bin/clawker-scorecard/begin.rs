//! P6: from "create" to the first instruction of the command, which prints the clock that both sides read.

use anyhow::{Context, Result};
use clawker_tests::{Docker, wait};
use clawker_wire::admin::CreateAgentRequest;
use rustix::time::{ClockId, clock_gettime};

use crate::admin::Operator;
use crate::figure::{Bound, Figure};
use crate::plain::Plain;
use crate::stats::{Samples, short};
use crate::{Bench, ROUNDS, doing};

/// Of each side in a round.
const EACH: usize = 5;
const CLOCK: &str = "/bin/score-clock";

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let host = bench.host()?;
    let mut operator = bench.runtime.block_on(Operator::connect(&host.socket()))?;
    let (mut own, mut beside) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        doing(&format!("P6, round {round} of {ROUNDS}"))?;
        for n in 0..EACH {
            let ours = bench.runtime.block_on(agent(bench, &mut operator, round * EACH + n))?;
            let theirs = plain(bench)?;
            if round > 0 {
                own.push(ours);
                beside.push(theirs);
            }
        }
    }
    let peer = ("the same image and command under plain Docker", Samples::of(beside));
    let mut figure = Figure::times(
        "P6",
        "create and start to the command's first instruction: time added",
        "ms",
        Samples::of(own),
        peer,
    );
    let total = figure.value;
    figure.value = total - figure.peer_value;
    let late = figure.own.p99() - figure.beside.p99();
    Ok(vec![
        figure
            .bounds(|f| {
                vec![
                    Bound::at_most("p50", f.value, 25.0, "ms"),
                    Bound::at_most("p99", late, 60.0, "ms"),
                ]
            })
            .note(format!(
                "ours takes {} ms in all, with the welcome step, an egress rule and policy; added at p99 (of ours minus \
                 of the peer's) {} ms; samples are totals; ratio is of totals",
                short(total),
                short(late)
            )),
    ])
}

async fn agent(bench: &Bench, operator: &mut Operator, n: usize) -> Result<f64> {
    let began = now();
    let request = CreateAgentRequest {
        project: "score".into(),
        agent: format!("begin{n}"),
        image: bench.image()?.to_owned(),
        command: vec![CLOCK.to_owned()],
        egress: vec!["192.0.2.1:443".to_owned()],
        ..CreateAgentRequest::default()
    };
    let (name, container) = operator.run(request).await?;
    let first = first_instruction(&bench.docker, &container)?;
    operator.remove(&name).await?;
    Ok((first - began) / 1e6)
}

fn plain(bench: &Bench) -> Result<f64> {
    let began = now();
    let plain = Plain::start(bench, "p6-peer", &[CLOCK])?;
    Ok((first_instruction(&bench.docker, &plain.id)? - began) / 1e6)
}

/// What the command printed, in nanoseconds.
fn first_instruction(docker: &Docker, container: &str) -> Result<f64> {
    wait::until("the command's clock", wait::PATIENCE, || {
        let logs = docker.logs(container)?;
        let line = logs
            .lines()
            .find(|line| line.len() > 9 && line.bytes().all(|byte| byte.is_ascii_digit()));
        line.map(|line| line.parse::<f64>().context("a clock")).transpose()
    })
}

fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}
