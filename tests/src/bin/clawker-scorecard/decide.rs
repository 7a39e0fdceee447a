//! P9: decisions of a policy in the sandbox, each in a fresh instance, beside a bare call of the same component.
//!
//! The sandbox's engine is the plugin host's alone, so its example `policy-calls` measures, and this tells.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clawker_tests::bins;
use serde_json::Value;

use crate::figure::{Bound, Figure};
use crate::stats::Samples;
use crate::{Bench, ROUNDS, doing};

pub fn measure(_: &Bench) -> Result<Vec<Figure>> {
    doing(&format!("P9, {ROUNDS} rounds"))?;
    let program = bins::profile_dir()?.join("examples/policy-calls");
    let guard = bins::libexec()?.join("plugins/egress-guard.wasm");
    let out = Command::new(&program)
        .arg(ROUNDS.to_string())
        .arg(&guard)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    ensure!(out.status.success(), "{} ended with {}", program.display(), out.status);
    let told: Value = serde_json::from_slice(&out.stdout).context("what policy-calls printed")?;
    let scan = told["pagemap_scan"].as_bool().unwrap_or(false);
    let (limit, rate) = if scan { (16.0, 60_000.0) } else { (30.0, 30_000.0) };
    let how = if scan {
        "with PAGEMAP_SCAN"
    } else {
        "without PAGEMAP_SCAN"
    };
    let figure = |what: &'static str, of: &str, by: &str| -> Result<Figure> {
        let bare = "a bare wasmtime call of the same component";
        let (ours, bare) = (samples(&told[of][by])?, (bare, samples(&told[of]["bare"])?));
        Ok(Figure::times("P9", what, "µs", ours, bare))
    };
    let typed = figure(
        "a policy's decision in the sandbox, typed records alone",
        "typed",
        "ours",
    )?;
    let guard = figure(
        "a decision of egress-guard, which reads and writes JSON",
        "guard",
        "ours",
    )?;
    let typed_worker = figure("typed records alone, through the worker process", "typed", "worker")?;
    let guard_worker = figure("egress-guard, through the worker process", "guard", "worker")?;
    let per_second = 1e6 / typed.value;
    Ok(vec![
        typed
            .bounds(|f| {
                vec![
                    Bound::at_most("p50", f.value, limit, "µs"),
                    Bound::at_least("rate", per_second, rate, "/s a core"),
                ]
            })
            .note(format!(
                "{how}; a real row in, checked verdict and state out; {per_second:.0} a second on one core"
            )),
        guard.note(format!("{how}; no target of its own")),
        typed_worker
            .bounds(|f| vec![Bound::at_most("p50", f.value, 120.0, "µs")])
            .note("one request, one reply on a socket of its own; two changes of context".to_owned()),
        guard_worker
            .bounds(|f| vec![Bound::at_most("p50", f.value, 120.0, "µs")])
            .note("the same".to_owned()),
    ])
}

fn samples(values: &Value) -> Result<Samples> {
    let values = values.as_array().context("samples")?;
    let nanos = values.iter().map(|value| value.as_f64().context("a sample"));
    Ok(Samples::of(nanos.map(|nanos| Ok(nanos? / 1e3)).collect::<Result<_>>()?))
}
