//! R6: identities over many lifetimes on a simulated clock; what is counted is what failed.

use std::time::Instant;

use anyhow::Result;
use clawker_sim::lifetimes::{Plan, run};

use crate::figure::{Bound, Figure};
use crate::stats::Samples;
use crate::{Bench, doing};

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let (form, plan) = if bench.full {
        ("full", Plan::FULL)
    } else {
        ("short", Plan::SHORT)
    };
    doing(&format!("R6, {} agents, {} lifetimes", plan.agents, plan.lifetimes))?;
    let began = Instant::now();
    let outcome = run(&plan)?;
    let figure = Figure::times(
        "R6",
        "failed calls, connections and renewals",
        "",
        Samples::of(vec![outcome.failed as f64]),
        ("none", Samples::default()),
    );
    let note = format!(
        "{form} form, {:.0} s for {} simulated: {} calls, {} connections, {} renewals of which {} of leaves that had run \
         out, {} rotations, {} crashes, {} sessions that broke in a renewal{}",
        began.elapsed().as_secs_f64(),
        outcome.simulated_s,
        outcome.calls,
        outcome.connects,
        outcome.renewals,
        outcome.recoveries,
        outcome.rotations,
        outcome.crashes,
        outcome.broken,
        outcome
            .why
            .first()
            .map(|why| format!("; first: {why}"))
            .unwrap_or_default()
    );
    Ok(vec![
        figure
            .bounds(|f| {
                vec![
                    Bound::at_most("failed", f.value, 0.0, ""),
                    Bound::at_least("rotations", outcome.rotations as f64, f64::from(plan.rotations), ""),
                ]
            })
            .note(note),
    ])
}
