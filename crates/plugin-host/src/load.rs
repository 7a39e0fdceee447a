//! From bytes to a plugin, each check before anything that costs more or trusts more.

use std::sync::Arc;

use wasmtime::component::Component;

use crate::bindings::policy::PolicyPre;
use crate::bindings::step::StepPre;
use crate::engine::unavailable;
use crate::inspect::inspect;
use crate::limits::Limits;
use crate::plugin::{Code, Description};
use crate::state::CallState;
use crate::{Host, Kind, LoadError, Plugin, Unavailable, digest};

impl Host {
    /// Checks, compiles and asks a component what it is. Takes tens of milliseconds, more in an unoptimised build.
    pub fn load(&self, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        let form = inspect(bytes)?;
        let digest = digest(bytes);
        if !self.accepted.contains(&digest) {
            return Err(LoadError::NotAccepted { digest });
        }
        let compile = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
        let component = Component::new(&self.engine, bytes).map_err(compile)?;
        let code = match form.kind {
            Kind::Policy => {
                let pre = self.policy_linker.instantiate_pre(&component).map_err(compile)?;
                Code::Policy(PolicyPre::new(pre).map_err(compile)?)
            }
            Kind::Step => {
                let pre = self.step_linker.instantiate_pre(&component).map_err(compile)?;
                Code::Step(StepPre::new(pre).map_err(compile)?)
            }
        };
        let said = self.describe(&code, digest.as_str().get(..12).unwrap_or_default());
        let said = Description::check(said.map_err(LoadError::Describe)?, form.kind)?;
        Ok(Arc::new(Plugin {
            digest,
            name: said.name,
            version: said.version,
            kind: form.kind,
            settings_schema: said.settings_schema,
            events: said.events,
            windows: said.windows,
            imports: form.imports,
            code,
        }))
    }

    fn describe(
        &self,
        code: &Code,
        name: &str,
    ) -> Result<crate::bindings::policy::clawker::plugin::types::Description, Unavailable> {
        let state = CallState::new(name, "{}".into(), &Limits::DESCRIBE);
        let (_pass, mut store) = self.begin(state, &Limits::DESCRIBE)?;
        let said = match code {
            Code::Policy(pre) => pre
                .instantiate(&mut store)
                .and_then(|guest| guest.call_describe(&mut store)),
            Code::Step(pre) => pre
                .instantiate(&mut store)
                .and_then(|guest| guest.call_describe(&mut store)),
        };
        said.map_err(|error| unavailable(&error, store.data()))
    }
}
