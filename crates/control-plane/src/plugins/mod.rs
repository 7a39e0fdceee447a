//! The plugins of this host, each loaded once, into a worker process.
//!
//! ```text
//! this release's own ── libexec, by digests that are compiled in ──────────────┐
//! installed ── store, by a lockfile under a key of the host's (`installed`) ───┴► steps of plans, policies in force
//!                └── taken (`install`), changed (`change`), asked again (`explain`)
//! ```
//! This release's own that the configuration names are loaded at the beginning; a step that only some agent's plan names,
//! when it is first asked for. A name is a built-in plugin's or an installed one's, never both.

mod change;
mod check;
mod explain;
mod install;
mod installed;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawker_model::{Effect, Piece, Plan, PluginDigest, Step, When};
pub use clawker_plugin_host::worker::CodeKey;
use clawker_plugin_host::worker::{Class, Workers, WorkersConfig};
use clawker_plugin_host::{Kind, LoadError, Plugin, check_settings, secrets_named};
use clawker_plugin_package::{Entry, Grants, StoreError, Trust, TrustError};
use zeroize::Zeroizing;

pub use change::{ChangeError, Version, change, install, promote, remove};
pub use check::Check;
pub use explain::{ExplainError, Explained, explain};
pub use install::{Examined, InstallError, Usage, Wish};
use installed::Installed;

use crate::config::{Config, PolicyConfig, StepConfig};
use crate::containment::{FailMode, Mode, Policy, fallback};

mod accepted {
    include!(concat!(env!("OUT_DIR"), "/digests.rs"));
}

