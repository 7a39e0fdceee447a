//! Plugins in processes of their own: a way out of the sandbox ends in a process that can do nothing.
//!
//! Owns the worker processes, one for each class of signer, the short-lived compilers, and what was compiled. A worker
//! runs as nobody, without network and files, behind a system-call filter (`sandbox`); it holds no secret and no
//! grant: what it answers is checked here as if the plugin itself had sent it.
//!
//! ```text
//! load ──► form, digest ──► compiled code kept? ──no──► a compiler, ended after it ──► kept, with a MAC
//!                                  └──────────yes─────────────┐                              │
//!                                                             ▼                              ▼
//!                                           sealed memfd ──► worker: load, describe ──► checked here ──► Plugin
//! call ──► a free channel ──► worker ──► answer, checked here ──► reply
//!
//! worker:  Absent ──first load──► Running ──dies, or answers too late, or not what was asked──► Absent
//!                                             (each call under way: Unavailable; the next call starts another)
//! ```
//! One request, one reply: a channel that did anything else is the worker's end.

mod channel;
mod child;
mod compile;
mod kept;
mod link;
mod proto;
mod sandbox;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawker_model::PluginDigest;

pub use child::run as run_child;
pub use kept::CodeKey;
use kept::Kept;
use link::{Link, Loaded};

use crate::effects::check_answer;
use crate::inspect::inspect;
use crate::limits::MAX_EFFECTS;
use crate::plugin::{Code, Description};
use crate::policy::{answer, event, facts};
use crate::{
    Error, Kind, Limits, LoadError, Plugin, PolicyCall, PolicyHost, PolicyReply, StepCall, StepTurn, Unavailable,
    Wanted,
};

/// Under whose name a plugin runs: plugins of different classes share no process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Of this release.
    BuiltIn,
    ThirdParty,
    /// Signed by a key that only this machine trusts.
    Development,
}

impl Class {
    const ALL: [Self; 3] = [Self::BuiltIn, Self::ThirdParty, Self::Development];
}

/// How workers are started.
#[derive(Debug)]
pub struct WorkersConfig {
    /// A program that calls [`run_child`] when its first argument is [`WORKER`] or [`COMPILER`].
    pub program: PathBuf,
    /// Where compiled code is kept, and the key that vouches for it; without it everything is compiled anew.
    pub kept: Option<(PathBuf, CodeKey)>,
    /// The digests that are accepted as this release's own.
    pub built_in: HashSet<PluginDigest>,
    pub policy: Limits,
    pub step: Limits,
}

impl WorkersConfig {
    /// The running program itself, nothing kept, the default limits.
    pub fn of_this_program(built_in: HashSet<PluginDigest>) -> Self {
        Self {
            program: "/proc/self/exe".into(),
            kept: None,
            built_in,
            policy: Limits::POLICY,
            step: Limits::STEP,
        }
    }
}

/// First argument of a worker.
pub const WORKER: &str = "plugin-worker";
/// First argument of a compiler.
pub const COMPILER: &str = "plugin-compiler";

/// All workers of this host. Blocks in every function; async callers use `spawn_blocking`.
pub struct Workers {
    config: WorkersConfig,
    kept: Kept,
    classes: HashMap<Class, Mutex<State>>,
    gone: Gone,
}

/// Handles of plugins that nobody has any more, and whose code their workers still hold.
type Gone = Arc<Mutex<Vec<(Class, u64)>>>;

/// One class: its process, if there is one, and what it has to hold.
#[derive(Default)]
struct State {
    link: Option<Arc<Link>>,
    loaded: HashMap<u64, Arc<Loaded>>,
}

/// What a [`Plugin`] of a worker has in the place of compiled code.
pub(crate) struct Remote {
    class: Class,
    /// Random, so that no answer of another plugin can be taken for one of this.
    handle: u64,
    gone: Gone,
}

impl Drop for Remote {
    /// To tell the worker would block: [`Workers::sweep`] does.
    fn drop(&mut self) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.push((self.class, self.handle));
    }
}

impl Workers {
    /// Starts nothing yet.
    pub fn new(mut config: WorkersConfig) -> Result<Self, Error> {
        let kept = Kept::open(config.kept.take())?;
        Ok(Self {
            config,
            kept,
            classes: Class::ALL.map(|class| (class, Mutex::default())).into(),
            gone: Gone::default(),
        })
    }

    /// Checks a component, compiles it unless that was done before, and asks it what it is. Whether to trust it is the
    /// caller's to know, but a component is only run as this release's own if its digest is among them.
    pub fn load(&self, bytes: &[u8], class: Class) -> Result<Arc<Plugin>, LoadError> {
        self.load_with(bytes, class, Wanted::default())
    }

    /// The same for a plugin that wants other limits than its kind has.
    pub fn load_with(&self, bytes: &[u8], class: Class, wanted: Wanted) -> Result<Arc<Plugin>, LoadError> {
        self.sweep();
        let form = inspect(bytes)?;
        let limits = match form.kind {
            Kind::Policy => self.config.policy,
            Kind::Step => self.config.step,
        };
        let limits = limits.with(wanted)?;
        let digest = crate::digest(bytes);
        if class == Class::BuiltIn && !self.config.built_in.contains(&digest) {
            return Err(LoadError::NotAccepted { digest });
        }
        let code = self
            .kept
            .get_or(&digest, || compile::compile(&self.config.program, bytes))?;
        let handle = random()?;
        let loaded = Arc::new(Loaded {
            handle,
            kind: form.kind,
            limits,
            code,
        });
        let said = self.hold(class, &loaded)?;
        Ok(Arc::new(Plugin::of(
            digest,
            form,
            said,
            limits,
            Code::Worker(Remote {
                class,
                handle,
                gone: self.gone.clone(),
            }),
        )))
    }

