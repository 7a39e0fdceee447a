//! R7: from an operator's revocation to a dead session, as the kernel has it at the agent's end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clawker_tests::wait;

use crate::figure::{Bound, Figure};
use crate::scale::{Member, PATIENCE, Scale};
use crate::stats::Samples;
use crate::wire::Wire;
use crate::{Bench, doing};

const SHORT: usize = 60;
const FULL: usize = 500;
/// How long nobody may come back: several tries of each clawkerd.
const WATCHED: Duration = Duration::from_secs(5);

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let (agents, form) = if bench.full { (FULL, "full") } else { (SHORT, "short") };
    doing(&format!("R7, {agents} agents"))?;
    let began = Instant::now();
    let scale = Scale::start(bench, |_| Ok(None))?;
    let members = scale.run(bench, (0..agents).map(|n| format!("a{n}")))?;
    let (mut own, mut marks) = (Vec::new(), Vec::new());
    for member in &members {
        own.push(revoked(bench, &scale, member)?);
        marks.push(scale.rows.last());
    }
    std::thread::sleep(WATCHED);
    let first = marks.first().copied().unwrap_or_default();
    let back = scale.rows.after(first, |row| {
        row.kind == "SessionConnected"
            && members
                .iter()
                .zip(&marks)
                .any(|(member, mark)| member.name == row.agent && row.seq > *mark)
    });
    let tried = scale.rows.after(first, |row| row.kind == "SessionConnecting").len();
    let figure = Figure::times(
        "R7",
        "revoke to session dead",
        "ms",
        Samples::of(own),
        ("none", Samples::default()),
    );
    Ok(vec![
        figure
            .bounds(|f| {
                vec![
                    Bound::at_most("p99", f.own.p99(), 50.0, "ms"),
                    Bound::at_most("new sessions", back.len() as f64, 0.0, ""),
                ]
            })
            .note(format!(
                "{form} form, {:.0} s: an operator's request to the hang-up at the agent's end, one after the other; {} of \
                 them came back, {tried} connections were tried, watched for {} s",
                began.elapsed().as_secs_f64(),
                back.len(),
                WATCHED.as_secs()
            )),
    ])
}

fn revoked(bench: &Bench, scale: &Scale, member: &Member) -> Result<f64> {
    let [_, session] = scale.halves(member)?;
    let wire = wait::until("a session", PATIENCE, || Wire::of(session))?;
    let mut operator = scale.operator()?;
    let name = member.name.clone();
    let began = Instant::now();
    let asked = bench
        .runtime
        .spawn(async move { operator.contain(&name, "revoke").await });
    let dead = wire.dead(PATIENCE).with_context(|| member.name.clone())?;
    bench.runtime.block_on(asked)?.with_context(|| member.name.clone())?;
    Ok(dead.duration_since(began).as_secs_f64() * 1e3)
}
