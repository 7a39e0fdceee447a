//! What one call of a guest can reach: its settings, the log, its limits and, for a step, the recorded effects.

use std::sync::Arc;

use clawker_model::{Effect, EffectNote, EffectResult, SecretForm};
use wasmtime::{ResourceLimiter, Result, StoreLimits, StoreLimitsBuilder, bail};

use crate::limits::{HOSTCALL_FUEL, Limits, MAX_HOST_CALLS, MAX_INSTANCES, MAX_TABLE_ELEMENTS, MAX_TABLES};
use crate::log::Log;

/// The data of a store; made for a call and dropped with it.
pub(crate) struct CallState {
    pub settings: String,
    pub log: Log,
    pub memory: Memory,
    pub replay: Option<Replay>,
    /// Calls of `log` and `settings` so far.
    host_calls: u32,
}

/// The recorded effects of a step, and why its call was ended.
pub(crate) struct Replay {
    pub history: Arc<Vec<(EffectNote, EffectResult)>>,
    /// Names of the secrets that the step may use.
    pub secrets: Vec<String>,
    /// Those that it asked for in this call, by the number that it got.
    pub taken: Vec<(String, SecretForm)>,
    /// How many effects the step has asked for in this call.
    pub asked: usize,
    pub ended: Option<Ended>,
}

/// Why the host ended a step's call.
pub(crate) enum Ended {
    /// It asked for something that has not been done yet.
    Effect(Effect),
    /// Its `n`th effect is not the recorded one.
    Differs { n: usize, recorded: String, asked: String },
    /// What it asked for is out of bounds.
    Bad(String),
    /// What it asked for isn't granted.
    Denied(String),
}

impl CallState {
    pub fn new(settings: String, limits: &Limits) -> Self {
        Self {
            settings,
            log: Log::default(),
            memory: Memory {
                limit: limits.memory,
                used: 0,
                tables: 0,
                exceeded: false,
                counts: counts(),
            },
            replay: None,
            host_calls: 0,
        }
    }

    /// One more call of `log` or `settings`.
    pub fn count_host_call(&mut self) -> Result<()> {
        self.host_calls = self.host_calls.saturating_add(1);
        if self.host_calls > MAX_HOST_CALLS {
            bail!("more than {MAX_HOST_CALLS} calls of the host");
        }
        Ok(())
    }
}

/// A store under limits. `deadline` is in ticks of the engine's epoch.
pub(crate) fn store(
    engine: &wasmtime::Engine,
    state: CallState,
    limits: &Limits,
    deadline: u64,
) -> Result<wasmtime::Store<CallState>> {
    let mut store = wasmtime::Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_fuel(limits.fuel)?;
    store.set_epoch_deadline(deadline);
    store.set_hostcall_fuel(HOSTCALL_FUEL);
    store.set_max_component_handles(64);
    Ok(store)
}

/// Counts memory and table growth of all instances of a call; an excess traps at once, so that it has a name.
pub(crate) struct Memory {
    limit: usize,
    used: usize,
    tables: usize,
    pub exceeded: bool,
    counts: StoreLimits,
}

fn counts() -> StoreLimits {
    StoreLimitsBuilder::new()
        .instances(MAX_INSTANCES as usize)
        .tables(MAX_TABLES as usize)
        .memories(4)
        .build()
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.exceeded = true;
            bail!("memory limit of {} bytes", self.limit);
        }
        self.used = used;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.exceeded = true;
        Err(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let tables = self.tables.saturating_add(desired.saturating_sub(current));
        if tables > MAX_TABLE_ELEMENTS {
            self.exceeded = true;
            bail!("limit of {MAX_TABLE_ELEMENTS} table elements");
        }
        self.tables = tables;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.exceeded = true;
        Err(error)
    }

    fn instances(&self) -> usize {
        self.counts.instances()
    }

    fn tables(&self) -> usize {
        self.counts.tables()
    }

    fn memories(&self) -> usize {
        self.counts.memories()
    }
}
