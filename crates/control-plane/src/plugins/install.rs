//! Taking a plugin: each check in its order, and nothing is changed before the last of them.
//!
//! ```text
//! size, form, imports ─► manifest says the same ─► trusted key, within its scope ─► what it asks for is granted
//!   ─► compiled, describes itself, as the manifest says ─► settings fit ─► store ─► lockfile
//! ```
//! Until the key is trusted nothing of the component runs. What a worker says of it is held against the manifest, which the
//! signature covers.

use std::sync::Arc;

use clawker_model::PluginDigest;
use clawker_plugin_host::{LoadError, Plugin, inspect};
use clawker_plugin_package::{
    Entry, Grants, Judged, Kind, Manifest, ManifestError, OnTrial, Pin, PublicKey, Question, Refused, Signature,
    SignatureError, StoreError, Trust, TrustError,
};

use super::installed::{class, kind, wanted};
use super::{Plugins, PluginsError};
use crate::containment::{FALLBACKS, FailMode, Mode};
use crate::core::now_ms;

/// Why a plugin isn't taken, or isn't changed. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the component has no manifest: build it with `clawker plugin build`")]
    NoManifest,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("the trusted keys: {0}")]
    Trust(#[from] TrustError),
    #[error("`{name}` is refused: {why}")]
    Refused { name: String, why: Refused },
    #[error("`{name}` is the name of a plugin of this release")]
    BuiltIn { name: String },
    #[error("`{name}` is installed already, in version {version}: take another version with `clawker plugin upgrade`")]
    Installed { name: String, version: String },
    #[error("no plugin `{name}` is installed")]
    NotInstalled { name: String },
    #[error("`{name}` was a {before} and would be a {now}: remove it first")]
    OtherKind {
        name: String,
        before: &'static str,
        now: &'static str,
    },
    #[error("`{name}` is a {kind}: {what} is for policies")]
    NotAPolicy {
        name: String,
        kind: &'static str,
        what: &'static str,
    },
    #[error("`{key}` = `{value:.40}`: must be one of {known}")]
    Word {
        key: &'static str,
        value: String,
        known: String,
    },
    #[error("`{name}` has no {what}")]
    NoVersion { name: String, what: &'static str },
    #[error("the configuration says how `{name}` is used: change it there")]
    Configured { name: String },
    #[error(transparent)]
    Plugins(#[from] PluginsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an operator wants of a component. What is `None` stays as it is in the installed version.
#[derive(Debug, Default)]
pub struct Wish {
    pub signature: Option<Signature>,
    pub source: String,
    pub upgrade: bool,
    pub grants: Grants,
    /// Trusted for this component alone.
    pub development: Option<PublicKey>,
    pub usage: Usage,
    /// As a version on trial, for so many events.
    pub trial: Option<u64>,
}

/// How a plugin is used.
#[derive(Debug, Default)]
pub struct Usage {
    /// A JSON object.
    pub settings: Option<String>,
    pub mode: Option<String>,
    pub fallback: Option<String>,
    pub fail_mode: Option<String>,
}

impl Usage {
    /// Whether its words are known, and fit that kind of plugin.
    pub fn check(&self, name: &str, of: Kind) -> Result<(), InstallError> {
        for (key, value, words) in [
            ("mode", &self.mode, Mode::WORDS.as_slice()),
            ("fallback", &self.fallback, &FALLBACKS),
            ("fail-mode", &self.fail_mode, &FailMode::WORDS),
        ] {
            let Some(value) = value else { continue };
            if of != Kind::Policy {
                return Err(InstallError::NotAPolicy {
                    name: name.to_owned(),
                    kind: of.word(),
                    what: key,
                });
            }
            if !words.contains(&value.as_str()) {
                return Err(InstallError::Word {
                    key,
                    value: value.clone(),
                    known: words.join(", "),
                });
            }
        }
        Ok(())
    }

    /// The entry with what is wished.
    pub fn put(self, entry: &mut Entry) {
        for (to, wished) in [
            (&mut entry.mode, self.mode),
            (&mut entry.fallback, self.fallback),
            (&mut entry.fail_mode, self.fail_mode),
        ] {
            if let Some(wished) = wished {
                *to = wished;
            }
        }
    }
}

/// A component whose word and whose author's were checked; nothing of it has run.
pub struct Examined {
    pub manifest: Manifest,
    pub digest: PluginDigest,
    pub judged: Judged,
    pub asked: Grants,
    /// Of what it asks for, what isn't granted.
    pub missing: Grants,
    pub installed: Option<Entry>,
}

impl Plugins {
    /// Everything that can be known of a component without running it. Blocks.
    pub fn examine(&self, component: &[u8], wish: &Wish) -> Result<Examined, InstallError> {
        let form = inspect(component)?;
        let manifest = Manifest::find(component)?.ok_or(InstallError::NoManifest)?;
        manifest.has_imports(&form.imports)?;
        let (name, of) = (manifest.name.clone(), kind(form.kind));
        if self.is_built_in(&name) {
            return Err(InstallError::BuiltIn { name });
        }
        let installed = self.installed().store.entries().get(&name).cloned();
        let digest = clawker_plugin_host::digest(component);
        match &installed {
            Some(entry) if !wish.upgrade && entry.pin.digest != digest => {
                let version = entry.pin.version.clone();
                return Err(InstallError::Installed { name, version });
            }
            None if wish.upgrade => return Err(InstallError::NotInstalled { name }),
            Some(entry) if entry.kind != of => {
                return Err(InstallError::OtherKind {
                    name,
                    before: entry.kind.word(),
                    now: of.word(),
                });
            }
            _ => {}
        }
        wish.usage.check(&name, of)?;
        if wish.trial.is_some() && (of != Kind::Policy || installed.is_none()) {
            let what = "a trial beside an installed version";
            return Err(InstallError::NotAPolicy {
                name,
                kind: of.word(),
                what,
            });
        }
        let asked = Grants::asked(&manifest);
        let mut trust = Trust::load(&self.trust)?;
        if let Some(own) = &wish.development {
            trust = trust.with_development(own.clone());
        }
        let question = Question {
            name: &name,
            kind: of,
            digest: &digest,
            asked: &asked,
            signature: wish.signature.as_ref(),
            installed: installed.as_ref().map(|entry| &entry.pin.key),
            now_ms: now_ms(),
        };
        let judged = trust.judge(&question);
        let judged = judged.map_err(|why| InstallError::Refused { name, why })?;
        let before = installed.iter().flat_map(|entry| entry.pin.grants.iter());
        let granted: Grants = before.chain(wish.grants.iter()).cloned().collect();
        Ok(Examined {
            missing: asked.missing(&granted),
            manifest,
            digest,
            judged,
            asked,
            installed,
        })
    }

    /// Installs what was examined and of which nothing is missing. Blocks while it compiles.
    pub fn take(&self, component: &[u8], examined: &Examined, wish: Wish) -> Result<Entry, InstallError> {
        let manifest = &examined.manifest;
        let plugin = self
            .host
            .load_with(component, class(examined.judged.signer), wanted(manifest.limits))?;
        manifest.agrees(&plugin.name, &plugin.version, kind(plugin.kind), &plugin.imports)?;
        let entry = self.entry(&plugin, examined, wish.source, wish.usage, wish.trial)?;
        let Some(signature) = &wish.signature else {
            let (name, why) = (entry.name, Refused::Unsigned);
            return Err(InstallError::Refused { name, why });
        };
        let mut installed = self.installed();
        installed.store.put(component, signature)?;
        let new = entry.clone();
        installed
            .store
            .commit(|plugins| drop(plugins.insert(new.name.clone(), new)))?;
        installed.hold(plugin);
        if entry.enabled {
            let trust = Trust::load(&self.trust)?;
            installed.load(&entry, &trust, &self.host);
        }
        installed.let_go();
        Ok(entry)
    }

    fn entry(
        &self,
        plugin: &Arc<Plugin>,
        examined: &Examined,
        source: String,
        usage: Usage,
        trial: Option<u64>,
    ) -> Result<Entry, InstallError> {
        let Examined {
            manifest, installed, ..
        } = examined;
        let before = installed.as_ref().map(|entry| entry.pin.settings.clone());
        let settings = usage.settings.clone().or(before).unwrap_or_else(|| "{}".to_owned());
        super::fits(plugin, &settings)?;
        let settings = clawker_plugin_host::with_version(plugin, &settings);
        let pin = Pin {
            version: manifest.version.clone(),
            digest: examined.digest.clone(),
            key: examined.judged.key.clone(),
            signer: examined.judged.signer,
            world: manifest.world.clone(),
            source,
            settings,
            // All of it is granted; what it doesn't ask for any more isn't.
            grants: examined.asked.clone(),
            limits: manifest.limits,
        };
        let mut entry = match installed.clone() {
            Some(entry) => match trial {
                Some(promote_after) => Entry {
                    trial: Some(OnTrial { promote_after, pin }),
                    ..entry
                },
                None if entry.pin.digest == pin.digest => Entry { pin, ..entry },
                None => Entry {
                    previous: Some(entry.pin),
                    pin,
                    trial: None,
                    ..entry
                },
            },
            None => Entry {
                name: manifest.name.clone(),
                kind: kind(plugin.kind),
                installed_ms: now_ms(),
                enabled: true,
                mode: "enforce".to_owned(),
                fallback: "lock-network".to_owned(),
                fail_mode: "closed".to_owned(),
                pin,
                trial: None,
                previous: None,
            },
        };
        usage.put(&mut entry);
        Ok(entry)
    }
}

/// What is kept can be loaded.
const _: () = assert!(clawker_plugin_package::MAX_COMPONENT == clawker_plugin_host::limits::MAX_COMPONENT);
