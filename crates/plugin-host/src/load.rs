//! From bytes to a plugin, each check before anything that costs more or trusts more.

use std::sync::Arc;

use wasmtime::component::Component;

use crate::bindings::policy::PolicyPre;
use crate::bindings::policy::clawker::plugin::types;
use crate::bindings::step::StepPre;
use crate::engine::unavailable;
use crate::inspect::inspect;
use crate::limits::{Limits, Wanted};
use crate::log::Line;
use crate::plugin::{Code, Description};
use crate::state::CallState;
use crate::{Host, Kind, LoadError, Plugin, Unavailable, digest};

impl Host {
    /// Checks, compiles and asks a component what it is. Takes tens of milliseconds, more in an unoptimised build.
    pub fn load(&self, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        self.load_with(bytes, Wanted::default())
    }

    /// The same for a plugin that wants other limits than its kind has.
    pub fn load_with(&self, bytes: &[u8], wanted: Wanted) -> Result<Arc<Plugin>, LoadError> {
        let form = inspect(bytes)?;
        let limits = match form.kind {
            Kind::Policy => self.policy_limits,
            Kind::Step => self.step_limits,
        };
        let limits = limits.with(wanted)?;
        let digest = digest(bytes);
        if !self.accepted.contains(&digest) {
            return Err(LoadError::NotAccepted { digest });
        }
        let compile = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
        let component = Component::new(&self.engine, bytes).map_err(compile)?;
        let code = self.link(form.kind, &component).map_err(compile)?;
        let (said, lines) = self.describe(&code, &limits);
        crate::log::tell(digest.as_str().get(..12).unwrap_or_default(), lines);
        let said = Description::check(said.map_err(LoadError::Describe)?, form.kind)?;
        Ok(Arc::new(Plugin::of(digest, form, said, limits, code)))
    }

    /// Code that a compiler of this engine made.
    pub(crate) fn revive(&self, kind: Kind, code: &[u8]) -> wasmtime::Result<Code> {
        // SAFETY: it comes from the control plane over the worker's own socket, in a memfd that nobody can change. The
        // control plane sends only what its own compiler of the same engine made, kept under a MAC of its own.
        let component = unsafe { Component::deserialize(&self.engine, code) }?;
        self.link(kind, &component)
    }

    fn link(&self, kind: Kind, component: &Component) -> wasmtime::Result<Code> {
        Ok(match kind {
            Kind::Policy => Code::Policy(PolicyPre::new(self.policy_linker.instantiate_pre(component)?)?),
            Kind::Step => Code::Step(StepPre::new(self.step_linker.instantiate_pre(component)?)?),
        })
    }

    pub(crate) fn describe(
        &self,
        code: &Code,
        limits: &Limits,
    ) -> (Result<types::Description, Unavailable>, Vec<Line>) {
        let limits = Limits {
            memory: limits.memory,
            ..Limits::DESCRIBE
        };
        let state = CallState::new("{}".into(), &limits);
        let (_pass, mut store) = match self.begin(state, &limits) {
            Ok(begun) => begun,
            Err(unavailable) => return (Err(unavailable), Vec::new()),
        };
        let said = match code {
            Code::Policy(pre) => pre
                .instantiate(&mut store)
                .and_then(|guest| guest.call_describe(&mut store)),
            Code::Step(pre) => pre
                .instantiate(&mut store)
                .and_then(|guest| guest.call_describe(&mut store)),
            Code::Worker(_) => return (Err(Unavailable::Missing), Vec::new()),
        };
        let said = said.map_err(|error| unavailable(&error, store.data()));
        (said, store.data_mut().log.take())
    }
}
