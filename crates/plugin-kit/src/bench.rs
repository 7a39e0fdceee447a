//! What a policy's calls cost, beside those of a policy that does nothing.
//!
//! Both run in the same sandbox, in turns, so that what else the machine does falls on both.

use std::time::Instant;

use clawker_engine::containment::asked;
use clawker_plugin_host::Kind;
use serde::Serialize;

use crate::cases::{self, Case};
use crate::policy::Watch;
use crate::replay::percentile;
use crate::{Error, Sandbox};

/// Calls of a measurement, at most.
pub const MAX_CALLS: usize = 1_000_000;

/// A policy that wants every event and never says anything.
const BARE: &str = r#"(module
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.set $next (i32.add (local.get $at) (local.get 3)))
        (local.get $at))
    (data (i32.const 8) "bare1{}")
    (data (i32.const 64)
        "\08\00\00\00\04\00\00\00\0c\00\00\00\01\00\00\00\01\00\00\00\0d\00\00\00\02\00\00\00"
        "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
    (func (export "describe") (result i32) (i32.const 64))
    (func (export "evaluate")
        (param i32 i32 i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
        (i32.const 128)))"#;

/// What was measured; times are nanoseconds of a call as its caller has them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    pub calls: usize,
    pub p50_ns: u64,
    pub p99_ns: u64,
    /// Calls that one thread makes.
    pub per_second: f64,
    /// The dearest call.
    pub fuel: u64,
    pub bare_p50_ns: u64,
    pub bare_p99_ns: u64,
}

/// Plays a case's events over and over, until at least `calls` of them were asked about.
pub fn run(sandbox: &Sandbox, case: &std::path::Path, calls: usize) -> Result<Measured, Error> {
    if !(1..=MAX_CALLS).contains(&calls) {
        return Err(Error::Unusable(format!("{calls} calls; allowed are 1 to {MAX_CALLS}")));
    }
    let Case::Policy(case) = cases::file::read(case, Kind::Policy)? else {
        return Err(Error::Unusable("a policy's case is needed".into()));
    };
    let rows: Vec<_> = (1..)
        .zip(&case.events)
        .map(|(number, event)| cases::row(&case, number, event))
        .collect();
    let bare = Sandbox::load(&bare()?)?;
    let mut bare_watch = Watch::new(&bare, "{}")?;
    let (mut ours, mut beside, mut fuel) = (Vec::new(), Vec::new(), 0);
    while ours.len() < calls {
        let before = ours.len();
        let mut watch = Watch::new(sandbox, &case.settings)?;
        for (row, event) in rows.iter().zip(&case.events) {
            let containment = event.containment.clone().unwrap_or_else(|| asked(&[]));
            let began = Instant::now();
            let Some(answer) = watch.see(row, &containment) else {
                continue;
            };
            ours.push(began.elapsed().as_nanos() as u64);
            let reply = answer.map_err(|why| Error::Unusable(format!("`{}`: {why}", case.name)))?;
            fuel = fuel.max(reply.fuel);
            let began = Instant::now();
            let answer = bare_watch.ask(row, &containment);
            beside.push(began.elapsed().as_nanos() as u64);
            answer.map_err(|why| Error::Unusable(format!("the bare policy: {why}")))?;
        }
        if ours.len() == before {
            return Err(Error::Unusable(format!(
                "the policy is asked about no event of the case `{}`",
                case.name
            )));
        }
    }
    let total: u64 = ours.iter().sum();
    ours.sort_unstable();
    beside.sort_unstable();
    Ok(Measured {
        calls: ours.len(),
        p50_ns: percentile(&ours, 50),
        p99_ns: percentile(&ours, 99),
        per_second: ours.len() as f64 * 1e9 / total.max(1) as f64,
        fuel,
        bare_p50_ns: percentile(&beside, 50),
        bare_p99_ns: percentile(&beside, 99),
    })
}

fn bare() -> Result<Vec<u8>, Error> {
    let wrong = |problem: String| Error::Unusable(format!("making the bare policy: {problem}"));
    let mut module = wat::parse_str(BARE).map_err(|error| wrong(error.to_string()))?;
    let mut resolve = wit_parser::Resolve::default();
    // One package in several files.
    let mut group = wit_parser::SourceMap::default();
    for (path, text) in crate::template::wit() {
        group.push_str(path, text);
    }
    let parsed = group.parse().map_err(|(_, error)| wrong(format!("{error:?}")))?;
    let package = resolve
        .push_group(parsed)
        .map_err(|error| wrong(format!("{error:?}")))?;
    let world = resolve
        .select_world(&[package], Some("policy"))
        .map_err(|error| wrong(error.to_string()))?;
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8)
        .map_err(|error| wrong(error.to_string()))?;
    wit_component::ComponentEncoder::default()
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| wrong(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_policy_is_one_and_says_nothing() {
        let bare = Sandbox::load(&bare().expect("makes it")).expect("loads");
        assert_eq!((bare.plugin.name.as_str(), bare.plugin.kind), ("bare", Kind::Policy));
    }
}