    /// Puts the code into the class's worker, whichever that is in the end. What it says of itself, checked; one that says
    /// something wrong isn't held.
    fn hold(&self, class: Class, loaded: &Arc<Loaded>) -> Result<Description, LoadError> {
        loop {
            let link = self.link(class).map_err(LoadError::Describe)?;
            let said =
                Description::check(link.load(loaded)?, loaded.kind).inspect_err(|_| link.unload(loaded.handle))?;
            let mut state = self.state(class);
            // Else another worker came meanwhile, which doesn't have it.
            if state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, &link)) {
                state.loaded.insert(loaded.handle, loaded.clone());
                return Ok(said);
            }
        }
    }

    /// Lets workers forget the code of plugins that were dropped everywhere. A call has its plugin, so none is under way.
    pub fn sweep(&self) {
        let gone = std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner));
        for (class, handle) in gone {
            let link = {
                let mut state = self.state(class);
                state.loaded.remove(&handle);
                state.link.clone()
            };
            if let Some(link) = link.filter(|link| link.is_alive()) {
                link.unload(handle);
            }
        }
    }

    /// How many plugins' code workers hold.
    pub fn held(&self) -> usize {
        Class::ALL.into_iter().map(|class| self.state(class).loaded.len()).sum()
    }

    /// Process ids of the workers that run.
    pub fn pids(&self) -> HashMap<Class, u32> {
        let pid = |class| {
            Some((
                class,
                self.state(class).link.as_ref().filter(|link| link.is_alive())?.pid(),
            ))
        };
        Class::ALL.into_iter().filter_map(pid).collect()
    }

    /// As [`Host::step`](crate::Host::step), in a worker.
    pub fn step(&self, call: &StepCall) -> StepTurn {
        self.turn(call).unwrap_or_else(StepTurn::Unavailable)
    }

    fn turn(&self, call: &StepCall) -> Result<StepTurn, Unavailable> {
        let Code::Worker(remote) = &call.plugin.code else {
            return Err(Unavailable::Missing);
        };
        if call.history.len() > MAX_EFFECTS {
            return Err(Unavailable::BadOutput(format!("more than {MAX_EFFECTS} effects")));
        }
        let question = proto::Step {
            settings: call.settings.clone(),
            secrets: call.secrets.clone(),
            context: call.context.raw(),
            history: call.history.iter().map(proto::recorded).collect(),
        };
        let link = self.link(remote.class)?;
        let turn = link.step(remote.handle, &call.plugin, question)?;
        // Nothing that a worker says is taken on trust.
        if let StepTurn::Effect(effect) = &turn {
            check_answer(effect, &call.secrets).map_err(Unavailable::BadOutput)?;
        }
        Ok(turn)
    }

    /// The class's worker; another one, with everything that was loaded, if the last has died.
    fn link(&self, class: Class) -> Result<Arc<Link>, Unavailable> {
        let mut state = self.state(class);
        if let Some(link) = state.link.as_ref().filter(|link| link.is_alive()) {
            return Ok(link.clone());
        }
        state.link = None;
        let link = Arc::new(Link::start(&self.config, class).map_err(link::lost)?);
        for loaded in state.loaded.values() {
            // What it says of itself was checked when it was loaded first.
            link.load(loaded)
                .map_err(|error| Unavailable::Worker(format!("it can't be filled again: {error}")))?;
        }
        state.link = Some(link.clone());
        Ok(link)
    }

    // Whoever panicked with it left a worker that is there or isn't: both are looked at anew.
    fn state(&self, class: Class) -> MutexGuard<'_, State> {
        #[expect(clippy::indexing_slicing, reason = "made with every class")]
        self.classes[&class].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PolicyHost for Workers {
    fn evaluate(&self, call: &PolicyCall<'_>) -> Result<PolicyReply, Unavailable> {
        let began = std::time::Instant::now();
        let Code::Worker(remote) = &call.plugin.code else {
            return Err(Unavailable::Missing);
        };
        let question = proto::Evaluate {
            settings: call.settings.clone(),
            event: event(call.row)?,
            facts: facts(&call.facts)?,
            state: call.state.clone(),
        };
        let link = self.link(remote.class)?;
        let (decision, fuel) = link.evaluate(remote.handle, &call.plugin, question)?;
        let (verdicts, state) = answer(decision).map_err(Unavailable::BadOutput)?;
        Ok(PolicyReply {
            verdicts,
            state,
            fuel: fuel.min(call.plugin.limits.fuel),
            micros: began.elapsed().as_micros() as u64,
        })
    }
}

fn random() -> Result<u64, LoadError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| LoadError::Compile(format!("no randomness: {error}")))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Confines this process as a worker confines itself, for tests of the filter.
#[doc(hidden)]
pub fn confine_as_worker() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut without = sandbox::leave_network();
    without.extend(sandbox::confine(sandbox::For::Calls)?);
    Ok(without)
}
