//! The plugins that an operator installed: read from the store, loaded into workers, turned into policies.
//!
//! One that can't be used any more (its component is gone, or revoked) is left out with the reason, and the rest go on; a
//! lockfile or a file of keys that can't be trusted stops the start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use clawker_model::PluginDigest;
use clawker_plugin_host::worker::{Class, Workers};
use clawker_plugin_host::{Kind, Plugin, Wanted};
use clawker_plugin_package::{self as package, Asked, Entry, Pin, Signer, Store, Trust};
use zeroize::Zeroizing;

use super::PluginsError;
use crate::containment::{FailMode, Mode, Policy, SHADOW, fallback};

pub(super) struct Installed {
    pub(super) store: Store,
    code: BTreeMap<PluginDigest, Arc<Plugin>>,
    /// Why a plugin isn't in use, by name.
    problems: BTreeMap<String, String>,
}

impl Installed {
    /// Loads what the lockfile names into workers. Blocks.
    pub(super) fn open(
        dir: &Path,
        key: Zeroizing<[u8; 32]>,
        trust: &Trust,
        host: &Workers,
    ) -> Result<Self, PluginsError> {
        let mut installed = Self {
            store: Store::open(dir, key, None)?,
            code: BTreeMap::new(),
            problems: BTreeMap::new(),
        };
        for entry in installed.store.entries().clone().values().filter(|entry| entry.enabled) {
            installed.load(entry, trust, host);
        }
        Ok(installed)
    }

    /// Loads what an entry needs to be in force, and notes why it can't.
    pub(super) fn load(&mut self, entry: &Entry, trust: &Trust, host: &Workers) {
        self.problems.remove(&entry.name);
        let on_trial = entry.trial.as_ref().map(|trial| &trial.pin);
        for pin in [Some(&entry.pin), on_trial].into_iter().flatten() {
            if let Err(problem) = self.load_one(pin, trust, host) {
                tracing::error!(
                    plugin = entry.name,
                    version = pin.version,
                    problem,
                    "an installed plugin isn't in use"
                );
                self.problems.insert(entry.name.clone(), problem);
            }
        }
    }

    fn load_one(&mut self, pin: &Pin, trust: &Trust, host: &Workers) -> Result<(), String> {
        if let Err(refused) = trust.still(&pin.digest, &pin.key) {
            self.code.remove(&pin.digest);
            return Err(refused.to_string());
        }
        if self.code.contains_key(&pin.digest) {
            return Ok(());
        }
        let bytes = self.store.read(&pin.digest).map_err(|error| error.to_string())?;
        let plugin = host
            .load_with(&bytes, class(pin.signer), wanted(pin.limits))
            .map_err(|error| error.to_string())?;
        self.hold(plugin);
        Ok(())
    }

    pub(super) fn hold(&mut self, plugin: Arc<Plugin>) {
        self.code.insert(plugin.digest.clone(), plugin);
    }

    pub(super) fn held(&self, digest: &PluginDigest) -> Option<Arc<Plugin>> {
        self.code.get(digest).cloned()
    }

    /// Lets go of code that no entry that is enabled needs. Calls under way keep theirs.
    pub(super) fn let_go(&mut self) {
        let entries = self.store.entries().values().filter(|entry| entry.enabled);
        let needed: BTreeSet<&PluginDigest> = entries.flat_map(Entry::pins).map(|pin| &pin.digest).collect();
        self.code.retain(|digest, _| needed.contains(digest));
    }

    /// The code of an installed plugin that is in use.
    pub(super) fn get(&self, name: &str) -> Result<Option<Arc<Plugin>>, PluginsError> {
        let Some(entry) = self.store.entries().get(name) else {
            return Ok(None);
        };
        let unusable = |problem: &str| PluginsError::Unusable {
            name: name.to_owned(),
            problem: problem.to_owned(),
        };
        if !entry.enabled {
            return Err(unusable("it is disabled: `clawker plugin enable` it"));
        }
        match self.code.get(&entry.pin.digest) {
            Some(plugin) => Ok(Some(plugin.clone())),
            None => Err(unusable(
                self.problems
                    .get(name)
                    .map_or("its component isn't loaded", String::as_str),
            )),
        }
    }

    pub(super) fn problem(&self, name: &str) -> Option<&str> {
        self.problems.get(name).map(String::as_str)
    }

    pub(super) fn problems(&self) -> Option<String> {
        let said = self.problems.iter().map(|(name, problem)| format!("{name}: {problem}"));
        let said = said.collect::<Vec<_>>().join("; ");
        (!said.is_empty()).then_some(said)
    }

    /// The policies that are in force by themselves: enabled, and not the configuration's.
    pub(super) fn policies(&self, configured: impl Fn(&str) -> bool) -> Vec<Policy> {
        let mut policies = Vec::new();
        for entry in self.store.entries().values() {
            if entry.kind != package::Kind::Policy || !entry.enabled {
                continue;
            }
            let mode = Mode::of(&entry.mode);
            if !configured(&entry.name) {
                policies.extend(self.policy(entry, &entry.pin, entry.name.clone(), mode));
            }
            if let Some(trial) = &entry.trial {
                let mode = Mode::Shadow {
                    promote_after: trial.promote_after,
                };
                policies.extend(self.policy(entry, &trial.pin, format!("{}{SHADOW}", entry.name), mode));
            }
        }
        policies
    }

    fn policy(&self, entry: &Entry, pin: &Pin, name: String, mode: Mode) -> Option<Policy> {
        Some(Policy {
            name,
            plugin: self.held(&pin.digest)?,
            settings: pin.settings.clone(),
            fallback: fallback(&entry.fallback),
            fail_mode: FailMode::of(&entry.fail_mode),
            mode,
        })
    }
}

pub(super) fn class(signer: Signer) -> Class {
    match signer {
        Signer::ThirdParty => Class::ThirdParty,
        Signer::Development => Class::Development,
    }
}

/// The limits that a manifest asks for, as the plugins' host has them.
pub(super) fn wanted(asked: Asked) -> Wanted {
    Wanted {
        memory: asked.memory,
        fuel: asked.fuel,
    }
}

pub(super) fn kind(kind: Kind) -> package::Kind {
    match kind {
        Kind::Policy => package::Kind::Policy,
        Kind::Step => package::Kind::Step,
    }
}