/// Why the plugins that the configuration names can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginsError {
    #[error(
        "finding {what}: none of {} exists; set CLAWKER_LIBEXEC to the folder that holds it",
        places(tried)
    )]
    NoLibexec { what: &'static str, tried: Vec<PathBuf> },
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("loading {}: {source}", path.display())]
    Load { path: PathBuf, source: LoadError },
    #[error("plugin host: {0}")]
    Host(#[from] clawker_plugin_host::Error),
    #[error(
        "there is no plugin `{name:.80}`: none of that name is installed, and `{name:.80}.wasm` isn't in {}",
        folder.display()
    )]
    Unknown { name: String, folder: PathBuf },
    #[error("the plugin `{name}` can't be used: {problem}")]
    Unusable { name: String, problem: String },
    #[error("the installed plugins: {0}")]
    Store(#[from] StoreError),
    #[error("the trusted keys: {0}")]
    Trust(#[from] TrustError),
    #[error("`{key}` names `{name}`, which is a {found} plugin")]
    Kind {
        key: &'static str,
        name: String,
        found: &'static str,
    },
    #[error("settings of `{name}`: {problem}")]
    Settings { name: String, problem: String },
}

fn places(tried: &[PathBuf]) -> String {
    tried
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The keys of this host that plugins need.
pub struct Keys {
    /// Vouches for compiled code that is kept.
    pub code: CodeKey,
    /// Vouches for the lockfile.
    pub lock: Zeroizing<[u8; 32]>,
}

impl Keys {
    pub fn of(store: &clawker_store::Store) -> Self {
        Self {
            code: CodeKey::new(&store.key_for("compiled-plugins")),
            lock: store.key_for("plugins-lock"),
        }
    }
}

/// What is loaded.
pub struct Plugins {
    pub host: Arc<Workers>,
    folder: PathBuf,
    trust: PathBuf,
    /// This release's own, by name.
    loaded: Mutex<BTreeMap<String, Arc<Plugin>>>,
    installed: Mutex<Installed>,
    /// The plan of an agent that is created from now on.
    pub plan: Plan,
    /// Policies that the configuration names.
    configured: Vec<PolicyConfig>,
    /// Changes wait for each other.
    turn: tokio::sync::Mutex<()>,
}

impl Plugins {
    /// Loads what `config` names from `libexec/plugins`, and what is installed.
    pub fn load(config: &Config, libexec: &Path, keys: Keys) -> Result<Self, PluginsError> {
        let accepted: HashSet<PluginDigest> = accepted::ACCEPTED
            .iter()
            .filter_map(|digest| PluginDigest::parse(digest).ok())
            .collect();
        let mut workers = WorkersConfig::of_this_program(accepted);
        let dir = config.state_dir.join("plugins");
        workers.kept = Some((dir.join("compiled"), keys.code));
        let host = Arc::new(Workers::new(workers)?);
        let trust = Trust::load(&config.plugins.trust)?;
        let installed = Installed::open(&dir, keys.lock, &trust, &host)?;
        let mut plugins = Self {
            host,
            folder: libexec.join("plugins"),
            trust: config.plugins.trust.clone(),
            loaded: Mutex::default(),
            installed: Mutex::new(installed),
            plan: Plan::default(),
            configured: config.policies.clone(),
            turn: tokio::sync::Mutex::default(),
        };
        for step in &config.plan {
            let step = plugins.to_step("plan", step)?;
            plugins.plan.steps.push(step);
        }
        Ok(plugins)
    }

    /// The policies that are in force: the configuration's, then installed ones by name. Blocks while it compiles.
    pub fn policies(&self) -> Result<Vec<Policy>, PluginsError> {
        let mut policies = Vec::new();
        for config in &self.configured {
            let plugin = self.get("policies", &config.plugin, Kind::Policy)?;
            policies.push(to_policy(config, plugin)?);
        }
        policies.extend(self.installed().policies(|name| self.is_configured(name)));
        Ok(policies)
    }

    /// What is installed, by name.
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        self.installed().store.entries().clone()
    }

    /// Why an installed plugin that is enabled isn't in use.
    pub fn problem(&self, name: &str) -> Option<String> {
        self.installed().problem(name).map(ToOwned::to_owned)
    }

    /// Why installed plugins aren't in use, all of them.
    pub fn problems(&self) -> Option<String> {
        self.installed().problems()
    }

    /// Whether the configuration says how it is used, and so nobody else may.
    pub fn is_configured(&self, name: &str) -> bool {
        self.configured.iter().any(|policy| policy.plugin == name)
    }

    /// What of an effect the step's plugin wasn't granted. This release's own are granted what they import.
    pub fn ungranted(&self, name: &str, effect: &Effect) -> Option<String> {
        let installed = self.installed();
        let grants = &installed.store.entries().get(name)?.pin.grants;
        ungranted(grants, effect)
    }

    // Each change under these locks is complete in itself.
    fn installed(&self) -> MutexGuard<'_, Installed> {
        self.installed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_built_in(&self, name: &str) -> bool {
        self.folder.join(format!("{name}.wasm")).is_file()
    }

    /// All that are loaded, by name.
    pub fn loaded(&self) -> BTreeMap<String, Arc<Plugin>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Blocks while it compiles one that isn't loaded yet.
    fn get(&self, key: &'static str, name: &str, kind: Kind) -> Result<Arc<Plugin>, PluginsError> {
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let plugin = match is_name && self.is_built_in(name) {
            true => self.built_in(name)?,
            false => self.installed().get(name)?.ok_or_else(|| PluginsError::Unknown {
                name: name.to_owned(),
                folder: self.folder.clone(),
            })?,
        };
        if plugin.kind != kind {
            return Err(PluginsError::Kind {
                key,
                name: name.to_owned(),
                found: plugin.kind.word(),
            });
        }
        Ok(plugin)
    }

    /// One of this release's own, loaded when it is first asked for.
    fn built_in(&self, name: &str) -> Result<Arc<Plugin>, PluginsError> {
        let loaded = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded().get(name).cloned();
        if let Some(plugin) = known {
            return Ok(plugin);
        }
        let path = self.folder.join(format!("{name}.wasm"));
        let bytes = std::fs::read(&path).map_err(|source| PluginsError::Read {
            path: path.clone(),
            source,
        })?;
        let plugin = self.host.load(&bytes, Class::BuiltIn);
        let plugin = plugin.map_err(|source| PluginsError::Load { path, source })?;
        loaded().insert(name.to_owned(), plugin.clone());
        Ok(plugin)
    }

    /// The plugin of a step of an agent's plan: this version's of that name, which an agent that was made by an earlier
    /// version gets too. Blocks while it compiles one that isn't loaded yet.
    pub fn step(&self, step: &Step) -> Result<Arc<Plugin>, PluginsError> {
        self.get("plan", &step.name, Kind::Step)
    }

    /// A step as it is kept with an agent: its settings checked, its digest pinned, the secrets that it may use named.
    /// Blocks while it compiles a plugin that isn't loaded yet.
    pub fn to_step(&self, key: &'static str, config: &StepConfig) -> Result<Step, PluginsError> {
        let plugin = self.get(key, &config.plugin, Kind::Step)?;
        let settings = settings(&config.settings, &plugin)?;
        Ok(Step {
            name: config.plugin.clone(),
            plugin: plugin.digest.clone(),
            secrets: secrets_named(&plugin, &settings),
            settings,
            when: config.when.unwrap_or_else(|| usually(&config.plugin)),
            on_failure: config.on_failure,
            timeout_s: config.timeout,
        })
    }
}

/// Settings as the plugin gets them, checked against its own schema.
fn settings(table: &serde_json::Map<String, serde_json::Value>, plugin: &Plugin) -> Result<String, PluginsError> {
    let json = serde_json::to_string(table).map_err(|error| PluginsError::Settings {
        name: plugin.name.clone(),
        problem: error.to_string(),
    })?;
    fits(plugin, &json)?;
    Ok(json)
}

fn fits(plugin: &Plugin, settings: &str) -> Result<(), PluginsError> {
    check_settings(plugin, settings).map_err(|error| PluginsError::Settings {
        name: plugin.name.clone(),
        problem: error.to_string(),
    })
}

fn ungranted(grants: &Grants, effect: &Effect) -> Option<String> {
    let denied = match effect {
        Effect::Exec { argv, .. } if !grants.allows_exec(argv) => Some(format!("running `{:.80}`", argv.join(" "))),
        Effect::WriteFile { path, .. } if !grants.allows_write(path) => Some(format!("writing {path:.80}")),
        Effect::ReadFile { path, .. } if !grants.allows_read(path) => Some(format!("reading {path:.80}")),
        _ => None,
    };
    denied.or_else(|| {
        let secret = |piece: &Piece| match piece {
            Piece::Secret { name, .. } if !grants.allows_secret(name) => Some(format!("secret `{name:.80}`")),
            _ => None,
        };
        effect.pieces().iter().find_map(secret)
    })
}

/// How often a step runs whose plan doesn't say: those that set up what stays run once.
fn usually(plugin: &str) -> When {
    match plugin {
        "config" | "git" | "git-credentials" | "ssh" | "post-init" => When::Once,
        _ => When::Start,
    }
}

fn to_policy(config: &PolicyConfig, plugin: Arc<Plugin>) -> Result<Policy, PluginsError> {
    // The words were checked with the configuration.
    Ok(Policy {
        name: config.plugin.clone(),
        settings: settings(&config.settings, &plugin)?,
        plugin,
        fallback: fallback(&config.fallback),
        fail_mode: FailMode::of(&config.fail_mode),
        mode: Mode::of(&config.mode),
    })
}

/// The folder of clawkerd and the plugins: the configuration's, `CLAWKER_LIBEXEC`, or beside the program.
pub fn libexec(config: &Config) -> Result<PathBuf, PluginsError> {
    if let Some(folder) = &config.libexec {
        return Ok(folder.clone());
    }
    if let Some(folder) = std::env::var_os("CLAWKER_LIBEXEC") {
        return Ok(folder.into());
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned))
        .unwrap_or_default();
    // An installation has bin/ beside libexec/; a build has target/<profile>/ beside target/clawker/.
    let tried = vec![beside.join("../libexec/clawker"), beside.join("../clawker/libexec")];
    match tried.iter().find(|path| path.join("agent/clawkerd").exists()) {
        Some(found) => found.canonicalize().map_err(|source| PluginsError::Read {
            path: found.clone(),
            source,
        }),
        None => Err(PluginsError::NoLibexec {
            what: "agent/clawkerd",
            tried,
        }),
    }
}
