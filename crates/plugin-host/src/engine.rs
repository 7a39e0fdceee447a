//! The engine: one configuration for every plugin, and the calls that it carries.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use clawker_model::PluginDigest;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, Trap};

use crate::bindings::{policy::Policy, step::Step};
use crate::gate::{Gate, Pass, TICK};
use crate::limits::{Limits, cut};
use crate::state::{CallState, store};
use crate::{Error, Unavailable};

/// Calls that run at once; more wait for a place.
pub(crate) const PLACES: u32 = 16;

/// One engine, the digests that it accepts and the thread behind its wall limits, which ends with it.
pub struct Host {
    pub(crate) engine: Engine,
    pub(crate) accepted: HashSet<PluginDigest>,
    pub(crate) policy_linker: Linker<CallState>,
    pub(crate) step_linker: Linker<CallState>,
    pub(crate) policy_limits: Limits,
    pub(crate) step_limits: Limits,
    gate: Gate,
}

impl Host {
    /// A host that loads only components whose digest is in `accepted`.
    pub fn new(accepted: HashSet<PluginDigest>) -> Result<Self, Error> {
        Self::with_limits(accepted, Limits::POLICY, Limits::STEP)
    }

    /// The same with other limits for `evaluate` and `run`. Memory over [`MAX_MEMORY`](crate::limits::MAX_MEMORY) isn't to be had.
    pub fn with_limits(accepted: HashSet<PluginDigest>, policy: Limits, step: Limits) -> Result<Self, Error> {
        let engine = engine()?;
        let wrong = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
        let mut policy_linker = Linker::new(&engine);
        Policy::add_to_linker::<_, HasSelf<_>>(&mut policy_linker, |state| state).map_err(wrong)?;
        let mut step_linker = Linker::new(&engine);
        Step::add_to_linker::<_, HasSelf<_>>(&mut step_linker, |state| state).map_err(wrong)?;
        Ok(Self {
            gate: Gate::new(engine.clone(), PLACES).map_err(Error::Ticker)?,
            engine,
            accepted,
            policy_linker,
            step_linker,
            policy_limits: policy,
            step_limits: step,
        })
    }

    /// A place in the engine, and a fresh store that is under `limits` from now on.
    pub(crate) fn begin(&self, state: CallState, limits: &Limits) -> Result<(Pass<'_>, Store<CallState>), Unavailable> {
        let pass = self.gate.enter();
        // One tick more, because the first may be about to end.
        let ticks = limits.wall.as_millis().div_ceil(TICK.as_millis()) as u64 + 1;
        let store =
            store(&self.engine, state, limits, ticks).map_err(|error| Unavailable::Trap(format!("{error:#}")))?;
        Ok((pass, store))
    }
}

/// Why a call gave no answer. The store is dropped by the caller.
pub(crate) fn unavailable(error: &wasmtime::Error, state: &CallState) -> Unavailable {
    if state.memory.exceeded {
        return Unavailable::Memory;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Unavailable::Fuel,
        Some(Trap::Interrupt) => Unavailable::Wall,
        Some(trap) => {
            let said = state
                .log
                .last_error
                .as_ref()
                .map(|line| format!(": {line}"))
                .unwrap_or_default();
            Unavailable::Trap(cut(format!("{trap}{said}"), crate::limits::MAX_TEXT))
        }
        None => Unavailable::BadOutput(cut(error.root_cause().to_string(), crate::limits::MAX_TEXT)),
    }
}

fn engine() -> Result<Engine, Error> {
    let pooled = Engine::new(config().allocation_strategy(InstanceAllocationStrategy::Pooling(pool())));
    // The pool reserves address space for all places at once; where that is limited, each call maps its own.
    pooled.or_else(|error| {
        tracing::warn!(
            error = format!("{error:#}"),
            "no pool for plugin instances, calls will be slower"
        );
        Engine::new(config().allocation_strategy(InstanceAllocationStrategy::OnDemand))
            .map_err(|error| Error::Engine(format!("{error:#}")))
    })
}

/// For compiling alone: without room for instances.
pub(crate) fn compiling() -> Result<Engine, Error> {
    Engine::new(config().allocation_strategy(InstanceAllocationStrategy::OnDemand))
        .map_err(|error| Error::Engine(format!("{error:#}")))
}

/// Deterministic: nothing in here depends on the CPU, the load or the time.
fn config() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .concurrency_support(false)
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(512 << 10)
        .relaxed_simd_deterministic(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(16))
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false);
    config
}

fn pool() -> PoolingAllocationConfig {
    use crate::limits::{MAX_INSTANCES, MAX_MEMORY, MAX_TABLES};
    let mut pool = PoolingAllocationConfig::default();
    pool.max_core_instances_per_component(MAX_INSTANCES)
        .max_memories_per_component(1)
        .max_memory_size(MAX_MEMORY)
        .max_tables_per_component(MAX_TABLES)
        .linear_memory_keep_resident(256 << 10)
        .table_elements(crate::limits::MAX_TABLE_ELEMENTS)
        .table_keep_resident(16 << 10)
        .total_component_instances(PLACES)
        .total_core_instances(PLACES * MAX_INSTANCES)
        .total_memories(PLACES)
        .total_tables(PLACES * MAX_TABLES);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes);
    }
    pool
}
