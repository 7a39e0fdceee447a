//! `policy-calls ROUNDS EGRESS_GUARD`: how long decisions take in the sandbox, beside bare calls of the same component.
//!
//! ```text
//! for each round: so many calls in this process, through a worker, and bare ─▶ one JSON object of nanoseconds
//! ```
//! Bare is what Wasmtime alone costs: a fresh instance out of the same pool, with arguments that are ready, without
//! limits, fuel or checks. Of the two guests one reads typed records alone, the other is a policy that people run.

#[path = "../tests/guests/mod.rs"]
mod guests;

use std::collections::HashSet;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clawker_model::Row;
use clawker_plugin_host::worker::{self, Class, Workers, WorkersConfig};
use clawker_plugin_host::{Facts, Plugin, PolicyCall, PolicyHost, WindowCount};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use bindings::clawker::plugin::{log, policy_types as wit, settings, types};
use bindings::{Policy, PolicyPre};

mod bindings {
    wasmtime::component::bindgen!({ path: "../plugin-sdk/wit", world: "policy" });
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Calls of each side in a round.
const CALLS: usize = 4000;

fn main() -> Result<()> {
    // It is its own worker, as the control plane is.
    if let Some(ended) = worker::run_child() {
        return match ended == ExitCode::SUCCESS {
            true => Ok(()),
            false => Err("the worker ended badly".into()),
        };
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [rounds, guard] = args.as_slice() else {
        return Err("usage: policy-calls ROUNDS EGRESS_GUARD".into());
    };
    let rounds = rounds.parse()?;
    let typed = measure(rounds, &typed())?;
    let guard = measure(rounds, &std::fs::read(guard)?)?;
    let told = serde_json::json!({
        "pagemap_scan": PoolingAllocationConfig::is_pagemap_scan_available(),
        "typed": {"ours": typed.ours, "worker": typed.worker, "bare": typed.bare},
        "guard": {"ours": guard.ours, "worker": guard.worker, "bare": guard.bare},
    });
    println!("{told}");
    Ok(())
}

/// A guest that locks on the second event in its window and reads no JSON.
fn typed() -> Vec<u8> {
    let mut data = guests::Data::default();
    let state = data.bytes(b"12 events, 1 phase");
    let (lock, nothing) = (data.decision(1, "lock-network", state), data.decision(0, "", state));
    // Local 9 points to the first window's count, which is 16 bytes into its record.
    let evaluate = format!(
        "(if (result i32) (i64.ge_u (i64.load offset=16 (local.get 9)) (i64.const 2))
             (then (i32.const {lock})) (else (i32.const {nothing})))"
    );
    guests::described_policy("typed", 1, "", &evaluate, data)
}

/// Nanoseconds of each call: in this process, through a worker, by bare Wasmtime.
#[derive(Default)]
struct Times {
    ours: Vec<u64>,
    worker: Vec<u64>,
    bare: Vec<u64>,
}

fn measure(rounds: usize, component: &[u8]) -> Result<Times> {
    let (host, plugin) = guests::load(component)?;
    let workers = Workers::new(WorkersConfig::of_this_program(HashSet::new()))?;
    let remote = workers.load(component, Class::ThirdParty)?;
    let row = guests::oom();
    let state = ask(&host, &plugin, &row, String::new())?;
    let bare = Bare::new(component, &plugin, &row, state.clone())?;
    let mut times = Times::default();
    // The first round warms up.
    for round in 0..=rounds {
        let one = Times {
            ours: timed(|| ask(&host, &plugin, &row, state.clone()).map(drop))?,
            worker: timed(|| ask(&workers, &remote, &row, state.clone()).map(drop))?,
            bare: timed(|| bare.call())?,
        };
        if round > 0 {
            times.ours.extend(one.ours);
            times.worker.extend(one.worker);
            times.bare.extend(one.bare);
        }
    }
    Ok(times)
}

fn timed(mut call: impl FnMut() -> Result<()>) -> Result<Vec<u64>> {
    let mut one = || {
        let began = Instant::now();
        call()?;
        Ok(began.elapsed().as_nanos() as u64)
    };
    (0..CALLS).map(|_| one()).collect()
}

/// One decision as the control plane asks for it; the new state.
fn ask(host: &dyn PolicyHost, plugin: &Arc<Plugin>, row: &Row, state: String) -> Result<String> {
    let count = |window: &clawker_plugin_host::Window| WindowCount {
        kind: window.kind.clone(),
        seconds: window.seconds,
        count: 2,
    };
    let facts = Facts {
        counts: plugin.windows.iter().map(count).collect(),
        ..Facts::default()
    };
    let call = PolicyCall {
        plugin: plugin.clone(),
        settings: "{}".into(),
        row,
        facts,
        state,
    };
    Ok(host.evaluate(&call)?.state)
}

/// What imports reach in a bare call.
struct Nothing;

impl settings::Host for Nothing {
    fn get(&mut self) -> String {
        "{}".into()
    }
}

impl log::Host for Nothing {
    fn write(&mut self, _: log::Level, _: String) {}
}

impl types::Host for Nothing {}
impl wit::Host for Nothing {}

struct Bare {
    engine: Engine,
    guest: PolicyPre<Nothing>,
    event: wit::Event,
    facts: wit::Facts,
    state: String,
}

impl Bare {
    fn new(component: &[u8], plugin: &Plugin, row: &Row, state: String) -> Result<Self> {
        let mut pool = PoolingAllocationConfig::default();
        pool.linear_memory_keep_resident(256 << 10)
            .table_keep_resident(16 << 10);
        if PoolingAllocationConfig::is_pagemap_scan_available() {
            pool.pagemap_scan(Enabled::Yes);
        }
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |nothing| nothing)?;
        let component = Component::new(&engine, component)?;
        let guest = PolicyPre::new(linker.instantiate_pre(&component)?)?;
        let json = serde_json::to_value(&row.event)?;
        let event = wit::Event {
            kind: row.event.kind().to_owned(),
            seq: row.seq,
            at: row.at_ms,
            agent: row.agent.as_ref().map(ToString::to_string),
            body: json["body"].to_string(),
        };
        let count = |window: &clawker_plugin_host::Window| wit::WindowCount {
            kind: window.kind.clone(),
            seconds: window.seconds,
            count: 2,
        };
        let facts = wit::Facts {
            counts: plugin.windows.iter().map(count).collect(),
            containment: serde_json::to_string(&clawker_model::Containment::default())?,
        };
        Ok(Self {
            engine,
            guest,
            event,
            facts,
            state,
        })
    }

    fn call(&self) -> Result<()> {
        let mut store = Store::new(&self.engine, Nothing);
        let guest = self.guest.instantiate(&mut store)?;
        guest.call_evaluate(&mut store, &self.event, &self.facts, &self.state)?;
        Ok(())
    }
}
