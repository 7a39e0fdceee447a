//! Whether what is installed is what was installed, and still trusted.

use clawker_plugin_package::{Pin, Trust};

use super::Plugins;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub what: String,
    /// What isn't well, and the next step.
    pub problem: Option<String>,
}

impl Plugins {
    /// Looks at the file of trusted keys and at each installed plugin. Changes nothing. Blocks.
    pub fn check(&self) -> Vec<Check> {
        let trust = Trust::load(&self.trust);
        let mut checks = vec![Check {
            what: format!("trusted keys in {}", self.trust.display()),
            problem: trust.as_ref().err().map(ToString::to_string),
        }];
        let trust = trust.unwrap_or_default();
        let installed = self.installed();
        for entry in installed.store.entries().values() {
            let trial = entry.trial.as_ref().map(|trial| ("on trial", &trial.pin));
            let previous = entry.previous.as_ref().map(|pin| ("before", pin));
            for (what, pin) in [Some(("in force", &entry.pin)), trial, previous].into_iter().flatten() {
                let whole = || {
                    installed.store.read(&pin.digest).map_err(|error| error.to_string())?;
                    let signature = installed
                        .store
                        .signature(&pin.digest)
                        .map_err(|error| error.to_string())?;
                    signed(pin, &signature.key, &signature.digest)?;
                    trust.still(&pin.digest, &pin.key).map_err(|error| error.to_string())
                };
                checks.push(Check {
                    what: format!("{} {} ({what})", entry.name, pin.version),
                    problem: whole().err(),
                });
            }
            checks.push(Check {
                what: format!("{} in use", entry.name),
                problem: installed.problem(&entry.name).map(ToOwned::to_owned),
            });
        }
        checks
    }
}

fn signed(pin: &Pin, key: &clawker_plugin_package::KeyId, digest: &clawker_model::PluginDigest) -> Result<(), String> {
    match (key == &pin.key, digest == &pin.digest) {
        (true, true) => Ok(()),
        _ => Err("its signature in the store is another's: install it anew".to_owned()),
    }
}
